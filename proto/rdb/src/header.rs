//! The nine bytes that say who wrote the file, and so what every other byte means.

use std::fmt;

use urtext_types::Engine;

/// `REDIS0011`, `VALKEY080`: the dialect of the file.
///
/// Some type bytes and opcodes mean different things in the two engines, so they are always read
/// together with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RdbHeader {
    /// Whose magic the file carries. Valkey writes `REDIS` up to RDB version 11 (Valkey 8.1).
    pub engine: Engine,
    /// The RDB version, not the server's.
    pub version: u32,
}

/// Every header is this long: `REDIS` and four digits, or `VALKEY` and three.
pub const HEADER_BYTES: usize = 9;

/// The newest RDB version that is understood: Redis 8.10.
pub const MAX_REDIS_VERSION: u32 = 15;
/// The first and the newest RDB version under Valkey's own magic: Valkey 9.0 and 9.2.
pub const VALKEY_VERSIONS: std::ops::RangeInclusive<u32> = 80..=81;

/// Files below this version have no checksum behind the end mark (`rdb.c:rdbLoadRioWithLoadingCtx`).
const FIRST_WITH_CHECKSUM: u32 = 5;

impl RdbHeader {
    /// Whether eight bytes of checksum follow the end mark.
    pub fn has_checksum(self) -> bool {
        self.version >= FIRST_WITH_CHECKSUM
    }

    /// The bytes that [`RdbHeader::parse`] reads.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = *b"REDIS0000";
        let first_digit = match self.engine {
            Engine::Redis => 5,
            Engine::Valkey => {
                bytes[..6].copy_from_slice(b"VALKEY");
                6
            }
        };
        let mut rest = self.version;
        for digit in bytes[first_digit..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        bytes
    }
}

impl fmt::Display for RdbHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.engine {
            Engine::Redis => write!(f, "REDIS{:04}", self.version),
            Engine::Valkey => write!(f, "VALKEY{:03}", self.version),
        }
    }
}
