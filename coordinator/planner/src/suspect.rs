//! Copies that are far smaller than the backups before them.
//!
//! A master that was emptied replicates its emptiness, and each later backup of it is the most
//! complete one by position. `FLUSHALL`, a mass expiry or a mistake all look alike in the stream, so
//! only a person can say whether it is right: restore that backup by name, or vouch for it. A
//! vouched backup is not suspect, and those after it are compared with it instead of with the ones
//! before. Backups that cannot be restored still count as evidence of how much there once was.

use std::collections::HashMap;

use crate::{
    chart::{Chart, Place},
    copies::Copies,
    view::{Policy, ShardView, Source},
};

/// The largest backup before a candidate, where the candidate is far smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shrunken {
    /// An index into the candidates.
    pub(crate) from: usize,
    pub(crate) from_keys: u64,
}

/// Which candidates are suspect.
pub(crate) fn find_shrunken(
    view: &ShardView,
    policy: &Policy,
    chart: &Chart,
    copies: &Copies,
) -> HashMap<usize, Shrunken> {
    let mut found = HashMap::new();
    if may_be_any(policy, chart, copies) {
        let mut marks: Vec<Vec<(Place, Largest)>> = vec![Vec::new(); chart.len()];
        // Parents before children, and each history from its beginning on: by the chart's numbering.
        for (history, copies) in copies.by_history(chart.len()).into_iter().enumerate() {
            let mut largest = inherited(chart, &marks, history);
            for equal in copies.chunk_by(|a, b| a.0 == b.0) {
                let indices = equal.iter().map(|&(_, i)| i);
                let before = largest.map(|largest| largest.candidate);
                largest = judge(view, policy, indices, largest, &mut found);
                let changed = largest.filter(|largest| Some(largest.candidate) != before || marks[history].is_empty());
                marks[history].extend(changed.map(|largest| (equal[0].0, largest)));
            }
        }
    }
    // Copies without a position are ordered by time within one run of one server.
    let mut unplaced = copies.unplaced.clone();
    unplaced.retain(|&i| !view.candidates[i].run_id.is_empty());
    let run = |i: usize| (&view.candidates[i].node, &view.candidates[i].run_id);
    let time = |i: usize| view.candidates[i].taken_at;
    unplaced.sort_unstable_by(|&a, &b| (run(a), time(a)).cmp(&(run(b), time(b))));
    for copies in unplaced.chunk_by(|&a, &b| run(a) == run(b)) {
        let mut largest = None;
        for equal in copies.chunk_by(|&a, &b| time(a) == time(b)) {
            largest = judge(view, policy, equal.iter().copied(), largest, &mut found);
        }
    }
    found
}

/// Whether any placed copy is far smaller than the largest that could come before it. Where nothing
/// shrank, which is nearly always, nothing needs to be put in order.
fn may_be_any(policy: &Policy, chart: &Chart, copies: &Copies) -> bool {
    let (mut largest, mut smallest) = (vec![0; chart.len()], vec![u64::MAX; chart.len()]);
    for (i, place) in copies.places.iter().enumerate() {
        let Some(Place { history, .. }) = *place else { continue };
        let keys = copies.keys[i];
        smallest[history] = keys.min(smallest[history]);
        if copies.is_backup[i] {
            largest[history] = keys.max(largest[history]);
        }
    }
    (0..chart.len()).any(|history| {
        if let Some(up) = chart.up(history) {
            largest[history] = largest[history].max(largest[up.history]);
        }
        is_far_smaller(policy, smallest[history], largest[history])
    })
}

fn is_far_smaller(policy: &Policy, keys: u64, than: u64) -> bool {
    let limit = u128::from(policy.shrink_below_percent);
    than >= policy.shrink_from_keys && u128::from(keys) * 100 < u128::from(than) * limit
}

/// The largest backup so far on a path, or the last one that was vouched for.
#[derive(Debug, Clone, Copy)]
struct Largest {
    candidate: usize,
    keys: u64,
}

/// The largest backup on the path by which `history` begins.
fn inherited(chart: &Chart, marks: &[Vec<(Place, Largest)>], history: usize) -> Option<Largest> {
    let mut up = chart.up(history);
    while let Some(at) = up {
        let marks = &marks[at.history];
        if let Some(before) = marks.partition_point(|(place, _)| place.offset <= at.offset).checked_sub(1) {
            return Some(marks[before].1);
        }
        up = chart.up(at.history);
    }
    None
}

/// Judges candidates at one position by the largest backup before them; returns the largest with them.
fn judge(
    view: &ShardView,
    policy: &Policy,
    equal: impl Iterator<Item = usize> + Clone,
    before: Option<Largest>,
    found: &mut HashMap<usize, Shrunken>,
) -> Option<Largest> {
    let is_vouched = |i: usize| match view.candidates[i].source {
        Source::Backup(id) => view.vouched.contains(&id),
        Source::Node => false,
    };
    for i in equal.clone() {
        let than = before.filter(|largest| is_far_smaller(policy, view.candidates[i].keys, largest.keys));
        if let Some(largest) = than.filter(|_| !is_vouched(i)) {
            found.insert(i, Shrunken { from: largest.candidate, from_keys: largest.keys });
        }
    }
    let backups = equal.filter(|&i| matches!(view.candidates[i].source, Source::Backup(_)));
    let rank = |i: usize| (view.candidates[i].keys, std::cmp::Reverse(view.candidates[i].source));
    let largest_of = |of: &mut dyn Iterator<Item = usize>| {
        of.max_by_key(|&i| rank(i)).map(|i| Largest { candidate: i, keys: view.candidates[i].keys })
    };
    let vouched = largest_of(&mut backups.clone().filter(|&i| is_vouched(i)));
    let here = largest_of(&mut backups.clone());
    vouched.or(match (before, here) {
        (Some(before), Some(here)) if here.keys > before.keys => Some(here),
        (before, here) => before.or(here),
    })
}
