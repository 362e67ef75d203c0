//! Packed structures: small collections as one blob inside one string.
//!
//! Every walk checks the whole structure and hands each entry to a closure; at the depth *verify*
//! the closure does nothing and disappears. Entries are handed out before the end of the blob has
//! been seen: an error afterwards means that none of them count.

pub(crate) mod intset;
pub(crate) mod listpack;
pub(crate) mod ziplist;
pub(crate) mod zipmap;

/// What is wrong with a blob.
pub(crate) type Damage = &'static str;

/// One entry: integers are stored as such, and are the same value as their decimal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
}

impl Entry<'_> {
    /// The number, for entries that must be one; text is accepted where the server accepts it.
    pub(crate) fn integer(self) -> Option<i64> {
        match self {
            Self::Integer(n) => Some(n),
            Self::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        }
    }

    /// The score of a sorted set's member. Not a number is no score (`rdb.c:rdbLoadObject`).
    pub(crate) fn score(self) -> Option<f64> {
        match self {
            Self::Integer(n) => Some(n as f64),
            Self::Bytes(text) => parse_score(text),
        }
    }
}

/// A score as text: what C's `strtod` reads and a server writes.
pub(crate) fn parse_score(text: &[u8]) -> Option<f64> {
    let score: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!score.is_nan()).then_some(score)
}
