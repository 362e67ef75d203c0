//! What the guard and the alarms stand on: everything that is known or remembered of a shard, placed.

use urtext_types::{Position, ReplicationId};

use crate::{
    branches::{Aside, rivals},
    chart::{Bearings, Chart, Extents, Place},
    selection::{Decided, Selection},
    situation::latest_decision,
    view::{NodeSeen, ShardView, Source},
    wish::Until,
};

pub(crate) struct Ground<'a> {
    pub(crate) view: &'a ShardView,
    pub(crate) chart: Chart,
    aside: Option<Aside>,
}

impl<'a> Ground<'a> {
    pub(crate) fn new(view: &'a ShardView, selection: &Selection) -> Self {
        let decision = latest_decision(view).map(|(_, decision)| decision);
        let positions = positions(view).map(|position| position.history);
        let masters = view.nodes.iter().map(|seen| seen.observation.replication.history);
        let named = decision.iter().flat_map(|d| std::iter::once(d.history).chain(d.over.iter().copied()));
        let named: Vec<ReplicationId> = named.collect();
        let lineage = view.lineage.trusted(&view.contradictions);
        let wished = match selection.wish.until {
            Some(Until::Position(position)) => Some(position.history),
            Some(Until::Time(_)) | None => None,
        };
        let chart = Chart::new(&lineage, positions.chain(masters).chain(named).chain(wished));
        let aside = match (&selection.decided, decision) {
            (Some(Decided::FollowMaster(master)), _) => aside_of_master(view, &chart, master),
            (_, Some(decision)) => Some(Aside::by_operator(&chart, decision)),
            (_, None) => None,
        };
        Self { view, chart, aside }
    }

    pub(crate) fn place(&self, position: Position) -> Option<Place> {
        self.chart.place(position)
    }

    /// How others stand to `position`, which is a copy's, or the one that was asked for.
    pub(crate) fn bearings(&self, position: Position) -> Bearings {
        Bearings::new(&self.chart, self.place(position).expect("the chart holds every copy, and what was asked for"))
    }

    /// Whether a person or the policy gave up what is there.
    pub(crate) fn is_aside(&self, place: Place) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.holds(place))
    }

    /// What can be had now: backups that can be restored, and nodes that can be asked.
    pub(crate) fn is_at_hand(&self, candidate: usize) -> bool {
        let candidate = &self.view.candidates[candidate];
        match candidate.source {
            Source::Backup(_) => candidate.is_eligible(),
            Source::Node => candidate.is_eligible() && self.seen(&candidate.node).is_none_or(|seen| seen.reachable),
        }
    }

    pub(crate) fn seen(&self, node: &urtext_types::NodeName) -> Option<&'a NodeSeen> {
        self.view.nodes.iter().find(|seen| seen.node == *node)
    }
}

fn positions(view: &ShardView) -> impl Iterator<Item = Position> {
    let copies = view.candidates.iter().filter_map(|candidate| candidate.position);
    let heads = view.heads.iter().map(|head| head.position);
    let ended = view.ended.iter().filter_map(|run| run.position);
    copies.chain(heads).chain(ended)
}

fn aside_of_master(view: &ShardView, chart: &Chart, master: &urtext_types::NodeName) -> Option<Aside> {
    let seen = view.nodes.iter().find(|seen| seen.node == *master)?;
    let history = chart.place(seen.observation.position()?)?.history;
    let eligible = view.candidates.iter().filter(|candidate| candidate.is_eligible());
    let extents = Extents::of(chart, eligible.filter_map(|candidate| chart.place(candidate.position?)));
    Some(Aside::new(chart, history, rivals(chart, &extents, history).into_iter()))
}
