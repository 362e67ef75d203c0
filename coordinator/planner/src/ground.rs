//! What the guard and the alarms stand on: everything that is known or remembered of a shard, placed.

use urtext_types::{NodeName, Position};

use crate::{
    branches::{Aside, Decisions, rivals},
    chart::{Bearings, Chart, Extents, Place},
    selection::{Decided, Selection},
    situation::Situation,
    view::{NodeSeen, ShardView, Source},
};

pub(crate) struct Ground<'a> {
    pub(crate) view: &'a ShardView,
    pub(crate) chart: &'a Chart,
    decisions: &'a Decisions,
    /// What is not on the branch of the master that the policy follows.
    unfollowed: Option<Aside>,
}

impl<'a> Ground<'a> {
    pub(crate) fn new(view: &'a ShardView, selection: &'a Selection) -> Self {
        let chart = &selection.situation.chart;
        let unfollowed = match &selection.decided {
            Some(Decided::FollowMaster(master)) => aside_of_master(view, selection, master),
            Some(Decided::Operator(_)) | None => None,
        };
        Self { view, chart, decisions: &selection.situation.decisions, unfollowed }
    }

    pub(crate) fn place(&self, position: Position) -> Option<Place> {
        self.chart.place(position)
    }

    /// How others stand to `position`, which is a copy's, or the one that was asked for.
    pub(crate) fn bearings(&self, position: Position) -> Bearings {
        Bearings::new(self.chart, self.place(position).expect("the chart holds every copy, and what was asked for"))
    }

    /// Whether a person or the policy gave up what is there.
    pub(crate) fn is_aside(&self, place: Place) -> bool {
        self.decisions.hold_aside(place) || self.unfollowed.as_ref().is_some_and(|aside| aside.holds(place))
    }

    /// What can be had now: backups that can be restored, and nodes that can be asked.
    pub(crate) fn is_at_hand(&self, candidate: usize) -> bool {
        let candidate = &self.view.candidates[candidate];
        match candidate.source {
            Source::Backup(_) => candidate.is_eligible(),
            Source::Node => candidate.is_eligible() && self.seen(&candidate.node).is_none_or(|seen| seen.reachable),
        }
    }

    pub(crate) fn seen(&self, node: &NodeName) -> Option<&'a NodeSeen> {
        self.view.nodes.iter().find(|seen| seen.node == *node)
    }
}

fn aside_of_master(view: &ShardView, selection: &Selection, master: &NodeName) -> Option<Aside> {
    let Situation { chart, copies, .. } = &*selection.situation;
    let seen = view.nodes.iter().find(|seen| seen.node == *master)?;
    let history = chart.place(seen.observation.position()?)?.history;
    let eligible = (0..copies.places.len()).filter(|&i| copies.eligible[i]);
    let extents = Extents::of(chart, eligible.filter_map(|i| copies.places[i]));
    Some(Aside::new(chart, history, rivals(chart, &extents, history).into_iter()))
}
