//! What the walks over values share: bounds, state, the decoding of whole strings.

use std::collections::BTreeMap;

use crate::{
    Depth,
    cursor::RawString,
    lzf,
    text::{self, Passing},
};

/// Bounds on what is held in memory at once. Longer plain strings pass through without being held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A packed structure (listpack, ziplist, …), which is checked as a whole. Servers keep them at
    /// kilobytes unless `*-max-listpack-*` is raised.
    pub packed_bytes: u64,
    /// A key, an auxiliary field, a function library, the name of a stream's group or consumer.
    pub name_bytes: u64,
}

impl Default for Limits {
    /// Far above what servers write and still harmless: nothing is reserved before it has arrived.
    fn default() -> Self {
        Self { packed_bytes: 256 << 20, name_bytes: 512 << 20 }
    }
}

/// Upper bound on what has a count of parts and is still read as one unit, again from its start while it
/// is incomplete: a hash template, the ranges of a slot import, the metadata of a key.
pub(crate) const UNIT_BYTES: u64 = 1 << 20;

/// What a step of a walk found.
pub(crate) enum Step {
    /// The value is complete.
    Done { empty: bool },
    /// A string is passing; then the walk goes on.
    Pass(Passing),
}

/// What the walks of values share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) depth: Depth,
    pub(crate) limits: Limits,
    pub(crate) scratch: Scratch,
    /// Fields of Redis 8.10's hashes, by template id. As large as the file makes it.
    pub(crate) templates: BTreeMap<u64, Vec<Vec<u8>>>,
}

impl Context {
    pub(crate) fn new(depth: Depth, limits: Limits) -> Self {
        Self { depth, limits, scratch: Scratch::default(), templates: BTreeMap::new() }
    }
}

/// Where the string at hand is, unless it stands in the window as such.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) lzf: lzf::Decoder,
    integer: Vec<u8>,
}

/// The content of a whole string.
#[inline]
pub(crate) fn decode<'a: 's, 's>(string: RawString<'a>, scratch: &'s mut Scratch) -> Result<&'s [u8], &'static str> {
    Ok(match string {
        RawString::Plain(bytes) => bytes,
        RawString::Integer(n) => {
            scratch.integer.clear();
            text::integer(i64::from(n), |text| scratch.integer.extend_from_slice(text));
            &scratch.integer
        }
        RawString::Compressed { bytes, len } => scratch.lzf.decode(bytes, len)?,
    })
}
