//! Scheduled work that failed, and scheduled snapshots that do not come.

use std::time::Duration;

use urtext_types::{DeploymentName, Timestamp};

use super::{Alarm, AlarmKind};
use crate::{
    schedule::{Memory, RunState, Schedule, Step},
    wording::{sentence, time},
};

/// How one thing that happens by itself goes.
#[derive(Debug)]
pub struct ScheduledWork<'a> {
    /// The command that does it: `snapshot`, `prune`.
    pub job: &'a str,
    pub is_snapshot: bool,
    pub deployment: &'a DeploymentName,
    pub schedule: &'a Schedule,
    /// See [`crate::shift`].
    pub shift: Duration,
    pub memory: &'a Memory,
    /// Why the last attempt that came to its end failed, if it did.
    pub failure: Option<&'a str>,
}

/// What is wrong with it at `now`, if anything is. How long anything but a snapshot takes says nothing.
pub fn scheduled_alarm(work: &ScheduledWork<'_>, now: Timestamp) -> Option<Alarm> {
    let ScheduledWork { job, is_snapshot, deployment, schedule, shift, memory, failure } = work;
    let alarm = |kind, sentence| Alarm {
        kind,
        subject: if *is_snapshot { deployment.to_string() } else { format!("{deployment} {job}") },
        sentence,
        hint: format!("`urtext schedule {deployment}` shows the runs; `urtext {job} {deployment}` does it now"),
    };
    if let Some((run, reason)) = memory.run.zip(*failure)
        && run.state != RunState::Done
    {
        let again = match schedule.step(*shift, memory, now) {
            Step::Wait { until } => format!("tried again at {}", time(until)),
            Step::Begin { .. } | Step::UnderWay => "tried again now".to_owned(),
        };
        let kind = if *is_snapshot { AlarmKind::SnapshotFailed } else { AlarmKind::JobFailed };
        let what = format!("The scheduled {job} of {} failed, {again}. {}", time(run.slot), sentence(reason));
        return Some(alarm(kind, what));
    }
    let since = schedule.overdue(*shift, memory, now).filter(|_| *is_snapshot)?;
    let what = format!("The snapshot that was due at {} is not there yet.", time(since));
    Some(alarm(AlarmKind::SnapshotOverdue, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Run;

    #[track_caller]
    fn check(state: RunState, failure: Option<&str>, now: &str, expect: Option<(AlarmKind, &str)>) {
        let at = |text: &str| -> Timestamp { text.parse().expect("a time") };
        let schedule = Schedule::parse("0 3 * * *", "UTC").expect("valid");
        let run = Run { slot: at("2026-11-21T03:00:00Z"), attempts: 2, state };
        let memory = Memory { since: at("2026-11-20T12:00:00Z"), run: Some(run) };
        let snapshots = ScheduledWork {
            job: "snapshot",
            is_snapshot: true,
            deployment: &"orders".parse().expect("a name"),
            schedule: &schedule,
            shift: Duration::ZERO,
            memory: &memory,
            failure,
        };
        let alarm = scheduled_alarm(&snapshots, at(now));
        let said = alarm.as_ref().map(|alarm| (alarm.kind, alarm.sentence.as_str()));
        assert_eq!(said, expect);
    }

    #[test]
    fn a_snapshot_that_failed_and_one_that_does_not_come_are_alarms() {
        let failed = RunState::Failed { at: "2026-11-21T03:05:00Z".parse().expect("a time") };
        let sentence = "The scheduled snapshot of 2026-11-21T03:00:00Z failed, tried again at 2026-11-21T03:06:00Z. \
                        No node of orders can be captured now.";
        let why = Some("no node of orders can be captured now");
        check(failed, why, "2026-11-21T03:05:30Z", Some((AlarmKind::SnapshotFailed, sentence)));
        // A further try takes nothing back until it has succeeded.
        let again = sentence.replace("at 2026-11-21T03:06:00Z", "now");
        check(RunState::Running, why, "2026-11-21T03:05:30Z", Some((AlarmKind::SnapshotFailed, &again)));
        check(RunState::Running, None, "2026-11-21T03:05:30Z", None);
        let overdue = "The snapshot that was due at 2026-11-21T03:00:00Z is not there yet.";
        check(RunState::Running, None, "2026-11-21T05:00:00Z", Some((AlarmKind::SnapshotOverdue, overdue)));
        check(RunState::Done, None, "2026-11-21T05:00:00Z", None);
    }
}
