//! Whether what is known of the histories is true, and whether it is all there is to know.

use urtext_types::{Evidence, Lineage, Position};

use super::{Case, Checked, Invariant, wrong};
use crate::{
    server::{HistoryNumber, Spot},
    truth::Point,
    world::Birth,
};

/// Every edge that is relied on states a fork that really was, or less of one.
pub(super) fn lineage_is_true(case: &Case<'_>) -> Checked {
    let world = case.world;
    for edge in case.trusted().edges() {
        let (Some(child), Some(parent)) = (world.number_of(edge.child), case.data_at(edge.parent)) else {
            return wrong(Invariant::LineageIsTrue, format!("{edge:?} is of histories that never were"));
        };
        let start = world.history(child).start;
        let is_true = match edge.evidence {
            Evidence::PromotedMaster | Evidence::Restore => {
                world.truth.same(parent, start) && world.history(child).offset == edge.parent.offset.get()
            }
            _ => world.truth.holds(start, parent),
        };
        if !is_true {
            let what = format!("{} did not leave {} ({:?})", edge.child.short(), edge.parent, edge.evidence);
            return wrong(Invariant::LineageIsTrue, what);
        }
    }
    Ok(())
}

impl Case<'_> {
    /// The lineage as the planner relies on it.
    pub(crate) fn trusted(&self) -> Lineage {
        self.question.view.lineage.trusted(&self.question.view.contradictions)
    }

    /// What is truly at a position.
    pub(crate) fn data_at(&self, position: Position) -> Option<Point> {
        let history = self.world.number_of(position.history)?;
        Some(self.world.data_at(Spot { history, offset: position.offset.get() }))
    }

    pub(crate) fn all_edges_are_exact(&self) -> bool {
        self.question.view.contradictions.is_empty()
            && self.question.view.lineage.edges().all(|edge| edge.evidence.is_exact() && edge.evidence.is_gapless())
    }

    /// The history where all ways to `history` begin, if every fork on the way is known exactly.
    pub(crate) fn known_root(&self, lineage: &Lineage, mut history: HistoryNumber) -> Option<HistoryNumber> {
        loop {
            let edge = lineage.edge_of(self.world.history(history).id);
            match (self.world.history(history).birth, edge) {
                (Birth::GoesOn(parent), Some(edge))
                    if edge.evidence.is_exact() && edge.parent == self.world.position(parent) =>
                {
                    history = parent.history;
                }
                (Birth::Started | Birth::Renamed, None) => return Some(history),
                _ => return None,
            }
        }
    }
}
