//! What is wrong with a file, and where.

use thiserror::Error;
use urtext_types::{ErrorKind, Explain};

use crate::{RdbHeader, opcode};

/// Why bytes are not an RDB that can be read. Offsets count from the first byte of the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RdbError {
    #[error("not an RDB file: it begins with {:?}", String::from_utf8_lossy(found))]
    NotRdb { found: Vec<u8> },
    #[error("a compressed RDB envelope (codec {}), which only Valkey 9.2 and newer read", codec_name(*codec))]
    Compressed { codec: u8 },
    #[error("RDB version {header} is not known")]
    UnknownVersion { header: RdbHeader },
    #[error("unknown value type {byte} at offset {offset} of a {header} file")]
    UnknownType { byte: u8, offset: u64, header: RdbHeader },
    #[error("unknown opcode {byte} at offset {offset} of a {header} file")]
    UnknownOpcode { byte: u8, offset: u64, header: RdbHeader },
    #[error("{what} (byte {byte} at offset {offset} of a {header} file) cannot be read")]
    Unreadable { what: &'static str, byte: u8, offset: u64, header: RdbHeader },
    #[error("damaged at offset {offset}: {what}")]
    Damaged { offset: u64, what: &'static str },
    #[error("{what} of {bytes} bytes at offset {offset} is above the limit of {limit} bytes")]
    TooLarge { what: &'static str, offset: u64, bytes: u64, limit: u64 },
    #[error("{}: the end mark is missing", cut_off(*bytes))]
    Truncated { bytes: u64 },
    #[error("wrong checksum: the file says {stored:016x}, its bytes give {computed:016x}")]
    WrongChecksum { stored: u64, computed: u64 },
    #[error("there are bytes behind the end of the RDB, from offset {offset} on")]
    TrailingBytes { offset: u64 },
}

fn cut_off(bytes: u64) -> String {
    if bytes == 0 { "empty".to_owned() } else { format!("cut off after {bytes} bytes") }
}

fn codec_name(codec: u8) -> &'static str {
    match codec {
        1 => "LZ4",
        2 => "Zstandard",
        _ => "unknown",
    }
}

impl Explain for RdbError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Compressed { .. }
            | Self::UnknownVersion { .. }
            | Self::UnknownType { .. }
            | Self::UnknownOpcode { .. }
            | Self::Unreadable { .. }
            | Self::TooLarge { .. } => ErrorKind::Refused,
            Self::NotRdb { .. }
            | Self::Damaged { .. }
            | Self::Truncated { .. }
            | Self::WrongChecksum { .. }
            | Self::TrailingBytes { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotRdb { .. } => "an RDB begins with REDIS or VALKEY and a version",
            Self::Compressed { .. } => "set rdbcompression to yes or no on the server, then take the snapshot again",
            Self::UnknownVersion { .. } | Self::UnknownType { .. } | Self::UnknownOpcode { .. } => {
                "the file is from a newer server than this program knows: update Urtext"
            }
            // The same byte is Valkey's UPDATE, of a forkless save.
            Self::Unreadable { byte: opcode::HASH_TEMPLATE, .. } => {
                "set bgsave-default-method to fork on the server, then take the snapshot again"
            }
            // From release candidates of old.
            Self::Unreadable { byte: 6 | opcode::FUNCTION_PRE_GA, .. } => {
                "load it into a server that reads it, and take the snapshot there"
            }
            Self::Unreadable { .. } => "delete keys of this type from the server, or update Urtext to read them",
            Self::TooLarge { .. } => "raise the limit if this machine has the memory",
            Self::Truncated { .. } => "the copy was interrupted: take it again",
            Self::Damaged { .. } | Self::WrongChecksum { .. } => {
                "the bytes changed after the server wrote them: use another copy"
            }
            Self::TrailingBytes { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
