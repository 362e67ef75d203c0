//! What went wrong, what was decided, and what a rebuild of the catalog found.

use serde::Serialize;
use urtext_proto::pb;
use urtext_types::Timestamp;

/// `urtext vouch`
#[derive(Debug, Serialize)]
pub struct Vouched {
    pub backup: String,
    pub record: String,
}

/// `urtext audit`
#[derive(Debug, Serialize)]
pub struct Audit {
    /// Newest first.
    pub entries: Vec<AuditEntry>,
}

#[derive(Debug, Serialize)]
pub struct AuditEntry {
    pub record: String,
    pub deployment: String,
    pub at: Timestamp,
    pub who: String,
    pub action: String,
    pub subject: String,
    pub reason: Option<String>,
}

impl From<pb::AuditEntry> for AuditEntry {
    fn from(entry: pb::AuditEntry) -> Self {
        let pb::AuditEntry { record_id, deployment, at_ms, who, action, subject, reason } = entry;
        Self { record: record_id, deployment, at: Timestamp::from_millis(at_ms), who, action, subject, reason }
    }
}

/// Something that is wrong now.
#[derive(Debug, Serialize)]
pub struct Alarm {
    /// Stable: `silent-divergence`, `fork`, `master-older`, `master-emptier`, `lineage-lost`, `lineage-inferred`,
    /// `lineage-contradicted`, `replica-stale`, `replica-behind-stale`, `snapshot-failed`, `snapshot-overdue`,
    /// `job-failed`, `clock-skew`.
    pub kind: String,
    /// What it is about: a node, a position or a history.
    pub subject: String,
    pub sentence: String,
    pub hint: String,
    pub since: Timestamp,
}

impl From<pb::Alarm> for Alarm {
    fn from(alarm: pb::Alarm) -> Self {
        let pb::Alarm { kind, subject, sentence, hint, since_ms } = alarm;
        Self { kind, subject, sentence, hint, since: Timestamp::from_millis(since_ms) }
    }
}

/// `urtext events`
#[derive(Debug, Serialize)]
pub struct Events {
    /// Oldest first.
    pub events: Vec<Event>,
}

/// One line of `urtext events --follow --json`.
#[derive(Debug, Serialize)]
pub struct Event {
    pub sequence: u64,
    pub at: Timestamp,
    pub deployment: String,
    pub shard: String,
    /// `raised` or `cleared`.
    pub what: String,
    /// As in [`Alarm`].
    pub kind: String,
    pub subject: String,
    pub sentence: String,
    pub hint: String,
}

impl From<pb::Event> for Event {
    fn from(event: pb::Event) -> Self {
        let pb::Event { sequence, at_ms, deployment, shard, what, kind, subject, sentence, hint } = event;
        let at = Timestamp::from_millis(at_ms);
        Self { sequence, at, deployment, shard, what, kind, subject, sentence, hint }
    }
}

/// `urtext catalog rebuild`
#[derive(Debug, Serialize)]
pub struct Rebuilt {
    pub backups: u64,
    /// Of those: not in the catalog before.
    pub backups_found: u64,
    /// In the catalog before, and not in the repository.
    pub backups_gone: u64,
    pub edges: u64,
    pub contradictions: u64,
    pub accepted: u64,
    pub vouches: u64,
    pub unreadable: Vec<String>,
}

impl From<pb::RebuildCatalogResponse> for Rebuilt {
    fn from(response: pb::RebuildCatalogResponse) -> Self {
        let pb::RebuildCatalogResponse {
            backups,
            backups_found,
            backups_gone,
            edges,
            contradictions,
            accepted,
            vouches,
            unreadable,
        } = response;
        Self { backups, backups_found, backups_gone, edges, contradictions, accepted, vouches, unreadable }
    }
}
