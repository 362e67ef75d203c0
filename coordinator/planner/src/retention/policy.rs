//! The rules: how many of what are kept.

use std::{fmt, time::Duration};

use chrono::{DateTime, Datelike, TimeZone, Timelike, Utc};
use urtext_types::Timestamp;

use super::reason::Period;
use crate::wording::duration;

/// How many backups of one node on one branch are kept: of each of the last `hourly` hours in which there
/// are any, the newest; and so on. A backup stays if any rule wants it. A policy without a rule keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    pub last: u32,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    /// All that were received within that time before the newest.
    pub within: Option<Duration>,
}

impl Default for RetentionPolicy {
    /// The newest one, and one of each of the last fourteen days.
    fn default() -> Self {
        Self { last: 1, daily: 14, ..Self::NOTHING }
    }
}

impl RetentionPolicy {
    /// No rule: everything is kept.
    pub const NOTHING: Self = Self { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, within: None };

    fn counts(&self) -> [(Period, u32); 6] {
        let Self { last, hourly, daily, weekly, monthly, yearly, within: _ } = *self;
        [
            (Period::Last, last),
            (Period::Hour, hourly),
            (Period::Day, daily),
            (Period::Week, weekly),
            (Period::Month, monthly),
            (Period::Year, yearly),
        ]
    }
}

/// `last 1, daily 14, within 2 d 0 h`; `everything` without a rule.
impl fmt::Display for RetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules: Vec<String> = self
            .counts()
            .into_iter()
            .filter(|&(_, count)| count > 0)
            .map(|(period, count)| format!("{} {count}", period.rule()))
            .collect();
        rules.extend(self.within.map(|within| format!("within {}", duration(within.as_secs_f64()))));
        f.pad(&if rules.is_empty() { "everything".to_owned() } else { rules.join(", ") })
    }
}

/// A rule wants a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) period: Period,
    /// The first is the newest.
    pub(super) nth: u32,
    pub(super) of: u32,
    /// Which hour, day, week, month or year.
    pub(super) label: String,
}

/// Which of `members`, the last received first, the rules want.
pub(super) fn claims<Z: TimeZone>(
    policy: &RetentionPolicy,
    zone: &Z,
    members: &[usize],
    received_at: impl Fn(usize) -> Timestamp,
) -> Vec<(usize, Claim)> {
    let mut claims = Vec::new();
    if *policy == RetentionPolicy::NOTHING {
        let all = |&i| (i, Claim { period: Period::Everything, nth: 0, of: 0, label: String::new() });
        return members.iter().map(all).collect();
    }
    for (period, of) in policy.counts() {
        let (mut nth, mut before) = (0, None);
        for &i in members {
            let label = label(period, zone, received_at(i));
            // Every backup is a bucket of its own to `last`.
            if period != Period::Last && before.as_ref() == Some(&label) {
                continue;
            }
            if nth == of {
                break;
            }
            nth += 1;
            claims.push((i, Claim { period, nth, of, label: label.clone() }));
            before = Some(label);
        }
    }
    if let (Some(within), Some(&newest)) = (policy.within, members.first()) {
        let newest = received_at(newest);
        let label = duration(within.as_secs_f64());
        claims.extend(
            members
                .iter()
                .filter(|&&i| newest.since(received_at(i)) <= within)
                .map(|&i| (i, Claim { period: Period::Within, nth: 0, of: 0, label: label.clone() })),
        );
    }
    claims
}

/// Which hour, day, week, month or year a time lies in; the same text for the same one.
fn label<Z: TimeZone>(period: Period, zone: &Z, at: Timestamp) -> String {
    let Some(utc) = DateTime::<Utc>::from_timestamp_millis(at.as_millis()) else { return at.to_string() };
    let at = utc.with_timezone(zone);
    let day = format!("{:04}-{:02}-{:02}", at.year(), at.month(), at.day());
    match period {
        Period::Last | Period::Within | Period::Everything => String::new(),
        // With the offset from UTC: when clocks are put back, one hour comes twice.
        Period::Hour => {
            let offset = chrono::Offset::fix(at.offset()).local_minus_utc() / 60;
            let offset =
                if offset == 0 { String::new() } else { format!(" UTC{:+03}:{:02}", offset / 60, offset.abs() % 60) };
            format!("{day} {:02}h{offset}", at.hour())
        }
        Period::Day => day,
        Period::Week => format!("{:04}-W{:02}", at.iso_week().year(), at.iso_week().week()),
        Period::Month => format!("{:04}-{:02}", at.year(), at.month()),
        Period::Year => format!("{:04}", at.year()),
    }
}
