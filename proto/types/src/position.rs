//! Where in which history: the only thing by which copies are compared.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ByteCount;

/// Text that is not a replication id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a replication id: it must be 40 hexadecimal digits, not all zero")]
pub struct InvalidReplicationId {
    text: String,
}

/// The name of one **history**: what Redis calls `replid`, 40 hex digits.
///
/// Forty zeros mean "none" in INFO (`master_replid2` of a node that was never promoted); such text
/// does not parse, so that an absent history is an `Option` and never a value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicationId([u8; 20]);

impl ReplicationId {
    /// An id from twenty bytes; `None` if they are all zero.
    pub fn from_bytes(bytes: [u8; 20]) -> Option<Self> {
        (bytes != [0; 20]).then_some(Self(bytes))
    }

    /// The twenty bytes that the forty digits spell.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first eight digits: enough for a person to tell histories of one deployment apart.
    pub fn short(&self) -> String {
        self.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReplicationId {
    type Err = InvalidReplicationId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidReplicationId { text: text.chars().take(64).collect() };
        let digits = text.as_bytes();
        if digits.len() != 40 {
            return Err(invalid());
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16).ok_or_else(invalid);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Self::from_bytes(bytes).ok_or_else(invalid)
    }
}

impl TryFrom<String> for ReplicationId {
    type Error = InvalidReplicationId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ReplicationId> for String {
    fn from(id: ReplicationId) -> String {
        id.to_string()
    }
}

/// A byte count in one history's replication stream: how many bytes have been applied.
///
/// Meaningless without its history: see [`Position`]. The next byte wanted is `self + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(u64);

impl Offset {
    /// The start of a history.
    pub const ZERO: Self = Self(0);

    /// Servers count in a signed 64-bit number (`server.master_repl_offset`), so nothing above its
    /// maximum is an offset.
    pub const MAX: Self = Self(i64::MAX as u64);

    /// `None` above [`Offset::MAX`].
    pub fn new(bytes: u64) -> Option<Self> {
        (bytes <= Self::MAX.0).then_some(Self(bytes))
    }

    /// The number of bytes.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The offset after `bytes` more; `None` beyond [`Offset::MAX`].
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).and_then(Self::new)
    }

    /// How many bytes lie between `earlier` and `self`; zero if `earlier` is not earlier.
    pub fn bytes_since(self, earlier: Self) -> ByteCount {
        ByteCount::new(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Offset {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| format!("{text:?} is not a replication offset"))
    }
}

/// `(history, offset)`: everything that a copy holds, in two numbers.
///
/// Deliberately not `Ord`: positions are ordered by [`crate::Lineage`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    pub history: ReplicationId,
    pub offset: Offset,
}

impl Position {
    pub fn new(history: ReplicationId, offset: Offset) -> Self {
        Self { history, offset }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.history, self.offset)
    }
}

impl FromStr for Position {
    type Err = String;
    /// `HISTORY:OFFSET`, as printed.
    fn from_str(text: &str) -> Result<Self, String> {
        let (history, offset) =
            text.split_once(':').ok_or_else(|| format!("{text:?} is not a position: write HISTORY:OFFSET"))?;
        Ok(Self { history: history.parse().map_err(|e: InvalidReplicationId| e.to_string())?, offset: offset.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_written() {
        let text = "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601:48211";
        let position: Position = text.parse().expect("a position");
        assert_eq!(position.to_string(), text);
        assert_eq!(position.history.short(), "75d1dd8a");
    }

    #[test]
    fn no_history_is_not_a_history() {
        assert!("0000000000000000000000000000000000000000".parse::<ReplicationId>().is_err());
        assert!("75d1".parse::<ReplicationId>().is_err());
        assert!("zzd1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601".parse::<ReplicationId>().is_err());
        assert!("é5d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f60".parse::<ReplicationId>().is_err());
    }

    #[test]
    fn offsets_do_not_wrap() {
        assert_eq!(Offset::MAX.checked_add(1), None);
        assert_eq!(Offset::new(u64::MAX), None);
        assert_eq!("-1".parse::<Offset>().ok(), None);
    }
}
