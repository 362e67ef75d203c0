//! A campaign in a page.

use std::{fmt::Write, time::Duration};

use crate::{
    campaign::Report,
    oracle::{STANDINGS, VERDICTS},
    story::KINDS,
};

/// How many of what, and how many choices were wrong.
pub fn summary(report: &Report, took: Duration) -> String {
    let (counts, answers) = (&report.counts, &report.counts.answers);
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        writeln!(text, "{what:<20} {value}").expect("writing to a string cannot fail");
    };
    let each = |names: &[&str], counts: &[u64]| -> String {
        let pairs: Vec<String> = names.iter().zip(counts).map(|(name, count)| format!("{name} {count}")).collect();
        pairs.join(" · ")
    };
    line("deployments", report.deployments.to_string());
    line("events", counts.events.iter().sum::<u64>().to_string());
    for (names, counts) in KINDS.chunks(8).zip(counts.events.chunks(8)) {
        line("", each(names, counts));
    }
    line("backups", counts.backups.to_string());
    line("verdicts", each(&VERDICTS, &answers.verdicts));
    line("standings", each(&STANDINGS, &answers.standings));
    line("with all known", answers.everything_known.to_string());
    line("wishes", format!("{}, granted {}", answers.wishes, answers.wishes_granted));
    line("named by the guard", answers.guards.to_string());
    line("data between times", answers.bracketed.to_string());
    let choices = report.failures.iter().filter(|(_, wrong)| wrong.invariant.is_a_choice()).count();
    line("wrong choices", choices.to_string());
    line("other wrong answers", (report.failures.len() - choices).to_string());
    let seconds = took.as_secs_f64();
    line("time", format!("{seconds:.1} s, {:.0} deployments/s", report.deployments as f64 / seconds));
    text
}
