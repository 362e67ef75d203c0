//! How the scheduled work stands, for people.

use std::time::Duration;

use urtext_planner::{Choice, Memory, RunState, Schedule, Step, Tried};
use urtext_types::{BackupId, NodeName, SiteName, Timestamp};

use super::shift_of;
use crate::{
    Fault,
    app::App,
    catalog::{JobKey, StoredRun},
    shard::ShardKey,
};

/// One thing that may happen by itself.
#[derive(Debug)]
pub struct ShownJob {
    /// `None`: never.
    pub schedule: Option<Schedule>,
    pub copies: usize,
    pub shift: Duration,
    /// When something is done next.
    pub next: Option<Timestamp>,
    pub last_run: Option<StoredRun>,
    pub state: Option<RunState>,
    pub last_good: Option<Timestamp>,
}

/// One snapshot of the last run.
#[derive(Debug)]
pub struct ShownSnapshot {
    pub node: NodeName,
    /// Known once it has begun.
    pub site: Option<SiteName>,
    pub backup: Option<BackupId>,
    pub state: ShownState,
}

#[derive(Debug)]
pub enum ShownState {
    /// With the reason, a sentence.
    Waiting(String),
    Running,
    Committed,
    Failed(String),
}

impl App {
    /// How a job stands.
    pub fn scheduled(&self, key: &JobKey) -> ShownJob {
        let policy = &self.settings.policy(&key.deployment).schedule;
        let now = self.clock.now();
        let remembered = self.scheduler.lock().get(key).cloned();
        let memory = remembered.as_ref().map_or(Memory { since: now, run: None }, |known| known.memory());
        let shift = shift_of(key, policy);
        let next = policy.of(key.job).map(|schedule| match schedule.step(shift, &memory, now) {
            Step::Wait { until } => until,
            Step::Begin { .. } => now,
            Step::UnderWay => schedule.next_run(shift, &memory, now),
        });
        let stored = remembered.map(|known| known.stored);
        ShownJob {
            schedule: policy.of(key.job).cloned(),
            copies: policy.copies,
            shift,
            next,
            state: memory.run.map(|run| run.state),
            last_good: stored.as_ref().and_then(|stored| stored.last_good),
            last_run: stored.and_then(|stored| stored.run),
        }
    }

    /// Which nodes would be captured if a run began now, and why; and why not the others.
    pub fn would_capture(&self, shard: &ShardKey) -> Vec<Choice> {
        let copies = self.settings.policy(&shard.deployment).schedule.copies;
        self.choose_for_run(shard, copies, &Tried::default()).0
    }

    /// The snapshots of a shard's last run, those that wait for their turn last.
    pub async fn snapshots_of_run(&self, shard: &ShardKey, run: &StoredRun) -> Result<Vec<ShownSnapshot>, Fault> {
        let captures = self.catalog.run_captures(shard, run.slot, run.begun_at).await;
        let captures = captures.map_err(Fault::while_doing("look up the snapshots of a scheduled run"))?;
        let begun = captures.into_iter().map(|capture| ShownSnapshot {
            node: capture.node,
            site: Some(capture.site),
            backup: Some(capture.backup),
            state: match (capture.ended_at, capture.failure) {
                (None, _) => ShownState::Running,
                (Some(_), None) => ShownState::Committed,
                (Some(_), Some(failure)) => ShownState::Failed(failure),
            },
        });
        let own = self.fleet.shard(shard);
        let waiting = self.waiting(|turn| {
            turn.deployment == shard.deployment && own.iter().any(|node| node.identity.node == turn.node)
        });
        let waiting = waiting.into_iter().map(|(turn, reason)| ShownSnapshot {
            node: turn.node,
            site: None,
            backup: None,
            state: ShownState::Waiting(reason),
        });
        Ok(begun.chain(waiting).collect())
    }
}
