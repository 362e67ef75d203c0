//! Whether an answer could have been given.

use urtext_planner::{Standing, Verdict};

use super::{Case, Invariant, Wrong};

/// With everything known, the verdict is ambiguous only if the copies are not in one line. Returns whether
/// everything was known.
pub(super) fn not_ambiguous_without_need(case: &Case<'_>) -> Result<bool, Wrong> {
    let lineage = case.trusted();
    let open: Vec<usize> = case.open().collect();
    let mut root = None;
    for &i in &open {
        let position = case.question.view.candidates[i].position;
        let Some(history) = position.and_then(|position| case.world.number_of(position.history)) else {
            return Ok(false);
        };
        let own = case.known_root(&lineage, history);
        if own.is_none() || root.is_some() && own != root {
            return Ok(false);
        }
        root = own;
    }
    let Some(most) = open.iter().copied().find(|&most| open.iter().all(|&i| case.holds(most, i))) else {
        return Ok(true);
    };
    let furthest = open.iter().copied().filter(|&i| case.is_backup(i));
    let Some(furthest) = furthest.reduce(|a, b| if case.holds(b, a) { b } else { a }) else { return Ok(true) };
    let suspect = case.selection.candidates.iter().any(|judged| {
        judged.standing == Standing::Suspect
            && case.holds(judged.candidate, furthest)
            && case.is_backup(judged.candidate)
    });
    if case.selection.verdict == Verdict::Ambiguous && !suspect {
        let what = format!("every copy is contained in {}, and all forks are known", case.name(most));
        return Err(Wrong { invariant: Invariant::NotAmbiguousWithoutNeed, what });
    }
    Ok(true)
}
