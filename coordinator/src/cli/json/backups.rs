//! `urtext backups`, `backup show` and `snapshot`.

use serde::Serialize;
use serde_json::value::RawValue;
use urtext_proto::{model, pb};
use urtext_types::{ReplicationId, Timestamp};

use super::{StoredCopy, position, time};

/// `urtext backups`; `urtext snapshot` prints the same with one backup.
#[derive(Debug, Serialize)]
pub struct Backups {
    pub backups: Vec<Backup>,
    pub unreadable: Vec<String>,
}

/// The end of `urtext backups`, whose list comes before it.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    pub unreadable: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Backup {
    pub id: String,
    pub deployment: String,
    pub shard: String,
    pub node: String,
    pub site: String,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    pub data_as_of: DataAsOf,
    pub taken_at: Timestamp,
    pub received_at: Timestamp,
    pub keys: u64,
    pub rdb_bytes: u64,
    pub stored_bytes: u64,
    pub verified: String,
    pub method: &'static str,
    pub engine: &'static str,
    pub server_version: String,
    pub stale: Option<String>,
    pub ineligible: Option<String>,
    /// Equal for equal data; the number before the colon is the construction's version.
    pub content_digest: Option<String>,
    /// Who says that it is right although it holds far less than those before it, and why.
    pub vouched: Option<String>,
    /// Why `data_as_of` is wide or open; `null` where it is narrow.
    pub data_as_of_reason: Option<String>,
    /// In which repositories it is.
    pub copies: Vec<StoredCopy>,
}

/// Every write up to `from` is included, and none after `to`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct DataAsOf {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

/// `urtext snapshot --detach`
#[derive(Debug, Serialize)]
pub struct Detached {
    pub backups: Vec<DetachedBackup>,
}

#[derive(Debug, Serialize)]
pub struct DetachedBackup {
    pub id: String,
    pub deployment: String,
    pub shard: String,
    pub node: String,
    pub site: String,
}

/// `urtext backup show`
#[derive(Debug, Serialize)]
pub struct ShownBackup<'a> {
    pub backup: Backup,
    pub signed_by: String,
    /// As stored.
    pub manifest: &'a RawValue,
}

impl TryFrom<pb::BackupSummary> for Backup {
    type Error = model::InvalidField;
    fn try_from(summary: pb::BackupSummary) -> Result<Self, model::InvalidField> {
        let (method, engine) = (summary.method(), summary.engine());
        let key = summary.key.unwrap_or_default();
        let position = position(summary.position)?;
        Ok(Self {
            id: key.id,
            deployment: key.deployment,
            shard: key.shard,
            node: summary.node,
            site: summary.site,
            history: position.map(|at| at.history),
            offset: position.map(|at| at.offset.get()),
            data_as_of: DataAsOf { from: summary.data_as_of_from_ms.map(time), to: summary.data_as_of_to_ms.map(time) },
            taken_at: time(summary.taken_at_ms),
            received_at: time(summary.received_at_ms),
            keys: summary.keys,
            rdb_bytes: summary.rdb_bytes,
            stored_bytes: summary.stored_bytes,
            verified: summary.verified,
            method: match method {
                pb::CaptureMethod::Unspecified => "unknown",
                pb::CaptureMethod::Replication => "replication",
                pb::CaptureMethod::File => "file",
            },
            engine: match engine {
                pb::Engine::Unspecified => "unknown",
                pb::Engine::Redis => "redis",
                pb::Engine::Valkey => "valkey",
            },
            server_version: summary.server_version,
            stale: summary.stale,
            ineligible: summary.ineligible,
            content_digest: summary.content_digest,
            vouched: summary.vouched,
            data_as_of_reason: summary.data_as_of_reason,
            copies: summary.copies.into_iter().map(Into::into).collect(),
        })
    }
}
