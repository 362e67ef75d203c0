//! Ten thousand deployments in every run; a million by
//! `cargo run -p urtext-simulator --release -- --deployments 1000000`.

use std::time::{Duration, Instant};

use urtext_simulator::{
    campaign::{Campaign, explain},
    oracle::{STANDINGS, VERDICTS},
    story::KINDS,
    summary::summary,
};

const DEPLOYMENTS: u64 = 10_000;

#[test]
fn no_answer_is_wrong_in_ten_thousand_deployments() {
    let began = Instant::now();
    let campaign = Campaign { deployments: DEPLOYMENTS, first_seed: 0, jobs: 2, failures: 1 };
    let report = campaign.run();
    let summary = summary(&report, began.elapsed().max(Duration::from_millis(1)));
    if let Some((seed, wrong)) = report.failures.first() {
        let story = explain(*seed).map(|(_, _, story)| story).unwrap_or_default();
        panic!("seed {seed}: {:?}: {}\n{story}\n{summary}", wrong.invariant, wrong.what);
    }
    // An answer that was never asked for is not right, only unknown.
    let often = |what: &str, names: &[&str], counts: &[u64]| {
        for (name, count) in names.iter().zip(counts) {
            assert!(*count >= DEPLOYMENTS / 100, "{what} {name}: only {count}\n{summary}");
        }
    };
    let answers = &report.counts.answers;
    often("event", &KINDS, &report.counts.events);
    often("verdict", &VERDICTS, &answers.verdicts);
    often("standing", &STANDINGS, &answers.standings);
    let others = [answers.wishes_granted, answers.guards, answers.everything_known, answers.bracketed];
    often("answer", &["a wish granted", "a loss named", "all known", "data between times"], &others);
}
