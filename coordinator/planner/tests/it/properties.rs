//! What holds for every input: random fleets, written as the scenarios are, so that a failing one can
//! be read, and kept as a scenario.

use std::collections::BTreeMap;

use proptest::prelude::*;
use urtext_planner::{Selection, ShardView, Source, Standing, Verdict, choose_nodes, print_selection, select};
use urtext_types::{Lineage, NodeName, Relation};

use crate::fleet::{self, Fleet};

/// Few histories, offsets and times: so that equal and crossing ones are common.
const HISTORIES: std::ops::Range<usize> = 1..8;

fn edges() -> impl Strategy<Value = Vec<String>> {
    let parents = proptest::collection::vec((any::<prop::sample::Index>(), 0..12_u32, 0..6_usize), 1..HISTORIES.end);
    parents.prop_map(|parents| {
        let edge = |(i, (parent, offset, kind)): (usize, (prop::sample::Index, u32, usize))| {
            let (child, parent) = (i + 2, parent.index(i + 1) + 1);
            let kind = ["promoted", "promoted", "following", "restored", "inferred", ""][kind];
            (!kind.is_empty()).then(|| format!("edge {child:x} from {parent:x}:{} {kind}", offset * 10))
        };
        parents.into_iter().enumerate().filter_map(edge).collect()
    })
}

fn position() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("-".to_owned()),
        12 => (HISTORIES, 0..15_u32).prop_map(|(history, offset)| format!("{history:x}:{}", offset * 10)),
    ]
}

fn backup() -> impl Strategy<Value = String> {
    let proved = prop_oneof![Just(""), Just(" verified stored"), Just(" verified rehearsed")];
    let keys = prop_oneof![4 => Just(1000), 1 => Just(900), 1 => Just(10)];
    let bad = prop_oneof![6 => Just(""), 1 => Just(" ineligible \"part 3 is missing\"")];
    (position(), 0..3_u8, proved, keys, bad, 0..9_u8, 0..9_u8, 0..2_u8).prop_map(
        |(at, node, proved, keys, bad, taken, received, run)| {
            format!("node-{node} site-{node} {at} keys {keys} taken 10:0{taken} received 11:0{received} run r{run}{proved}{bad}")
        },
    )
}

fn live() -> impl Strategy<Value = String> {
    let role = prop_oneof![Just(""), Just(" master 0"), Just(" master 2"), Just(" link-down 90"), Just(" unreachable")];
    (position(), role, 0..9_u8, 0..2_u8).prop_map(|(at, role, seen, run)| {
        let counts = if at == "-" { " no-backlog" } else { "" };
        format!("{at} seen 12:0{seen} run r{run}{role}{counts}")
    })
}

fn decision() -> impl Strategy<Value = String> {
    let over = proptest::collection::vec(HISTORIES, 0..4);
    (HISTORIES, over, 0..9_u8).prop_map(|(accepted, over, at)| {
        let over: Vec<_> = over.into_iter().map(|history| format!("{history:x}")).collect();
        let over = if over.is_empty() { "nothing".to_owned() } else { over.join(",") };
        format!("accepted {accepted:x} over {over} at 11:0{at} by alice because \"it is right\"")
    })
}

pub(crate) fn lines() -> impl Strategy<Value = Vec<String>> {
    let policy = prop_oneof![Just(vec![]), Just(vec!["policy follow-master".to_owned()])];
    let (backups, nodes) = (proptest::collection::vec(backup(), 0..8), proptest::collection::vec(live(), 0..4));
    let decisions = proptest::collection::vec(decision(), 0..3);
    (edges(), backups, nodes, decisions, policy).prop_map(|(edges, backups, nodes, decisions, policy)| {
        let backups = backups.into_iter().enumerate().map(|(i, backup)| format!("backup {} {backup}", i + 1));
        let nodes = nodes.into_iter().enumerate().map(|(i, live)| format!("live node-{i} site-{i} {live}"));
        edges.into_iter().chain(backups).chain(nodes).chain(decisions).chain(policy).collect()
    })
}

fn choose(lines: &[String]) -> (Fleet, Selection) {
    let fleet = fleet::parse(&lines.join("\n"));
    let selection = select(&fleet.view, &fleet.policy, &fleet.wish);
    (fleet, selection)
}

/// Everything that a selection says, with names in the place of indices.
fn told(fleet: &Fleet, selection: &Selection) -> (String, Vec<(Source, NodeName)>) {
    let order = selection.ranked(&fleet.view).into_iter().map(|judged| {
        let candidate = &fleet.view.candidates[judged.candidate];
        (candidate.source, candidate.node.clone())
    });
    (format!("{}{:?}", print_selection(&fleet.view, selection), selection.missing), order.collect())
}

fn is_open(selection: &Selection, view: &ShardView, i: usize) -> bool {
    let judged = selection.candidates.iter().find(|judged| judged.candidate == i).expect("judged");
    view.candidates[i].ineligible.is_none() && !judged.set_aside
}

/// Backups that may be chosen and are proved by `lineage` to hold more than the canonical one.
fn better_ones(selection: &Selection, view: &ShardView, lineage: &Lineage) -> Vec<String> {
    let Some(canonical) = selection.canonical.and_then(|i| view.candidates[i].position) else {
        return Vec::new();
    };
    let positions = view.candidates.iter().enumerate().filter_map(|(i, c)| Some((i, c, c.position?)));
    positions
        .filter(|&(i, c, _)| is_open(selection, view, i) && matches!(c.source, Source::Backup(_)))
        .filter(|&(.., at)| matches!(lineage.relate(canonical, at), Relation::Behind { .. }))
        .map(|(_, c, at)| format!("{:?} at {at}", c.source))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn the_verdict_does_not_depend_on_the_order_of_the_input(
        (lines, shuffled) in lines().prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle()))
    ) {
        let ((a, in_order), (b, shuffled)) = (choose(&lines), choose(&shuffled));
        prop_assert_eq!(told(&a, &in_order), told(&b, &shuffled));
    }

    #[test]
    fn every_candidate_is_in_the_answer_exactly_once_with_a_reason(lines in lines()) {
        let (fleet, selection) = choose(&lines);
        let mut seen: Vec<_> = selection.candidates.iter().map(|judged| judged.candidate).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..fleet.view.candidates.len()).collect::<Vec<_>>());
        for judged in &selection.candidates {
            let reason = selection.reason(&fleet.view, judged);
            prop_assert!(reason.ends_with('.') && reason.len() > 10, "{reason}");
        }
        prop_assert!(!selection.explanation.is_empty());
    }

    #[test]
    fn a_canonical_copy_is_one_eligible_backup_that_is_not_suspect(lines in lines()) {
        let (fleet, selection) = choose(&lines);
        prop_assert_eq!(selection.canonical.is_some(), selection.verdict == Verdict::Canonical);
        let canonical = selection.candidates.iter().filter(|judged| judged.standing == Standing::Canonical);
        let canonical: Vec<_> = canonical.map(|judged| judged.candidate).collect();
        prop_assert_eq!(&canonical, &selection.canonical.into_iter().collect::<Vec<_>>());
        for i in canonical {
            let candidate = &fleet.view.candidates[i];
            prop_assert!(candidate.ineligible.is_none() && matches!(candidate.source, Source::Backup(_)));
        }
        let may_be_chosen = (0..fleet.view.candidates.len()).any(|i| {
            is_open(&selection, &fleet.view, i) && matches!(fleet.view.candidates[i].source, Source::Backup(_))
        });
        prop_assert_eq!(may_be_chosen, selection.verdict != Verdict::None);
    }

    #[test]
    fn nothing_that_may_be_chosen_is_proved_to_hold_more(lines in lines()) {
        let (fleet, selection) = choose(&lines);
        prop_assert_eq!(better_ones(&selection, &fleet.view, &fleet.view.lineage), Vec::<String>::new());
    }

    /// With fewer edges, what is chosen is still not wrong by the whole lineage.
    #[test]
    fn unknown_edges_make_a_verdict_ambiguous_and_never_wrong(
        lines in lines(), known in proptest::collection::vec(any::<bool>(), HISTORIES.end)
    ) {
        let whole = fleet::parse(&lines.join("\n")).view.lineage;
        let mut known = known.into_iter().chain(std::iter::repeat(true));
        let fewer: Vec<_> =
            lines.into_iter().filter(|line| !line.starts_with("edge") || known.next() == Some(true)).collect();
        let (fleet, selection) = choose(&fewer);
        prop_assert_eq!(better_ones(&selection, &fleet.view, &whole), Vec::<String>::new());
    }

    #[test]
    fn every_node_is_in_the_choice_exactly_once_and_only_fit_ones_are_chosen(lines in lines(), copies in 0..4_usize) {
        let fleet = fleet::parse(&lines.join("\n"));
        let choices = choose_nodes(&fleet.view, &fleet.policy, copies);
        let by_name: BTreeMap<_, _> = choices.iter().map(|choice| (&choice.node, choice)).collect();
        prop_assert_eq!((by_name.len(), choices.len()), (fleet.view.nodes.len(), fleet.view.nodes.len()));
        for seen in &fleet.view.nodes {
            let fit = seen.reachable
                && urtext_types::may_capture(&seen.observation, false, fleet.policy.max_link_down).is_ok();
            prop_assert!(fit || !by_name[&seen.node].chosen);
        }
        let any_fit = choices.iter().any(|choice| choice.reason.starts_with("Enough") || choice.chosen);
        prop_assert_eq!(any_fit && copies > 0, choices.iter().any(|choice| choice.chosen));
    }
}
