//! The branches that backups lie on, and which of them were set aside.

use std::{cmp::Reverse, collections::BTreeMap};

use urtext_types::ReplicationId;

use super::{LetGo, RetentionView, StoredBackup};
use crate::{
    branches::{Decisions, named},
    chart::{Bearing, Bearings, Chart, Extents, Place},
};

/// A copy whose writes no other one holds, and everything on the way to it.
#[derive(Debug)]
pub(super) struct Branch {
    /// The history of that copy; `None` for a run without positions.
    pub(super) history: Option<ReplicationId>,
    /// Indices, the last received first.
    pub(super) members: Vec<usize>,
    /// The same, the most complete first.
    pub(super) best_first: Vec<usize>,
}

/// Where every backup lies.
pub(super) struct Branches<'a> {
    /// Those that were not set aside.
    pub(super) living: Vec<Branch>,
    /// For each backup that was set aside, its history.
    pub(super) aside: Vec<Option<ReplicationId>>,
    let_go: Vec<Option<&'a LetGo>>,
}

impl<'a> Branches<'a> {
    /// `order` is the view's backups, the last received first.
    pub(super) fn of(view: &'a RetentionView, order: &[&StoredBackup]) -> Self {
        let lineage = view.lineage.trusted(&view.contradictions);
        let on_backups = order.iter().filter_map(|backup| Some(backup.position?.history));
        let chart = Chart::new(&lineage, on_backups.chain(named(&view.accepted)));
        let places: Vec<Option<Place>> =
            order.iter().map(|backup| backup.position.and_then(|position| chart.place(position))).collect();
        // As the verdict does.
        let decisions = Decisions::of(&chart, &view.accepted);
        let aside: Vec<Option<ReplicationId>> = places
            .iter()
            .zip(order)
            .map(|(place, backup)| {
                let place = (*place)?;
                let is_aside = backup.set_aside || decisions.hold_aside(place);
                is_aside.then(|| chart.id(place.history))
            })
            .collect();
        let let_go = places
            .iter()
            .zip(&aside)
            .zip(order)
            .map(|((place, aside), backup)| {
                aside.as_ref()?;
                let way: Vec<_> = chart.path((*place)?).map(|stretch| chart.id(stretch.history)).collect();
                // What was received later, nobody has weighed.
                let covers = |let_go: &&LetGo| way.contains(&let_go.history) && backup.received_at <= let_go.at;
                view.let_go.iter().find(covers)
            })
            .collect();
        let placed: Vec<Option<Place>> =
            places.iter().zip(&aside).map(|(place, aside)| place.filter(|_| aside.is_none())).collect();
        let mut living = counted(&chart, order, &placed);
        living.extend(uncounted(order, &places));
        Self { living, aside, let_go }
    }

    pub(super) fn is_aside(&self, i: usize) -> bool {
        self.aside[i].is_some()
    }

    /// Who let go of the backup's branch, and of which history that is.
    pub(super) fn let_go(&self, i: usize) -> Option<(ReplicationId, &'a LetGo)> {
        Some((self.aside[i]?, self.let_go[i]?))
    }
}

/// The branches of backups with a position.
fn counted(chart: &Chart, order: &[&StoredBackup], placed: &[Option<Place>]) -> Vec<Branch> {
    let extents = Extents::of(chart, placed.iter().copied().flatten());
    let mut branches: Vec<Branch> = extents
        .tips()
        .map(|tip| {
            let bearings = Bearings::new(chart, tip);
            let lacks = |place: Place| match bearings.of(place) {
                Bearing::Behind { missing } => missing,
                _ => 0,
            };
            let members: Vec<(usize, Place)> = placed
                .iter()
                .enumerate()
                .filter_map(|(i, place)| Some((i, (*place)?)))
                .filter(|&(_, place)| bearings.holds(place))
                .collect();
            let mut best = members.clone();
            // Within the same position the order of receipt stays.
            best.sort_by_key(|&(i, place)| (lacks(place), Reverse(order[i].verified)));
            let indices = |members: Vec<(usize, Place)>| members.into_iter().map(|(i, _)| i).collect();
            Branch { history: Some(chart.id(tip.history)), members: indices(members), best_first: indices(best) }
        })
        .collect();
    branches.sort_by_key(|branch| branch.history);
    branches
}

/// The runs of backups without a position. One whose run is not known stands alone.
fn uncounted(order: &[&StoredBackup], places: &[Option<Place>]) -> Vec<Branch> {
    let mut runs: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (i, backup) in order.iter().enumerate().filter(|&(i, _)| places[i].is_none()) {
        let alone = backup.run_id.is_empty().then_some(backup.id);
        runs.entry((&backup.node, &backup.run_id, alone)).or_default().push(i);
    }
    runs.into_values().map(|members| Branch { history: None, best_first: members.clone(), members }).collect()
}
