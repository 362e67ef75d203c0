//! What is printed, and where: data on stdout, everything else on stderr. Colour only on a terminal.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use urtext_proto::pb;
use urtext_types::{ByteCount, Chain, Explain};

/// The width that everything fits, whatever the terminal: people paste output into tickets.
pub const WIDTH: usize = 100;

/// The streams of one command.
#[derive(Debug)]
pub struct Output {
    pub json: bool,
}

impl Output {
    /// Text for people; dropped where JSON is asked for.
    pub fn text(&self, text: impl Display) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(anstream::stdout().lock(), "{text}") }
    }

    /// The one JSON value of a command; dropped where text is asked for.
    pub fn value(&self, value: &impl Serialize) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        writeln!(io::stdout().lock(), "{text}")
    }

    /// The one JSON value of a command, an object with a list that is written while its items come: first the fields
    /// of `before`, then the list.
    pub fn list<'a>(&'a self, before: &impl Serialize, name: &'static str) -> io::Result<JsonList<'a>> {
        let before = serde_json::to_string(before).map_err(io::Error::other)?;
        Ok(JsonList { output: self, begins: join(&before, name), has_items: false })
    }

    /// A remark beside the data.
    pub fn note(&self, text: impl Display) -> io::Result<()> {
        writeln!(anstream::stderr().lock(), "{}", fitted(&text.to_string(), WIDTH).join("\n"))
    }

    /// A remark that somebody should act on.
    pub fn warning(&self, text: impl Display) -> io::Result<()> {
        write_labelled(&mut anstream::stderr().lock(), ("warning", anstyle::AnsiColor::Yellow), &text.to_string())
    }
}

/// A list in an object, see [`Output::list`]. Nothing is written before the first item, or the end.
#[derive(Debug)]
pub struct JsonList<'a> {
    output: &'a Output,
    begins: String,
    has_items: bool,
}

impl JsonList<'_> {
    pub fn item(&mut self, item: &impl Serialize) -> io::Result<()> {
        if !self.output.json {
            return Ok(());
        }
        let text = serde_json::to_string(item).map_err(io::Error::other)?;
        let before = if self.has_items { "," } else { self.begins.as_str() };
        self.has_items = true;
        write!(io::stdout().lock(), "{before}{text}")
    }

    /// Ends the list, and the object with the fields of `after`.
    pub fn end(self, after: &impl Serialize) -> io::Result<()> {
        if !self.output.json {
            return Ok(());
        }
        let after = serde_json::to_string(after).map_err(io::Error::other)?;
        let begins = if self.has_items { "" } else { self.begins.as_str() };
        let comma = if after == "{}" { "" } else { "," };
        writeln!(io::stdout().lock(), "{begins}]{comma}{}", &after[1..])
    }
}

/// The fields of an object, and the beginning of a list after them.
fn join(object: &str, list: &str) -> String {
    let fields = object.strip_suffix('}').unwrap_or(object);
    let comma = if fields == "{" { "" } else { "," };
    format!("{fields}{comma}\"{list}\":[")
}

/// `error: sentence: its causes`, and below `hint: what to do`.
pub fn print_error(error: &(impl Explain + 'static)) {
    let mut stderr = anstream::stderr().lock();
    // Nobody can be told that stderr is gone.
    let _ = write_error(&mut stderr, error);
}

fn write_error(to: &mut impl Write, error: &(impl Explain + 'static)) -> io::Result<()> {
    write_labelled(to, ("error", anstyle::AnsiColor::Red), &Chain(error).to_string())?;
    match error.hint() {
        Some(hint) => write_labelled(to, ("hint", anstyle::AnsiColor::Cyan), &hint),
        None => Ok(()),
    }
}

/// `label: text`, in as many lines as it takes to fit [`WIDTH`].
fn write_labelled(to: &mut impl Write, label: (&str, anstyle::AnsiColor), text: &str) -> io::Result<()> {
    let (label, style) = (label.0, label.1.on_default().bold());
    let indent = label.len() + 2;
    let lines = fitted(text, WIDTH - indent).join(&format!("\n{:indent$}", ""));
    writeln!(to, "{style}{label}{style:#}: {lines}")
}

/// The lines of `text`, those that are too long wrapped.
fn fitted(text: &str, width: usize) -> Vec<String> {
    let fit = |line: &str| if line.chars().count() <= width { vec![line.to_owned()] } else { wrap(line, width) };
    text.lines().flat_map(fit).collect()
}

/// Columns with a heading; the last one wraps, so that a row fits [`WIDTH`].
#[derive(Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    ends_in_names: bool,
    /// Of pages that were printed already.
    widths: Vec<usize>,
}

impl Table {
    pub fn new<const N: usize>(heading: [&'static str; N]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new(), ends_in_names: false, widths: Vec::new() }
    }

    /// The last column holds names of keys: a space is part of them, and one that is too long is cut off. `--json`
    /// tells them whole.
    pub fn of_names<const N: usize>(heading: [&'static str; N]) -> Self {
        Self { ends_in_names: true, ..Self::new(heading) }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.heading.len());
        self.rows.push(cells.to_vec());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows since the last page, under those that were printed: no column becomes narrower, and only the first
    /// page has the heading.
    pub fn page(&mut self) -> String {
        let text = self.to_string();
        self.widths = self.widths();
        self.rows.clear();
        text
    }

    /// Of all columns but the last.
    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            let before = self.widths.get(column).copied();
            cells.chain([self.heading[column].len()]).chain(before).max().unwrap_or(0)
        };
        (0..self.heading.len() - 1).map(width).collect()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.heading.len() - 1;
        let widths = self.widths();
        let indent: usize = widths.iter().map(|width| width + 2).sum();
        // Names may be 63 characters long: then the last column keeps a readable rest, and rows are longer.
        let room = WIDTH.saturating_sub(indent).max(24);
        let bold = anstyle::Style::new().bold();
        let mut lines = Vec::new();
        let head: Vec<String> = self.heading.iter().map(|&text| text.to_owned()).collect();
        let is_first_page = self.widths.is_empty();
        let rows = std::iter::once(&head).filter(|_| is_first_page).chain(&self.rows);
        for (index, row) in rows.enumerate() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            let parts = if self.ends_in_names { vec![cut(&row[last], room)] } else { wrap(&row[last], room) };
            for (part, text) in parts.into_iter().enumerate() {
                if part > 0 {
                    lines.push(line);
                    line = " ".repeat(indent);
                }
                line.push_str(&text);
            }
            let line_end = line.trim_end();
            lines.push(if index == 0 && is_first_page {
                format!("{bold}{line_end}{bold:#}")
            } else {
                line_end.to_owned()
            });
        }
        f.write_str(&lines.join("\n"))
    }
}

/// `text`, or as much of its beginning as fits `width` with a mark that there is more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// `text` in lines of at most `width` characters, broken at spaces; a longer word has a line of its own. What
/// stands between backquotes is a command to be copied: it stays on one line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut is_command = false;
    let words = text.split(|c: char| {
        is_command ^= c == '`';
        c == ' ' && !is_command
    });
    for word in words {
        let line = lines.last_mut().expect("begins with one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A bar on a terminal; otherwise one line for each phase.
pub struct Progress {
    bar: Option<ProgressBar>,
    phase: String,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length();
            let style = ProgressStyle::with_template("{spinner} {msg:12} {bytes} {binary_bytes_per_sec} {elapsed}");
            bar.set_style(style.expect("the template is a constant"));
            bar
        });
        Self { bar, phase: String::new() }
    }

    pub fn update(&mut self, progress: &pb::TaskPhase) -> io::Result<()> {
        let pb::TaskPhase { phase, bytes_done, bytes_total } = progress;
        if let Some(bar) = &self.bar {
            if let Some(total) = bytes_total {
                bar.set_length(*total);
            }
            bar.set_message(phase.clone());
            bar.set_position(*bytes_done);
        } else if self.phase != *phase {
            match bytes_total {
                Some(total) => writeln!(io::stderr().lock(), "{phase} ({})", ByteCount::new(*total))?,
                None => writeln!(io::stderr().lock(), "{phase}")?,
            }
        }
        self.phase.clone_from(phase);
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::ErrorKind;

    use super::*;
    use crate::Fault;

    #[test]
    fn an_error_is_one_sentence_with_its_causes_and_a_hint() {
        let cause = Fault::new(ErrorKind::Exhausted, "the disk is full").with_hint("make room");
        let error = Fault::while_doing("ship part 3")(cause);
        let mut printed = Vec::new();
        write_error(&mut anstream::StripStream::new(&mut printed), &error).expect("a vector");
        assert_eq!(
            String::from_utf8(printed).expect("text"),
            "error: ship part 3: the disk is full\nhint: make room\n"
        );
    }

    #[test]
    fn a_long_error_is_in_lines_that_fit() {
        let error = Fault::new(ErrorKind::Integrity, "too much is wrong here ".repeat(9)).with_hint("look again");
        let mut printed = Vec::new();
        write_error(&mut anstream::StripStream::new(&mut printed), &error).expect("a vector");
        let printed = String::from_utf8(printed).expect("text");
        let lines: Vec<&str> = printed.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{printed}");
        assert!(lines[0].starts_with("error: too") && lines[1].starts_with("       "), "{printed}");
        assert_eq!(lines.last(), Some(&"hint: look again"));
    }

    #[test]
    fn a_command_stays_on_one_line() {
        assert_eq!(wrap("say `urtext snapshot orders` now", 24), ["say", "`urtext snapshot orders`", "now"]);
    }

    #[test]
    fn names_are_cut_off_and_never_broken() {
        let mut table = Table::of_names(["KEYS", "PREFIX"]);
        table.row(["1".to_owned(), "a b c".repeat(40)]);
        table.row(["2".to_owned(), "é".repeat(94)]);
        let printed = anstream::adapter::strip_str(&table.to_string()).to_string();
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines.len(), 3, "{printed}");
        assert_eq!(lines[1].chars().count(), WIDTH);
        assert!(lines[1].ends_with('…'));
        assert!(lines[2].ends_with('é'));
    }

    #[test]
    fn pages_of_a_table_are_one_table() {
        let mut table = Table::new(["ID", "NODE", "REMARK"]);
        table.row(["01K".to_owned(), "fra".to_owned(), String::new()]);
        let first = anstream::adapter::strip_str(&table.page()).to_string();
        assert!(table.is_empty());
        table.row(["02".to_owned(), "nyc-1".to_owned(), "late".to_owned()]);
        assert_eq!(first, "ID   NODE  REMARK\n01K  fra");
        assert_eq!(table.page(), "02   nyc-1  late");
        table.row(["03".to_owned(), "a".to_owned(), "b".to_owned()]);
        assert_eq!(table.page(), "03   a      b");
    }

    #[test]
    fn a_list_is_joined_to_the_fields_before_it() {
        assert_eq!(join("{}", "backups"), "{\"backups\":[");
        assert_eq!(join("{\"dry_run\":true}", "shards"), "{\"dry_run\":true,\"shards\":[");
    }

    #[test]
    fn tables_fit_and_wrap_in_the_last_column() {
        let mut table = Table::new(["ID", "REASON"]);
        table.row(["01K".to_owned(), "lacks ".repeat(30).trim_end().to_owned()]);
        table.row(["02".to_owned(), "none".to_owned()]);
        let printed = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert!(printed.lines().all(|line| line.chars().count() <= WIDTH), "{printed}");
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[0], "ID   REASON");
        assert!(lines[2].starts_with("     lacks"), "{printed}");
        assert_eq!(lines.last(), Some(&"02   none"));
    }
}
