//! Names that people choose, and ids that we make.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Timestamp;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {name:?} is not a valid name: use 1 to 63 of a-z 0-9 . _ -, the first a letter or digit")]
pub struct InvalidName {
    what: &'static str,
    name: String,
}

/// Names are parts of object paths, certificate URIs and terminal output: nothing that needs escaping.
fn is_valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    matches!(bytes.next(), Some(b'a'..=b'z' | b'0'..=b'9'))
        && name.len() <= 63
        && bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                name.to_owned().try_into()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                if is_valid_name(&name) { Ok(Self(name.into())) } else { Err(InvalidName { what: $what, name }) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// One logical Redis or Valkey data set, e.g. `orders`.
    DeploymentName, "deployment"
);
name!(
    /// One replication group of a deployment. A deployment without Redis Cluster has exactly one, `0`.
    ShardName, "shard"
);
name!(
    /// A place that fails as one: a data centre, a region.
    SiteName, "site"
);
name!(
    /// One server process of a shard. Unique within its deployment.
    NodeName, "node"
);

name!(
    /// A place where backups are kept, as the settings call it: `main`, `nyc`.
    RepositoryName, "repository"
);

name!(
    /// A person, or a machine that acts for one, who holds an operator's or a viewer's certificate.
    UserName, "user"
);

impl Default for ShardName {
    /// The only shard of a deployment without Redis Cluster.
    fn default() -> Self {
        Self("0".into())
    }
}

/// Text that is not one of our ids.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a valid id: an id is 26 characters of 0-9 A-Z without I, L, O and U")]
pub struct InvalidId {
    text: String,
}

/// A [ULID](https://github.com/ulid/spec): 48 bits of milliseconds, then 80 bits of entropy, so that
/// ids sort by the time at which they were made. Printed as 26 characters of Crockford base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Ulid {
    /// An id made at `now` from ten bytes of the caller's entropy.
    pub fn new(now: Timestamp, entropy: [u8; 10]) -> Self {
        let millis = u128::from(now.as_millis().max(0) as u64) & 0xffff_ffff_ffff;
        let mut low = [0_u8; 16];
        low[6..].copy_from_slice(&entropy);
        Self(millis << 80 | u128::from_be_bytes(low))
    }

    /// When the id was made, according to whoever made it.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millis((self.0 >> 80) as i64)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: [u8; 26] = std::array::from_fn(|i| CROCKFORD[(self.0 >> (125 - 5 * i)) as usize & 31]);
        f.pad(std::str::from_utf8(&text).expect("Crockford's alphabet is ASCII"))
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ulid {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { text: text.to_owned() };
        // 26 × 5 = 130 bits: the first character may carry only three.
        if text.len() != 26 || !matches!(text.as_bytes()[0], b'0'..=b'7') {
            return Err(invalid());
        }
        let mut value = 0_u128;
        for byte in text.bytes() {
            let digit = CROCKFORD.iter().position(|&c| c == byte.to_ascii_uppercase()).ok_or_else(invalid)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self(value))
    }
}

macro_rules! ulid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Ulid);

        impl $name {
            /// An id made at `now` from ten bytes of the caller's entropy.
            pub fn new(now: Timestamp, entropy: [u8; 10]) -> Self {
                Self(Ulid::new(now, entropy))
            }
            /// When the id was made, according to whoever made it.
            pub fn timestamp(self) -> Timestamp {
                self.0.timestamp()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

ulid!(
    /// A snapshot that is, or is to be, committed in a repository.
    BackupId
);
ulid!(
    /// A piece of work that the coordinator gave to an agent.
    TaskId
);
ulid!(
    /// A repository, wherever it is mounted or mirrored.
    RepositoryId
);
ulid!(
    /// A record in a repository: a lineage edge, a decision, an audit entry.
    RecordId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_reads_back_as_written_and_sorts_by_time() {
        let early = Ulid::new(Timestamp::from_millis(1_700_000_000_000), [0xff; 10]);
        let late = Ulid::new(Timestamp::from_millis(1_700_000_000_001), [0; 10]);
        assert_eq!(early.to_string().parse::<Ulid>(), Ok(early));
        assert_eq!(early.to_string().len(), 26);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(late.timestamp(), Timestamp::from_millis(1_700_000_000_001));
        // The example of the specification's reference implementation.
        assert_eq!(
            Ulid::new(Timestamp::from_millis(1_469_918_176_385), [0; 10]).to_string(),
            "01ARYZ6S410000000000000000"
        );
    }

    #[test]
    fn text_that_is_no_ulid_is_refused() {
        for text in
            ["", "01ARYZ6S41", "81ARYZ6S410000000000000000", "01ARYZ6S41000000000000000U", "é1ARYZ6S41000000000000000"]
        {
            assert!(text.parse::<Ulid>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_safe_in_paths_and_uris() {
        for good in ["a", "orders", "fra-1", "0", "eu.west_1"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "Orders", "a/b", "..", ".a", "-a", "a b", "ü", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }
}
