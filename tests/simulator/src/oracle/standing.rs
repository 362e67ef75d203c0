//! Whether what is said of each candidate is true of what it holds.

use urtext_planner::{Judged, Standing};

use super::{Case, Checked, Invariant, wrong};

/// Standings, and byte counts.
pub(super) fn standings_are_true(case: &Case<'_>) -> Checked {
    let Some(canonical) = case.selection.canonical else { return Ok(()) };
    let exact = case.all_edges_are_exact();
    // Of copies without positions, nobody can say whether anything was written between them.
    let is_placed = |i: usize| case.question.view.candidates[i].position.is_some();
    for judged in &case.selection.candidates {
        let i = judged.candidate;
        let (is_in, is_over) = (case.holds(canonical, i), case.holds(i, canonical) || case.holds_by_now(i, canonical));
        let is_true = match judged.standing {
            Standing::Canonical => i == canonical,
            Standing::Equal => is_in && is_over,
            Standing::Behind => is_in && (!is_over || !exact || !is_placed(i)),
            Standing::Ahead => is_over && (!is_in || !exact || !is_placed(i)),
            Standing::Divergent => !exact || judged.set_aside || !is_in && !is_over,
            Standing::Unrelated | Standing::Suspect | Standing::Ineligible => true,
        };
        if !is_true {
            let what = format!("{} is said to be {:?} to {}", case.name(i), judged.standing, case.name(canonical));
            return wrong(Invariant::StandingIsTrue, what);
        }
        bytes_are_true(case, judged, canonical, exact)?;
    }
    Ok(())
}

fn bytes_are_true(case: &Case<'_>, judged: &Judged, canonical: usize, exact: bool) -> Checked {
    let (truth, i) = (&case.world.truth, judged.candidate);
    let (own, chosen) = (case.question.truths[i], case.question.truths[canonical]);
    let Some(common) = truth.common(own, chosen) else { return Ok(()) };
    let missing = truth.total(chosen) - truth.total(common);
    let excess = truth.total(own) - truth.total(common);
    // Across a fork of which only a lower bound is known, both are said to be at least so many. What a
    // server did not count is in neither.
    let fits = |said: Option<u64>, truly: u64| match said {
        Some(said) if exact => said == truly,
        Some(said) => !matches!(judged.standing, Standing::Behind | Standing::Ahead | Standing::Equal) || said <= truly,
        None => true,
    };
    if fits(judged.missing_bytes, missing) && fits(judged.excess_bytes, excess) {
        return Ok(());
    }
    let what = format!(
        "{} is said to lack {:?} and to have {:?} more, and lacks {missing} and has {excess} more than {}",
        case.name(i),
        judged.missing_bytes,
        judged.excess_bytes,
        case.name(canonical)
    );
    wrong(Invariant::StandingIsTrue, what)
}

/// What is suspect is far smaller than a backup before it; what is chosen is not.
pub(super) fn shrunken_is_suspect(case: &Case<'_>) -> Checked {
    let candidates = &case.question.view.candidates;
    // The defaults of the policy.
    let is_shrunken =
        |i: usize, from: usize| candidates[from].keys >= 100 && candidates[i].keys * 100 < candidates[from].keys * 50;
    let before = |i: usize| (0..candidates.len()).filter(move |&b| case.is_backup(b) && case.holds(i, b));
    for judged in &case.selection.candidates {
        let i = judged.candidate;
        if judged.standing == Standing::Suspect
            && candidates[i].position.is_some()
            && !before(i).any(|from| is_shrunken(i, from))
        {
            let what = format!("{} is held back, and no backup before it held more", case.name(i));
            return wrong(Invariant::ShrunkenIsSuspect, what);
        }
    }
    let Some(canonical) = case.selection.canonical else { return Ok(()) };
    let lineage = case.trusted();
    let root = |i: usize| {
        let history = case.world.number_of(candidates[i].position?.history)?;
        case.known_root(&lineage, history)
    };
    let own = root(canonical);
    let from = before(canonical).find(|&from| is_shrunken(canonical, from) && own.is_some() && root(from) == own);
    match from.filter(|_| case.question.view.vouched.is_empty()) {
        Some(from) => {
            let what = format!("{} was chosen, and {} held far more", case.name(canonical), case.name(from));
            wrong(Invariant::ShrunkenIsSuspect, what)
        }
        None => Ok(()),
    }
}
