//! The head: the furthest that any node was seen on the branch of the canonical backup, and what the
//! backup lacks against it.

use std::cmp::Reverse;

use crate::{
    chart::{Bearing, Bearings, Chart, Place},
    data_as_of::DataAsOf,
    selection::{Head, Missing},
    situation::Case,
};

/// The furthest of the live nodes and the remembered positions that continue the canonical backup.
pub(crate) fn find_head(case: &Case<'_>, canonical: &Bearings) -> Option<Head> {
    let live = (0..case.open.len()).filter(|&i| case.open[i] && !case.copies.is_backup[i]).filter_map(|i| {
        let candidate = case.candidate(i);
        Some((case.place(i)?, &candidate.node, candidate.received_at))
    });
    let remembered =
        case.view.heads.iter().filter_map(|head| Some((case.chart.place(head.position)?, &head.node, head.seen_at)));
    let ahead_by = |place: Place| match canonical.of(place) {
        Bearing::Equal => Some(0),
        Bearing::Ahead { excess } => Some(excess),
        Bearing::Behind { .. } | Bearing::Divergent { .. } | Bearing::Unrelated => None,
    };
    live.chain(remembered)
        .filter_map(|(place, node, seen_at)| Some((ahead_by(place)?, place, node, seen_at)))
        .max_by_key(|&(ahead, place, node, seen_at)| (ahead, place, seen_at, Reverse(node)))
        .map(|(_, place, node, seen_at)| Head { position: case.chart.position(place), node: node.clone(), seen_at })
}

/// What `canonical`, at or before the head, lacks against it.
pub(crate) fn find_missing(chart: &Chart, data_as_of: &DataAsOf<'_>, canonical: Place, head: &Head) -> Missing {
    let bytes = head.position.offset.bytes_since(canonical.offset);
    let place = chart.place(head.position).expect("the chart holds the head");
    if place == canonical {
        return Missing { bytes, seconds: Some(0.0) };
    }
    let seconds = data_as_of.at(canonical).from.map(|from| {
        let reached = data_as_of.reached_at(place).unwrap_or(head.seen_at).min(head.seen_at);
        reached.since(from).as_secs_f64()
    });
    Missing { bytes, seconds }
}
