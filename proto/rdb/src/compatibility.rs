//! Which server can load which file. Asked before a restore touches its target: a server that meets a
//! file it cannot read has already dropped its own data.

use std::fmt;

use thiserror::Error;
use urtext_types::{Engine, ErrorKind, Explain};

use crate::{RdbHeader, ValueType, value_type::FIRST_OF_VALKEY};

/// A server's own version. On Valkey its own as well, not the `redis_version` that it also announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    pub engine: Engine,
    pub major: u32,
    pub minor: u32,
}

impl ServerVersion {
    /// From `8.2.3`, `9.1.2-rc1`, `7.0`. `None` if it does not begin with two numbers.
    pub fn parse(engine: Engine, text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some(Self { engine, major, minor }),
            _ => None,
        }
    }

    /// The newest RDB version that the server reads; `None` for a server from before they are known.
    ///
    /// `RDB_VERSION` in each release's rdb.h. Servers newer than the newest known release read at
    /// least what that one reads.
    pub fn newest_rdb(self) -> Option<u32> {
        let table: &[((u32, u32), u32)] = match self.engine {
            Engine::Redis => &[
                ((8, 10), 15),
                ((8, 8), 14),
                ((8, 6), 13),
                ((7, 4), 12),
                ((7, 2), 11),
                ((7, 0), 10),
                ((5, 0), 9),
                ((4, 0), 8),
                ((3, 2), 7),
                ((2, 6), 6),
            ],
            Engine::Valkey => &[((9, 2), 81), ((9, 0), 80), ((7, 2), 11)],
        };
        let version = (self.major, self.minor);
        table.iter().find(|(first, _)| *first <= version).map(|(_, rdb)| *rdb)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}", self.engine, self.major, self.minor)
    }
}

/// Why a server would refuse a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotLoadable {
    #[error("{server} reads RDB up to version {newest}, and the file is {header}")]
    TooNew { server: ServerVersion, newest: u32, header: RdbHeader },
    #[error("{server} does not read {header}, which only {} writes", header.engine)]
    OtherEngine { server: ServerVersion, header: RdbHeader },
    #[error("{server} does not know values of type {value_type}, which the file holds")]
    UnknownType { server: ServerVersion, value_type: ValueType },
    #[error("which RDB versions {server} reads is not known")]
    UnknownServer { server: ServerVersion },
}

impl Explain for NotLoadable {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Refused
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::TooNew { header, .. } | Self::OtherEngine { header, .. } => {
                format!("restore into {} of the version that wrote the file, or newer", header.engine)
            }
            Self::UnknownType { value_type, .. } if value_type.since() >= FIRST_OF_VALKEY => {
                "restore into Valkey 9.0 or newer".to_owned()
            }
            Self::UnknownType { .. } => "restore into Redis of the version that wrote the file, or newer".to_owned(),
            Self::UnknownServer { .. } => "restore into Redis 2.6 or newer, or into Valkey".to_owned(),
        })
    }
}

/// The newest RDB version that both engines share: Redis 7.2, Valkey 7.2 to 8.1.
const LAST_SHARED: u32 = 11;

/// Whether `server` loads a file with this header that holds values of these types.
///
/// The rule: the same engine, at the same or a newer RDB version; and up to RDB 11 either engine. A
/// header can be rewritten, so the types are asked too. Valkey's `rdb-version-check relaxed` is not
/// counted on. Whether the target has the modules that the file needs is for the caller to ask.
///
/// Not seen here: Valkey 9.1 refuses listpacks of other servers with an entry of exactly 16383 bytes.
pub fn loadable_by(
    header: RdbHeader,
    types: impl IntoIterator<Item = ValueType>,
    server: ServerVersion,
) -> Result<(), NotLoadable> {
    let newest = server.newest_rdb().ok_or(NotLoadable::UnknownServer { server })?;
    match (header.engine, server.engine) {
        (Engine::Valkey, Engine::Redis) => return Err(NotLoadable::OtherEngine { server, header }),
        (Engine::Redis, Engine::Valkey) if header.version > LAST_SHARED => {
            return Err(NotLoadable::OtherEngine { server, header });
        }
        _ if header.version > newest => return Err(NotLoadable::TooNew { server, newest, header }),
        _ => {}
    }
    let known = |value_type: &ValueType| {
        let since = value_type.since();
        match server.engine {
            Engine::Redis => since < FIRST_OF_VALKEY && since <= newest,
            Engine::Valkey => since <= LAST_SHARED || since >= FIRST_OF_VALKEY && since <= newest,
        }
    };
    match types.into_iter().find(|value_type| !known(value_type)) {
        None => Ok(()),
        Some(value_type) => Err(NotLoadable::UnknownType { server, value_type }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [(Engine, &str); 5] = [
        (Engine::Redis, "6.2.14"),
        (Engine::Redis, "7.0.15"),
        (Engine::Redis, "8.2.3"),
        (Engine::Valkey, "8.1.8"),
        (Engine::Valkey, "9.1.2"),
    ];

    #[track_caller]
    fn check(file: &[u8; 9], types: &[ValueType], expect: [bool; 5]) {
        let header = RdbHeader::parse(file).expect("a header");
        let loads = SERVERS.map(|(engine, version)| {
            let server = ServerVersion::parse(engine, version).expect("a version");
            loadable_by(header, types.iter().copied(), server).is_ok()
        });
        assert_eq!(loads, expect);
    }

    #[test]
    fn files_load_where_they_were_seen_to_load() {
        check(b"REDIS0009", &[], [true, true, true, true, true]);
        check(b"REDIS0010", &[], [false, true, true, true, true]);
        check(b"REDIS0011", &[], [false, false, true, true, true]);
        check(b"REDIS0012", &[], [false, false, true, false, false]);
        check(b"VALKEY080", &[], [false, false, false, false, true]);
    }

    #[test]
    fn a_rewritten_header_does_not_hide_a_newer_type() {
        check(b"REDIS0011", &[ValueType::String, ValueType::HashListpackEx], [false, false, true, false, false]);
        check(b"REDIS0011", &[ValueType::ValkeyHash2], [false, false, false, false, true]);
    }

    #[test]
    fn every_release_has_its_rdb_version() {
        for (engine, text, newest) in [
            (Engine::Redis, "2.8.24", Some(6)),
            (Engine::Redis, "6.0.1", Some(9)),
            (Engine::Redis, "7.2.0", Some(11)),
            (Engine::Redis, "8.4.0", Some(12)),
            (Engine::Redis, "8.10.0", Some(15)),
            (Engine::Redis, "9.0.0", Some(15)),
            (Engine::Valkey, "7.2.5", Some(11)),
            (Engine::Valkey, "8.0.0-rc1", Some(11)),
            (Engine::Valkey, "9.2.0", Some(81)),
            (Engine::Redis, "2.4.1", None),
        ] {
            let server = ServerVersion::parse(engine, text).expect("a version");
            assert_eq!(server.newest_rdb(), newest, "{server}");
        }
        assert_eq!(ServerVersion::parse(Engine::Redis, "unknown"), None);
    }
}
