//! Reads the header of a file, or says what else it is.

use urtext_types::Engine;

use crate::{
    RdbError, RdbHeader,
    header::{HEADER_BYTES, MAX_REDIS_VERSION, VALKEY_VERSIONS},
};

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
            return Err(RdbError::NotRdb { found: bytes.to_vec() });
        };
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(RdbError::NotRdb { found: bytes.to_vec() });
        }
        let version = digits.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
        let header = Self { engine, version };
        let known = match engine {
            Engine::Redis => (1..=MAX_REDIS_VERSION).contains(&version),
            Engine::Valkey => VALKEY_VERSIONS.contains(&version),
        };
        if known { Ok(header) } else { Err(RdbError::UnknownVersion { header }) }
    }

    /// Whether fewer bytes than a header are the beginning of one. An empty file is a file that was cut off.
    pub(crate) fn may_begin_with(bytes: &[u8]) -> bool {
        [&b"REDIS"[..], b"VALKEY", b"VCS"].iter().any(|magic| bytes.iter().zip(*magic).all(|(a, b)| a == b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Depth, Limits, Parser};

    #[test]
    fn a_header_reads_back_as_written() {
        for text in [b"REDIS0005", b"REDIS0011", b"VALKEY080"] {
            let header = RdbHeader::parse(text).expect("a header");
            assert_eq!(&header.to_bytes(), text);
            assert_eq!(header.to_string().as_bytes(), text);
        }
    }

    #[test]
    fn a_short_file_is_cut_off_only_if_it_begins_as_an_rdb() {
        let finish = |bytes: &[u8]| {
            let mut parser = Parser::new(Depth::Frame, Limits::default());
            bytes.chunks(1).for_each(|byte| parser.feed(byte, &mut |_| ()).expect("nothing is wrong yet"));
            parser.finish()
        };
        for begun in [&b""[..], b"R", b"REDIS00", b"VALKEY0", b"VC"] {
            assert_eq!(finish(begun), Err(RdbError::Truncated { bytes: begun.len() as u64 }));
        }
        for other in [&b"r"[..], b"hello", b"REDUCED", b"\x1f\x8b"] {
            assert_eq!(finish(other), Err(RdbError::NotRdb { found: other.to_vec() }));
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
