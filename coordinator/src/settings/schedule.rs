//! `[schedule]` and `[deployments.D.schedule]`: what happens by itself, and when.

use std::time::Duration;

use serde::Deserialize;
use urtext_planner::Schedule;

use super::{duration, with_hint};
use crate::catalog::Job;

/// In the place of a cron expression: not at all.
const NEVER: &str = "never";

/// More copies than anybody has sites: a number beyond it is a slip.
const MOST_COPIES: u32 = 16;

/// What happens by itself for one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulePolicy {
    /// Snapshots, unless they are taken by hand alone.
    pub snapshot: Option<Schedule>,
    /// Every stored copy is read again.
    pub verify: Option<Schedule>,
    /// What need not stay is removed.
    pub prune: Option<Schedule>,
    /// Repositories that pull get what they lack.
    pub sync: Option<Schedule>,
    /// The canonical backups are loaded into throw-away servers.
    pub rehearse: Option<Schedule>,
    /// Locks are extended in the repositories that have them.
    pub lock: Option<Schedule>,
    /// How many snapshots are taken each time, each at another site.
    pub copies: usize,
    /// Runs come so much later than their times at most: see [`urtext_planner::shift`].
    pub jitter: Duration,
}

impl SchedulePolicy {
    /// When that is done, if it ever is by itself.
    pub fn of(&self, job: Job) -> Option<&Schedule> {
        match job {
            Job::Snapshot => self.snapshot.as_ref(),
            Job::Verify => self.verify.as_ref(),
            Job::Prune => self.prune.as_ref(),
            Job::Sync => self.sync.as_ref(),
            Job::Rehearse => self.rehearse.as_ref(),
            Job::Lock => self.lock.as_ref(),
        }
    }
}

/// The tables as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleFile {
    snapshot: Option<String>,
    verify: Option<String>,
    prune: Option<String>,
    sync: Option<String>,
    rehearse: Option<String>,
    lock: Option<String>,
    time_zone: Option<String>,
    copies: Option<u32>,
    jitter: Option<String>,
}

impl ScheduleFile {
    /// What the example says.
    pub(super) fn built_in() -> Self {
        Self {
            snapshot: Some("0 3 * * *".to_owned()),
            verify: Some("0 5 * * SUN".to_owned()),
            prune: Some(NEVER.to_owned()),
            sync: Some("0 4 * * *".to_owned()),
            rehearse: Some(NEVER.to_owned()),
            lock: Some("0 2 * * *".to_owned()),
            time_zone: Some("UTC".to_owned()),
            copies: Some(1),
            jitter: Some("10m".to_owned()),
        }
    }

    /// This table where it says something, `default` where it does not.
    pub(super) fn over(self, default: &Self) -> Self {
        let Self { snapshot, verify, prune, sync, rehearse, lock, time_zone, copies, jitter } = self;
        Self {
            snapshot: snapshot.or_else(|| default.snapshot.clone()),
            verify: verify.or_else(|| default.verify.clone()),
            prune: prune.or_else(|| default.prune.clone()),
            sync: sync.or_else(|| default.sync.clone()),
            rehearse: rehearse.or_else(|| default.rehearse.clone()),
            lock: lock.or_else(|| default.lock.clone()),
            time_zone: time_zone.or_else(|| default.time_zone.clone()),
            copies: copies.or(default.copies),
            jitter: jitter.or_else(|| default.jitter.clone()),
        }
    }

    /// # Errors
    /// The key that is wrong, and why.
    pub(super) fn resolve(&self) -> Result<SchedulePolicy, (&'static str, String)> {
        let Self { snapshot, verify, prune, sync, rehearse, lock, time_zone, copies, jitter } =
            self.clone().over(&Self::built_in());
        let zone = time_zone.unwrap_or_default();
        // Also where nothing is scheduled: a zone that is misspelt must not pass.
        Schedule::parse("@daily", &zone).map_err(|error| ("schedule.time_zone", with_hint(&error)))?;
        let parse = |key: &'static str, text: Option<String>| match text.as_deref() {
            None | Some(NEVER) => Ok(None),
            Some(expression) => Schedule::parse(expression, &zone)
                .map(Some)
                .map_err(|error| (key, format!("{}, or \"{NEVER}\"", with_hint(&error)))),
        };
        let snapshot = parse("schedule.snapshot", snapshot)?;
        let verify = parse("schedule.verify", verify)?;
        let prune = parse("schedule.prune", prune)?;
        let sync = parse("schedule.sync", sync)?;
        let rehearse = parse("schedule.rehearse", rehearse)?;
        let lock = parse("schedule.lock", lock)?;
        let copies = copies.unwrap_or(1);
        if !(1..=MOST_COPIES).contains(&copies) {
            return Err(("schedule.copies", format!("must lie between 1 and {MOST_COPIES}")));
        }
        let jitter = duration(&jitter.unwrap_or_default()).map_err(|problem| ("schedule.jitter", problem))?;
        if jitter > Duration::from_secs(86_400) {
            return Err(("schedule.jitter", "must not be more than a day".to_owned()));
        }
        Ok(SchedulePolicy { snapshot, verify, prune, sync, rehearse, lock, copies: copies as usize, jitter })
    }
}
