//! A picture in Graphviz's language: `urtext lineage orders --dot | dot -Tsvg`.

use std::fmt::Write;

use super::{Begins, Drawn, History, Item, Mark, Picture, Shape, Tree, Way, text::folded};
use crate::wording::time;

pub(super) fn render(picture: &Picture) -> String {
    let mut out = Dot(String::new());
    out.line("digraph lineage {");
    let notes: Vec<_> = picture.notes.iter().map(|note| format!("{}: {}", note.label, note.text)).collect();
    let title = format!("{}, {}\n{}", picture.title, time(picture.now), notes.join("\n"));
    // A filled page, so that it reads on any background.
    out.line(&format!(
        "  graph [rankdir=LR, bgcolor=white, labelloc=t, labeljust=l, fontname=monospace, label={}];",
        lines(&title)
    ));
    out.line("  node [fontname=monospace, fontsize=10, shape=box, style=filled, fillcolor=white];");
    out.line("  edge [fontname=monospace, fontsize=9, color=gray40];");
    for (number, tree) in picture.trees.iter().enumerate() {
        out.tree(number, tree);
    }
    for (i, mark) in picture.unplaced.iter().enumerate() {
        out.mark(&format!("unplaced_{i}"), "without a position", mark);
    }
    out.line("}");
    out.0
}

struct Dot(String);

impl Dot {
    fn line(&mut self, text: &str) {
        writeln!(self.0, "{text}").expect("writing to a string cannot fail");
    }

    fn tree(&mut self, number: usize, tree: &Tree) {
        let id = |lane: usize, item: usize| format!("t{number}_{lane}_{item}");
        for (lane, items) in tree.lanes.iter().map(|lane| &lane.items).enumerate() {
            let mut before: Option<String> = None;
            for (i, item) in items.iter().enumerate() {
                let this = id(lane, i);
                match &item.drawn {
                    Drawn::History(history) => self.history(&this, history, item),
                    Drawn::Mark(mark) => self.mark(&this, &item.offset.to_string(), mark),
                    Drawn::Folded(counted) => {
                        self.line(&format!("  {this} [shape=plaintext, label={}];", lines(&folded(counted))));
                    }
                    Drawn::Branch(branch) => {
                        self.line(&format!("  {this} [shape=point, width=0.08, xlabel=\"{}\"];", item.offset));
                        let first = &tree.lanes[*branch].items[0];
                        self.edge(&this, &id(*branch, 0), first);
                    }
                }
                if let Some(before) = before {
                    self.edge(&before, &this, item);
                }
                before = Some(this);
            }
        }
    }

    fn history(&mut self, id: &str, history: &History, item: &Item) {
        let at = match history.begins {
            Begins::Unknown => String::new(),
            Begins::Forked { .. } | Begins::GoesOn => format!(" after {}", item.offset),
        };
        let when = if history.when.is_empty() { String::new() } else { format!("\n{}", history.when) };
        let label = lines(&format!("{}{at}\n{}{when}", history.name, history.words));
        let colour = match item.way {
            Way::Accepted => "\"#cfe8dc\"",
            Way::Contends => "\"#fbe3c4\"",
            Way::Beside | Way::SetAside => "gray93",
        };
        let rest = if history.begins == Begins::GoesOn { "rest of " } else { "" };
        self.line(&format!(
            "  {id} [style=\"filled,bold\", fillcolor={colour}, tooltip=\"{rest}{}\", label={label}];",
            history.id
        ));
    }

    fn mark(&mut self, id: &str, at: &str, mark: &Mark) {
        let look = match mark.shape {
            Shape::Canonical => "peripheries=2, style=\"rounded,filled\", fillcolor=\"#1a7f5a\", fontcolor=white",
            Shape::Backup => "style=\"rounded,filled\"",
            Shape::Doubtful => "style=\"rounded,dashed\"",
            Shape::Live => "fillcolor=\"#d6e6fb\"",
            Shape::Silent => "style=dashed",
            Shape::Remembered => "shape=ellipse, style=dotted",
        };
        let place = match mark.shape {
            Shape::Live | Shape::Silent => format!(" ({})", mark.place),
            Shape::Remembered => String::new(),
            Shape::Canonical | Shape::Backup | Shape::Doubtful => format!("\n{}", mark.place),
        };
        let remarks = if mark.remarks.is_empty() { String::new() } else { format!("\n{}", mark.remarks.join("\n")) };
        let label = lines(&format!("{}{place}\n{at}{remarks}\n{}", mark.name, mark.age));
        self.line(&format!("  {id} [{look}, label={label}];"));
    }

    /// The line that leads to `to`.
    fn edge(&mut self, from: &str, to: &str, item: &Item) {
        let way = match item.way {
            Way::Accepted => "penwidth=4, color=\"#1a7f5a\"",
            Way::Contends => "penwidth=2, color=\"#b45f06\"",
            Way::Beside => "penwidth=1",
            Way::SetAside => "penwidth=1, style=dashed",
        };
        let is_vague = matches!(&item.drawn, Drawn::History(h) if h.begins == Begins::Forked { is_exact: false });
        let bound = if is_vague { ", style=dotted, label=\"not exact\"" } else { "" };
        self.line(&format!("  {from} -> {to} [{way}{bound}, arrowhead=none];"));
    }
}

/// A quoted string, its lines flush left.
fn lines(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\\l\"", escaped.replace('\n', "\\l"))
}
