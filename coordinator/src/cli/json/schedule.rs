//! What happens by itself.

use serde::Serialize;
use urtext_proto::pb;
use urtext_types::Timestamp;

/// `urtext schedule`
#[derive(Debug, Serialize)]
pub struct Schedule {
    pub now: Timestamp,
    pub jobs: Vec<ScheduledJob>,
}

/// In `urtext status` without nodes and snapshots.
#[derive(Debug, Serialize)]
pub struct ScheduledJob {
    pub deployment: String,
    /// `null`: of the whole deployment.
    pub shard: Option<String>,
    /// `snapshot`, `verify` or `prune`.
    pub job: String,
    /// `null` if it never happens by itself.
    pub expression: Option<String>,
    pub time_zone: Option<String>,
    /// Of a snapshot.
    pub copies: Option<u32>,
    /// So much later than the times of the expression.
    pub shift_seconds: f64,
    /// A further try included.
    pub next: Option<Timestamp>,
    pub last_run: Option<ScheduledRun>,
    /// When the last good run had ended.
    pub last_good: Option<Timestamp>,
    /// What would be captured now.
    pub nodes: Vec<NodeChoice>,
}

#[derive(Debug, Serialize)]
pub struct ScheduledRun {
    /// The time of the expression that it is for.
    pub slot: Timestamp,
    pub attempts: u32,
    pub begun: Timestamp,
    pub ended: Option<Timestamp>,
    /// `running`, `done`, `failed` or `interrupted`.
    pub state: String,
    pub failure: Option<String>,
    /// What it came to, where there is something to say.
    pub outcome: Option<String>,
    pub snapshots: Vec<RunSnapshot>,
}

#[derive(Debug, Serialize)]
pub struct RunSnapshot {
    pub node: String,
    pub site: Option<String>,
    pub backup: Option<String>,
    /// `waiting`, `running`, `committed` or `failed`.
    pub state: String,
    /// Why it waits, or failed.
    pub reason: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct NodeChoice {
    pub node: String,
    pub site: String,
    pub chosen: bool,
    pub reason: String,
}

impl From<pb::ShowScheduleResponse> for Schedule {
    fn from(response: pb::ShowScheduleResponse) -> Self {
        let pb::ShowScheduleResponse { now_ms, jobs } = response;
        Self { now: Timestamp::from_millis(now_ms), jobs: jobs.into_iter().map(Into::into).collect() }
    }
}

impl From<pb::ScheduledJob> for ScheduledJob {
    fn from(job: pb::ScheduledJob) -> Self {
        let pb::ScheduledJob {
            deployment,
            shard,
            job,
            expression,
            time_zone,
            copies,
            shift_ms,
            next_ms,
            last_run,
            last_good_ms,
            nodes,
        } = job;
        Self {
            deployment,
            shard,
            job,
            expression,
            time_zone,
            copies,
            shift_seconds: shift_ms as f64 / 1000.0,
            next: next_ms.map(Timestamp::from_millis),
            last_run: last_run.map(Into::into),
            last_good: last_good_ms.map(Timestamp::from_millis),
            nodes: nodes.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<pb::ScheduledRun> for ScheduledRun {
    fn from(run: pb::ScheduledRun) -> Self {
        let pb::ScheduledRun { slot_ms, attempts, begun_ms, ended_ms, state, failure, snapshots, outcome } = run;
        Self {
            slot: Timestamp::from_millis(slot_ms),
            attempts,
            begun: Timestamp::from_millis(begun_ms),
            ended: ended_ms.map(Timestamp::from_millis),
            state,
            failure,
            outcome,
            snapshots: snapshots.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<pb::RunSnapshot> for RunSnapshot {
    fn from(snapshot: pb::RunSnapshot) -> Self {
        let pb::RunSnapshot { node, site, backup_id, state, reason } = snapshot;
        Self { node, site, backup: backup_id, state, reason }
    }
}

impl From<pb::NodeChoice> for NodeChoice {
    fn from(choice: pb::NodeChoice) -> Self {
        let pb::NodeChoice { node, site, chosen, reason } = choice;
        Self { node, site, chosen, reason }
    }
}
