//! The head: the furthest that any node was seen on the branch of the canonical backup, and what the
//! backup lacks against it.

use std::cmp::Reverse;

use urtext_types::Position;

use crate::{
    chart::{Bearing, Bearings, Place},
    data_as_of::DataAsOf,
    selection::{Head, Missing},
    situation::Situation,
    view::Source,
};

/// The furthest of the live nodes and the remembered positions that continue the canonical backup.
pub(crate) fn find_head(situation: &Situation<'_>, canonical: &Bearings) -> Option<Head> {
    let live = (0..situation.places.len())
        .filter(|&i| situation.open[i] && situation.candidate(i).source == Source::Node)
        .filter_map(|i| {
            let candidate = situation.candidate(i);
            Some((situation.places[i]?, &candidate.node, candidate.received_at))
        });
    let remembered = situation
        .view
        .heads
        .iter()
        .filter_map(|head| Some((situation.chart.place(head.position)?, &head.node, head.seen_at)));
    let ahead_by = |place: Place| match canonical.of(place) {
        Bearing::Equal => Some(0),
        Bearing::Ahead { excess } => Some(excess),
        Bearing::Behind { .. } | Bearing::Divergent { .. } | Bearing::Unrelated => None,
    };
    live.chain(remembered)
        .filter_map(|(place, node, seen_at)| Some((ahead_by(place)?, place, node, seen_at)))
        .max_by_key(|&(ahead, place, node, seen_at)| (ahead, place, seen_at, Reverse(node)))
        .map(|(_, place, node, seen_at)| Head {
            position: situation.chart.position(place),
            node: node.clone(),
            seen_at,
        })
}

/// What `canonical`, a normalized position at or before the head, lacks against it.
pub(crate) fn find_missing(data_as_of: &DataAsOf<'_>, canonical: Position, head: &Head) -> Missing {
    let bytes = head.position.offset.bytes_since(canonical.offset);
    if head.position == canonical {
        return Missing { bytes, seconds: Some(0.0) };
    }
    let seconds = data_as_of.complete_up_to(canonical).map(|from| {
        let reached = data_as_of.reached(head.position).unwrap_or(head.seen_at).min(head.seen_at);
        reached.since(from).as_secs_f64()
    });
    Missing { bytes, seconds }
}
