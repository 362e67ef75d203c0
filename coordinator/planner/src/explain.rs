//! The verdict in whole sentences, the most important first.

use urtext_types::{Lineage, Relation, Timestamp};

use crate::{
    branches::age,
    chart::Place,
    outcome::Outcome,
    selection::{Decided, Judged, Selection, Standing, Verdict, order},
    situation::{Case, Contender, latest_decision},
    view::{AcceptedLineage, Candidate, Source},
    wish::Until,
    wording::{bytes, bytes_and_time, count, duration, history, how_to_save, keys, name, sentence, time},
};

/// More branches than this are counted, not described: nobody reads forty sentences.
const BRANCHES_DESCRIBED: usize = 8;

/// A branch with fewer bytes of its own than this may hold nothing but pings (`replication.c`,
/// `replicationCron`): a little over ten minutes of them.
const FEW_BYTES: u64 = 1024;

/// `notable` are the candidates that stand out.
pub(crate) fn explain(case: &Case<'_>, lineage: &Lineage, selection: &Selection, notable: &[Judged]) -> Vec<String> {
    let mut sentences = Vec::new();
    match case.outcome {
        Outcome::Canonical(canonical) => explain_canonical(case, selection, notable, canonical, &mut sentences),
        Outcome::Forked => explain_fork(case, lineage, selection, notable, &mut sentences),
        Outcome::OnlySuspect(suspect) => explain_suspect(case, suspect, &mut sentences),
        Outcome::ClocksDisagree(latest) => sentences.push(format!(
            "No copy is chosen: backups of {} have no positions, and the order in which its clock says that they were \
             taken is not the order in which they were received; restore one by its id.",
            case.candidate(latest).node
        )),
        Outcome::NoBackup => sentences.push(no_backup(case)),
        Outcome::AllBeyond => sentences.push(all_beyond(case)),
        Outcome::AllSetAside => {
            sentences.push("Every backup that could be restored is on a branch that was set aside.".to_owned());
        }
    }
    decisions(case, &mut sentences);
    if case.outcome.verdict() != Verdict::Ambiguous {
        let is_unknown = |judged: &&Judged| judged.standing == Standing::Unrelated && case.open[judged.candidate];
        let unknown = notable.iter().filter(is_unknown).map(|judged| case.candidate(judged.candidate));
        let mut nodes: Vec<_> = unknown.filter(|c| c.source == Source::Node).map(|candidate| &candidate.node).collect();
        nodes.sort_unstable();
        sentences.extend(nodes.into_iter().map(|node| {
            format!(
                "The live node {node} has no position and may hold writes that nobody can compare: look at it before \
                 it is overwritten."
            )
        }));
    }
    if !case.view.contradictions.is_empty() {
        sentences.push(format!(
            "Some statements about the lineage contradict each other and prove nothing here: `urtext lineage {}` \
             shows them.",
            case.view.deployment
        ));
    }
    sentences
}

fn explain_canonical(
    case: &Case<'_>,
    selection: &Selection,
    notable: &[Judged],
    canonical: usize,
    sentences: &mut Vec<String>,
) {
    let candidate = case.candidate(canonical);
    let why = match candidate.position {
        Some(_) => match case.wish.until {
            None => "no backup on the accepted lineage holds a write that it lacks".to_owned(),
            Some(until) => {
                format!(
                    "of the backups on the accepted lineage that are not beyond {until}, none holds a write that it lacks"
                )
            }
        },
        None => format!("all of them come from one run of {}, and it was taken last", candidate.node),
    };
    let title = sentence(&name(candidate));
    sentences.push(format!("{} at {} is the one to restore: {why}.", title.trim_end_matches('.'), candidate.site));
    if let Some(stale) = &candidate.stale {
        sentences.push(format!("Its data may be old all the same: it was {}.", stale.trim_end_matches('.')));
    }
    let ahead = first(case, selection, notable, |judged| judged.standing == Standing::Ahead && !judged.beyond);
    if let Some(judged) = ahead {
        let node = case.candidate(judged.candidate);
        let seconds = selection.missing.and_then(|missing| missing.seconds);
        let more = match judged.excess_bytes {
            Some(more @ 1..) => format!("{} more", bytes_and_time(more, seconds)),
            _ => "writes that nobody can count".to_owned(),
        };
        sentences.push(format!("The live node {} holds {more}: {}.", node.node, how_to_save(case.view, node)));
    } else if let Some((head, missing)) = selection.head.as_ref().zip(selection.missing)
        && missing.bytes.get() > 0
        && case.wish.until.is_none()
    {
        sentences.push(format!(
            "It lacks {} that {} was seen to hold on {}.",
            bytes_and_time(missing.bytes.get(), missing.seconds),
            head.node,
            time(head.seen_at)
        ));
    }
    let suspect = first(case, selection, notable, |judged| {
        judged.standing == Standing::Suspect && !judged.beyond && judged.excess_bytes.is_some_and(|more| more > 0)
    });
    if let Some(judged) = suspect {
        let node = case.candidate(judged.candidate);
        sentences.push(format!(
            "{} holds more bytes but only {}.",
            sentence(&name(node)).trim_end_matches('.'),
            keys(node.keys)
        ));
    }
}

/// The first candidate of that kind in the order of the answer.
fn first<'a>(
    case: &Case<'_>,
    selection: &Selection,
    notable: &'a [Judged],
    is_wanted: impl Fn(&Judged) -> bool,
) -> Option<&'a Judged> {
    let wanted = notable.iter().filter(|judged| is_wanted(judged));
    wanted.min_by_key(|judged| order(case.view, selection.verdict, judged))
}

fn all_beyond(case: &Case<'_>) -> String {
    let Some(until) = case.wish.until else { return String::new() };
    let unknown = match until {
        Until::Position(position) => {
            let wished = case.chart.number(position.history).expect("the chart holds what was asked for");
            !case.copies.places.iter().flatten().any(|place| case.chart.root(place.history) == case.chart.root(wished))
        }
        Until::Time(_) => false,
    };
    match until {
        Until::Position(position) if unknown => {
            format!(
                "Nothing is known of {}, so no backup is known to be at or before {until}.",
                history(position.history)
            )
        }
        _ => format!("Every backup that could be restored is beyond {until}, or not known to be at or before it."),
    }
}

fn explain_fork(
    case: &Case<'_>,
    lineage: &Lineage,
    selection: &Selection,
    notable: &[Judged],
    sentences: &mut Vec<String>,
) {
    sentences.push(format!(
        "No copy is chosen: {} hold writes that the others are not known to hold.",
        count(case.contenders.len(), "branch", "branches"),
    ));
    for contender in case.contenders.iter().take(BRANCHES_DESCRIBED) {
        sentences.push(match contender {
            Contender::Tip(tip) => describe_tip(case, *tip, case.tips[tip]),
            Contender::Run(copies) => describe_run(case, copies),
        });
    }
    if let Some(more @ 1..) = case.contenders.len().checked_sub(BRANCHES_DESCRIBED) {
        sentences.push(format!(
            "There {}.",
            if more == 1 { "is 1 more branch".to_owned() } else { format!("are {more} more branches") }
        ));
    }
    for fork in selection.forks.iter().filter(|fork| fork.accepted.is_none()).take(BRANCHES_DESCRIBED) {
        let ways: Vec<_> = fork.children.iter().map(|child| child.short()).collect();
        sentences.push(format!(
            "After offset {} of {} the histories part: {}.",
            fork.offset,
            history(fork.parent),
            ways.join(", ")
        ));
    }
    sentences.extend(uncertain(case, lineage));
    let contending = notable.iter().filter(|judged| judged.contends);
    if contending.filter_map(|judged| judged.excess_bytes).any(|excess| excess < FEW_BYTES) {
        sentences.push(
            "Bytes count pings too (14 bytes every 10 s): a few of them do not prove that clients wrote anything."
                .to_owned(),
        );
    }
    if !selection.unrelated.is_empty() {
        let roots: Vec<_> = selection.unrelated.iter().map(|root| root.short()).collect();
        sentences.push(format!(
            "No path is known between the histories {}: a restart that lost its replication id, a server that was \
             started afresh, or a promotion that nobody saw.",
            roots.join(", ")
        ));
    }
    let any_run = case.contenders.iter().any(|contender| matches!(contender, Contender::Run(_)));
    if any_run {
        sentences.push(
            "A copy without a position cannot be ordered: restore it by its id, or accept the history of another \
             one, which sets aside what has no position."
                .to_owned(),
        );
    }
    if case.contenders.iter().any(|contender| matches!(contender, Contender::Tip(_))) {
        sentences.push(format!(
            "Decide with `urtext accept-lineage {} HISTORY --reason TEXT`; what is set aside is kept and can be restored beside.",
            case.view.deployment
        ));
    }
}

fn describe_tip(case: &Case<'_>, tip: Place, best: usize) -> String {
    let candidate = case.candidate(best);
    let root = case.chart.root(tip.history);
    let shared = match case.extents.shared(&case.chart, tip) {
        Some(shared) => format!("{} of its own", bytes(tip.offset.bytes_since(shared.offset).get())),
        None => {
            let is_below =
                |i: &usize| case.place(*i).is_some_and(|place| case.open[*i] && case.chart.root(place.history) == root);
            let copies = (0..case.open.len()).filter(is_below);
            format!("shares nothing known with the others; {}", span_of(case, copies))
        }
    };
    format!(
        "History {}: {} at {} reaches offset {}, {}, {shared}.",
        case.chart.id(tip.history),
        name(candidate),
        candidate.site,
        tip.offset,
        keys(candidate.keys)
    )
}

fn describe_run(case: &Case<'_>, copies: &[usize]) -> String {
    let last = case.candidate(copies[copies.len() - 1]);
    let span = span_of(case, copies.iter().copied());
    format!("No history: {} at {} has no position; {span}.", name(last), last.site)
}

/// Evidence for the person who decides: which nodes, where, and when.
fn span_of(case: &Case<'_>, copies: impl Iterator<Item = usize>) -> String {
    let copies: Vec<&Candidate> = copies.map(|i| case.candidate(i)).collect();
    let mut nodes: Vec<_> = copies.iter().map(|copy| format!("{} ({})", copy.node, copy.site)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let times = || copies.iter().map(|copy| copy.taken_at);
    let (first, last): (Option<Timestamp>, Option<Timestamp>) = (times().min(), times().max());
    match first.zip(last) {
        Some((first, last)) if first == last => format!("seen on {} on {}", nodes.join(", "), time(first)),
        Some((first, last)) => format!("seen on {} from {} to {}", nodes.join(", "), time(first), time(last)),
        None => "seen nowhere".to_owned(),
    }
}

/// Whether branches may in truth be one: where a fork is only known to be at or after an offset.
fn uncertain(case: &Case<'_>, lineage: &Lineage) -> Option<String> {
    let tips: Vec<_> = case.extents.tips().take(BRANCHES_DESCRIBED).map(|tip| case.chart.position(tip)).collect();
    let pairs = tips.iter().enumerate().flat_map(|(i, a)| tips[i + 1..].iter().map(move |b| (a, b)));
    let is_vague = |(a, b): (_, _)| match lineage.relate(a, b) {
        Relation::Divergent { certain, .. } => !certain,
        _ => false,
    };
    pairs.map(|(&a, &b)| (a, b)).any(is_vague).then(|| {
        "The promoted node itself was not seen, only replicas that followed it: the fork may be later, and the \
         branches may share more than is known here."
            .to_owned()
    })
}

fn explain_suspect(case: &Case<'_>, suspect: usize, sentences: &mut Vec<String>) {
    let candidate = case.candidate(suspect);
    let shrunken = case.shrunken.get(&suspect).expect("the outcome says that it is suspect");
    let before = case.candidate(shrunken.from);
    sentences.push(format!(
        "No copy is chosen: the most complete one, {}, holds only {} where {} {} held {}.",
        name(candidate),
        keys(candidate.keys),
        name(before),
        match before.taken_at < candidate.taken_at {
            true => format!("{} earlier", duration(candidate.taken_at.since(before.taken_at).as_secs_f64())),
            false => "before it".to_owned(),
        },
        shrunken.from_keys
    ));
    sentences.push(
        "If the data was deleted on purpose, restore that backup by its id; if not, restore the earlier one by its id."
            .to_owned(),
    );
}

fn no_backup(case: &Case<'_>) -> String {
    let backups = case.view.candidates.iter().filter(|c| matches!(c.source, Source::Backup(_))).count();
    let nodes = case.view.candidates.len() - backups;
    let live = match nodes {
        0 => String::new(),
        _ => format!(
            " {} can still be saved with `urtext snapshot {}`.",
            sentence(&count(nodes, "live node", "live nodes")).trim_end_matches('.'),
            case.view.deployment
        ),
    };
    match backups {
        0 => format!("There is no backup of {} shard {} yet.{live}", case.view.deployment, case.view.shard),
        1 => format!("There is one backup, and it cannot be restored.{live}"),
        n => format!("There are {n} backups, and none of them can be restored.{live}"),
    }
}

fn decisions(case: &Case<'_>, sentences: &mut Vec<String>) {
    let is_forked = case.outcome == Outcome::Forked;
    if let Some(Decided::FollowMaster(master)) = &case.decided {
        sentences.push(format!(
            "The policy on_fork = \"follow-master\" follows {master}, the master seen last with the most attached \
             replicas."
        ));
    } else if let Some((_, decision)) = latest_decision(case.view)
        && (case.decided.is_some() || is_forked || case.outcome == Outcome::AllSetAside)
    {
        let rest = if is_forked { " That does not decide between the branches that are left." } else { "" };
        sentences.push(format!("{}{rest}", decided(decision)));
    }
    // What an earlier decision set aside, and no later one speaks of.
    let latest = latest_decision(case.view).map(|(index, _)| index);
    let against =
        (0..case.aside.len()).filter(|&i| case.aside[i]).filter_map(|i| case.decisions.against(case.place(i)?));
    let mut earlier: Vec<usize> = against.filter(|&index| Some(index) != latest).collect();
    earlier.sort_by(|&a, &b| age(&case.view.accepted[b]).cmp(&age(&case.view.accepted[a])));
    earlier.dedup();
    sentences.extend(
        earlier
            .into_iter()
            .map(|index| format!("Before, {} What that set aside still is.", decided(&case.view.accepted[index]))),
    );
}

fn decided(decision: &AcceptedLineage) -> String {
    format!(
        "{} accepted {} on {}, with the reason: {:?}.",
        decision.by,
        history(decision.history),
        time(decision.at),
        decision.reason
    )
}
