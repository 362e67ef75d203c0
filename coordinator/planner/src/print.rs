//! A selection as text, at most a hundred columns wide.

use std::fmt::Write;

use crate::{
    selection::{Judged, Selection, Standing, Verdict},
    view::{ShardView, Source, Verified},
    wording::name,
};

/// What fits a terminal and a ticket.
pub(crate) const COLUMNS: usize = 100;

/// Verdict, explanation, table of candidates, reasons and forks. Ends with a newline.
pub fn print_selection(view: &ShardView, selection: &Selection) -> String {
    let mut out = String::new();
    let verdict = match selection.verdict {
        Verdict::Canonical => "canonical",
        Verdict::Ambiguous => "ambiguous",
        Verdict::None => "none",
    };
    line(&mut out, &format!("{} shard {}: {verdict}", view.deployment, view.shard));
    for sentence in &selection.explanation {
        wrap(&mut out, "  ", sentence);
    }
    if !selection.candidates.is_empty() {
        out.push('\n');
        let (ranked, reasons) = (selection.ranked(view), selection.reasons(view));
        table(&mut out, view, &ranked);
        out.push('\n');
        for judged in ranked {
            let candidate = &view.candidates[judged.candidate];
            wrap(&mut out, "  ", &format!("{}: {}", name(candidate), reasons.of(judged)));
        }
    }
    if !selection.forks.is_empty() {
        out.push('\n');
        for fork in &selection.forks {
            let ways: Vec<_> = fork.children.iter().map(|child| child.short()).collect();
            let decided = match fork.accepted {
                Some(accepted) => format!("{} was taken", accepted.short()),
                None => "undecided".to_owned(),
            };
            let (parent, offset) = (fork.parent.short(), fork.offset);
            wrap(
                &mut out,
                "  ",
                &format!("fork of {parent} after offset {offset} into {}: {decided}", ways.join(", ")),
            );
        }
    }
    out
}

fn table(out: &mut String, view: &ShardView, candidates: &[&Judged]) {
    let head = ["standing", "copy", "node", "site", "position", "lacks", "has more", "proved"].map(str::to_owned);
    let rows: Vec<[String; 8]> =
        std::iter::once(head).chain(candidates.iter().map(|judged| row(view, judged))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut widths: [usize; 8] = std::array::from_fn(width);
    // Names are up to 63 characters long; the rest is as wide as it must be.
    let spare = |widths: &[usize; 8]| (2 + widths.iter().sum::<usize>() + 2 * 7).saturating_sub(COLUMNS);
    for column in [2, 3] {
        widths[column] = widths[column].saturating_sub(spare(&widths)).max(8.min(widths[column]));
    }
    for row in rows {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{:width$}", cut(cell, width))).collect();
        line(out, &format!("  {}", cells.join("  ")));
    }
}

fn row(view: &ShardView, judged: &Judged) -> [String; 8] {
    let candidate = &view.candidates[judged.candidate];
    let standing = match judged.standing {
        Standing::Canonical => "canonical",
        Standing::Equal => "equal",
        Standing::Ahead => "ahead",
        Standing::Behind => "behind",
        Standing::Divergent => "divergent",
        Standing::Unrelated => "unrelated",
        Standing::Suspect => "suspect",
        Standing::Ineligible => "ineligible",
    };
    let number = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
    let (copy, proved) = match candidate.source {
        Source::Backup(id) => (
            id.to_string(),
            match candidate.verified {
                Verified::Never => "never",
                Verified::Stored => "stored",
                Verified::Rehearsed => "rehearsed",
            },
        ),
        Source::Node => ("live".to_owned(), "-"),
    };
    [
        standing.to_owned(),
        copy,
        candidate.node.to_string(),
        candidate.site.to_string(),
        candidate.position.map_or_else(|| "-".to_owned(), |at| format!("{}:{}", at.history.short(), at.offset)),
        number(judged.missing_bytes),
        number(judged.excess_bytes),
        proved.to_owned(),
    ]
}

/// The text, shortened to `width` characters.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

pub(crate) fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("writing to a string cannot fail");
}

/// Wraps at words; continued lines are indented by two more. What stands between backquotes is a
/// command to be copied: it stays on one line.
pub(crate) fn wrap(out: &mut String, indent: &str, text: &str) {
    let mut current = indent.to_owned();
    let mut is_empty = true;
    let mut is_command = false;
    let words = text.split(|c: char| {
        is_command ^= c == '`';
        c == ' ' && !is_command
    });
    for word in words {
        if !is_empty && current.chars().count() + 1 + word.chars().count() > COLUMNS {
            line(out, &current);
            current = format!("{indent}  ");
            is_empty = true;
        }
        if !is_empty {
            current.push(' ');
        }
        current.push_str(word);
        is_empty = false;
    }
    line(out, &current);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_wrap_at_words() {
        let mut out = String::new();
        wrap(&mut out, "  ", &"word ".repeat(40));
        assert!(out.lines().all(|line| line.chars().count() <= COLUMNS), "{out}");
        assert_eq!(out.split_whitespace().count(), 40);
        assert!(out.lines().nth(1).is_some_and(|line| line.starts_with("    word")), "{out}");
    }

    #[test]
    fn a_command_stays_on_one_line() {
        let mut out = String::new();
        wrap(&mut out, "", &format!("{} `urtext snapshot orders --node fra-1` saves it.", "x".repeat(80)));
        assert!(out.lines().any(|line| line == "  `urtext snapshot orders --node fra-1` saves it."), "{out}");
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let mut out = String::new();
        wrap(&mut out, "  ", &"x".repeat(150));
        assert_eq!(out, format!("  {}\n", "x".repeat(150)));
    }
}
