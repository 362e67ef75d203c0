//! What is known of each history, before anything is given its place in a picture.

use std::{borrow::Cow, cmp::Reverse};

use urtext_types::{Lineage, Offset, Timestamp};

use super::Way;
use crate::{
    branches::{Decisions, named},
    chart::{Bearing, Bearings, Chart, Extents, Place},
    selection::{Judged, Selection, Standing, Verdict},
    situation::latest_decision,
    view::{ShardView, Source},
};

/// What sits on a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sits {
    /// An index into [`ShardView::candidates`].
    Copy(usize),
    /// An index into [`ShardView::heads`].
    Head(usize),
    /// The history that leaves here.
    Child(usize),
}

pub(super) struct Survey<'a> {
    pub(super) view: &'a ShardView,
    pub(super) selection: &'a Selection,
    pub(super) lineage: Cow<'a, Lineage>,
    pub(super) chart: Chart,
    /// For each candidate, what the selection says of it.
    pub(super) judged: Vec<&'a Judged>,
    /// For each history, by offset.
    pub(super) sits: Vec<Vec<(Offset, Sits)>>,
    /// How far the accepted path holds each history.
    held: Vec<Option<Offset>>,
    /// The history by which the accepted path leaves each one.
    onward: Vec<Option<usize>>,
    set_aside: Vec<bool>,
    /// A history that holds a copy which contends, from where it shares nothing with another such.
    contends_after: Vec<Option<Option<Offset>>>,
}

impl<'a> Survey<'a> {
    pub(super) fn of(view: &'a ShardView, selection: &'a Selection) -> Self {
        let lineage = if view.contradictions.is_empty() {
            Cow::Borrowed(&view.lineage)
        } else {
            Cow::Owned(view.lineage.trusted(&view.contradictions))
        };
        let known = view.lineage.edges().flat_map(|edge| [edge.child, edge.parent.history]);
        let copies = view.candidates.iter().filter_map(|candidate| candidate.position);
        let heads = view.heads.iter().map(|head| head.position);
        let positions = copies.chain(heads).map(|position| position.history);
        let chart = Chart::new(&lineage, known.chain(positions).chain(named(&view.accepted)));

        let mut judged: Vec<_> = selection.candidates.iter().collect();
        judged.sort_unstable_by_key(|judged| judged.candidate);
        let places: Vec<_> = view.candidates.iter().map(|c| c.position.and_then(|at| chart.place(at))).collect();
        let (held, onward) = accepted_path(view, selection, &chart, &places);
        let sits = sits(view, &chart, &places, &onward);
        let set_aside = set_aside(view, &chart, &judged, &places, &held);
        let contends_after = contends(selection, &chart, &judged, &places);
        Self { view, selection, lineage, chart, judged, sits, held, onward, set_aside, contends_after }
    }

    /// The history by which the accepted path leaves this one.
    pub(super) fn onward(&self, history: usize) -> Option<usize> {
        self.onward[history]
    }

    pub(super) fn way(&self, history: usize, offset: Offset) -> Way {
        if self.held[history].is_some_and(|held| offset <= held) {
            Way::Accepted
        } else if self.set_aside[history] {
            Way::SetAside
        } else if self.contends_after[history].is_some_and(|shared| shared.is_none_or(|shared| offset > shared)) {
            Way::Contends
        } else {
            Way::Beside
        }
    }

    pub(super) fn is_on_accepted_path(&self, history: usize) -> bool {
        self.held[history].is_some()
    }

    /// For each root, when a copy in its tree was last received.
    pub(super) fn last_seen(&self) -> Vec<Option<Timestamp>> {
        let mut seen = vec![None; self.chart.len()];
        let copies = self.view.candidates.iter().filter_map(|c| Some((c.position?, c.received_at)));
        for (position, at) in copies.chain(self.view.heads.iter().map(|head| (head.position, head.seen_at))) {
            if let Some(place) = self.chart.place(position) {
                let root = self.chart.root(place.history);
                seen[root] = seen[root].max(Some(at));
            }
        }
        seen
    }

    /// The candidates without a position, in an order that does not depend on that of the view.
    pub(super) fn unplaced(&self) -> Vec<usize> {
        let mut unplaced: Vec<_> =
            (0..self.view.candidates.len()).filter(|&i| self.view.candidates[i].position.is_none()).collect();
        unplaced.sort_by_key(|&i| (self.view.candidates[i].source, &self.view.candidates[i].node));
        unplaced
    }
}

/// From the oldest history to the furthest copy that continues the canonical backup; without one, to
/// the history that an operator has accepted.
fn accepted_path(
    view: &ShardView,
    selection: &Selection,
    chart: &Chart,
    places: &[Option<Place>],
) -> (Vec<Option<Offset>>, Vec<Option<usize>>) {
    let (mut held, mut onward) = (vec![None; chart.len()], vec![None; chart.len()]);
    let furthest = match selection.canonical {
        Some(canonical) => places[canonical].map(|canonical| {
            let bearings = Bearings::new(chart, canonical);
            let ahead = selection.candidates.iter().filter(|judged| judged.standing == Standing::Ahead);
            let ahead = ahead.filter_map(|judged| places[judged.candidate]);
            let head = selection.head.as_ref().and_then(|head| chart.place(head.position));
            let further = ahead.chain(head).filter_map(|place| match bearings.of(place) {
                Bearing::Ahead { excess } => Some((excess, place)),
                _ => None,
            });
            further.max().map_or(canonical, |(_, place)| place)
        }),
        None => latest_decision(view)
            .and_then(|(_, decision)| chart.number(decision.history))
            .map(|history| Place { history, offset: Offset::MAX }),
    };
    let Some(furthest) = furthest else {
        return (held, onward);
    };
    let mut came_from = None;
    for stretch in chart.path(furthest) {
        held[stretch.history] = Some(stretch.offset);
        onward[stretch.history] = came_from;
        came_from = Some(stretch.history);
    }
    // What else is on the newest history belongs to it.
    held[furthest.history] = Some(Offset::MAX);
    (held, onward)
}

fn sits(
    view: &ShardView,
    chart: &Chart,
    places: &[Option<Place>],
    onward: &[Option<usize>],
) -> Vec<Vec<(Offset, Sits)>> {
    let mut sits: Vec<Vec<(Offset, Sits)>> = vec![Vec::new(); chart.len()];
    for (i, place) in places.iter().enumerate() {
        if let Some(place) = place {
            sits[place.history].push((place.offset, Sits::Copy(i)));
        }
    }
    let held = Extents::of(chart, places.iter().flatten().copied());
    let mut furthest: Vec<Option<Offset>> =
        sits.iter().map(|sits| sits.iter().map(|&(offset, _)| offset).max()).collect();
    let mut remembered = Vec::new();
    for (i, head) in view.heads.iter().enumerate() {
        let Some(place) = chart.place(head.position) else { continue };
        let later = held.leaving(place.history).iter().map(|&(offset, _)| offset);
        if furthest[place.history].into_iter().chain(later).all(|held| held < place.offset) {
            remembered.push((place, i));
        }
    }
    for (place, i) in remembered {
        sits[place.history].push((place.offset, Sits::Head(i)));
        furthest[place.history] = furthest[place.history].max(Some(place.offset));
    }
    for history in (0..chart.len()).rev() {
        if let Some(up) = chart.up(history) {
            sits[up.history].push((up.offset, Sits::Child(history)));
            furthest[up.history] = furthest[up.history].max(furthest[history]);
        }
    }
    for (history, sits) in sits.iter_mut().enumerate() {
        // The last of the children at one offset is the one that may go straight on.
        sits.sort_by_cached_key(|&(offset, sits)| match sits {
            Sits::Copy(i) => {
                let candidate = &view.candidates[i];
                let is_node = candidate.source == Source::Node;
                (offset, u8::from(is_node), false, Some((candidate.source, candidate.node.clone())), None, None)
            }
            Sits::Head(i) => {
                let head = &view.heads[i];
                (offset, 2, false, Some((Source::Node, head.node.clone())), Some(head.seen_at), None)
            }
            Sits::Child(child) => {
                let id = Some((furthest[child], Reverse(chart.id(child))));
                (offset, 3, onward[history] == Some(child), None, None, id)
            }
        });
    }
    sits
}

fn set_aside(
    view: &ShardView,
    chart: &Chart,
    judged: &[&Judged],
    places: &[Option<Place>],
    held: &[Option<Offset>],
) -> Vec<bool> {
    let decisions = Decisions::of(chart, &view.accepted);
    let mut set_aside = vec![false; chart.len()];
    for judged in judged.iter().filter(|judged| judged.set_aside) {
        if let Some(place) = places[judged.candidate] {
            set_aside[place.history] = true;
        }
    }
    for history in 0..chart.len() {
        let by_decision = || decisions.hold_aside(Place { history, offset: Offset::MAX });
        let from_above = || {
            chart.up(history).is_some_and(|up| set_aside[up.history] && held[up.history].is_none_or(|h| up.offset > h))
        };
        set_aside[history] = set_aside[history] || by_decision() || from_above();
    }
    set_aside
}

/// For a history with copies that contend: up to which offset other such copies share it.
fn contends(
    selection: &Selection,
    chart: &Chart,
    judged: &[&Judged],
    places: &[Option<Place>],
) -> Vec<Option<Option<Offset>>> {
    if selection.verdict != Verdict::Ambiguous {
        return vec![None; chart.len()];
    }
    let contending = judged.iter().filter(|judged| judged.contends).filter_map(|judged| places[judged.candidate]);
    let extents = Extents::of(chart, contending);
    // How many tips each history leads to. Children have greater numbers than their parents.
    let mut tips = vec![0_usize; chart.len()];
    let mut contends = vec![None; chart.len()];
    for history in (0..chart.len()).rev() {
        let mut leaving = extents.leaving(history).to_vec();
        leaving.sort_unstable();
        let own = usize::from(extents.own_tip(history).is_some());
        tips[history] = own + leaving.iter().map(|&(_, child)| tips[child]).sum::<usize>();
        let shared = if own == 1 {
            Some(leaving.last())
        } else {
            leaving.split_last().filter(|((_, last), _)| tips[*last] == 1).map(|(_, before)| before.last())
        };
        contends[history] = shared.map(|shared| shared.map(|&(offset, _)| offset));
    }
    contends
}
