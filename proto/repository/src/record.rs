//! Records: small facts and decisions that are kept for ever, one JSON object each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use urtext_types::{
    BackupId, DeploymentName, ErrorKind, Explain, ForkEdge, NodeName, Position, RecordId, ReplicationId, RepositoryId,
    ShardName, Timestamp,
};

use crate::{FORMAT_VERSION, Location, ObjectName, StoreError};

/// Who did or saw what, when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    pub id: RecordId,
    pub deployment: DeploymentName,
    /// A person's or an agent's name, as its certificate says it.
    pub who: String,
    pub at: Timestamp,
    /// What the person gave as reason; facts need none.
    pub reason: Option<String>,
    #[serde(flatten)]
    pub body: RecordBody,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RecordBody {
    /// A fork of two histories that somebody observed. Statements that contradict each other are all kept, in
    /// the order in which they were learned: none of them proves anything then.
    LineageEdge { shard: ShardName, edge: ForkEdge },
    /// After a fork, an operator decided which branch goes on; `over` names the histories that were
    /// set aside by that.
    AcceptedLineage { shard: ShardName, history: ReplicationId, over: Vec<ReplicationId> },
    /// An operator has looked: a backup that holds far less than those before it is right all the same.
    Vouch { shard: ShardName, backup: BackupId },
    /// An operator wants a backup to stay, whatever the rules say; or, later, no longer. The latest one of a
    /// backup holds.
    Hold { shard: ShardName, backup: BackupId, released: bool },
    /// An operator no longer wants what is set aside of a history, and of what descends from it.
    LetGo { shard: ShardName, history: ReplicationId },
    /// Backups were proved: which ones are good in one repository, and which are not, and why.
    Verified {
        shard: ShardName,
        repository: RepositoryId,
        how: Proof,
        good: Vec<BackupId>,
        damaged: Vec<(BackupId, String)>,
    },
    /// An operator restored a backup although something that could not be asked may hold more: which nodes, with the
    /// furthest that each was remembered to hold. `subject` says all of it in words.
    AcceptedLoss {
        shard: ShardName,
        backup: BackupId,
        restored: Option<Position>,
        nodes: Vec<(NodeName, Position)>,
        subject: String,
    },
    /// A decision that can lose data, or that changed who may do what.
    Audit { action: String, subject: String },
}

/// How a backup was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Every stored object was read again and compared.
    Stored,
    /// It was loaded into a server.
    Rehearsed,
}

impl RecordBody {
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::LineageEdge { .. } => RecordKind::LineageEdge,
            Self::AcceptedLineage { .. } => RecordKind::AcceptedLineage,
            Self::Vouch { .. } => RecordKind::Vouch,
            Self::Hold { .. } => RecordKind::Hold,
            Self::LetGo { .. } => RecordKind::LetGo,
            Self::Verified { .. } => RecordKind::Verified,
            Self::AcceptedLoss { .. } => RecordKind::AcceptedLoss,
            Self::Audit { .. } => RecordKind::Audit,
        }
    }

    /// The shard that it is about; an audit entry is about any of them.
    pub fn shard(&self) -> Option<&ShardName> {
        match self {
            Self::LineageEdge { shard, .. }
            | Self::AcceptedLineage { shard, .. }
            | Self::Vouch { shard, .. }
            | Self::Hold { shard, .. }
            | Self::LetGo { shard, .. }
            | Self::Verified { shard, .. }
            | Self::AcceptedLoss { shard, .. } => Some(shard),
            Self::Audit { .. } => None,
        }
    }
}

/// The folders of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    LineageEdge,
    AcceptedLineage,
    Vouch,
    Hold,
    LetGo,
    Verified,
    AcceptedLoss,
    Audit,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::LineageEdge,
        Self::AcceptedLineage,
        Self::Vouch,
        Self::Hold,
        Self::LetGo,
        Self::Verified,
        Self::AcceptedLoss,
        Self::Audit,
    ];
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LineageEdge => "lineage-edge",
            Self::AcceptedLineage => "accepted-lineage",
            Self::Vouch => "vouch",
            Self::Hold => "hold",
            Self::LetGo => "let-go",
            Self::Verified => "verified",
            Self::AcceptedLoss => "accepted-loss",
            Self::Audit => "audit",
        })
    }
}

impl FromStr for RecordKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a kind of record"))
    }
}

/// Why a record cannot be read or written.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("record {object} is not the JSON that it must be")]
    Malformed {
        object: ObjectName,
        #[source]
        source: serde_json::Error,
    },
    #[error("record {object} has format version {found}, and this Urtext reads version {FORMAT_VERSION}")]
    Version { object: ObjectName, found: u32 },
    #[error("record {object} says that it is {claimed}")]
    Misplaced { object: ObjectName, claimed: ObjectName },
    #[error("keep record {object}")]
    Store {
        object: ObjectName,
        #[source]
        source: StoreError,
    },
}

impl Explain for RecordError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. } | Self::Misplaced { .. } => ErrorKind::Integrity,
            Self::Version { .. } => ErrorKind::Usage,
            Self::Store { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => Some("read it with the version of Urtext that wrote it, or a later one".to_owned()),
            Self::Store { source, .. } => source.hint(),
            Self::Malformed { .. } | Self::Misplaced { .. } => None,
        }
    }
}

impl RecordError {
    /// Which record.
    pub fn object(&self) -> &ObjectName {
        match self {
            Self::Malformed { object, .. }
            | Self::Version { object, .. }
            | Self::Misplaced { object, .. }
            | Self::Store { object, .. } => object,
        }
    }
}

impl Record {
    /// Where the record is kept.
    pub fn name(&self) -> ObjectName {
        Location::Record { deployment: self.deployment.clone(), kind: self.body.kind(), id: self.id }.name()
    }

    /// The bytes of the object.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        let mut bytes =
            serde_json::to_vec(self).map_err(|source| RecordError::Malformed { object: self.name(), source })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a record that was found as `object`.
    pub fn parse(object: &ObjectName, bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let malformed = |source| RecordError::Malformed { object: object.clone(), source };
        let Version { format_version: found } = serde_json::from_slice(bytes).map_err(malformed)?;
        if found != FORMAT_VERSION {
            return Err(RecordError::Version { object: object.clone(), found });
        }
        let record: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if record.name() != *object {
            return Err(RecordError::Misplaced { object: object.clone(), claimed: record.name() });
        }
        Ok(record)
    }
}
