//! What is known of all copies together, before they are judged one by one: which are open, which of
//! them contend, who decided between branches, and what comes of it.

use std::{collections::HashMap, ops::Deref, time::Duration};

use urtext_types::{Lineage, NodeName, ReplicationId, Role, SiteName};

use crate::{
    branches::{Aside, Decisions, age, forks, named, rivals},
    chart::{Bearings, Chart, Extents, Place},
    copies::Copies,
    data_as_of::DataAsOf,
    outcome::{Outcome, Rank, best_at_tips, decide},
    selection::{Decided, Fork},
    suspect::{Shrunken, find_shrunken},
    view::{AcceptedLineage, Candidate, NodeSeen, OnFork, Policy, ShardView},
    wish::{Until, Wish},
};

/// Observations of masters that lie this close together count as simultaneous: agents look every
/// second, and a session that is cut is noticed within half a minute.
const SIMULTANEOUS: Duration = Duration::from_secs(60);

/// What is known before candidates are judged one by one.
#[derive(Debug)]
pub(crate) struct Situation {
    pub(crate) chart: Chart,
    pub(crate) copies: Copies,
    /// Those that are suspect.
    pub(crate) shrunken: HashMap<usize, Shrunken>,
    pub(crate) wish: Wish,
    /// The position that was asked for.
    pub(crate) wished: Option<Bearings>,
    /// Which candidates are beyond what was asked for.
    beyond: Vec<bool>,
    /// Which are eligible, and their branch was set aside.
    pub(crate) aside: Vec<bool>,
    /// Which are eligible, not set aside, and not beyond what was asked for.
    pub(crate) open: Vec<bool>,
    pub(crate) extents: Extents,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) decisions: Decisions,
    pub(crate) decided: Option<Decided>,
    pub(crate) forks: Vec<Fork>,
    pub(crate) outcome: Outcome,
    /// What the others are compared with: the canonical backup, or the suspect one in its place.
    pub(crate) reference: Option<Reference>,
    /// For each tip, the best of the open candidates there.
    pub(crate) tips: HashMap<Place, usize>,
    prefer_site: Option<SiteName>,
}

/// The candidate that the others are compared with.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) candidate: usize,
    /// `None` if it has no position.
    pub(crate) bearings: Option<Bearings>,
}

/// A situation beside the view that it was surveyed from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) view: &'a ShardView,
    situation: &'a Situation,
}

impl<'a> Case<'a> {
    pub(crate) fn new(view: &'a ShardView, situation: &'a Situation) -> Self {
        Self { view, situation }
    }

    pub(crate) fn candidate(&self, i: usize) -> &'a Candidate {
        &self.view.candidates[i]
    }
}

impl Deref for Case<'_> {
    type Target = Situation;

    fn deref(&self) -> &Situation {
        self.situation
    }
}

/// Copies whose writes no other open one is known to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Those at this position.
    Tip(Place),
    /// Those without a position that come from one run of one server, oldest first.
    Run(Vec<usize>),
}

impl Situation {
    pub(crate) fn survey(view: &ShardView, policy: &Policy, wish: Wish, lineage: &Lineage) -> Self {
        let decision = latest_decision(view);
        let (mut copies, of_copies) = Copies::of(view);
        let of_copies = of_copies.iter().copied();
        let chart = Chart::new(lineage, histories_besides(view, lineage, wish).chain(of_copies.clone()));
        copies.settle(&chart, &of_copies.map(|id| chart.number(id).expect("just charted")).collect::<Vec<_>>());
        let Copies { places, eligible, .. } = &copies;
        let shrunken = find_shrunken(view, policy, &chart, &copies);

        let wished = match wish.until {
            Some(Until::Position(position)) => chart.place(position).map(|place| Bearings::new(&chart, place)),
            Some(Until::Time(_)) | None => None,
        };
        let beyond = find_beyond(view, wish, wished.as_ref(), &chart, places);
        let wanted = both(eligible, |i| !beyond[i]);
        let all = extents_of(&chart, places, &wanted);
        let mut not_aside = eligible.clone();
        let mut decided = None;
        let decisions = Decisions::of(&chart, &view.accepted);
        if let Some((index, decision)) = decision {
            set_aside(
                &mut not_aside,
                places,
                |place| decisions.hold_aside(place),
                |i| view.candidates[i].received_at <= decision.at,
            );
            decided = (0..wanted.len()).any(|i| wanted[i] && !not_aside[i]).then_some(Decided::Operator(index));
        }
        let mut open = both(&not_aside, |i| wanted[i]);
        let mut extents = if decided.is_some() { extents_of(&chart, places, &open) } else { all.clone() };
        let mut contenders = find_contenders(view, &copies, &open, &extents);
        if contenders.len() > 1
            && policy.on_fork == OnFork::FollowMaster
            && let Some((master, followed)) = follow_master(view, &chart, places, &open, &extents)
        {
            not_aside = both(&not_aside, |i| followed[i]);
            open = both(&open, |i| followed[i]);
            decided = Some(Decided::FollowMaster(master));
            extents = extents_of(&chart, places, &open);
            contenders = find_contenders(view, &copies, &open, &extents);
        }
        let chosen: Vec<Place> = extents.tips().collect();
        let forks = forks(&chart, &all, &chosen);
        let rank = Rank { view, prefer_site: policy.prefer_site.as_ref() };
        let outcome = decide(&rank, &copies, &shrunken, &not_aside, &open, &contenders);
        let aside = both(eligible, |i| !not_aside[i]);
        let reference = match outcome {
            Outcome::Canonical(candidate) | Outcome::OnlySuspect(candidate) => {
                let bearings = places[candidate].map(|place| Bearings::new(&chart, place));
                Some(Reference { candidate, bearings })
            }
            Outcome::Forked
            | Outcome::ClocksDisagree(_)
            | Outcome::NoBackup
            | Outcome::AllSetAside
            | Outcome::AllBeyond => None,
        };
        let tips = best_at_tips(&rank, &copies, &shrunken, &open, &extents);
        let prefer_site = policy.prefer_site.clone();
        Self {
            chart,
            copies,
            shrunken,
            wish,
            wished,
            beyond,
            aside,
            open,
            extents,
            contenders,
            decisions,
            decided,
            forks,
            outcome,
            reference,
            tips,
            prefer_site,
        }
    }

    pub(crate) fn place(&self, i: usize) -> Option<Place> {
        self.copies.places[i]
    }

    pub(crate) fn is_beyond(&self, i: usize) -> bool {
        self.beyond[i]
    }

    /// Whether copies at `site` win ties.
    pub(crate) fn prefers(&self, site: &SiteName) -> bool {
        self.prefer_site.as_ref() == Some(site)
    }

    /// Whether no other open candidate is known to hold all that `i` holds.
    pub(crate) fn contends(&self, i: usize) -> bool {
        self.open[i]
            && match self.place(i) {
                Some(place) => self.extents.own_tip(place.history) == Some(place),
                None => self.contenders.iter().any(|contender| match contender {
                    Contender::Run(copies) => copies.last() == Some(&i),
                    Contender::Tip(_) => false,
                }),
            }
    }
}

/// The histories that are named by anything but candidates.
fn histories_besides(view: &ShardView, lineage: &Lineage, wish: Wish) -> impl Iterator<Item = ReplicationId> {
    let known = lineage.edges().map(|edge| edge.child);
    let heads = view.heads.iter().map(|head| head.position.history);
    let ended = view.ended.iter().filter_map(|run| run.position).map(|position| position.history);
    let masters = view.nodes.iter().map(|seen| seen.observation.replication.history);
    let wished = match wish.until {
        Some(Until::Position(position)) => Some(position.history),
        Some(Until::Time(_)) | None => None,
    };
    known.chain(heads).chain(ended).chain(masters).chain(named(&view.accepted)).chain(wished)
}

fn both(a: &[bool], b: impl Fn(usize) -> bool) -> Vec<bool> {
    a.iter().enumerate().map(|(i, a)| *a && b(i)).collect()
}

/// The latest decision and its index.
pub(crate) fn latest_decision(view: &ShardView) -> Option<(usize, &AcceptedLineage)> {
    view.accepted.iter().enumerate().max_by(|(_, a), (_, b)| age(a).cmp(&age(b)))
}

/// Which candidates are beyond what was asked for, see [`Until`].
fn find_beyond(
    view: &ShardView,
    wish: Wish,
    wished: Option<&Bearings>,
    chart: &Chart,
    places: &[Option<Place>],
) -> Vec<bool> {
    let Some(until) = wish.until else { return vec![false; places.len()] };
    match until {
        Until::Position(_) => {
            let wished = wished.expect("the chart holds what was asked for");
            places.iter().map(|place| place.is_none_or(|place| !wished.holds(place))).collect()
        }
        Until::Time(time) => {
            let reached = DataAsOf::on(chart, &view.timeline).reached_by(time);
            let was_reached = |place: Place| reached[place.history].is_some_and(|reached| place.offset <= reached);
            let each = view.candidates.iter().zip(places);
            each.map(|(candidate, place)| candidate.received_at > time && !place.is_some_and(was_reached)).collect()
        }
    }
}

fn extents_of(chart: &Chart, places: &[Option<Place>], open: &[bool]) -> Extents {
    Extents::of(chart, places.iter().zip(open).filter(|(_, is_open)| **is_open).filter_map(|(place, _)| *place))
}

fn set_aside(
    open: &mut [bool],
    places: &[Option<Place>],
    placed: impl Fn(Place) -> bool,
    unplaced: impl Fn(usize) -> bool,
) {
    for (i, is_open) in open.iter_mut().enumerate() {
        *is_open &= match places[i] {
            Some(place) => !placed(place),
            None => !unplaced(i),
        };
    }
}

fn find_contenders(view: &ShardView, copies: &Copies, open: &[bool], extents: &Extents) -> Vec<Contender> {
    let mut contenders: Vec<_> = extents.tips().map(Contender::Tip).collect();
    let any_placed = !contenders.is_empty();
    let mut unplaced: Vec<usize> = copies.unplaced.iter().copied().filter(|&i| open[i]).collect();
    let key = |i: usize| {
        let candidate = &view.candidates[i];
        // Nothing is known about a run without a name: such a copy stands alone.
        (&candidate.node, &candidate.run_id, candidate.run_id.is_empty().then_some(candidate.source))
    };
    let age = |i: usize| (view.candidates[i].taken_at, view.candidates[i].received_at, view.candidates[i].source);
    unplaced.sort_unstable_by(|&a, &b| (key(a), age(a)).cmp(&(key(b), age(b))));
    for run in unplaced.chunk_by(|&a, &b| key(a) == key(b)) {
        // A replica that has not been in sync yet has no position either: beside copies that have
        // one, a living node without one is no branch, only something nobody can judge.
        if !any_placed || run.iter().any(|&i| copies.is_backup[i]) {
            contenders.push(Contender::Run(run.to_vec()));
        }
    }
    contenders
}

/// What is left open if the branch of the master is taken that was most recently observed with the
/// most attached replicas. `None` if no master, or more than one, is that.
fn follow_master(
    view: &ShardView,
    chart: &Chart,
    places: &[Option<Place>],
    open: &[bool],
    extents: &Extents,
) -> Option<(NodeName, Vec<bool>)> {
    let masters = view.nodes.iter().filter_map(|seen| match &seen.observation.replication.role {
        Role::Master { replicas } => Some((replicas.len(), seen)),
        Role::Replica { .. } => None,
    });
    let latest = masters.clone().map(|(_, seen)| seen.received_at).max()?;
    let recent = masters.filter(|(_, seen)| latest.since(seen.received_at) <= SIMULTANEOUS);
    let most = recent.clone().map(|(replicas, _)| replicas).max()?;
    let mut leading = recent.filter(|&(replicas, _)| replicas == most).map(|(_, seen)| seen);
    let (master, None): (&NodeSeen, _) = (leading.next()?, leading.next()) else {
        return None;
    };
    let mut followed = vec![true; open.len()];
    match master.observation.position().and_then(|position| chart.place(position)) {
        Some(place) => {
            let aside = Aside::new(chart, place.history, rivals(chart, extents, place.history).into_iter());
            set_aside(&mut followed, places, |place| aside.holds(place), |_| true);
        }
        None => set_aside(
            &mut followed,
            places,
            |_| true,
            |i| {
                let candidate = &view.candidates[i];
                candidate.node != master.node || candidate.run_id != master.observation.uncounted_run()
            },
        ),
    }
    let left = || followed.iter().zip(open).map(|(followed, open)| *followed && *open);
    (left().any(|is_left| is_left) && !left().eq(open.iter().copied())).then(|| (master.node.clone(), followed))
}
