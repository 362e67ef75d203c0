//! What is known of all copies together, before they are judged one by one: which are open, which of
//! them contend, who decided between branches, and what comes of it.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use urtext_types::{Lineage, NodeName, Position, Role, SiteName, Timestamp};

use crate::{
    branches::{Aside, forks, rivals},
    chart::{Bearing, Bearings, Chart, Extents, Place},
    data_as_of::DataAsOf,
    selection::{Decided, Fork, Verdict},
    suspect::{Shrunken, find_shrunken},
    view::{AcceptedLineage, Candidate, NodeSeen, OnFork, Policy, ShardView, Source},
    wish::{Beyond, Until, Wish},
};

/// Observations of masters that lie this close together count as simultaneous: agents look every
/// second, and a session that is cut is noticed within half a minute.
const SIMULTANEOUS: Duration = Duration::from_secs(60);

/// What is known before candidates are judged one by one.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) view: &'a ShardView,
    pub(crate) lineage: &'a Lineage,
    pub(crate) chart: Chart,
    /// Where each candidate is.
    pub(crate) places: Vec<Option<Place>>,
    pub(crate) shrunken: Vec<Option<Shrunken>>,
    pub(crate) wish: Wish,
    /// Why each candidate is beyond what was asked for, if it is.
    pub(crate) beyond: Vec<Option<Beyond>>,
    /// Eligible, and its branch set aside.
    pub(crate) aside: Vec<bool>,
    /// Eligible, not set aside, and not beyond what was asked for.
    pub(crate) open: Vec<bool>,
    pub(crate) extents: Extents,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) decided: Option<Decided>,
    pub(crate) forks: Vec<Fork>,
    pub(crate) outcome: Outcome,
    rank: Rank<'a>,
}

/// Copies whose writes no other open one is known to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Those at this position.
    Tip(Place),
    /// Those without a position that come from one run of one server, oldest first.
    Run(Vec<usize>),
}

/// The verdict, with what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Canonical(usize),
    /// Several contend, and nobody has decided.
    Forked,
    /// The most complete backup is this one, and it is far smaller than those before it.
    OnlySuspect(usize),
    /// The order of backups without a position is not the order in which they were received.
    ClocksDisagree(usize),
    /// No backup is eligible.
    NoBackup,
    /// Eligible backups exist, all of them on branches that were set aside.
    AllSetAside,
    /// Eligible backups exist that were not set aside, all of them beyond what was asked for.
    AllBeyond,
}

impl Outcome {
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Canonical(_) => Verdict::Canonical,
            Self::Forked | Self::OnlySuspect(_) | Self::ClocksDisagree(_) => Verdict::Ambiguous,
            Self::NoBackup | Self::AllSetAside | Self::AllBeyond => Verdict::None,
        }
    }
}

impl<'a> Situation<'a> {
    pub(crate) fn survey(view: &'a ShardView, policy: &'a Policy, wish: Wish, lineage: &'a Lineage) -> Self {
        let decision = latest_decision(view);
        let histories = view.candidates.iter().filter_map(|c| c.position).map(|position| position.history);
        let heads = view.heads.iter().map(|head| head.position.history);
        let masters = view.nodes.iter().map(|seen| seen.observation.replication.history);
        let named = decision.iter().flat_map(|&(_, d)| std::iter::once(d.history).chain(d.over.iter().copied()));
        let wished = match wish.until {
            Some(Until::Position(position)) => Some(position.history),
            Some(Until::Time(_)) | None => None,
        };
        let chart = Chart::new(lineage, histories.chain(heads).chain(masters).chain(named).chain(wished));
        let places: Vec<_> = view.candidates.iter().map(|c| c.position.and_then(|p| chart.place(p))).collect();
        let shrunken = find_shrunken(view, policy, &chart, &places);

        let eligible: Vec<bool> = view.candidates.iter().map(Candidate::is_eligible).collect();
        let beyond = find_beyond(view, lineage, wish, &chart, &places);
        let wanted: Vec<bool> = eligible.iter().zip(&beyond).map(|(is, beyond)| *is && beyond.is_none()).collect();
        let all = extents_of(&chart, &places, &wanted);
        let mut not_aside = eligible.clone();
        let mut decided = None;
        let both = |a: &[bool], b: &[bool]| -> Vec<bool> { a.iter().zip(b).map(|(a, b)| *a && *b).collect() };
        if let Some((index, decision)) = decision {
            let aside = Aside::by_operator(&chart, decision);
            set_aside(
                &mut not_aside,
                &places,
                |place| aside.holds(place),
                |i| view.candidates[i].received_at <= decision.at,
            );
            decided = (both(&not_aside, &wanted) != wanted).then_some(Decided::Operator(index));
        }
        let mut open = both(&not_aside, &wanted);
        let mut extents = extents_of(&chart, &places, &open);
        let mut contenders = find_contenders(view, &places, &open, &extents);
        if contenders.len() > 1
            && policy.on_fork == OnFork::FollowMaster
            && let Some((master, followed)) = follow_master(view, &chart, &places, &open, &extents)
        {
            not_aside = both(&not_aside, &followed);
            open = both(&open, &followed);
            decided = Some(Decided::FollowMaster(master));
            extents = extents_of(&chart, &places, &open);
            contenders = find_contenders(view, &places, &open, &extents);
        }
        let chosen: Vec<Place> = extents.tips().collect();
        let forks = forks(&chart, &all, &chosen);
        let rank = Rank { view, policy };
        let outcome = decide(&rank, &places, &shrunken, &eligible, &not_aside, &open, &contenders);
        let aside = eligible.iter().zip(&not_aside).map(|(eligible, not_aside)| *eligible && !not_aside).collect();
        Self {
            view,
            lineage,
            chart,
            places,
            shrunken,
            wish,
            beyond,
            aside,
            open,
            extents,
            contenders,
            decided,
            forks,
            outcome,
            rank,
        }
    }

    pub(crate) fn candidate(&self, i: usize) -> &'a Candidate {
        &self.view.candidates[i]
    }

    /// Whether copies at `site` win ties.
    pub(crate) fn prefers(&self, site: &SiteName) -> bool {
        self.rank.policy.prefer_site.as_ref() == Some(site)
    }

    /// For every tip, the best of the open candidates there.
    pub(crate) fn best_at_tips(&self) -> HashMap<Place, usize> {
        let mut best: HashMap<Place, usize> = HashMap::new();
        for i in (0..self.places.len()).filter(|&i| self.open[i]) {
            let Some(tip) = self.places[i].filter(|place| self.extents.own_tip(place.history) == Some(*place)) else {
                continue;
            };
            let at = best.entry(tip).or_insert(i);
            if self.rank.of(i, &self.shrunken) > self.rank.of(*at, &self.shrunken) {
                *at = i;
            }
        }
        best
    }
}

/// The latest decision and its index; of simultaneous ones the one about the greater history.
pub(crate) fn latest_decision(view: &ShardView) -> Option<(usize, &AcceptedLineage)> {
    view.accepted.iter().enumerate().max_by_key(|(_, decision)| (decision.at, decision.history, &decision.over))
}

/// Which candidates are beyond what was asked for, and why.
fn find_beyond(
    view: &ShardView,
    lineage: &Lineage,
    wish: Wish,
    chart: &Chart,
    places: &[Option<Place>],
) -> Vec<Option<Beyond>> {
    let Some(until) = wish.until else { return vec![None; places.len()] };
    let each = view.candidates.iter().zip(places);
    match until {
        Until::Position(position) => {
            let wished = Bearings::new(chart, chart.place(position).expect("the chart holds what was asked for"));
            let bearing = |place: Place| match wished.of(place) {
                Bearing::Equal | Bearing::Behind { .. } => None,
                other => Some(Beyond::Bearing(other)),
            };
            each.map(|(_, place)| place.map_or(Some(Beyond::NoPosition), bearing)).collect()
        }
        Until::Time(time) => {
            let data_as_of = DataAsOf::new(lineage, &view.timeline);
            let unseen = |at: Position, received: Timestamp| match data_as_of.reached(at) {
                _ if received <= time => None,
                Some(reached) if reached <= time => None,
                Some(reached) => Some(Beyond::ReachedAt(reached.min(received))),
                None => Some(Beyond::ReachedUnseen),
            };
            each.map(|(candidate, _)| match candidate.position {
                Some(at) => unseen(at, candidate.received_at),
                None => (candidate.received_at > time).then_some(Beyond::NoPosition),
            })
            .collect()
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

fn find_contenders(view: &ShardView, places: &[Option<Place>], open: &[bool], extents: &Extents) -> Vec<Contender> {
    let mut contenders: Vec<_> = extents.tips().map(Contender::Tip).collect();
    let any_placed = !contenders.is_empty();
    let mut unplaced: Vec<usize> = (0..places.len()).filter(|&i| open[i] && places[i].is_none()).collect();
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
        if !any_placed || run.iter().any(|&i| matches!(view.candidates[i].source, Source::Backup(_))) {
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
                candidate.node != master.node || candidate.run_id != master.observation.server.run_id
            },
        ),
    }
    let left = || followed.iter().zip(open).map(|(followed, open)| *followed && *open);
    (left().any(|is_left| is_left) && !left().eq(open.iter().copied())).then(|| (master.node.clone(), followed))
}

fn decide(
    rank: &Rank<'_>,
    places: &[Option<Place>],
    shrunken: &[Option<Shrunken>],
    eligible: &[bool],
    not_aside: &[bool],
    open: &[bool],
    contenders: &[Contender],
) -> Outcome {
    let is_backup = |i: usize| matches!(rank.view.candidates[i].source, Source::Backup(_));
    let backups = || (0..places.len()).filter(|&i| is_backup(i));
    if !backups().any(|i| eligible[i]) {
        return Outcome::NoBackup;
    }
    if !backups().any(|i| not_aside[i]) {
        return Outcome::AllSetAside;
    }
    if !backups().any(|i| open[i]) {
        return Outcome::AllBeyond;
    }
    let [contender] = contenders else {
        return Outcome::Forked;
    };
    let best = match contender {
        // Along one path, later histories have greater numbers: the greatest place is the furthest.
        Contender::Tip(_) => {
            let furthest = backups().filter(|&i| open[i]).filter_map(|i| places[i]).max();
            backups().filter(|&i| open[i] && places[i] == furthest).max_by_key(|&i| rank.of(i, shrunken))
        }
        Contender::Run(copies) => {
            let received = |i: usize| rank.view.candidates[i].received_at;
            let latest = copies.iter().copied().rfind(|&i| is_backup(i));
            if let Some(latest) = latest
                && copies.iter().any(|&i| is_backup(i) && received(i) > received(latest))
            {
                return Outcome::ClocksDisagree(latest);
            }
            latest
        }
    };
    let best = best.expect("an open backup is on the path of the only contender");
    if shrunken[best].is_some() { Outcome::OnlySuspect(best) } else { Outcome::Canonical(best) }
}

/// Breaks ties between copies that hold the same: the greater is the better one.
#[derive(Debug)]
struct Rank<'a> {
    view: &'a ShardView,
    policy: &'a Policy,
}

impl Rank<'_> {
    fn of(&self, i: usize, shrunken: &[Option<Shrunken>]) -> impl Ord + use<> {
        let candidate = &self.view.candidates[i];
        let is_near = self.policy.prefer_site.as_ref() == Some(&candidate.site);
        // A source that is a backup is better than a node, which `Source` orders the other way.
        (
            shrunken[i].is_none(),
            matches!(candidate.source, Source::Backup(_)),
            candidate.verified,
            is_near,
            candidate.received_at,
            candidate.source,
            Reverse(candidate.node.clone()),
        )
    }
}
