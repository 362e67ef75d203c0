//! `urtext status`.

use serde::Serialize;
use urtext_proto::{model, pb};
use urtext_types::{NodeObservation, ReplicationId, Role, Timestamp};

use super::{Alarm, Backup, ScheduledJob, all, time};

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
