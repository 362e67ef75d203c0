//! A picture for a terminal: one row for each history and each copy, oldest first, lanes to the left.

use std::fmt::Write;

use super::{Begins, Drawn, Folded, Item, Mark, Picture, Shape, Tree, Way, words::step};
use crate::{
    print::COLUMNS,
    wording::{count, time},
};

/// Lanes further to the right are drawn in the last column: what they leave is written beside them.
const DEEPEST: usize = 8;

/// As wide as a backup's id.
const NAME: usize = 26;

#[derive(Default)]
struct Row {
    graph: String,
    /// The graph of the lines below, where the text needs more than one.
    below: String,
    offset: String,
    step: String,
    text: String,
    age: String,
}

pub(super) fn render(picture: &Picture) -> String {
    let mut blocks: Vec<Vec<Row>> = picture.trees.iter().map(rows).collect();
    if !picture.unplaced.is_empty() {
        let heading = Row { text: "without a position:".to_owned(), ..Row::default() };
        let marks = picture.unplaced.iter().map(|mark| Row {
            graph: glyph(mark.shape).to_string(),
            text: copy(mark),
            age: mark.age.clone(),
            ..Row::default()
        });
        blocks.push(std::iter::once(heading).chain(marks).collect());
    }
    let mut out = format!("{}, {}\n", picture.title, time(picture.now));
    write_blocks(&mut out, &blocks);
    out.push('\n');
    let label = picture.notes.iter().map(|note| note.label.len()).max().unwrap_or(0);
    for note in &picture.notes {
        for (i, text) in wrap(&note.text, COLUMNS - label - 2).iter().enumerate() {
            line(&mut out, &format!("{:label$}  {text}", if i == 0 { note.label } else { "" }));
        }
    }
    let legend = legend(picture);
    if !legend.is_empty() {
        out.push('\n');
    }
    // A sign and its meaning stay together.
    let mut row = String::new();
    for part in legend {
        if !row.is_empty() && row.chars().count() + 3 + part.chars().count() > COLUMNS {
            line(&mut out, &std::mem::take(&mut row));
        }
        row.push_str(if row.is_empty() { "" } else { "   " });
        row.push_str(&part);
    }
    if !row.is_empty() {
        line(&mut out, &row);
    }
    out
}

fn write_blocks(out: &mut String, blocks: &[Vec<Row>]) {
    let width =
        |cell: fn(&Row) -> &str| blocks.iter().flatten().map(|row| cell(row).chars().count()).max().unwrap_or(0);
    let (graph, offset, step) = (width(|row| &row.graph), width(|row| &row.offset), width(|row| &row.step));
    let age = width(|row| &row.age);
    let before = |graph_of: &str, row: Option<&Row>| {
        let (at, by) = row.map_or(("", ""), |row| (&row.offset, &row.step));
        let step_column = if step > 0 { format!(" {by:>step$}") } else { String::new() };
        format!("{graph_of:graph$} {at:>offset$}{step_column}  ")
    };
    let indent = before("", None).chars().count();
    let room = COLUMNS - indent - age - 2;
    let wrapped = |row: &Row| wrap(&row.text, if row.age.is_empty() { COLUMNS - indent } else { room });
    let text = blocks.iter().flatten().filter(|row| !row.age.is_empty()).flat_map(wrapped);
    let text = text.map(|text| text.chars().count()).max().unwrap_or(0);
    for block in blocks {
        out.push('\n');
        for row in block {
            for (i, part) in wrapped(row).iter().enumerate() {
                if i == 0 {
                    line(out, &format!("{}{part:text$}  {:>age$}", before(&row.graph, Some(row)), row.age));
                } else {
                    line(out, &format!("{}{part}", before(&row.below, None)));
                }
            }
        }
    }
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", text.trim_end()).expect("writing to a string cannot fail");
}

fn rows(tree: &Tree) -> Vec<Row> {
    let mut rows = Vec::new();
    // The lanes that are open, and the next item of each: a stack of its own, however deep they go.
    let mut open = vec![(0, 0)];
    while let Some(&mut (lane, ref mut next)) = open.last_mut() {
        let items = &tree.lanes[lane].items;
        let Some(item) = items.get(*next) else {
            open.pop();
            continue;
        };
        let before = next.checked_sub(1).map(|before| &items[before]);
        let is_last = *next + 1 == items.len();
        *next += 1;
        let mut left = String::new();
        for &(lane, next) in open[..open.len() - 1].iter().take(DEEPEST - 1) {
            left.push(line_of(tree.lanes[lane].items.get(next)));
            left.push(' ');
        }
        let onward = line_of(items.get(open.last().expect("it was not popped").1));
        if let Drawn::Branch(branch) = item.drawn {
            let beside = &tree.lanes[branch].items;
            let first = beside.first().expect("a lane holds at least a history");
            let graph = format!("{left}{}", leaves(item, first, beside.len() == 1));
            let below = format!("{left}{onward} {}", line_of(beside.get(1)));
            rows.push(row(first, before, graph, below));
            open.push((branch, 1));
        } else {
            let graph = format!("{left}{}", on_line(item, before.is_none(), is_last));
            rows.push(row(item, before, graph, format!("{left}{onward}")));
        }
    }
    rows
}

fn row(item: &Item, before: Option<&Item>, graph: String, below: String) -> Row {
    // Nobody knows how far the first copy is from the beginning.
    let is_first =
        before.is_none_or(|before| matches!(&before.drawn, Drawn::History(h) if h.begins == Begins::Unknown));
    let offset = item.offset.to_string();
    let step = match before {
        Some(before) if !is_first && before.offset < item.offset => step(before.offset, item.offset),
        _ => String::new(),
    };
    let row = Row { graph, below, ..Row::default() };
    match &item.drawn {
        Drawn::History(history) => {
            let when = if history.when.is_empty() { String::new() } else { format!(", {}", history.when) };
            let text = format!("{}  {}{when}", history.name, history.words);
            match history.begins {
                Begins::Unknown => Row { text, ..row },
                Begins::Forked { .. } | Begins::GoesOn => Row { text, offset, step, ..row },
            }
        }
        Drawn::Mark(mark) => Row { text: copy(mark), age: mark.age.clone(), offset, step, ..row },
        Drawn::Folded(folded) => Row { text: self::folded(folded), ..row },
        Drawn::Branch(_) => unreachable!("a branch is drawn by the first item of its lane"),
    }
}

fn copy(mark: &Mark) -> String {
    let remarks = mark.remarks.join(", ");
    match mark.shape {
        Shape::Canonical | Shape::Backup | Shape::Doubtful => {
            format!("{:NAME$}  {}  {remarks}", mark.name, mark.place)
        }
        Shape::Live | Shape::Silent => {
            format!("{:NAME$}  {remarks}", format!("{} ({})", mark.name, mark.place))
        }
        Shape::Remembered => format!("{:NAME$}  {remarks}", mark.name),
    }
}

/// `… 12 histories with 34 backups, up to offset 56789 (--all)`
pub(super) fn folded(folded: &Folded) -> String {
    let backups = count(folded.backups, "backup", "backups");
    if folded.histories == 0 {
        return format!("… {backups} more");
    }
    let histories = count(folded.histories, "history", "histories");
    format!("… {histories} with {backups}, up to offset {} (--all)", folded.to)
}

fn line_of(next: Option<&Item>) -> char {
    match next.map(|next| next.way) {
        None => ' ',
        Some(Way::Accepted) => '┃',
        Some(Way::SetAside) => '┊',
        Some(Way::Contends | Way::Beside) => '│',
    }
}

/// What stands in the lane itself.
fn on_line(item: &Item, is_first: bool, is_last: bool) -> char {
    let is_accepted = item.way == Way::Accepted;
    match &item.drawn {
        Drawn::Mark(mark) => glyph(mark.shape),
        Drawn::Folded(_) => '⋮',
        Drawn::History(_) if is_first && is_last => '╶',
        Drawn::History(_) if is_first => {
            if is_accepted {
                '╻'
            } else {
                '╷'
            }
        }
        Drawn::History(history) => match (history.begins, is_accepted) {
            (Begins::Forked { is_exact: false }, true) => '┇',
            (Begins::Forked { is_exact: false }, false) => '┆',
            (_, true) => '┣',
            (_, false) => '├',
        },
        Drawn::Branch(_) => unreachable!("a branch is drawn by the first item of its lane"),
    }
}

/// The row in which a lane leaves another one.
fn leaves(from: &Item, first: &Item, is_alone: bool) -> String {
    let is_exact = !matches!(&first.drawn, Drawn::History(h) if h.begins == Begins::Forked { is_exact: false });
    let tick = if from.way == Way::Accepted { '┠' } else { '├' };
    let across = if is_exact { '─' } else { '┄' };
    let corner = match first.drawn {
        Drawn::Folded(_) => '⋯',
        _ if is_alone => '╴',
        _ => '╮',
    };
    format!("{tick}{across}{corner}")
}

fn glyph(shape: Shape) -> char {
    match shape {
        Shape::Canonical => '★',
        Shape::Backup => '●',
        Shape::Doubtful => '◌',
        Shape::Live => '◆',
        Shape::Silent => '◇',
        Shape::Remembered => '○',
    }
}

/// What the signs mean that were used.
fn legend(picture: &Picture) -> Vec<String> {
    let shapes = picture.shapes().into_iter().map(|shape| format!("{} {}", glyph(shape), shape.meaning()));
    let mut parts: Vec<_> = shapes.collect();
    for way in picture.ways() {
        match way {
            Way::Accepted => parts.push(format!("┃ {}", way.meaning())),
            Way::SetAside => parts.push(format!("┊ {}", way.meaning())),
            Way::Contends | Way::Beside => {}
        }
    }
    let is_vague = |item: &Item| matches!(&item.drawn, Drawn::History(history) if history.begins == Begins::Forked { is_exact: false });
    if picture.items().any(is_vague) {
        parts.push("┄ ┆ not exact".to_owned());
    }
    parts
}

/// Lines of at most `width` characters, broken at spaces. What stands between backquotes is a command to
/// be copied: it stays on one line, if it fits one.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut is_command = false;
    let words = text.split(|c: char| {
        is_command ^= c == '`';
        c == ' ' && !is_command
    });
    for word in words {
        let line = lines.last_mut().expect("begins with one");
        let (used, more) = (line.chars().count(), word.chars().count());
        if used > 0 && used + 1 + more <= width {
            line.push(' ');
            line.push_str(word);
            continue;
        }
        if used > 0 {
            lines.push(String::new());
        }
        for c in word.chars() {
            if lines.last().is_some_and(|line| line.chars().count() == width) {
                lines.push(String::new());
            }
            lines.last_mut().expect("begins with one").push(c);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_its_column_and_nothing_is_lost() {
        let check = |text: &str, expect: &[&str]| assert_eq!(wrap(text, 10), expect);
        check("", &[""]);
        check("one two three", &["one two", "three"]);
        check("abcdefghijklm no", &["abcdefghij", "klm no"]);
        check("x `a b c` y", &["x `a b c`", "y"]);
        check("run `a b` now", &["run `a b`", "now"]);
    }
}
