//! For how long a comparison of everything answers the questions that come after it.
//!
//! Listing a large repository takes seconds and hundreds of requests. So it is done at intervals, and questions in
//! between are answered by the catalog, in which what this coordinator commits or removes is listed at once. What
//! others put into a large repository, or take out of it, is noticed after [`Compared::pause`] and the time of a
//! listing: a minute or two, and eight minutes and three listings at most. Whatever decides for good looks itself:
//! restoring, pruning, accepting.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;
use urtext_types::DeploymentName;

use super::COMPARED_EACH_TIME;
use crate::{Fault, app::App};

/// How often everything is compared without anybody asking.
const EVERY: Duration = Duration::from_secs(60);
/// So many times as long as a comparison takes, nothing is compared after it.
const PAUSE_FACTOR: u32 = 5;
/// That, too, has an end.
const LONGEST_PAUSE: Duration = Duration::from_secs(480);

/// The last comparison of everything.
#[derive(Debug, Default)]
pub struct Compared(Mutex<Option<Last>>);

#[derive(Debug, Clone, Copy)]
struct Last {
    begun: Instant,
    took: Duration,
    /// In all repositories together.
    backups: usize,
}

impl Compared {
    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        self.0.lock().expect("nothing panics while it holds the last comparison")
    }

    /// A comparison has ended; that of one deployment tells nothing about the others.
    pub(super) fn note(&self, deployment: Option<&DeploymentName>, begun: Instant, backups: usize) {
        if deployment.is_none() {
            *self.last() = Some(Last { begun, took: begun.elapsed(), backups });
        }
    }

    /// How long to wait before everything is compared again.
    pub fn pause(&self) -> Duration {
        self.last().as_ref().map_or(EVERY, Last::pause)
    }

    /// Whether the last one still answers what is asked now.
    fn answers(&self) -> bool {
        self.last().as_ref().is_some_and(|last| last.answers_after(last.begun.elapsed()))
    }
}

impl Last {
    fn pause(&self) -> Duration {
        (self.took * PAUSE_FACTOR).clamp(EVERY, LONGEST_PAUSE)
    }

    /// Until the next one has ended, with as much again for one that is slower.
    fn answers_after(&self, elapsed: Duration) -> bool {
        self.backups > COMPARED_EACH_TIME && elapsed < self.took + self.pause() + 2 * self.took
    }
}

impl App {
    /// Compares the catalog with every repository, unless that was done lately and takes long. Whether each of them
    /// answers is asked in any case.
    ///
    /// # Errors
    /// As [`App::reconcile`].
    pub async fn reconcile_lately(&self, deployment: Option<&DeploymentName>) -> Result<(), Fault> {
        if !self.compared.answers() {
            return self.reconcile(deployment).await;
        }
        let asked = self.repositories.iter().map(|place| async move {
            place.open_unless_resting().await?;
            place.check_answers().await
        });
        let mut first_fault = None;
        for answer in futures::future::join_all(asked).await {
            match answer {
                // One that does not answer is shown as such, with what is known of it.
                Ok(_) => return Ok(()),
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        first_fault.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(seconds: u64, backups: usize) -> Last {
        Last { begun: Instant::now(), took: Duration::from_secs(seconds), backups }
    }

    #[test]
    fn a_small_repository_is_compared_whenever_somebody_asks() {
        assert!(!last(1, COMPARED_EACH_TIME).answers_after(Duration::ZERO));
        assert!(last(1, COMPARED_EACH_TIME + 1).answers_after(Duration::from_secs(61)));
    }

    #[test]
    fn a_large_one_is_compared_within_a_bound() {
        for (took, pause) in [(0, 60), (3, 60), (20, 100), (1000, 480)] {
            let last = last(took, 1_000_000);
            assert_eq!(last.pause(), Duration::from_secs(pause));
            assert!(!last.answers_after(Duration::from_secs(pause + 3 * took)));
        }
    }
}
