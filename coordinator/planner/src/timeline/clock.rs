//! How far another host's clock is from ours.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use urtext_types::Timestamp;

/// How an agent's clock stands to the coordinator's, as the round trips of their session show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockSkew {
    /// How far the agent's clock is ahead; negative if it is behind.
    pub ahead_ms: i64,
    /// The true skew is not further from `ahead_ms` than this: half the round trip in which it was
    /// measured, and the time that the server may have taken to answer.
    pub within: Duration,
}

impl ClockSkew {
    /// What our clock showed when the agent's showed `time`.
    pub fn correct(&self, time: Timestamp) -> Timestamp {
        Timestamp::from_millis(time.as_millis().saturating_sub(self.ahead_ms))
    }
}
