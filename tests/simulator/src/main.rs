//! `cargo run -p urtext-simulator --release -- --deployments 1000000`

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use urtext_simulator::{
    campaign::{Campaign, explain},
    summary::summary,
};

const USAGE: &str = "usage: urtext-simulator [--deployments N] [--seed N] [--jobs N] [--failures N] [--explain N]

  --deployments N   how many stories are played (default 10000)
  --seed N          the seed of the first story, the others follow (default 0)
  --jobs N          on how many threads (default 2)
  --failures N      stop when so many stories have gone wrong (default 1)
  --explain N       tell so many of those in words, cut down to what it takes (default 1)
";

fn main() -> ExitCode {
    let mut campaign = Campaign { deployments: 10_000, first_seed: 0, jobs: 2, failures: 1 };
    let mut explained = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let Some(value) = arguments.next().and_then(|value| value.parse::<u64>().ok()) else { return usage() };
        match name.as_str() {
            "--deployments" => campaign.deployments = value,
            "--seed" => campaign.first_seed = value,
            "--jobs" => campaign.jobs = value as usize,
            "--failures" => campaign.failures = value,
            "--explain" => explained = value as usize,
            _ => return usage(),
        }
    }
    // What panics in a story is caught, and told with it.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let report = campaign.run();
    let mut out = io::stdout().lock();
    let mut told = write!(out, "{}", summary(&report, began.elapsed()));
    for (number, (seed, wrong)) in report.failures.iter().enumerate() {
        told = told.and_then(|()| writeln!(out, "\nseed {seed}: {:?}: {}", wrong.invariant, wrong.what));
        if let Some((_, _, text)) = (number < explained).then(|| explain(*seed)).flatten() {
            told = told.and_then(|()| write!(out, "{text}"));
        }
    }
    if told.is_err() || !report.failures.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn usage() -> ExitCode {
    // Nobody is there to be told that nobody can be told.
    let _ = io::stderr().write_all(USAGE.as_bytes());
    ExitCode::from(2)
}
