//! Whether the times that are shown bracket the truth.
//!
//! `from`: everything that was accepted before it by those who write on after this copy is in the copy:
//! by the master of the copy's own history; and where histories part, by the masters of those that had been
//! seen beyond it by then. `to`: something that was accepted by then is not in it.

use urtext_planner::DataAsOf;
use urtext_types::{ByteCount, ForkEdge, Interval, Relation};

use super::{Case, Invariant, Wrong};

/// Returns how many candidates had both ends.
pub(super) fn data_as_of_is_true(case: &Case<'_>) -> Result<u64, Wrong> {
    let (view, truth) = (&case.question.view, &case.world.truth);
    let lineage = case.trusted();
    let data_as_of = DataAsOf::new(&lineage, &view.timeline);
    // By how much two looks of different agents may be put in the wrong order.
    let blurred = case.world.shape.nodes.iter().map(|place| place.skew_error_ms.abs()).max().unwrap_or(0) * 2;
    let mut both = 0;
    for (i, candidate) in view.candidates.iter().enumerate() {
        let Some(position) = candidate.position else { continue };
        let Interval { from, to } = data_as_of.of(position);
        both += u64::from(from.is_some() && to.is_some());
        let held = case.question.truths[i];
        if let Some(to) = to
            && truth.first_after(held).is_none_or(|first| first > to.as_millis())
        {
            let what = format!("{} is said to lack something from {to} on, and does not yet", case.name(i));
            return Err(Wrong { invariant: Invariant::DataAsOfIsTrue, what });
        }
        let Some(from) = from else { continue };
        for (number, history) in case.world.histories.iter().enumerate() {
            if !truth.holds(history.end, held) {
                continue;
            }
            let Some(missed) = truth.first_on_the_way(held, history.end) else { continue };
            // Where others are known to leave, those who were seen to go on decide.
            let own = lineage.normalize(position);
            let leaves = |edge: &ForkEdge| lineage.normalize(edge.parent) == own;
            let is_own = history.id == own.history && !lineage.edges().any(leaves);
            let noticed = || {
                let beyond = case.question.noticed.iter().filter(|(seen, _)| {
                    // What is not counted cannot be seen.
                    let relation = || lineage.relate(position, *seen);
                    seen.history == history.id
                        && matches!(relation(), Relation::Behind { missing } if missing > ByteCount::ZERO)
                });
                beyond.map(|(_, at)| *at).min()
            };
            if missed < from.as_millis()
                && (is_own || noticed().is_some_and(|noticed| noticed + blurred < from.as_millis()))
            {
                let what = format!(
                    "{} is said to be complete up to {from}, and lacks what was accepted {} ms before under {}",
                    case.name(i),
                    from.as_millis() - missed,
                    case.world.histories[number].id.short()
                );
                return Err(Wrong { invariant: Invariant::DataAsOfIsTrue, what });
            }
        }
    }
    Ok(both)
}
