//! When something is due: cron expressions in a time zone, at most one run to make up for those that were
//! missed, and a shift that spreads what would begin at the same second.
//!
//! A *slot* is a time that the expression names. A job runs for the newest slot that has come, once; slots
//! that were missed before it are not made up for one by one. What fails is tried again, each time after
//! twice as long, until the next slot takes over.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Timestamp};

/// A run that failed is tried again after this, then after twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// Whatever is the matter, it is looked at again after so long.
const LONGEST_RETRY: Duration = Duration::from_secs(15 * 60);

/// A run that begins so long after its time makes up for a missed one.
const LATE: Duration = Duration::from_secs(60);

/// How long a run may take before somebody should know: half of what lies between two slots, within these.
const OVERDUE_AFTER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// Text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidSchedule {
    #[error("{expression:?} is not a cron expression ({problem})")]
    Expression { expression: String, problem: String },
    #[error("{expression:?} names no time that will ever come")]
    Never { expression: String },
    #[error("{zone:?} is not a time zone")]
    Zone { zone: String },
}

impl Explain for InvalidSchedule {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Expression { .. } | Self::Never { .. } => {
                "write minute, hour, day of month, month and day of week: \"0 3 * * *\" is every day at 3".to_owned()
            }
            Self::Zone { .. } => "write a name like Europe/Berlin or UTC".to_owned(),
        })
    }
}

/// A cron expression in a time zone.
///
/// Where clocks are put forward, what falls into the hour that does not exist comes right after it; where they
/// are put back, a time of day comes once, at its first passing (and `*` in every hour means every hour).
#[derive(Debug, Clone)]
pub struct Schedule {
    expression: String,
    cron: Cron,
    zone: Tz,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        (&self.expression, self.zone) == (&other.expression, other.zone)
    }
}

impl Eq for Schedule {}

impl fmt::Display for Schedule {
    /// What tells one schedule from another: `0 3 * * * Europe/Berlin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.expression, self.zone)
    }
}

impl Schedule {
    /// `expression` has five fields, or six with seconds before them; `@daily` and the like are understood.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, InvalidSchedule> {
        let zone: Tz = zone.parse().map_err(|_| InvalidSchedule::Zone { zone: zone.to_owned() })?;
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| InvalidSchedule::Expression {
            expression: expression.to_owned(),
            problem: error.to_string(),
        })?;
        let schedule = Self { expression: expression.to_owned(), cron, zone };
        // Any time does: what comes once comes again. Leap days come within eight years.
        match schedule.next_after(Timestamp::from_millis(0)) {
            Some(_) => Ok(schedule),
            None => Err(InvalidSchedule::Never { expression: expression.to_owned() }),
        }
    }

    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn zone(&self) -> &str {
        self.zone.name()
    }

    /// The first slot after `at`; none beyond the calendar.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.cron.find_next_occurrence(&self.local(at)?, false).ok().map(timestamp)
    }

    /// The newest slot at or before `at`.
    pub fn latest(&self, at: Timestamp) -> Option<Timestamp> {
        self.cron.find_previous_occurrence(&self.local(at)?, true).ok().map(timestamp)
    }

    /// To the second: all slots are whole ones.
    fn local(&self, at: Timestamp) -> Option<DateTime<Tz>> {
        let seconds = at.as_millis().div_euclid(1000);
        DateTime::<Utc>::from_timestamp(seconds, 0).map(|time| time.with_timezone(&self.zone))
    }
}

fn timestamp(time: DateTime<Tz>) -> Timestamp {
    time.with_timezone(&Utc).into()
}

/// By how much the runs of `name` come after their slots: always the same, less than `jitter`, to the second.
/// Names spread evenly, so that a hundred deployments do not begin at once.
pub fn shift(name: &str, jitter: Duration) -> Duration {
    // FNV-1a, then mixed: similar names must not lie side by side. It must never change, or runs would move.
    let mut hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    Duration::from_secs(hash.checked_rem(jitter.as_secs()).unwrap_or(0))
}

/// What is remembered of a job from one look to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The schedule is followed from then on: earlier slots have nothing to do with it.
    pub since: Timestamp,
    /// The run for the newest slot that had one.
    pub run: Option<Run>,
}

/// One slot's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub slot: Timestamp,
    /// How often it was begun.
    pub attempts: u32,
    pub state: RunState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    Running,
    Done,
    Failed {
        at: Timestamp,
    },
    /// Whoever ran it stopped before its end.
    Interrupted,
}

/// What is to be done about a job now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Begin {
        slot: Timestamp,
        /// Counts from 1.
        attempt: u32,
        why: Why,
    },
    /// Nothing before that.
    Wait { until: Timestamp },
    /// It runs: nothing before its end.
    UnderWay,
}

/// Why a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Due,
    /// It was due at a time when nobody ran it.
    CatchUp,
    /// The attempt before failed.
    Retry,
    /// The attempt before did not come to its end.
    Resumed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Due => "it is due",
            Self::CatchUp => "it was missed, and is made up for once",
            Self::Retry => "the attempt before failed",
            Self::Resumed => "the attempt before was interrupted",
        })
    }
}

/// How long after its `attempts`th failure a run is tried again.
pub fn retry_after(attempts: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    FIRST_RETRY.saturating_mul(doubled).min(LONGEST_RETRY)
}

impl Schedule {
    /// What is to be done at `now` about a job whose runs come `shift` after their slots.
    pub fn step(&self, shift: Duration, memory: &Memory, now: Timestamp) -> Step {
        let run = memory.run;
        if run.is_some_and(|run| run.state == RunState::Running) {
            return Step::UnderWay;
        }
        let settled = run.map_or(memory.since, |run| run.slot.max(memory.since));
        if let Some(slot) = self.latest(now.minus(shift))
            && slot > settled
        {
            let is_late = now.since(slot.plus(shift)) > LATE;
            return Step::Begin { slot, attempt: 1, why: if is_late { Why::CatchUp } else { Why::Due } };
        }
        let next = self.next_run(shift, memory, now);
        match run {
            Some(Run { slot, attempts, state: RunState::Interrupted }) => {
                Step::Begin { slot, attempt: attempts, why: Why::Resumed }
            }
            Some(Run { slot, attempts, state: RunState::Failed { at } }) => {
                let again = at.plus(retry_after(attempts));
                if again <= now {
                    Step::Begin { slot, attempt: attempts.saturating_add(1), why: Why::Retry }
                } else {
                    Step::Wait { until: again.min(next) }
                }
            }
            _ => Step::Wait { until: next },
        }
    }

    /// When the next slot's run begins, retries aside.
    pub fn next_run(&self, shift: Duration, memory: &Memory, now: Timestamp) -> Timestamp {
        let settled = memory.run.map_or(memory.since, |run| run.slot.max(memory.since));
        let next = self.next_after(settled.max(now.minus(shift)));
        next.map_or(Timestamp::from_millis(i64::MAX), |slot| slot.plus(shift))
    }

    /// Since when the newest slot's run should have come to a good end, if it has not for too long.
    pub fn overdue(&self, shift: Duration, memory: &Memory, now: Timestamp) -> Option<Timestamp> {
        let slot = self.latest(now.minus(shift)).filter(|slot| *slot > memory.since)?;
        let is_done = memory.run.is_some_and(|run| run.slot >= slot && run.state == RunState::Done);
        let (least, most) = OVERDUE_AFTER;
        let between = self.next_after(slot).map_or(most, |next| next.since(slot));
        let due = slot.plus(shift);
        (!is_done && now.since(due) > (between / 2).clamp(least, most)).then_some(due)
    }
}

#[cfg(test)]
mod tests;
