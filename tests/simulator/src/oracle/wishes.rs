//! Whether what is chosen is not beyond what was asked for.

use urtext_planner::{Policy, Until, Wish, select};
use urtext_types::{Offset, Position, Timestamp};

use super::{Case, Checked, Invariant, Tally, wrong};

pub(super) fn wish_is_kept(case: &Case<'_>, policy: &Policy, rng: &mut fastrand::Rng, tally: &mut Tally) -> Checked {
    let view = &case.question.view;
    if view.candidates.is_empty() {
        return Ok(());
    }
    let some = &view.candidates[rng.usize(..view.candidates.len())];
    let until = match some.position {
        Some(position) if rng.bool() => {
            let back = rng.u64(0..150).saturating_sub(50);
            let offset = Offset::new(position.offset.get().saturating_sub(back)).expect("smaller");
            Until::Position(Position { offset, ..position })
        }
        _ => Until::Time(Timestamp::from_millis(some.received_at.as_millis() - rng.i64(-3000..10_000))),
    };
    let selection = select(view, policy, &Wish::until(until));
    tally.wishes += 1;
    let wished = Case { selection: &selection, ..*case };
    wished.most_complete()?;
    let Some(canonical) = selection.canonical else { return Ok(()) };
    tally.wishes_granted += 1;
    let (truth, chosen) = (&case.world.truth, case.question.truths[canonical]);
    let is_kept = match until {
        Until::Position(position) => wished.data_at(position).is_some_and(|limit| truth.holds(limit, chosen)),
        Until::Time(time) => truth.accepted_at(chosen) <= time.as_millis(),
    };
    if is_kept {
        Ok(())
    } else {
        wrong(Invariant::WishIsKept, format!("{} is beyond {until:?}", wished.name(canonical)))
    }
}
