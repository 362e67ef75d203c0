//! Histories laid out in lanes.
//!
//! A history stays in one lane, with one exception: where the accepted path leaves it, and it went on
//! beside its successor, the path goes straight on and the rest of the history becomes a branch.

use std::cmp::Reverse;

use urtext_types::Offset;

use super::{
    Folded, Way,
    survey::{Sits, Survey},
};

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) lanes: Vec<LaidLane>,
    /// The trunk of each tree; the accepted one first, then the one of which something was seen last.
    pub(super) trees: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct LaidLane {
    pub(super) items: Vec<Laid>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Laid {
    pub(super) offset: Offset,
    pub(super) way: Way,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// `is_rest` where it began in another lane.
    History {
        history: usize,
        is_rest: bool,
    },
    Copy(usize),
    Head(usize),
    Branch(usize),
    Folded(Folded),
}

/// A stretch of history that is still to be laid: what sits on it from the index `from` on.
struct Todo {
    lane: usize,
    history: usize,
    from: usize,
    begins_at: Offset,
}

impl Layout {
    pub(super) fn of(survey: &Survey<'_>) -> Self {
        let chart = &survey.chart;
        let mut roots: Vec<_> = (0..chart.len()).filter(|&history| chart.up(history).is_none()).collect();
        let seen = survey.last_seen();
        roots.sort_unstable_by_key(|&root| (!survey.is_on_accepted_path(root), Reverse(seen[root]), chart.id(root)));
        let mut layout = Self { lanes: Vec::new(), trees: Vec::new() };
        // A stack of its own: ten thousand forks of forks must not be ten thousand calls deep.
        let mut todo = Vec::new();
        for root in roots {
            let lane = layout.add_lane();
            layout.trees.push(lane);
            todo.push(Todo { lane, history: root, from: 0, begins_at: Offset::ZERO });
        }
        while let Some(next) = todo.pop() {
            layout.lay(survey, next, &mut todo);
        }
        layout
    }

    fn add_lane(&mut self) -> usize {
        self.lanes.push(LaidLane::default());
        self.lanes.len() - 1
    }

    /// Lays one stretch and whatever goes straight on from it; branches are left to do.
    fn lay(&mut self, survey: &Survey<'_>, todo: Todo, rest: &mut Vec<Todo>) {
        let Todo { lane, mut history, mut from, begins_at: mut offset } = todo;
        loop {
            let is_rest = from > 0;
            self.push(lane, offset, survey.way_into(history, offset, is_rest), What::History { history, is_rest });
            let sits = &survey.sits[history];
            let goes_on = straight_on(survey, history, from);
            for &(offset, what) in &sits[from..goes_on.unwrap_or(sits.len())] {
                let way = survey.way(history, offset);
                match what {
                    Sits::Copy(i) => self.push(lane, offset, way, What::Copy(i)),
                    Sits::Head(i) => self.push(lane, offset, way, What::Head(i)),
                    Sits::Child(child) => {
                        let branch = self.add_lane();
                        self.push(lane, offset, way, What::Branch(branch));
                        rest.push(Todo { lane: branch, history: child, from: 0, begins_at: offset });
                    }
                }
            }
            let Some(index) = goes_on else { return };
            let (fork, Sits::Child(child)) = sits[index] else {
                unreachable!("only children go straight on");
            };
            if index + 1 < sits.len() {
                let branch = self.add_lane();
                self.push(lane, fork, survey.way(history, fork), What::Branch(branch));
                rest.push(Todo { lane: branch, history, from: index + 1, begins_at: fork });
            }
            (history, from, offset) = (child, 0, fork);
        }
    }

    fn push(&mut self, lane: usize, offset: Offset, way: Way, what: What) {
        self.lanes[lane].items.push(Laid { offset, way, what });
    }
}

impl Survey<'_> {
    /// The way of the line that leads into a history, or into what is left of it.
    fn way_into(&self, history: usize, offset: Offset, is_rest: bool) -> Way {
        // The first byte of a history is the one after the fork.
        let follows = is_rest || self.chart.up(history).is_some();
        let first = if follows { offset.checked_add(1).unwrap_or(Offset::MAX) } else { offset };
        self.way(history, first)
    }
}

/// What of the things that sit on `history` is the child in which its lane goes on.
fn straight_on(survey: &Survey<'_>, history: usize, from: usize) -> Option<usize> {
    let sits = &survey.sits[history];
    match survey.onward(history) {
        Some(onward) if from == 0 => sits.iter().position(|&(_, what)| what == Sits::Child(onward)),
        _ => sits.len().checked_sub(1).filter(|&last| last >= from && matches!(sits[last].1, Sits::Child(_))),
    }
}
