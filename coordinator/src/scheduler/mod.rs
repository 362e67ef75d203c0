//! What happens by itself, when its time has come.
//!
//! Once a second every schedule is compared with what is remembered of it ([`urtext_planner::Schedule::step`]).
//! A run is remembered before it begins, and each of its snapshots is a task that says to which run it belongs: a
//! coordinator that starts again takes up a run where the last one left it, repeats no snapshot that was given to an
//! agent, and makes up once for what was missed. A run that failed is tried again, and lacks only what is missing.

mod queue;
mod rehearsal;
mod run;
mod shown;
mod upkeep;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tracing::{info, warn};
use urtext_planner::{Alarm, Memory, Run, RunState, ScheduledWork, Step, scheduled_alarm, shift};
use urtext_types::{Chain, DeploymentName, Timestamp};

use self::queue::Queue;
use crate::{
    Fault,
    app::App,
    catalog::{Job, JobKey, StoredMemory, StoredRun},
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
    state: Mutex<BTreeMap<JobKey, Remembered>>,
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
    pub fn recall(memories: BTreeMap<JobKey, StoredMemory>, now: Timestamp) -> Self {
        let state = memories.into_iter().map(|(key, stored)| (key, Remembered::new(stored))).collect();
        Self { state: Mutex::new(state), queue: Queue::default(), started_at: now }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobKey, Remembered>> {
        self.state.lock().expect("nothing panics while it holds what is scheduled")
    }
}

/// By how much a job comes after its slots.
fn shift_of(key: &JobKey, policy: &SchedulePolicy) -> Duration {
    shift(&key.to_string(), policy.jitter)
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
        // At once: from the first look on, a schedule is owed what it asks for.
        loop {
            for job in self.jobs(None) {
                match self.begin_if_due(&job).await {
                    Ok(None) => {}
                    Ok(Some(begin)) => {
                        self.background.spawn(run::run(Arc::clone(&self), job, begin));
                    }
                    Err(error) => {
                        warn!(%job, error = %Chain(&error), "could not begin a scheduled run; trying again");
                    }
                }
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Everything that may happen by itself.
    pub fn jobs(&self, deployment: Option<&DeploymentName>) -> Vec<JobKey> {
        let shards = self.shards(deployment);
        let mut jobs: Vec<JobKey> = shards.iter().map(JobKey::snapshot).collect();
        let mut of_all = vec![Job::Verify, Job::Prune, Job::Rehearse];
        if self.repositories.iter().any(|place| !place.settings.pulls.is_empty()) {
            of_all.push(Job::Sync);
        }
        if self.repositories.iter().any(|place| place.address().lock().is_some()) {
            of_all.push(Job::Lock);
        }
        for job in of_all {
            jobs.extend(shards.iter().map(|shard| JobKey { deployment: shard.deployment.clone(), job, shard: None }));
        }
        jobs.sort_unstable();
        jobs.dedup();
        jobs
    }

    /// Whether a run of that job is to begin now. It is remembered as begun then.
    async fn begin_if_due(&self, key: &JobKey) -> Result<Option<Begin>, Fault> {
        let policy = &self.settings.policy(&key.deployment).schedule;
        let Some(schedule) = policy.of(key.job) else { return Ok(None) };
        let now = self.clock.now();
        let known = self.scheduler.lock().get(key).cloned();
        let mut remembered = match known {
            Some(known) if known.stored.schedule == schedule.to_string() => known,
            // Nothing is made up for that this schedule did not ask for.
            other if other.as_ref().is_none_or(|other| !other.is_running) => {
                let last_good = other.and_then(|other| other.stored.last_good);
                let stored = StoredMemory { schedule: schedule.to_string(), since: now, run: None, last_good };
                self.remember(key, &stored).await?;
                let new = Remembered::new(stored);
                self.scheduler.lock().insert(key.clone(), new.clone());
                new
            }
            _ => return Ok(None),
        };
        if remembered.rest.is_some_and(|(from, until)| (from..until).contains(&now)) {
            return Ok(None);
        }
        match schedule.step(shift_of(key, policy), &remembered.memory(), now) {
            Step::UnderWay => Ok(None),
            Step::Wait { until } => {
                if let Some(remembered) = self.scheduler.lock().get_mut(key) {
                    remembered.rest = Some((now, until));
                }
                Ok(None)
            }
            Step::Begin { .. } if !self.all_are_back(key, now) => Ok(None),
            Step::Begin { slot, attempt, why } => {
                let same_slot = remembered.stored.run.as_ref().filter(|run| run.slot == slot);
                let begun_at = same_slot.map_or(now, |run| run.begun_at);
                // What failed is said until something has succeeded.
                let failure = remembered.stored.run.as_ref().and_then(|run| run.failure.clone());
                let run = StoredRun { slot, attempts: attempt, begun_at, ended_at: None, failure, outcome: None };
                remembered.stored.run = Some(run);
                // Before anything is asked of an agent: a crash from here on does not repeat it.
                self.remember(key, &remembered.stored).await?;
                (remembered.is_running, remembered.rest) = (true, None);
                self.scheduler.lock().insert(key.clone(), remembered);
                info!(job = %key, %slot, attempt, %why, "a scheduled run begins");
                Ok(Some(Begin { slot, begun_at }))
            }
        }
    }

    /// Whether the agents of a deployment have come back since the start, or have had their time to.
    fn all_are_back(&self, key: &JobKey, now: Timestamp) -> bool {
        now.since(self.scheduler.started_at) >= COME_BACK
            || self.fleet.nodes(Some(&key.deployment)).iter().all(|node| node.fresh(now).is_some())
    }

    async fn remember(&self, key: &JobKey, stored: &StoredMemory) -> Result<(), Fault> {
        let put = self.catalog.put_memory(key, stored).await;
        put.map_err(Fault::while_doing("remember a scheduled run"))
    }

    /// A run has ended: what it came to, or why it failed.
    async fn end_run(&self, key: &JobKey, ended: Result<Option<String>, String>) {
        let now = self.clock.now();
        let stored = {
            let mut state = self.scheduler.lock();
            let Some(remembered) = state.get_mut(key) else { return };
            remembered.is_running = false;
            if ended.is_ok() {
                remembered.stored.last_good = Some(now);
            }
            if let Some(run) = &mut remembered.stored.run {
                run.ended_at = Some(now);
                (run.outcome, run.failure) = match ended {
                    Ok(outcome) => (outcome, None),
                    Err(failure) => (None, Some(failure)),
                };
            }
            remembered.stored.clone()
        };
        if let Err(error) = self.remember(key, &stored).await {
            warn!(job = %key, error = %Chain(&error), "the end of a scheduled run could not be kept");
        }
        for shard in self.shards(Some(&key.deployment)) {
            self.alarms.look_at(&shard);
        }
    }

    /// A run stops with the coordinator: the next one takes it up.
    fn leave_run(&self, key: &JobKey) {
        if let Some(remembered) = self.scheduler.lock().get_mut(key) {
            remembered.is_running = false;
        }
    }

    /// What is wrong with what should happen by itself. What is of a whole deployment is said of its first shard.
    pub fn schedule_alarms(&self, shard: &ShardKey, now: Timestamp) -> Vec<Alarm> {
        let policy = &self.settings.policy(&shard.deployment).schedule;
        let is_first = self.shards(Some(&shard.deployment)).first() == Some(shard);
        let mut jobs = self.jobs(Some(&shard.deployment));
        jobs.retain(|key| key.shard.as_ref().map_or(is_first, |own| *own == shard.shard));
        let alarm = |key: &JobKey| {
            let schedule = policy.of(key.job)?;
            let remembered = self.scheduler.lock().get(key).cloned()?;
            let work = ScheduledWork {
                job: key.job.as_str(),
                is_snapshot: key.job == Job::Snapshot,
                deployment: &shard.deployment,
                schedule,
                shift: shift_of(key, policy),
                memory: &remembered.memory(),
                failure: remembered.stored.run.as_ref().and_then(|run| run.failure.as_deref()),
            };
            scheduled_alarm(&work, now)
        };
        jobs.iter().filter_map(alarm).collect()
    }
}

#[cfg(test)]
mod tests;
