//! Many stories, one seed each.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::{
    generate::{play_seed, story},
    oracle::Wrong,
    run::Counts,
    shrink::{shrink, verdict},
    story::Story,
    words::tell,
};

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Report {
    pub deployments: u64,
    pub counts: Counts,
    /// The seed of each story that went wrong, and how; the first ones, ordered.
    pub failures: Vec<(u64, Wrong)>,
}

/// What to play.
#[derive(Debug, Clone)]
pub struct Campaign {
    pub deployments: u64,
    /// The seed of the first story; the others follow.
    pub first_seed: u64,
    pub jobs: usize,
    /// Stops when so many stories have gone wrong.
    pub failures: u64,
}

/// Seeds are handed out in pieces of this size: small against a second, large against a lock.
const PIECE: u64 = 64;

impl Campaign {
    pub fn run(&self) -> Report {
        let (next, failed, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let mut report = Report::default();
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.jobs.max(1)).map(|_| scope.spawn(|| self.work(&next, &failed, &stop))).collect();
            for worker in workers {
                report.add(worker.join().expect("a worker catches what panics in a story"));
            }
        });
        report.failures.sort_unstable_by_key(|(seed, _)| *seed);
        report
    }

    fn work(&self, next: &AtomicU64, failed: &AtomicU64, stop: &AtomicBool) -> Report {
        let mut report = Report::default();
        while !stop.load(Ordering::Relaxed) {
            let from = next.fetch_add(PIECE, Ordering::Relaxed);
            if from >= self.deployments {
                break;
            }
            for number in from..(from + PIECE).min(self.deployments) {
                let seed = self.first_seed.wrapping_add(number);
                report.deployments += 1;
                let Some(wrong) = report.play(seed) else { continue };
                report.failures.push((seed, wrong));
                if failed.fetch_add(1, Ordering::Relaxed) + 1 >= self.failures {
                    stop.store(true, Ordering::Relaxed);
                    return report;
                }
            }
        }
        report
    }
}

impl Report {
    fn play(&mut self, seed: u64) -> Option<Wrong> {
        let (run, _, result) = play_seed(seed);
        self.counts.add(&run.counts);
        result.err()
    }

    fn add(&mut self, other: Self) {
        self.deployments += other.deployments;
        self.counts.add(&other.counts);
        self.failures.extend(other.failures);
    }
}

/// The story of a seed that went wrong, cut down to what it takes.
pub fn explain(seed: u64) -> Option<(Story, Wrong, String)> {
    let story = story(seed);
    let wrong = verdict(&story)?;
    let short = shrink(&story, wrong.invariant);
    let text = tell(&short);
    let wrong = verdict(&short).unwrap_or(wrong);
    Some((short, wrong, text))
}
