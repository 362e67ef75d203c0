//! Situations as text files: a fleet, `---`, and the verdict as it is printed.
//!
//! `URTEXT_UPDATE=1 cargo nextest run -p urtext-planner` writes the verdicts anew; the difference is
//! then the change in behaviour, to be read line by line.

use std::{fs, path::PathBuf};

use urtext_planner::{AcceptedLoss, Detail, Picture, alarms, choose_copies, loss_guard, print_selection, select};

use urtext_types::{Interval, Timestamp};

use crate::fleet;

#[test]
fn every_scenario_prints_its_verdict() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the folder of scenarios").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 60, "{} scenarios are left of those that there were", files.len());
    // What people have reported in public.
    let reported = [
        "sentinel-promotes-the-lower-offset",
        "old-master-and-a-replica-ahead-of-the-new-master",
        "replica-of-another-shard",
        "replica-linked-at-offset-0",
        "two-masters-same-replid2",
        "crashed-master-loads-an-old-rdb",
    ];
    for name in reported {
        assert!(files.iter().any(|file| file.file_stem().is_some_and(|stem| stem == name)), "{name} is gone");
    }
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a scenario");
        let (story, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let printed = run(story);
        for line in printed.lines() {
            assert!(line.chars().count() <= 100, "{}: more than 100 columns: {line}", file.display());
        }
        if std::env::var_os("URTEXT_UPDATE").is_some() {
            fs::write(&file, format!("{story}---\n{printed}")).expect("the scenario with its verdict");
        } else if printed != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- printed\n{printed}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nURTEXT_UPDATE=1 accepts what is printed", wrong.join("\n"));
}

fn run(story: &str) -> String {
    let fleet = fleet::parse(story);
    let selection = select(&fleet.view, &fleet.policy, &fleet.wish);
    let mut printed = print_selection(&fleet.view, &selection);
    if fleet.show_lineage {
        printed.push_str(&format!("\n{}", Picture::of(&fleet.view, &selection, Detail::Folded).text()));
    }
    if fleet.show_times {
        printed.push_str("\ndata as of:\n");
        let times = selection.data_as_of(&fleet.view);
        for judged in selection.ranked(&fleet.view) {
            let candidate = &fleet.view.candidates[judged.candidate];
            let Some(position) = candidate.position else { continue };
            let end = |time: Option<Timestamp>| time.map_or("?".to_owned(), |time| time.to_string());
            let (Interval { from, to }, reason) = (times.of(position), times.reason(position, fleet.view.now));
            let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
            let (node, from, to) = (&candidate.node, end(from), end(to));
            printed.push_str(&wrapped("  ", &format!("{node} at {}: {from} to {to}{reason}", position.offset)));
        }
    }
    if fleet.show_guard {
        printed.push_str("\nmay hold more, and cannot be asked:\n");
        let guard = loss_guard(&fleet.view, &selection);
        if guard.is_empty() {
            printed.push_str("  nothing\n");
        }
        for more in guard {
            let (sentence, hint) = (&more.sentence, &more.hint);
            printed.push_str(&format!("{}{}", wrapped("  - ", sentence), wrapped("    hint: ", hint)));
            if let Some(AcceptedLoss { by, at, reason, .. }) = &more.accepted {
                printed.push_str(&wrapped("    accepted: ", &format!("by {by} on {at}: {reason}")));
            }
        }
    }
    if fleet.show_alarms {
        printed.push_str("\nalarms:\n");
        for alarm in alarms(&fleet.view, &fleet.policy, &selection) {
            let told = format!("{} {}: {}", alarm.kind.as_str(), alarm.subject, alarm.sentence);
            printed.push_str(&format!("{}{}", wrapped("  - ", &told), wrapped("    hint: ", &alarm.hint)));
        }
    }
    if let Some((copies, tried)) = fleet.show_capture {
        printed.push_str(&format!("\ncapture of {copies}:\n"));
        for choice in choose_copies(&fleet.view, &fleet.policy, copies, &tried) {
            let mark = if choice.chosen { "+" } else { "-" };
            printed.push_str(&format!("  {mark} {} ({}): {}\n", choice.node, choice.site, choice.reason));
        }
    }
    printed
}

/// A paragraph in a scenario's column width.
fn wrapped(lead: &str, text: &str) -> String {
    let (mut lines, mut line) = (String::new(), lead.to_owned());
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 && line.chars().count() + 1 + word.chars().count() > 100 {
            lines.push_str(&format!("{line}\n"));
            line = format!("      {word}");
        } else {
            line.push_str(&format!("{}{word}", if i > 0 { " " } else { "" }));
        }
    }
    format!("{lines}{line}\n")
}
