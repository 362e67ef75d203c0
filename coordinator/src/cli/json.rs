//! The stable shapes of `--json`. Fields may be added; none is renamed or removed.
//!
//! Times are RFC 3339 in UTC, histories forty hex digits, sizes and offsets numbers of bytes. What is not
//! known is `null`.

mod contents;
mod decisions;
mod proof;
mod repositories;
mod retention;
mod schedule;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use urtext_proto::{model, pb};
use urtext_types::{Keyspace, NodeObservation, Position, ReplicationId, Role, Timestamp};

pub use self::decisions::{Alarm, Audit, AuditEntry, Event, Events, Rebuilt, Vouched};
pub use self::proof::{
    CheckedCopies, CheckedCopy, DamagedObject, Imported, ImportedBackup, Rehearsed, Sync, SyncDone, SyncFailure,
    SyncPlanned,
};
pub use self::repositories::{AddedRepository, Rekeyed, RekeyedRepository, Repositories, Repository, StoredCopy};
pub use self::retention::{Holds, LetGo, PruneBegins, PruneEnds, SetHold, ShardRetention};
pub use self::schedule::{NodeChoice, RunSnapshot, Schedule, ScheduledJob, ScheduledRun};
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

/// `urtext status`
#[derive(Debug, Serialize)]
pub struct Status {
    pub now: Timestamp,
    pub shards: Vec<ShardStatus>,
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct ShardStatus {
    pub deployment: String,
    pub shard: String,
    pub verdict: String,
    /// The id of the canonical backup.
    pub canonical: Option<String>,
    pub data_loss_window_seconds: Option<f64>,
    pub data_loss_window_target_seconds: f64,
    pub last_backup: Option<Backup>,
    pub nodes: Vec<Node>,
    pub findings: Vec<String>,
    /// What is wrong now, the worst first.
    pub alarms: Vec<Alarm>,
    /// The snapshots that are taken by themselves, without what `urtext schedule` says about nodes.
    pub scheduled: Option<ScheduledJob>,
}

#[derive(Debug, Serialize)]
pub struct Node {
    pub node: String,
    pub site: String,
    pub connected: bool,
    pub last_seen: Option<Timestamp>,
    /// `master` or `replica`.
    pub role: Option<&'static str>,
    pub engine: Option<String>,
    pub server_version: Option<String>,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    /// Of a replica: whether its link to the master is up.
    pub link_up: Option<bool>,
    pub lag_bytes: Option<u64>,
    pub keys: Option<u64>,
    pub clock_skew_ms: Option<i64>,
    pub trouble: Option<Failure>,
    pub tasks: Vec<Task>,
    pub agent_version: String,
}

#[derive(Debug, Serialize)]
pub struct Failure {
    pub message: String,
    pub hint: Option<String>,
    pub kind: String,
}

#[derive(Debug, Serialize)]
pub struct Task {
    pub id: String,
    pub what: String,
    pub phase: String,
    pub bytes_done: u64,
    pub bytes_total: Option<u64>,
}

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

/// No fields before or after a list.
#[derive(Debug, Serialize)]
pub struct Nothing {}

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

/// `urtext canonical`
#[derive(Debug, Serialize)]
pub struct Canonical {
    pub deployment: String,
    pub shard: String,
    /// `canonical`, `ambiguous` or `none`.
    pub verdict: String,
    pub canonical: Option<Chosen>,
    pub head: Option<Head>,
    pub missing: Option<Missing>,
    pub candidates: Vec<Candidate>,
    pub forks: Vec<Fork>,
    pub explanation: Vec<String>,
    /// What may hold more and cannot be asked now: a restore stops for each of these that nobody has accepted to be
    /// lost.
    pub may_hold_more: Vec<MayHoldMore>,
    /// What somebody could do, in sentences with the commands.
    pub advice: Vec<String>,
}

/// Something that may hold more than the chosen copy, and cannot be asked.
#[derive(Debug, Serialize)]
pub struct MayHoldMore {
    /// `node` or `repository`.
    pub kind: String,
    pub name: String,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    pub bytes_more: Option<u64>,
    pub seen_at: Option<Timestamp>,
    pub sentence: String,
    pub hint: String,
    /// Who accepted this very loss before; a restore does not stop for it.
    pub accepted: Option<LossAccepted>,
}

#[derive(Debug, Serialize)]
pub struct LossAccepted {
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

#[derive(Debug, Serialize)]
pub struct Chosen {
    pub source: String,
    pub id: String,
    pub node: String,
    pub site: String,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    pub data_as_of: DataAsOf,
    pub taken_at: Timestamp,
    pub verified: String,
}

#[derive(Debug, Serialize)]
pub struct Head {
    pub history: ReplicationId,
    pub offset: u64,
    pub node: String,
    pub seen_at: Timestamp,
}

#[derive(Debug, Serialize)]
pub struct Missing {
    pub bytes: u64,
    pub seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Candidate {
    pub source: String,
    pub id: String,
    pub node: String,
    pub site: String,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    /// `canonical`, `equal`, `ahead`, `behind`, `divergent`, `unrelated`, `suspect` or `ineligible`.
    pub standing: String,
    pub reason: String,
    pub missing_bytes: Option<u64>,
    pub excess_bytes: Option<u64>,
    pub data_as_of: DataAsOf,
    pub taken_at: Timestamp,
    pub verified: String,
}

#[derive(Debug, Serialize)]
pub struct Fork {
    pub parent: ReplicationId,
    pub offset: u64,
    pub children: Vec<ReplicationId>,
    pub accepted: Option<ReplicationId>,
}

/// `urtext lineage`
#[derive(Debug, Serialize)]
pub struct Lineage {
    pub deployment: String,
    pub shard: String,
    pub edges: Vec<Edge>,
    pub findings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Edge {
    pub child: ReplicationId,
    pub parent: ReplicationId,
    pub offset: u64,
    /// `promoted-master`, `restore`, `following-replica` or `inferred-same-run`.
    pub evidence: urtext_types::Evidence,
}

/// `urtext accept-lineage`
#[derive(Debug, Serialize)]
pub struct Accepted {
    pub history: ReplicationId,
    pub record: String,
}

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

/// `urtext restore`: with `--dry-run` the plan alone.
#[derive(Debug, Serialize)]
pub struct Restored {
    pub plan: Plan,
    pub safety_backup: Option<Backup>,
    pub proof: Option<Proof>,
    /// With `--to-dir`: what was written.
    pub files: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Plan {
    pub backup: Backup,
    /// What was chosen and why.
    pub chosen: Vec<String>,
    pub steps: Vec<String>,
    pub warnings: Vec<String>,
    /// What may hold more, and was accepted to be lost.
    pub accepted_loss: Vec<MayHoldMore>,
}

#[derive(Debug, Serialize)]
pub struct Proof {
    /// Keys and keys with an expiry, per database.
    pub expected: BTreeMap<u32, Keyspace>,
    pub found: BTreeMap<u32, Keyspace>,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    /// The history under which the target goes on.
    pub new_history: Option<ReplicationId>,
    pub verify_ms: u64,
    pub load_ms: u64,
    /// Of what was given to the target, where the backup's manifest names one: both are the same.
    pub content_digest: Option<String>,
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

impl TryFrom<pb::StatusResponse> for Status {
    type Error = model::InvalidField;
    fn try_from(status: pb::StatusResponse) -> Result<Self, model::InvalidField> {
        let pb::StatusResponse { now_ms, shards, warnings } = status;
        Ok(Self { now: time(now_ms), shards: all(shards)?, warnings })
    }
}

impl TryFrom<pb::ShardStatus> for ShardStatus {
    type Error = model::InvalidField;
    fn try_from(status: pb::ShardStatus) -> Result<Self, model::InvalidField> {
        let pb::ShardStatus {
            deployment,
            shard,
            nodes,
            last_backup,
            canonical_id,
            verdict,
            data_loss_window_ms,
            findings,
            data_loss_window_target_ms,
            alarms,
            scheduled,
        } = status;
        Ok(Self {
            deployment,
            shard,
            verdict,
            canonical: canonical_id,
            data_loss_window_seconds: data_loss_window_ms.map(|ms| ms as f64 / 1000.0),
            data_loss_window_target_seconds: data_loss_window_target_ms as f64 / 1000.0,
            last_backup: last_backup.map(TryInto::try_into).transpose()?,
            nodes: all(nodes)?,
            findings,
            alarms: alarms.into_iter().map(Alarm::from).collect(),
            scheduled: scheduled.map(ScheduledJob::from),
        })
    }
}

impl TryFrom<pb::NodeStatus> for Node {
    type Error = model::InvalidField;
    fn try_from(status: pb::NodeStatus) -> Result<Self, model::InvalidField> {
        let pb::NodeStatus {
            node,
            site,
            connected,
            last_seen_ms,
            observation,
            trouble,
            clock_skew_ms,
            lag_bytes,
            tasks,
            agent_version,
        } = status;
        let observation = observation.map(NodeObservation::try_from).transpose()?;
        let seen = observation.as_ref();
        let position = seen.and_then(NodeObservation::position);
        Ok(Self {
            node,
            site,
            connected,
            last_seen: last_seen_ms.map(time),
            role: seen.map(|seen| if seen.replication.role.is_master() { "master" } else { "replica" }),
            engine: seen.map(|seen| seen.server.engine.to_string().to_lowercase()),
            server_version: seen.map(|seen| seen.server.version.clone()),
            history: position.map(|at| at.history),
            offset: position.map(|at| at.offset.get()),
            link_up: seen.and_then(|seen| match &seen.replication.role {
                Role::Master { .. } => None,
                Role::Replica { link, .. } => Some(link.up),
            }),
            lag_bytes,
            keys: seen.map(NodeObservation::keys),
            clock_skew_ms,
            trouble: trouble.map(|pb::Failure { message, hint, kind }| Failure { message, hint, kind }),
            tasks: tasks
                .into_iter()
                .map(|pb::RunningTask { id, what, phase, bytes_done, bytes_total }| Task {
                    id,
                    what,
                    phase,
                    bytes_done,
                    bytes_total,
                })
                .collect(),
            agent_version,
        })
    }
}

impl TryFrom<pb::CanonicalResponse> for Canonical {
    type Error = model::InvalidField;
    fn try_from(response: pb::CanonicalResponse) -> Result<Self, model::InvalidField> {
        let pb::CanonicalResponse {
            deployment,
            shard,
            verdict,
            canonical,
            head,
            missing_bytes,
            missing_ms,
            candidates,
            forks,
            explanation,
            printed: _,
            may_hold_more,
            advice,
        } = response;
        Ok(Self {
            deployment,
            shard,
            verdict,
            canonical: canonical.map(Candidate::try_from).transpose()?.map(Chosen::from),
            head: head
                .map(|pb::Head { position: at, node, seen_at_ms }| {
                    let at = position(at)?.ok_or_else(|| model::InvalidField::missing("head.position"))?;
                    Ok(Head { history: at.history, offset: at.offset.get(), node, seen_at: time(seen_at_ms) })
                })
                .transpose()?,
            missing: missing_bytes
                .map(|bytes| Missing { bytes, seconds: missing_ms.map(|millis| millis as f64 / 1000.0) }),
            candidates: all(candidates)?,
            forks: forks
                .into_iter()
                .map(|pb::Fork { parent, offset, children, accepted }| {
                    Ok(Fork {
                        parent: history(&parent)?,
                        offset,
                        children: children.iter().map(|child| history(child)).collect::<Result<_, _>>()?,
                        accepted: accepted.map(|child| history(&child)).transpose()?,
                    })
                })
                .collect::<Result<_, _>>()?,
            explanation,
            may_hold_more: all(may_hold_more)?,
            advice,
        })
    }
}

impl TryFrom<pb::MayHoldMore> for MayHoldMore {
    type Error = model::InvalidField;
    fn try_from(more: pb::MayHoldMore) -> Result<Self, model::InvalidField> {
        let pb::MayHoldMore { kind, name, position: at, bytes_more, seen_at_ms, sentence, hint, accepted } = more;
        let at = position(at)?;
        Ok(Self {
            kind,
            name,
            history: at.map(|at| at.history),
            offset: at.map(|at| at.offset.get()),
            bytes_more,
            seen_at: seen_at_ms.map(time),
            sentence,
            hint,
            accepted: accepted.map(|pb::LossAccepted { by, at_ms, reason }| LossAccepted {
                by,
                at: time(at_ms),
                reason,
            }),
        })
    }
}

impl TryFrom<pb::Candidate> for Candidate {
    type Error = model::InvalidField;
    fn try_from(candidate: pb::Candidate) -> Result<Self, model::InvalidField> {
        let pb::Candidate {
            source,
            id,
            node,
            site,
            position: at,
            standing,
            reason,
            missing_bytes,
            excess_bytes,
            data_as_of_from_ms,
            data_as_of_to_ms,
            taken_at_ms,
            verified,
        } = candidate;
        let at = position(at)?;
        Ok(Self {
            source,
            id,
            node,
            site,
            history: at.map(|at| at.history),
            offset: at.map(|at| at.offset.get()),
            standing,
            reason,
            missing_bytes,
            excess_bytes,
            data_as_of: DataAsOf { from: data_as_of_from_ms.map(time), to: data_as_of_to_ms.map(time) },
            taken_at: time(taken_at_ms),
            verified,
        })
    }
}

impl From<Candidate> for Chosen {
    fn from(candidate: Candidate) -> Self {
        let Candidate { source, id, node, site, history, offset, data_as_of, taken_at, verified, .. } = candidate;
        Self { source, id, node, site, history, offset, data_as_of, taken_at, verified }
    }
}

impl TryFrom<pb::ShowLineageResponse> for Lineage {
    type Error = model::InvalidField;
    fn try_from(response: pb::ShowLineageResponse) -> Result<Self, model::InvalidField> {
        let pb::ShowLineageResponse { deployment, shard, drawing: _, edges, findings } = response;
        let edges = edges
            .into_iter()
            .map(|edge| {
                let urtext_types::ForkEdge { child, parent, evidence } = edge.try_into()?;
                Ok(Edge { child, parent: parent.history, offset: parent.offset.get(), evidence })
            })
            .collect::<Result<_, model::InvalidField>>()?;
        Ok(Self { deployment, shard, edges, findings })
    }
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

impl TryFrom<pb::RestoreProof> for Proof {
    type Error = model::InvalidField;
    fn try_from(proof: pb::RestoreProof) -> Result<Self, model::InvalidField> {
        let pb::RestoreProof { expected, found, restored, new_history, verify_ms, load_ms, content_digest } = proof;
        let at = position(restored)?;
        let keyspace = |list: Vec<pb::Keyspace>| list.into_iter().map(Into::into).collect();
        Ok(Self {
            expected: keyspace(expected),
            found: keyspace(found),
            history: at.map(|at| at.history),
            offset: at.map(|at| at.offset.get()),
            new_history: if new_history.is_empty() { None } else { Some(history(&new_history)?) },
            verify_ms,
            load_ms,
            content_digest,
        })
    }
}

/// Converts a list, or names what is wrong in it.
pub fn all<T, U: TryFrom<T, Error = model::InvalidField>>(list: Vec<T>) -> Result<Vec<U>, model::InvalidField> {
    list.into_iter().map(U::try_from).collect()
}

#[cfg(test)]
mod tests;
