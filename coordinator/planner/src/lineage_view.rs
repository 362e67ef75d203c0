//! The tree of a shard's histories, drawn for a terminal.
//!
//! A history is a vertical line from its first byte down; copies sit on it by their offsets; a child
//! that leaves while its parent still holds copies branches off to the right; one that takes over
//! where its parent ends goes straight on, so that a year of clean failovers stays narrow.

use std::fmt::Write;

use urtext_types::{Offset, ReplicationId};

use crate::{
    chart::{Chart, Place},
    print::{COLUMNS, cut},
    situation::latest_decision,
    view::{ShardView, Source},
    wording::time,
};

/// Of more backups than this in a row, only the first and the last are drawn.
const BACKUPS_IN_A_ROW: usize = 4;

/// Deeper branches are drawn no further to the right.
const DEEPEST: usize = 20;

/// Every known history with the copies on it, at most a hundred columns wide.
pub fn draw_lineage(view: &ShardView) -> String {
    let lineage = view.lineage.trusted(&view.contradictions);
    let edges = lineage.edges().flat_map(|edge| [edge.child, edge.parent.history]);
    let positions = view.candidates.iter().filter_map(|candidate| candidate.position);
    let chart = Chart::new(&lineage, edges.chain(positions.map(|position| position.history)));
    let mut drawing =
        Drawing { view, lineage: &lineage, chart: &chart, marks: marks(view, &chart), out: String::new() };
    let mut roots: Vec<usize> = (0..chart.len()).filter(|&history| chart.up(history).is_none()).collect();
    roots.sort_unstable_by_key(|&root| chart.id(root));
    drawing.title();
    // An explicit stack: a chain of ten thousand histories must not be ten thousand calls deep.
    let mut stack: Vec<Todo> = roots.into_iter().rev().map(|history| Todo::History { history, depth: 0 }).collect();
    while let Some(todo) = stack.pop() {
        match todo {
            Todo::History { history, depth } => drawing.history(history, depth, &mut stack),
            Todo::Copies { from, to, history, depth } => drawing.copies(history, from, to, depth),
        }
    }
    drawing.without_position();
    drawing.contradictions();
    drawing.out
}

enum Todo {
    History {
        history: usize,
        depth: usize,
    },
    /// The marks `from..to` of a history.
    Copies {
        history: usize,
        from: usize,
        to: usize,
        depth: usize,
    },
}

/// What sits on a history, by offset; at one offset copies come before children.
enum Mark {
    Copy(usize),
    Child(usize),
}

struct Drawing<'a> {
    view: &'a ShardView,
    lineage: &'a urtext_types::Lineage,
    chart: &'a Chart,
    marks: Vec<Vec<(Offset, Mark)>>,
    out: String,
}

fn marks(view: &ShardView, chart: &Chart) -> Vec<Vec<(Offset, Mark)>> {
    let mut marks: Vec<Vec<(Offset, Mark)>> = (0..chart.len()).map(|_| Vec::new()).collect();
    for (i, candidate) in view.candidates.iter().enumerate() {
        if let Some(Place { history, offset }) = candidate.position.and_then(|position| chart.place(position)) {
            marks[history].push((offset, Mark::Copy(i)));
        }
    }
    for history in 0..chart.len() {
        if let Some(up) = chart.up(history) {
            marks[up.history].push((up.offset, Mark::Child(history)));
        }
    }
    for marks in &mut marks {
        marks.sort_unstable_by_key(|(offset, mark)| match *mark {
            Mark::Copy(i) => {
                let candidate = &view.candidates[i];
                (*offset, false, Some((candidate.source, candidate.node.clone())), None)
            }
            Mark::Child(child) => (*offset, true, None, Some(chart.id(child))),
        });
    }
    marks
}

impl Drawing<'_> {
    fn title(&mut self) {
        let accepted = latest_decision(self.view).map(|(_, decision)| decision);
        let text = match accepted {
            Some(decision) => format!(
                "{} shard {}: {} accepted {} on {}",
                self.view.deployment,
                self.view.shard,
                decision.by,
                decision.history.short(),
                time(decision.at)
            ),
            None => format!("{} shard {}", self.view.deployment, self.view.shard),
        };
        self.line(0, "", &text);
    }

    fn history(&mut self, history: usize, depth: usize, stack: &mut Vec<Todo>) {
        let id = self.chart.id(history);
        let origin = match self.lineage.edge_of(id) {
            Some(edge) => {
                let bound = if edge.evidence.is_exact() { "after offset" } else { "at or after offset" };
                format!("from {} {bound} {}", edge.parent.history.short(), edge.parent.offset)
            }
            None => "from an unknown beginning".to_owned(),
        };
        let lead = if depth == 0 { "" } else { "├─ " };
        self.line(depth.saturating_sub(1), lead, &format!("{id} {origin}{}", self.accepted(id)));
        let marks = &self.marks[history];
        // Written backwards, since the stack is read from its end.
        let mut to = marks.len();
        for (at, (_, mark)) in marks.iter().enumerate().rev() {
            let Mark::Child(child) = *mark else { continue };
            let goes_straight_on = at + 1 == marks.len();
            if at + 1 < to {
                stack.push(Todo::Copies { history, from: at + 1, to, depth });
            }
            stack.push(Todo::History { history: child, depth: if goes_straight_on { depth } else { depth + 1 } });
            to = at;
        }
        if to > 0 {
            stack.push(Todo::Copies { history, from: 0, to, depth });
        }
    }

    fn accepted(&self, id: ReplicationId) -> &'static str {
        let latest = latest_decision(self.view).map(|(_, decision)| decision);
        match latest {
            Some(decision) if decision.history == id => ", accepted",
            Some(decision) if decision.over.contains(&id) => ", set aside",
            _ => "",
        }
    }

    fn copies(&mut self, history: usize, from: usize, to: usize, depth: usize) {
        let copies: Vec<(Offset, usize)> = self.marks[history][from..to]
            .iter()
            .filter_map(|(offset, mark)| match mark {
                Mark::Copy(i) => Some((*offset, *i)),
                Mark::Child(_) => None,
            })
            .collect();
        let is_backup = |&(_, i): &(Offset, usize)| matches!(self.view.candidates[i].source, Source::Backup(_));
        let rows: Vec<_> = copies.chunk_by(|a, b| is_backup(a) && is_backup(b)).map(<[_]>::to_vec).collect();
        for row in rows {
            match row.as_slice() {
                [first, between @ .., last] if row.len() > BACKUPS_IN_A_ROW => {
                    self.copy(*first, depth);
                    self.line(depth, "│  ", &format!("{:>12}  … {} more backups", "", between.len()));
                    self.copy(*last, depth);
                }
                row => row.iter().for_each(|&copy| self.copy(copy, depth)),
            }
        }
    }

    fn copy(&mut self, (offset, i): (Offset, usize), depth: usize) {
        let candidate = &self.view.candidates[i];
        let what = match candidate.source {
            Source::Backup(id) => format!("backup {id} of {}, {}", candidate.node, candidate.site),
            Source::Node => format!("live node {}, {}", candidate.node, candidate.site),
        };
        self.line(depth, "│  ", &format!("{offset:>12}  {what}"));
    }

    fn without_position(&mut self) {
        let mut names: Vec<_> = (self.view.candidates.iter().filter(|candidate| candidate.position.is_none()))
            .map(|candidate| (candidate.source, candidate.node.clone(), candidate.site.clone()))
            .collect();
        if names.is_empty() {
            return;
        }
        names.sort_unstable();
        self.line(0, "", "without a position:");
        for (source, node, site) in names {
            let what = match source {
                Source::Backup(id) => format!("backup {id} of {node}, {site}"),
                Source::Node => format!("live node {node}, {site}"),
            };
            self.line(0, "   ", &what);
        }
    }

    fn contradictions(&mut self) {
        let mut claims: Vec<_> = self.view.contradictions.iter().flat_map(|c| [c.known, c.claimed]).collect();
        claims.sort_unstable_by_key(|edge| (edge.child, edge.parent.history, edge.parent.offset, edge.evidence));
        claims.dedup();
        for edge in claims {
            let (parent, offset) = (edge.parent.history.short(), edge.parent.offset);
            self.line(0, "! ", &format!("contradicted: {} from {parent} after offset {offset}", edge.child.short()));
        }
    }

    fn line(&mut self, depth: usize, lead: &str, text: &str) {
        let line = format!("{}{lead}{text}", "│  ".repeat(depth.min(DEEPEST)));
        writeln!(self.out, "{}", cut(line.trim_end(), COLUMNS)).expect("writing to a string cannot fail");
    }
}
