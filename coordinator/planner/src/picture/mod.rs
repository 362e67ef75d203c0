//! The tree of a shard's histories as a picture: what sits where, in words, made once and drawn by
//! three renderers: for a terminal, for Graphviz, and as one self-contained SVG.
//!
//! A [`Picture`] is made of *lanes*: straight lines on which one history follows another where a
//! node was promoted and nobody went on with what came before. A lane leaves another one at a fork.
//! The accepted path is always one straight lane, from the oldest history to the newest copy;
//! whatever went on beside it leaves it to the side. So a year of clean failovers is a line, and a
//! split brain is a line with one branch.
//!
//! Copies sit on their lane by offset. Lanes are not a timescale: offsets are exact and times are not,
//! so times are written beside what they belong to.

mod dot;
mod fold;
mod layout;
mod notes;
mod place;
mod survey;
mod svg;
mod text;
mod words;

use std::collections::BTreeSet;

use urtext_types::{Offset, ReplicationId, Timestamp};

use self::{layout::Layout, survey::Survey, words::Words};
use crate::{selection::Selection, view::ShardView};

/// How much is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Rows of old backups, chains of old histories and branches on which nothing lives are counted.
    Folded,
    /// Every history and every copy.
    All,
}

/// One shard's histories, ready to be drawn.
#[derive(Debug)]
pub struct Picture {
    /// `orders shard 0`
    title: String,
    now: Timestamp,
    trees: Vec<Tree>,
    /// Copies without a position.
    unplaced: Vec<Mark>,
    notes: Vec<Note>,
}

/// Histories that are known to belong together.
#[derive(Debug)]
struct Tree {
    /// The first lane is the trunk; a lane comes after the one that it leaves.
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    /// By offset; the first one is a [`Drawn::History`] or a [`Drawn::Folded`], the last one is never
    /// a [`Drawn::Branch`].
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    offset: Offset,
    /// Of the line that leads here.
    way: Way,
    drawn: Drawn,
}

#[derive(Debug)]
enum Drawn {
    History(History),
    Mark(Mark),
    /// Another lane of the tree leaves here.
    Branch(usize),
    Folded(Folded),
}

/// Where a history begins, or where it is taken up again beside its successor.
#[derive(Debug)]
struct History {
    id: ReplicationId,
    /// As many of its digits as tell it apart, at least eight.
    name: String,
    begins: Begins,
    /// `promoted from 75d1dd8a`
    words: String,
    /// `2026-11-22T11:59:31Z, 31 min ago`; empty where nobody knows.
    when: String,
    /// The same in short: `31 min ago`.
    ago: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// Nothing before it is known.
    Unknown,
    /// At a fork; whether that is exactly there.
    Forked { is_exact: bool },
    /// It began in the lane that this one leaves, and went on after its successor had left.
    GoesOn,
}

/// A copy, or the memory of one.
#[derive(Debug)]
struct Mark {
    shape: Shape,
    /// The backup's id, or the node.
    name: String,
    /// `fra-1 (fra)` of a backup; `fra` of a node.
    place: String,
    /// `canonical`, `rehearsed`, `part 3 is missing`: the most important first.
    remarks: Vec<String>,
    /// `data 31 min old`
    age: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Canonical,
    Backup,
    /// Suspect or ineligible.
    Doubtful,
    /// A live node whose agent is connected.
    Live,
    /// A node that cannot be asked now.
    Silent,
    /// A position that was seen once, and that no copy holds.
    Remembered,
}

/// What is not drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Folded {
    /// How many histories begin here.
    histories: usize,
    backups: usize,
    /// Remembered positions.
    remembered: usize,
    /// The greatest offset among them.
    to: Offset,
}

/// What became of a stretch of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// On the path to what is accepted.
    Accepted,
    /// A branch that may be the right one, undecided.
    Contends,
    /// Neither.
    Beside,
    /// A decision or the policy said no.
    SetAside,
}

/// A line below the picture.
#[derive(Debug)]
struct Note {
    /// `canonical`, `accepted`, `finding` …
    label: &'static str,
    text: String,
}

impl Picture {
    /// `selection` must have been made of `view`.
    pub fn of(view: &ShardView, selection: &Selection, detail: Detail) -> Self {
        let survey = Survey::of(view, selection);
        let mut layout = Layout::of(&survey);
        if detail == Detail::Folded {
            fold::fold(&survey, &mut layout);
        }
        let words = Words::of(&survey);
        let mut trees: Vec<_> = layout.trees.iter().map(|tree| words.tree(&layout, tree)).collect();
        if let [only] = trees.as_mut_slice() {
            words.name_only_root(only);
        }
        Self {
            title: format!("{} shard {}", view.deployment, view.shard),
            now: view.now,
            trees,
            unplaced: survey.unplaced().into_iter().map(|i| words.copy(i)).collect(),
            notes: notes::notes(&survey, &words),
        }
    }

    /// For a terminal, time flowing downwards, at most a hundred columns wide. Ends with a newline.
    pub fn text(&self) -> String {
        text::render(self)
    }

    /// A digraph in Graphviz's language.
    pub fn dot(&self) -> String {
        dot::render(self)
    }

    /// One SVG document without references to anything outside of it, time flowing to the right.
    pub fn svg(&self) -> String {
        svg::render(self)
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        self.trees.iter().flat_map(|tree| &tree.lanes).flat_map(|lane| &lane.items)
    }

    /// The shapes that occur, for a legend.
    fn shapes(&self) -> BTreeSet<Shape> {
        let placed = self.items().filter_map(|item| match &item.drawn {
            Drawn::Mark(mark) => Some(mark.shape),
            Drawn::History(_) | Drawn::Branch(_) | Drawn::Folded(_) => None,
        });
        placed.chain(self.unplaced.iter().map(|mark| mark.shape)).collect()
    }

    /// The ways that occur, for a legend.
    fn ways(&self) -> BTreeSet<Way> {
        self.items().map(|item| item.way).collect()
    }
}

impl Way {
    /// For the legend.
    fn meaning(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Contends => "undecided",
            Self::Beside => "beside",
            Self::SetAside => "set aside",
        }
    }
}

impl Shape {
    /// For the legend.
    fn meaning(self) -> &'static str {
        match self {
            Self::Canonical => "canonical",
            Self::Backup => "backup",
            Self::Doubtful => "suspect or ineligible",
            Self::Live => "live node",
            Self::Silent => "silent node",
            Self::Remembered => "remembered",
        }
    }
}
