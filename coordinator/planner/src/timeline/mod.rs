//! When which offset had been reached: wall-clock time attached to positions, by observation.
//!
//! Time never orders copies. It is shown to people, and it bounds what `--as-of` may choose.

mod clock;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use urtext_types::{Position, ReplicationId, Timestamp};

pub use clock::ClockSkew;

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

impl Witness {
    /// Whether every write accepted before the look is at or below its offset.
    pub fn proves_complete(self) -> bool {
        matches!(self, Self::Master | Self::Beginning)
    }

    /// Whether the offset had been reached by the time of the look.
    pub fn proves_reached(self) -> bool {
        matches!(self, Self::Master | Self::Replica)
    }
}

impl Sample {
    /// The look was not earlier than this.
    pub fn earliest(&self) -> Timestamp {
        self.at.minus(self.within)
    }

    /// The look was not later than this.
    pub fn latest(&self) -> Timestamp {
        self.at.plus(self.within)
    }
}

/// Samples younger than this stay as they came; older ones are thinned.
pub const EXACT_SAMPLES_FOR: Duration = Duration::from_secs(3600);
/// How far apart old samples are.
pub const OLD_SAMPLES_EVERY: Duration = Duration::from_secs(60);

/// All samples of one shard.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    histories: BTreeMap<ReplicationId, Vec<Sample>>,
}

impl Timeline {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one sample.
    pub fn record(&mut self, sample: Sample) {
        let samples = self.histories.entry(sample.position.history).or_default();
        // While nothing is written, the first and the last time say all.
        if let [.., before, last] = samples.as_slice()
            && [before, last].iter().all(|known| known.position == sample.position && known.witness == sample.witness)
        {
            samples.pop();
        }
        samples.push(sample);
        // Thinning at each doubling costs little and bounds the memory.
        if samples.len().is_power_of_two() && samples.len() >= 4096 {
            let exact_from = sample.at.minus(EXACT_SAMPLES_FOR);
            let every = OLD_SAMPLES_EVERY.as_millis() as i64;
            let mut last_kept: Option<i64> = None;
            samples.retain(|sample| {
                let slot = sample.at.as_millis() / every;
                let keep = sample.at >= exact_from || last_kept != Some(slot);
                last_kept = Some(slot);
                keep
            });
        }
    }

    pub fn samples(&self) -> impl Iterator<Item = Sample> {
        self.histories.values().flatten().copied()
    }
}

impl FromIterator<Sample> for Timeline {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Self {
        let mut timeline = Self::default();
        samples.into_iter().for_each(|sample| timeline.record(sample));
        timeline
    }
}
