//! What stays, what goes, what is on hold.

use serde::Serialize;
use urtext_proto::pb;
use urtext_types::Timestamp;

use super::time;

/// The backups of one shard in one repository: `urtext retention` and `urtext prune` list them as `shards`.
#[derive(Debug, Serialize)]
pub struct ShardRetention {
    pub repository: String,
    pub deployment: String,
    pub shard: String,
    /// The rules, in words.
    pub policy: String,
    /// The last received first.
    pub backups: Vec<RetainedBackup>,
}

#[derive(Debug, Serialize)]
pub struct RetainedBackup {
    pub backup: String,
    pub node: String,
    pub received_at: Timestamp,
    pub stored_bytes: u64,
    pub keep: bool,
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Serialize)]
pub struct Reason {
    /// Stable: `held`, `canonical`, `last-good`, `only-good`, `set-aside`, `from-the-future`, `suspect`,
    /// `not-verified`, `unreadable`, `damaged`, the name of a rule, `everything`; for what goes `let-go`,
    /// `damaged-and-old`, `no-rule`.
    pub code: String,
    pub sentence: String,
}

impl From<pb::ShardRetention> for ShardRetention {
    fn from(shard: pb::ShardRetention) -> Self {
        let pb::ShardRetention { repository, deployment, shard, policy, text: _, backups } = shard;
        let backups = backups.into_iter().map(RetainedBackup::from).collect();
        Self { repository, deployment, shard, policy, backups }
    }
}

impl From<pb::RetainedBackup> for RetainedBackup {
    fn from(backup: pb::RetainedBackup) -> Self {
        let pb::RetainedBackup { id, node, received_at_ms, stored_bytes, keep, reasons } = backup;
        let reason = |pb::RetentionReason { code, sentence }| Reason { code, sentence };
        Self {
            backup: id,
            node,
            received_at: time(received_at_ms),
            stored_bytes,
            keep,
            reasons: reasons.into_iter().map(reason).collect(),
        }
    }
}

/// The beginning of `urtext prune`; then come the shards.
#[derive(Debug, Serialize)]
pub struct PruneBegins {
    pub dry_run: bool,
}

/// Its end.
#[derive(Debug, Serialize)]
pub struct PruneEnds {
    pub repositories: Vec<PrunedRepository>,
}

#[derive(Debug, Serialize)]
pub struct PrunedRepository {
    pub repository: String,
    /// Backups that go.
    pub backups: u64,
    /// Folders without a manifest, and files of puts that did not end.
    pub unreferenced: u64,
    pub objects: u64,
    pub bytes: u64,
    pub outcome: Option<PruneOutcome>,
}

#[derive(Debug, Serialize)]
pub struct PruneOutcome {
    pub removed: Vec<String>,
    pub swept: u64,
    pub deleted_objects: u64,
    pub deleted_bytes: u64,
    /// Objects that the store keeps by a lock of its own.
    pub locked: Vec<String>,
    pub spared: Vec<String>,
    pub failed: Vec<String>,
}

impl From<pb::PrunedRepository> for PrunedRepository {
    fn from(pruned: pb::PrunedRepository) -> Self {
        let pb::PrunedRepository { repository, plan: _, backups, unreferenced, objects, bytes, outcome } = pruned;
        Self { repository, backups, unreferenced, objects, bytes, outcome: outcome.map(Into::into) }
    }
}

impl From<pb::PruneOutcome> for PruneOutcome {
    fn from(outcome: pb::PruneOutcome) -> Self {
        let pb::PruneOutcome { removed, swept, deleted_objects, deleted_bytes, locked, spared, failed } = outcome;
        Self { removed, swept, deleted_objects, deleted_bytes, locked, spared, failed }
    }
}

/// `urtext hold`
#[derive(Debug, Serialize)]
pub struct SetHold {
    pub backup: String,
    pub released: bool,
    pub record: String,
}

/// `urtext hold list`
#[derive(Debug, Serialize)]
pub struct Holds {
    pub holds: Vec<Held>,
}

#[derive(Debug, Serialize)]
pub struct Held {
    pub deployment: String,
    pub shard: String,
    pub backup: String,
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

impl From<pb::HeldBackup> for Held {
    fn from(held: pb::HeldBackup) -> Self {
        let pb::HeldBackup { deployment, shard, backup_id, by, at_ms, reason } = held;
        Self { deployment, shard, backup: backup_id, by, at: time(at_ms), reason }
    }
}

/// `urtext prune --let-go`
#[derive(Debug, Serialize)]
pub struct LetGo {
    pub history: String,
    pub record: String,
}
