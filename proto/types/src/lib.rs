//! The words of Urtext as types.
//!
//! Everything that other packages exchange is spelled here once: who ([`DeploymentName`],
//! [`SiteName`], [`NodeName`]), what ([`BackupId`], [`TaskId`]), where in which history
//! ([`ReplicationId`], [`Offset`], [`Position`], [`Lineage`]), when ([`Timestamp`]), what was seen
//! ([`NodeObservation`]), whether that may be captured ([`may_capture`]), and what went wrong ([`ErrorKind`]).
//!
//! Values are parsed at the edge, once; inside, a [`ReplicationId`] is always forty hex digits.
//! No I/O, no clock, no randomness: time and entropy come in as arguments.

mod capture_guard;
mod data_digest;
mod error;
mod id;
mod lineage;
mod observation;
mod position;
mod secret;
mod size;
mod time;

pub use capture_guard::{CaptureRefusal, may_capture, staleness};
pub use data_digest::{DataDigest, InvalidDataDigest};
pub use error::{Chain, ErrorKind, Explain};
pub use id::{
    BackupId, DeploymentName, InvalidId, InvalidName, NodeName, RecordId, RepositoryId, RepositoryName, ShardName,
    SiteName, TaskId, Ulid, UserName,
};
pub use lineage::{Contradiction, Evidence, ForkEdge, Lineage, Relation};
pub use observation::{
    Engine, Keyspace, MasterLink, NodeAddress, NodeObservation, PersistenceView, ReplicaLink, ReplicationView, Role,
    ServerIdentity,
};
pub use position::{InvalidReplicationId, Offset, Position, ReplicationId};
pub use secret::Secret;
pub use size::{ByteCount, ByteRate, InvalidByteRate};
pub use time::{Interval, InvalidTimestamp, Timestamp};
