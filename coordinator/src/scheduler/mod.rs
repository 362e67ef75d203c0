//! What happens by itself, when its time has come.
//!
//! Once a second every shard's schedule is compared with what is remembered of it ([`urtext_planner::Schedule::step`]).
//! A run is remembered before it begins, and each of its snapshots is a task that says to which run it belongs: a
//! coordinator that starts again takes up a run where the last one left it, repeats no snapshot that was given to an
//! agent, and makes up once for what was missed. A run that failed is tried again, and lacks only what is missing.

mod queue;
mod run;
mod shown;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tracing::{info, warn};
use urtext_planner::{Alarm, Memory, Run, RunState, Schedule, ScheduledSnapshots, Step, scheduled_alarms, shift};
use urtext_types::{Chain, Timestamp};

use self::queue::Queue;
use crate::{
    Fault,
    app::App,
    catalog::{Job, StoredMemory, StoredRun},
    settings::SchedulePolicy,
    shard::ShardKey,
};

pub use shown::{ShownJob, ShownSnapshot, ShownState};

/// How often schedules are looked at: the finest that an expression can say.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After a start, a run waits so long for agents that have not come back: the best node may be one of them.
const COME_BACK: Duration = Duration::from_secs(15);

/// What the scheduler knows.
#[derive(Debug)]
pub struct Scheduler {
    state: Mutex<BTreeMap<ShardKey, Remembered>>,
    queue: Queue,
    started_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Remembered {
    stored: StoredMemory,
    /// By this coordinator.
    is_running: bool,
    /// From when until when nothing is to be done. A clock that was put back lies outside.
    rest: Option<(Timestamp, Timestamp)>,
}

impl Remembered {
    fn new(stored: StoredMemory) -> Self {
        Self { stored, is_running: false, rest: None }
    }

    /// As the planner wants it.
    fn memory(&self) -> Memory {
        let run = self.stored.run.as_ref().map(|run| Run {
            slot: run.slot,
            attempts: run.attempts,
            state: match (self.is_running, run.ended_at, &run.failure) {
                (true, _, _) => RunState::Running,
                (false, None, _) => RunState::Interrupted,
                (false, Some(at), Some(_)) => RunState::Failed { at },
                (false, Some(_), None) => RunState::Done,
            },
        });
        Memory { since: self.stored.since, run }
    }
}

impl Scheduler {
    /// As the last coordinator left it.
    pub fn recall(memories: BTreeMap<ShardKey, StoredMemory>, now: Timestamp) -> Self {
        let state = memories.into_iter().map(|(shard, stored)| (shard, Remembered::new(stored))).collect();
        Self { state: Mutex::new(state), queue: Queue::default(), started_at: now }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardKey, Remembered>> {
        self.state.lock().expect("nothing panics while it holds what is scheduled")
    }
}

/// By how much the snapshots of a shard come after their slots.
fn shift_of(shard: &ShardKey, policy: &SchedulePolicy) -> Duration {
    shift(&format!("{}/{} {}", shard.deployment, shard.shard, Job::Snapshot.as_str()), policy.jitter)
}

/// A run that is to begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Begin {
    slot: Timestamp,
    /// When its first attempt began.
    begun_at: Timestamp,
}

impl App {
    /// Goes on until the coordinator stops.
    pub async fn keep_schedules(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            for shard in self.shards(None) {
                match self.begin_if_due(&shard).await {
                    Ok(None) => {}
                    Ok(Some(begin)) => {
                        self.background.spawn(run::run(Arc::clone(&self), shard, begin));
                    }
                    Err(error) => {
                        warn!(%shard, error = %Chain(&error), "could not begin a scheduled run; trying again");
                    }
                }
            }
        }
    }

    /// Whether a run of that shard is to begin now. It is remembered as begun then.
    async fn begin_if_due(&self, shard: &ShardKey) -> Result<Option<Begin>, Fault> {
        let policy = &self.settings.policy(&shard.deployment).schedule;
        let Some(schedule) = &policy.snapshot else { return Ok(None) };
        let now = self.clock.now();
        let known = self.scheduler.lock().get(shard).cloned();
        let mut remembered = match known {
            Some(known) if known.stored.schedule == schedule.to_string() => known,
            // Nothing is made up for that this schedule did not ask for.
            other if other.as_ref().is_none_or(|other| !other.is_running) => {
                let last_good = other.and_then(|other| other.stored.last_good);
                let stored = StoredMemory { schedule: schedule.to_string(), since: now, run: None, last_good };
                self.remember(shard, &stored).await?;
                let new = Remembered::new(stored);
                self.scheduler.lock().insert(shard.clone(), new.clone());
                new
            }
            _ => return Ok(None),
        };
        if remembered.rest.is_some_and(|(from, until)| (from..until).contains(&now)) {
            return Ok(None);
        }
        match schedule.step(shift_of(shard, policy), &remembered.memory(), now) {
            Step::UnderWay => Ok(None),
            Step::Wait { until } => {
                if let Some(remembered) = self.scheduler.lock().get_mut(shard) {
                    remembered.rest = Some((now, until));
                }
                Ok(None)
            }
            Step::Begin { .. } if !self.all_are_back(shard, now) => Ok(None),
            Step::Begin { slot, attempt, why } => {
                let same_slot = remembered.stored.run.as_ref().filter(|run| run.slot == slot);
                let begun_at = same_slot.map_or(now, |run| run.begun_at);
                // What failed is said until something has succeeded.
                let failure = remembered.stored.run.as_ref().and_then(|run| run.failure.clone());
                let run = StoredRun { slot, attempts: attempt, begun_at, ended_at: None, failure };
                remembered.stored.run = Some(run);
                // Before anything is asked of an agent: a crash from here on does not repeat it.
                self.remember(shard, &remembered.stored).await?;
                (remembered.is_running, remembered.rest) = (true, None);
                self.scheduler.lock().insert(shard.clone(), remembered);
                info!(%shard, %slot, attempt, %why, "a scheduled snapshot begins");
                Ok(Some(Begin { slot, begun_at }))
            }
        }
    }

    /// Whether the agents of a shard have come back since the start, or have had their time to.
    fn all_are_back(&self, shard: &ShardKey, now: Timestamp) -> bool {
        now.since(self.scheduler.started_at) >= COME_BACK
            || self.fleet.shard(shard).iter().all(|node| node.fresh(now).is_some())
    }

    async fn remember(&self, shard: &ShardKey, stored: &StoredMemory) -> Result<(), Fault> {
        let put = self.catalog.put_memory(Job::Snapshot, shard, stored).await;
        put.map_err(Fault::while_doing("remember a scheduled run"))
    }

    /// A run has ended, well or with a failure.
    async fn end_run(&self, shard: &ShardKey, failure: Option<String>) {
        let now = self.clock.now();
        let stored = {
            let mut state = self.scheduler.lock();
            let Some(remembered) = state.get_mut(shard) else { return };
            remembered.is_running = false;
            if failure.is_none() {
                remembered.stored.last_good = Some(now);
            }
            if let Some(run) = &mut remembered.stored.run {
                run.ended_at = Some(now);
                run.failure = failure;
            }
            remembered.stored.clone()
        };
        if let Err(error) = self.remember(shard, &stored).await {
            warn!(%shard, error = %Chain(&error), "the end of a scheduled run could not be kept");
        }
        self.alarms.look_at(shard);
    }

    /// A run stops with the coordinator: the next one takes it up.
    fn leave_run(&self, shard: &ShardKey) {
        if let Some(remembered) = self.scheduler.lock().get_mut(shard) {
            remembered.is_running = false;
        }
    }

    /// What is wrong with the scheduled snapshots of a shard.
    pub fn schedule_alarm(&self, shard: &ShardKey, now: Timestamp) -> Option<Alarm> {
        let policy = &self.settings.policy(&shard.deployment).schedule;
        let schedule: &Schedule = policy.snapshot.as_ref()?;
        let remembered = self.scheduler.lock().get(shard).cloned()?;
        let snapshots = ScheduledSnapshots {
            deployment: &shard.deployment,
            schedule,
            shift: shift_of(shard, policy),
            memory: &remembered.memory(),
            failure: remembered.stored.run.as_ref().and_then(|run| run.failure.as_deref()),
        };
        scheduled_alarms(&snapshots, now)
    }
}

#[cfg(test)]
mod tests;
