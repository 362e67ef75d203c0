//! The stable shapes of `--json`. Fields may be added; none is renamed or removed.
//!
//! Times are RFC 3339 in UTC, histories forty hex digits, sizes and offsets numbers of bytes. What is not
//! known is `null`.

mod backups;
mod contents;
mod decisions;
mod lineage;
mod proof;
mod repositories;
mod restore;
mod retention;
mod schedule;
mod status;
mod verdict;

use serde::Serialize;
use urtext_proto::{model, pb};
use urtext_types::{Position, ReplicationId, Timestamp};

pub use self::backups::{Backup, Backups, DataAsOf, Detached, DetachedBackup, ShownBackup, Unreadable};
pub use self::decisions::{Alarm, Audit, AuditEntry, Event, Events, Rebuilt, Vouched};
pub use self::lineage::{Accepted, Edge, Lineage};
pub use self::proof::{
    CheckedCopies, CheckedCopy, DamagedObject, Imported, ImportedBackup, Rehearsed, Sync, SyncDone, SyncFailure,
    SyncPlanned,
};
pub use self::repositories::{
    AddedRepository, Locked, LockedRepository, Rekeyed, RekeyedRepository, Repositories, Repository, StoredCopy,
};
pub use self::restore::{Plan, Proof, Restored};
pub use self::retention::{Holds, LetGo, PruneBegins, PruneEnds, SetHold, ShardRetention};
pub use self::schedule::{NodeChoice, RunSnapshot, Schedule, ScheduledJob, ScheduledRun};
pub use self::status::{Failure, Node, ShardStatus, Status, Task};
pub use self::verdict::{Candidate, Canonical, Chosen, Fork, Head, LossAccepted, MayHoldMore, Missing};
pub use contents::{
    DatabaseContents, Diff, DiffSide, Differences, DifferentKey, Inspected, PrefixDifferences, Verified, prefix_text,
};

/// `urtext init`
#[derive(Debug, Serialize)]
pub struct Init {
    pub dir: String,
    pub listen: String,
    pub repository: String,
    pub recipient: String,
    pub identity_file: String,
}

/// `urtext invite`
#[derive(Debug, Serialize)]
pub struct Invite {
    pub token: String,
    pub deployment: String,
    pub shard: String,
    pub site: String,
    pub node: String,
    pub expires_at: Timestamp,
}

/// No fields before or after a list.
#[derive(Debug, Serialize)]
pub struct Nothing {}

/// `urtext agents list`
#[derive(Debug, Serialize)]
pub struct Agents {
    pub agents: Vec<Agent>,
}

#[derive(Debug, Serialize)]
pub struct Agent {
    pub deployment: String,
    pub shard: String,
    pub site: String,
    pub node: String,
    pub serial: String,
    pub connected: bool,
    pub enrolled_at: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub certificate_expires_at: Option<Timestamp>,
    pub version: String,
    pub server_address: String,
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn history(bytes: &[u8]) -> Result<ReplicationId, model::InvalidField> {
    model::replication_id("history", bytes)
}

fn position(position: Option<pb::Position>) -> Result<Option<Position>, model::InvalidField> {
    position.map(Position::try_from).transpose()
}

impl From<pb::AgentSummary> for Agent {
    fn from(agent: pb::AgentSummary) -> Self {
        let pb::AgentSummary {
            deployment,
            shard,
            site,
            node,
            serial,
            connected,
            enrolled_at_ms,
            last_seen_ms,
            certificate_expires_at_ms,
            version,
            server_address,
        } = agent;
        Self {
            deployment,
            shard,
            site,
            node,
            serial,
            connected,
            enrolled_at: enrolled_at_ms.map(time),
            last_seen: last_seen_ms.map(time),
            certificate_expires_at: certificate_expires_at_ms.map(time),
            version,
            server_address,
        }
    }
}

/// Converts a list, or names what is wrong in it.
pub fn all<T, U: TryFrom<T, Error = model::InvalidField>>(list: Vec<T>) -> Result<Vec<U>, model::InvalidField> {
    list.into_iter().map(U::try_from).collect()
}

#[cfg(test)]
mod tests;
