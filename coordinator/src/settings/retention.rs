//! `[retention]`, for all deployments and for one.

use std::time::Duration;

use serde::Deserialize;
use urtext_planner::RetentionPolicy;

use super::duration;

/// Longer than any write takes: a part of 16 MiB, then the next.
const SHORTEST_GRACE: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionFile {
    last: Option<u32>,
    hourly: Option<u32>,
    daily: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
    within: Option<String>,
    grace: Option<String>,
}

impl RetentionFile {
    /// Takes out what holds for whole repositories.
    pub(super) fn take_grace(&mut self) -> Result<Duration, (String, String)> {
        let key = || "retention.grace".to_owned();
        let Some(text) = self.grace.take() else { return Ok(GRACE) };
        let grace = duration(&text).map_err(|problem| (key(), problem))?;
        if grace < SHORTEST_GRACE {
            return Err((key(), "must be at least 1h: what is being written would be deleted".to_owned()));
        }
        Ok(grace)
    }

    /// What the table names, and the rest of `default`.
    pub(super) fn over(self, default: &RetentionPolicy) -> Result<RetentionPolicy, (String, String)> {
        let Self { last, hourly, daily, weekly, monthly, yearly, within, grace } = self;
        if grace.is_some() {
            let problem = "holds for whole repositories: write it into [retention]".to_owned();
            return Err(("retention.grace".to_owned(), problem));
        }
        let within = match within {
            None => default.within,
            Some(text) => {
                let within = duration(&text).map_err(|problem| ("retention.within".to_owned(), problem))?;
                (!within.is_zero()).then_some(within)
            }
        };
        Ok(RetentionPolicy {
            last: last.unwrap_or(default.last),
            hourly: hourly.unwrap_or(default.hourly),
            daily: daily.unwrap_or(default.daily),
            weekly: weekly.unwrap_or(default.weekly),
            monthly: monthly.unwrap_or(default.monthly),
            yearly: yearly.unwrap_or(default.yearly),
            within,
        })
    }
}
