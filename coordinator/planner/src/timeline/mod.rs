//! When which offset had been reached: wall-clock time attached to positions, by observation.
//!
//! Time never orders copies. It is shown to people, and it bounds what `--as-of` may choose.

mod clock;
mod line;
mod thinning;

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};
use urtext_types::{Offset, Position, ReplicationId, Timestamp};

use crate::hasher::IdHasher;
pub use clock::ClockSkew;
pub(crate) use line::{Line, Packed};
pub(crate) use thinning::spacing;

/// One look at an offset.
///
/// The true time of the look, by the clock of the caller, lies between `at - within` and `at + within`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    pub position: Position,
    pub at: Timestamp,
    pub within: Duration,
    pub witness: Witness,
}

/// Who was looked at, which decides what a sample proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Witness {
    /// The master of the history. Every write that it had accepted by then is at or below the offset,
    /// and the offset had been reached.
    Master,
    /// A replica: the offset had been reached, and its master may have been further.
    Replica,
    /// The node that began the history afterwards: nothing of it had been written yet. The offset is
    /// that of the fork, and need not have been reached.
    Beginning,
}

/// What all looks at one offset of a history say together: what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    pub position: Position,
    /// Every write of this history that was accepted before this is at or below the offset.
    pub complete_up_to: Option<Timestamp>,
    /// The offset had been reached by then.
    pub reached_by: Option<Timestamp>,
    /// The times are wider than the looks by so much at most, since clocks are not known better.
    pub within: Duration,
}

impl From<Sample> for Mark {
    fn from(sample: Sample) -> Self {
        let proves_complete = matches!(sample.witness, Witness::Master | Witness::Beginning);
        let proves_reached = matches!(sample.witness, Witness::Master | Witness::Replica);
        Self {
            position: sample.position,
            complete_up_to: proves_complete.then(|| sample.at.minus(sample.within)),
            reached_by: proves_reached.then(|| sample.at.plus(sample.within)),
            within: sample.within,
        }
    }
}

/// All marks of one shard: one line of them for each history.
///
/// Kept as it grows: a mark is added, and an interval is asked for, in logarithmic time. It can be taken
/// apart into [`Mark`]s and put together from them again.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    lines: HashMap<ReplicationId, Line, IdHasher>,
}

impl Timeline {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one look. Returns what is now known of its offset: what replaces the mark stored for
    /// that position.
    pub fn record(&mut self, sample: Sample) -> Mark {
        self.recall(sample.into())
    }

    /// Takes in what was stored. The order does not matter.
    pub fn recall(&mut self, mark: Mark) -> Mark {
        let line = self.lines.entry(mark.position.history).or_default();
        line.put(mark)
    }

    /// Everything, by history in no order and then by offset.
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.lines.iter().flat_map(|(&history, line)| {
            line.marks().map(move |(offset, mark)| mark.at(Position::new(history, offset)))
        })
    }

    /// How many marks there are.
    pub fn len(&self) -> usize {
        self.lines.values().map(Line::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        let lines: usize = self.lines.values().map(Line::memory).sum();
        lines + self.lines.capacity() * (size_of::<(ReplicationId, Line)>() + 1)
    }

    pub(crate) fn histories(&self) -> impl Iterator<Item = ReplicationId> {
        self.lines.keys().copied()
    }

    pub(crate) fn line(&self, history: ReplicationId) -> Option<&Line> {
        self.lines.get(&history)
    }

    /// Drops what is older than it is fine; returns the positions of what was dropped, to be dropped
    /// where it is stored as well. See [`spacing`](thinning::spacing).
    ///
    /// The marks around each of `pins` stay: the interval of a copy there does not widen. Dropping
    /// twice is dropping once: it does not matter how often this is done.
    pub(crate) fn thin(
        &mut self,
        now: Timestamp,
        pins: &HashMap<ReplicationId, Vec<Offset>, IdHasher>,
    ) -> Vec<Position> {
        let mut dropped = Vec::new();
        for (&history, line) in &mut self.lines {
            let pins = pins.get(&history).map_or(&[][..], Vec::as_slice);
            line.thin(now, pins, |offset| dropped.push(Position::new(history, offset)));
        }
        dropped
    }
}

impl FromIterator<Sample> for Timeline {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        let mut timeline = Self::default();
        for sample in samples {
            timeline.record(sample);
        }
        timeline
    }
}

impl FromIterator<Mark> for Timeline {
    fn from_iter<I: IntoIterator<Item = Mark>>(marks: I) -> Self {
        let mut timeline = Self::default();
        for mark in marks {
            timeline.recall(mark);
        }
        timeline
    }
}
