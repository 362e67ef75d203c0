//! Wall-clock time. Never used to order copies; shown to people, and attached to offsets.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a time: write it like 2026-11-22T15:44:07Z")]
pub struct InvalidTimestamp {
    text: String,
}

/// Milliseconds since 1970-01-01T00:00:00Z. Prints and serializes as RFC 3339 in UTC.
///
/// Times come from other hosts, so any number must survive being written and read: one beyond the four
/// digits that RFC 3339 has for a year is written as `N ms since 1970`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

const BEYOND_RFC3339: &str = " ms since 1970";

impl Timestamp {
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The time `duration` later, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The time `duration` earlier, saturating.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_millis(self.0) {
            Some(time) if (0..=9999).contains(&time.year()) => {
                f.pad(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
            }
            // The number itself, still exact.
            Some(_) | None => f.pad(&format!("{}{BEYOND_RFC3339}", self.0)),
        }
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        if let Some(millis) = text.strip_suffix(BEYOND_RFC3339).and_then(|number| number.parse().ok()) {
            return Ok(Self(millis));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|time| Self(time.timestamp_millis()))
            .map_err(|_| InvalidTimestamp { text: text.to_owned() })
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;
    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        time.to_string()
    }
}

/// From when to when something lies, both ends possible. An end that nobody can bound is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_written() {
        let text = "2026-11-22T15:44:07.250Z";
        assert_eq!(text.parse::<Timestamp>().map(|t| t.to_string()), Ok(text.to_owned()));
        assert_eq!("2026-11-22T16:44:07.250+01:00".parse::<Timestamp>(), text.parse());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn every_time_reads_back_as_written() {
        // The ends of what has four digits, of what the calendar has, and of the number.
        let ends = [-62_167_219_200_000, 253_402_300_799_999, -8_334_601_228_800_000, 8_210_266_876_799_999];
        for millis in ends.into_iter().chain([0, i64::MIN, i64::MAX]) {
            for millis in [millis.saturating_sub(1), millis, millis.saturating_add(1)] {
                let time = Timestamp::from_millis(millis);
                assert_eq!(time.to_string().parse(), Ok(time), "{millis}");
            }
        }
    }

    #[test]
    fn times_beyond_the_calendar_do_not_panic() {
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9223372036854775807 ms since 1970");
        assert_eq!(Timestamp::from_millis(i64::MIN).since(Timestamp::from_millis(i64::MAX)), Duration::ZERO);
    }
}
