//! Where each object lives: names, spelled and parsed back.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use urtext_types::{BackupId, DeploymentName, ErrorKind, Explain, RecordId, ShardName};

use crate::{RecordKind, Sha256Digest};

/// What an object is. Every object that Urtext writes has exactly one name, and every such name
/// parses back to the same location; any other name belongs to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// `urtext.json`: what makes a directory a repository.
    Repository,
    /// The last object of a backup to be written: its commit.
    Manifest(BackupKey),
    /// One part of the RDB, counted from 0.
    Part(BackupKey, u32),
    /// ACL users, configuration, modules, slots.
    Settings(BackupKey),
    /// A lineage edge, a decision, an audit entry.
    Record { deployment: DeploymentName, kind: RecordKind, id: RecordId },
    /// Who the recipients are from then on.
    Keys(RecordId),
    /// Older identities, sealed to the recipients of the change of keys of the same id.
    HandedOn(RecordId),
    /// The certificate of an authority, named by the SHA-256 of the object: whose signatures manifests carry.
    Authority(Sha256Digest),
}

/// The most parts that one backup may have: 937 GiB of plaintext. Keeps the part numbers at five
/// digits and the manifest, at some 270 bytes for each part, below [`crate::MAX_OBJECT_BYTES`].
pub const MAX_PARTS: u32 = 60_000;

impl Location {
    /// The name of the object.
    pub fn name(&self) -> ObjectName {
        ObjectName(match self {
            Self::Repository => "urtext.json".to_owned(),
            Self::Manifest(key) => format!("{key}/manifest.json"),
            Self::Part(key, index) => format!("{key}/{}", part_file_name(*index)),
            Self::Settings(key) => format!("{key}/{SETTINGS_FILE_NAME}"),
            Self::Record { deployment, kind, id } => format!("records/{deployment}/{kind}/{id}.json"),
            Self::Keys(id) => format!("keys/{id}.json"),
            Self::HandedOn(id) => format!("keys/{id}{HANDED_ON}"),
            Self::Authority(digest) => format!("authorities/{digest}.pem"),
        })
    }

    /// What the object of that name is; `None` if it is not one of ours.
    pub fn parse(name: &ObjectName) -> Option<Self> {
        let segments: Vec<&str> = name.as_str().split('/').collect();
        let location = match segments[..] {
            ["urtext.json"] => Self::Repository,
            ["backups", deployment, shard, id, file] => {
                let key = BackupKey {
                    deployment: deployment.parse().ok()?,
                    shard: shard.parse().ok()?,
                    id: id.parse().ok()?,
                };
                match file {
                    "manifest.json" => Self::Manifest(key),
                    SETTINGS_FILE_NAME => Self::Settings(key),
                    part => {
                        let index = part.strip_prefix("rdb.")?.strip_suffix(".zst.age")?.parse().ok()?;
                        Self::Part(key, index)
                    }
                }
            }
            ["records", deployment, kind, file] => Self::Record {
                deployment: deployment.parse().ok()?,
                kind: kind.parse().ok()?,
                id: file.strip_suffix(".json")?.parse().ok()?,
            },
            ["keys", file] => match file.strip_suffix(HANDED_ON) {
                Some(id) => Self::HandedOn(id.parse().ok()?),
                None => Self::Keys(file.strip_suffix(".json")?.parse().ok()?),
            },
            ["authorities", file] => Self::Authority(file.strip_suffix(".pem")?.parse().ok()?),
            _ => return None,
        };
        // Ids and numbers can be spelled in several ways (case, leading zeros); only ours is ours.
        (location.name() == *name).then_some(location)
    }
}

/// The file name of one part inside its backup's folder.
pub(crate) fn part_file_name(index: u32) -> String {
    format!("rdb.{index:05}.zst.age")
}

/// How the names of handed on identities end.
const HANDED_ON: &str = ".identities.age";

/// The file name of the settings inside their backup's folder.
pub(crate) const SETTINGS_FILE_NAME: &str = "settings.zst.age";

/// Which backup: the folder of its objects. Prints as that folder, `backups/orders/0/01K…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupKey {
    pub deployment: DeploymentName,
    pub shard: ShardName,
    pub id: BackupId,
}

impl BackupKey {
    /// The folder of all objects of this backup.
    pub fn prefix(&self) -> ObjectPrefix {
        ObjectPrefix(self.to_string())
    }

    /// The name of the object that commits this backup.
    pub fn manifest(&self) -> ObjectName {
        Location::Manifest(self.clone()).name()
    }

    /// The name of one part of the RDB, counted from 0.
    pub fn part(&self, index: u32) -> ObjectName {
        Location::Part(self.clone(), index).name()
    }

    /// The name of the object that holds the server's settings.
    pub fn settings(&self) -> ObjectName {
        Location::Settings(self.clone()).name()
    }
}

impl fmt::Display for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backups/{}/{}/{}", self.deployment, self.shard, self.id)
    }
}

/// Text that is not an object name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not an object name: use segments of A-Z a-z 0-9 . _ - joined by single slashes")]
pub struct InvalidObjectName {
    text: String,
}

impl Explain for InvalidObjectName {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// The longest object name, bytes. Ours stay below 200.
const MAX_NAME_BYTES: usize = 512;

/// Segments are file names on any file system and need no escaping in a URL; none is hidden, none is
/// `..`, none can be a staging file.
fn are_valid_segments(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
        && text.split('/').all(|segment| {
            let mut bytes = segment.bytes();
            segment.len() <= 255
                && matches!(bytes.next(), Some(b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
                && bytes.all(|b| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        })
}

/// The name of one object: a relative path that cannot leave its repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ObjectName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = InvalidObjectName;
    fn try_from(text: String) -> Result<Self, InvalidObjectName> {
        if are_valid_segments(&text) { Ok(Self(text)) } else { Err(InvalidObjectName { text: shorten(text) }) }
    }
}

impl FromStr for ObjectName {
    type Err = InvalidObjectName;
    fn from_str(text: &str) -> Result<Self, InvalidObjectName> {
        text.to_owned().try_into()
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> String {
        name.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A folder of objects, for listing; matches whole segments only. The empty one is the whole
/// repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectPrefix(String);

impl ObjectPrefix {
    /// Everything in the repository.
    pub fn all() -> Self {
        Self(String::new())
    }

    /// All backups, or those of one deployment.
    pub fn backups(deployment: Option<&DeploymentName>) -> Self {
        Self(match deployment {
            Some(deployment) => format!("backups/{deployment}"),
            None => "backups".to_owned(),
        })
    }

    /// All backups of one shard.
    pub fn shard(deployment: &DeploymentName, shard: &ShardName) -> Self {
        Self(format!("backups/{deployment}/{shard}"))
    }

    /// All changes of keys.
    pub fn keys() -> Self {
        Self("keys".to_owned())
    }

    /// All authorities.
    pub fn authorities() -> Self {
        Self("authorities".to_owned())
    }

    /// A deployment's records of one kind.
    pub fn records(deployment: &DeploymentName, kind: RecordKind) -> Self {
        Self(format!("records/{deployment}/{kind}"))
    }

    /// All records of a deployment.
    pub fn all_records(deployment: &DeploymentName) -> Self {
        Self(format!("records/{deployment}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the folder in this one that the object lies in, or below.
    pub fn folder_of<'a>(&self, object: &'a ObjectName) -> Option<&'a str> {
        let below =
            if self.0.is_empty() { Some(object.as_str()) } else { object.0.strip_prefix(&self.0)?.strip_prefix('/') };
        below.and_then(|below| below.split_once('/')).map(|(folder, _)| folder)
    }

    /// Whether the object lies in this folder or in one below it.
    pub fn contains(&self, name: &ObjectName) -> bool {
        self.0.is_empty() || name.0.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for ObjectPrefix {
    type Err = InvalidObjectName;
    fn from_str(text: &str) -> Result<Self, InvalidObjectName> {
        if text.is_empty() || are_valid_segments(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidObjectName { text: shorten(text.to_owned()) })
        }
    }
}

impl fmt::Display for ObjectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Enough of a foreign text to recognize it in a message.
fn shorten(text: String) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use urtext_types::Timestamp;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        "[a-z0-9][a-z0-9._-]{0,62}"
    }

    fn key() -> impl Strategy<Value = BackupKey> {
        (name(), name(), any::<u32>(), any::<[u8; 10]>()).prop_map(|(deployment, shard, millis, entropy)| BackupKey {
            deployment: deployment.parse().expect("a name"),
            shard: shard.parse().expect("a name"),
            id: BackupId::new(Timestamp::from_millis(i64::from(millis)), entropy),
        })
    }

    fn location() -> impl Strategy<Value = Location> {
        let kind = prop_oneof![
            proptest::strategy::Just(RecordKind::LineageEdge),
            proptest::strategy::Just(RecordKind::AcceptedLineage),
            proptest::strategy::Just(RecordKind::Vouch),
            proptest::strategy::Just(RecordKind::Hold),
            proptest::strategy::Just(RecordKind::LetGo),
            proptest::strategy::Just(RecordKind::Verified),
            proptest::strategy::Just(RecordKind::AcceptedLoss),
            proptest::strategy::Just(RecordKind::Audit)
        ];
        prop_oneof![
            proptest::strategy::Just(Location::Repository),
            key().prop_map(Location::Manifest),
            (key(), 0..MAX_PARTS).prop_map(|(key, index)| Location::Part(key, index)),
            key().prop_map(Location::Settings),
            (name(), kind, any::<[u8; 10]>()).prop_map(|(deployment, kind, entropy)| Location::Record {
                deployment: deployment.parse().expect("a name"),
                kind,
                id: RecordId::new(Timestamp::from_millis(7), entropy),
            }),
            any::<[u8; 10]>().prop_map(|entropy| Location::Keys(RecordId::new(Timestamp::from_millis(7), entropy))),
            any::<[u8; 10]>().prop_map(|entropy| Location::HandedOn(RecordId::new(Timestamp::from_millis(7), entropy))),
            any::<[u8; 32]>().prop_map(|bytes| Location::Authority(Sha256Digest::from_bytes(bytes))),
        ]
    }

    proptest! {
        #[test]
        fn every_location_reads_back_from_its_name(location in location()) {
            let name: ObjectName = location.name().as_str().parse().expect("our names are valid");
            prop_assert_eq!(Location::parse(&name), Some(location));
        }

        #[test]
        fn no_text_is_a_name_and_leaves_the_repository(text in "[./a-z#]{0,12}") {
            if let Ok(name) = text.parse::<ObjectName>() {
                for segment in name.as_str().split('/') {
                    proptest::prop_assert!(!segment.is_empty() && !segment.starts_with('.') && !segment.contains('#'));
                }
            }
        }
    }

    #[test]
    fn only_our_own_spelling_is_ours() {
        for foreign in [
            "lost+found",
            "",
            "/urtext.json",
            "urtext.json/",
            "backups/../urtext.json",
            "backups/orders/0/01ARYZ6S410000000000000000/.manifest.json",
        ] {
            assert!(foreign.parse::<ObjectName>().is_err(), "{foreign}");
        }
        for foreign in [
            "readme.txt",
            "backups/orders/0/01aryz6s410000000000000000/manifest.json",
            "backups/orders/0/01ARYZ6S410000000000000000/rdb.0.zst.age",
            "backups/orders/0/01ARYZ6S410000000000000000/rdb.000001.zst.age",
            "backups/orders/0/01ARYZ6S410000000000000000/manifest.json.old",
            "records/orders/gossip/01ARYZ6S410000000000000000.json",
            "keys/01aryz6s410000000000000000.json",
            "authorities/ba7816bf.pem",
        ] {
            let name: ObjectName = foreign.parse().expect("a name");
            assert_eq!(Location::parse(&name), None, "{foreign}");
        }
    }

    #[test]
    fn a_prefix_matches_whole_segments() {
        let prefix = ObjectPrefix::backups(Some(&"orders".parse().expect("a name")));
        let check = |name: &str, expect| assert_eq!(prefix.contains(&name.parse().expect("a name")), expect, "{name}");
        check("backups/orders/0/x", true);
        check("backups/orders-old/0/x", false);
        check("backups/orders", false);
        assert!(ObjectPrefix::all().contains(&Location::Repository.name()));
    }
}
