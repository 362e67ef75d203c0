//! The nine bytes that say who wrote the file, and so what every other byte means.

use std::fmt;

use urtext_types::Engine;

use crate::RdbError;

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
    /// Reads the first nine bytes of a file.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, RdbError> {
        let (engine, digits) = if let Some(digits) = bytes.strip_prefix(b"REDIS") {
            (Engine::Redis, digits)
        } else if let Some(digits) = bytes.strip_prefix(b"VALKEY") {
            (Engine::Valkey, digits)
        } else if bytes.starts_with(b"VCS") {
            // Valkey 9.2 with `rdbcompression lz4|zstd`: `VCS`, version, codec, 0, kind.
            return Err(RdbError::Compressed { codec: bytes[4] });
        } else {
            return Err(RdbError::NotRdb { found: *bytes });
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(RdbError::NotRdb { found: *bytes });
        }
        let version = digits.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
        let header = Self { engine, version };
        let known = match engine {
            Engine::Redis => (1..=MAX_REDIS_VERSION).contains(&version),
            Engine::Valkey => VALKEY_VERSIONS.contains(&version),
        };
        if known { Ok(header) } else { Err(RdbError::UnknownVersion { header }) }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_written() {
        for text in [b"REDIS0005", b"REDIS0011", b"VALKEY080"] {
            let header = RdbHeader::parse(text).expect("a header");
            assert_eq!(&header.to_bytes(), text);
            assert_eq!(header.to_string().as_bytes(), text);
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(matches!(RdbHeader::parse(b"REDIS0016"), Err(RdbError::UnknownVersion { .. })));
        assert!(matches!(RdbHeader::parse(b"REDIS0000"), Err(RdbError::UnknownVersion { .. })));
        assert!(matches!(RdbHeader::parse(b"VALKEY079"), Err(RdbError::UnknownVersion { .. })));
        assert!(matches!(RdbHeader::parse(b"REDIS00x1"), Err(RdbError::NotRdb { .. })));
        assert!(matches!(RdbHeader::parse(b"*3\r\n$3\r\nS"), Err(RdbError::NotRdb { .. })));
        assert!(matches!(RdbHeader::parse(b"VCS\x01\x02\0\x01\0\0"), Err(RdbError::Compressed { codec: 2 })));
    }
}
