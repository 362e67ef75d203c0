//! Points in a history and in time, as people write them.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use urtext_types::{Offset, Timestamp};

/// The most complete copy not beyond a point.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub struct UntilPoint {
    /// Nothing newer than this: 2026-11-22T15:44:07Z, or 10m for ten minutes ago.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub as_of: Option<When>,
    /// Nothing that is not in this position; of the history, eight digits or more.
    #[arg(long, value_name = "HISTORY:OFFSET", value_parser = parse_point)]
    pub at: Option<Point>,
}

/// A time as a person says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    Ago(Duration),
}

impl When {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        if let Ok(time) = humantime::parse_rfc3339_weak(text) {
            let since = time.duration_since(UNIX_EPOCH).map_err(|_| format!("{text:?} is before 1970"))?;
            return Ok(Self::At(Timestamp::from_millis(0).plus(since)));
        }
        humantime::parse_duration(text.trim_end_matches("ago").trim_end())
            .map(Self::Ago)
            .map_err(|_| format!("{text:?} is not a time: write 2026-11-22T15:44:07Z, or 10m for ten minutes ago"))
    }

    /// The time that is meant.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.minus(duration),
        }
    }
}

/// A position as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The leading bytes of the history, at least four.
    pub history: Vec<u8>,
    pub offset: Offset,
}

pub(super) fn parse_point(text: &str) -> Result<Point, String> {
    let (history, offset) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is not a position: write HISTORY:OFFSET"))?;
    Ok(Point { history: leading_bytes(history)?, offset: offset.parse()? })
}

/// The bytes that a history's leading digits spell: at least eight digits, of an odd number all but the last.
fn leading_bytes(digits: &str) -> Result<Vec<u8>, String> {
    let whole = digits.get(..digits.len() / 2 * 2).map(hex::decode);
    match whole {
        Some(Ok(bytes)) if (4..=20).contains(&bytes.len()) => Ok(bytes),
        _ => Err(format!(
            "{digits:?} names no history: give its 40 hexadecimal digits, or the first 8 or more of them, as `urtext \
             lineage` shows them"
        )),
    }
}

pub(super) fn parse_offset(text: &str) -> Result<Offset, String> {
    text.parse()
}

/// The leading bytes of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryDigits(pub Vec<u8>);

pub(super) fn parse_history(digits: &str) -> Result<HistoryDigits, String> {
    leading_bytes(digits).map(HistoryDigits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now: Timestamp = "2026-11-22T15:44:07Z".parse().expect("a time");
        let check = |text: &str, expect: &str| {
            assert_eq!(When::parse(text).expect(text).from(now).to_string(), expect);
        };
        check("2026-11-22T16:00:00+01:00", "2026-11-22T15:00:00.000Z");
        check("2026-11-22 15:00:00", "2026-11-22T15:00:00.000Z");
        check("10m", "2026-11-22T15:34:07.000Z");
        check("1h 30m ago", "2026-11-22T14:14:07.000Z");
    }

    #[test]
    fn a_history_is_named_by_eight_digits_or_more() {
        assert_eq!(leading_bytes("75d1dd8a").ok(), Some(vec![0x75, 0xd1, 0xdd, 0x8a]));
        assert_eq!(leading_bytes("75d1dd8a2").ok(), Some(vec![0x75, 0xd1, 0xdd, 0x8a]));
        for wrong in ["", "75d1dd", "zzzzzzzz", &"a".repeat(42), "éééé", "aéééé"] {
            assert!(leading_bytes(wrong).is_err(), "{wrong}");
        }
        let point = parse_point("75d1dd8a:48211").expect("a position");
        assert_eq!((point.history.len(), point.offset.get()), (4, 48_211));
    }
}
