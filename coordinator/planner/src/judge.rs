//! Where each candidate stands. Why, in words, is made when somebody asks: see [`crate::reasons`].

use std::sync::Arc;

use urtext_types::Lineage;

use crate::{
    chart::{Bearing, Bearings, Place},
    data_as_of::DataAsOf,
    explain::explain,
    head::{find_head, find_missing},
    outcome::Outcome,
    selection::{Judged, Selection, Standing},
    situation::{Case, Situation},
    view::{ShardView, Source},
};

/// The selection that follows from the situation.
pub(crate) fn judge(view: &ShardView, lineage: &Lineage, situation: Situation) -> Selection {
    let case = Case::new(view, &situation);
    let mut candidates = Vec::with_capacity(view.candidates.len());
    // What the explanation may speak of: the others are many, and alike.
    let mut notable = Vec::new();
    for i in 0..view.candidates.len() {
        let judged = one(&case, i);
        if judged.contends || matches!(judged.standing, Standing::Ahead | Standing::Suspect | Standing::Unrelated) {
            notable.push(judged);
        }
        candidates.push(judged);
    }
    let canonical = match situation.outcome {
        Outcome::Canonical(canonical) => Some(canonical),
        _ => None,
    };
    let bearings = situation.reference.as_ref().and_then(|reference| reference.bearings.as_ref());
    let head = bearings.filter(|_| canonical.is_some()).and_then(|bearings| find_head(&case, bearings));
    let missing = bearings.zip(head.as_ref()).map(|(bearings, head)| {
        let data_as_of = DataAsOf::on(&situation.chart, &view.timeline);
        find_missing(&situation.chart, &data_as_of, bearings.place(), head)
    });
    let mut roots: Vec<_> =
        situation.extents.tips().map(|tip| situation.chart.id(situation.chart.root(tip.history))).collect();
    roots.sort_unstable();
    roots.dedup();
    let mut selection = Selection {
        verdict: situation.outcome.verdict(),
        wish: situation.wish,
        canonical,
        head,
        missing,
        candidates,
        forks: situation.forks.clone(),
        unrelated: if roots.len() > 1 { roots } else { Vec::new() },
        decided: situation.decided.clone(),
        explanation: Vec::new(),
        situation: Arc::new(situation),
    };
    selection.explanation = explain(&Case::new(view, &selection.situation), lineage, &selection, &notable);
    selection
}

fn one(case: &Case<'_>, i: usize) -> Judged {
    let Stands { mut standing, missing, excess } = stands(case, i);
    if !case.copies.eligible[i] {
        standing = Standing::Ineligible;
    } else if !case.shrunken.is_empty() && case.shrunken.contains_key(&i) {
        standing = Standing::Suspect;
    }
    Judged {
        candidate: i,
        standing,
        missing_bytes: missing,
        excess_bytes: excess,
        set_aside: case.aside[i],
        beyond: case.is_beyond(i),
        contends: case.contends(i),
    }
}

/// A standing by position alone.
struct Stands {
    standing: Standing,
    missing: Option<u64>,
    excess: Option<u64>,
}

impl Stands {
    fn new(standing: Standing, missing: Option<u64>, excess: Option<u64>) -> Self {
        Self { standing, missing, excess }
    }
}

/// How `i` stands by position, whatever else is the matter with it.
fn stands(case: &Case<'_>, i: usize) -> Stands {
    match (&case.reference, case.place(i)) {
        (Some(reference), _) if reference.candidate == i => Stands::new(Standing::Canonical, Some(0), Some(0)),
        (Some(reference), Some(place)) if let Some(bearings) = &reference.bearings => beside(case, i, place, bearings),
        (Some(reference), None) if reference.bearings.is_none() && is_of_the_run(case, i, reference.candidate) => {
            match case.candidate(i).source {
                Source::Node => Stands::new(Standing::Ahead, None, None),
                Source::Backup(_) => Stands::new(Standing::Behind, None, Some(0)),
            }
        }
        (None, Some(place)) if case.open[i] => among_tips(case, i, place),
        (None, Some(place)) if case.is_beyond(i) => beyond(case, i, place),
        (_, _) => unrelated(case, i),
    }
}

/// `i` at `place`, beside the canonical backup.
fn beside(case: &Case<'_>, i: usize, place: Place, bearings: &Bearings) -> Stands {
    match bearings.of(place) {
        Bearing::Equal => Stands::new(Standing::Equal, Some(0), Some(0)),
        Bearing::Behind { missing } => Stands::new(Standing::Behind, Some(missing), Some(0)),
        // What was set aside is not a continuation, even where nothing else goes on.
        Bearing::Ahead { excess } if case.aside[i] => Stands::new(Standing::Divergent, Some(0), Some(excess)),
        Bearing::Ahead { excess } => Stands::new(Standing::Ahead, Some(0), Some(excess)),
        Bearing::Divergent { missing, excess, .. } => Stands::new(Standing::Divergent, Some(missing), Some(excess)),
        Bearing::Unrelated => unrelated(case, i),
    }
}

/// Whether `i`, without a position, comes from the same run of the same server as the chosen one.
pub(crate) fn is_of_the_run(case: &Case<'_>, i: usize, chosen: usize) -> bool {
    let (candidate, other) = (case.candidate(i), case.candidate(chosen));
    let is_one = candidate.node == other.node && candidate.run_id == other.run_id && !other.run_id.is_empty();
    is_one && case.open[i]
}

/// No copy is chosen: `i` beside those that contend.
fn among_tips(case: &Case<'_>, i: usize, place: Place) -> Stands {
    let tip = case.extents.tip_over(place).expect("an open candidate is below a tip");
    if place != tip {
        let missing = tip.offset.bytes_since(place.offset).get();
        return Stands::new(Standing::Behind, Some(missing), Some(0));
    }
    if case.tips[&tip] != i {
        return Stands::new(Standing::Equal, Some(0), Some(0));
    }
    if case.contenders.len() == 1 {
        // Only live nodes are left, or a backup would have been chosen.
        return Stands::new(Standing::Ahead, Some(0), None);
    }
    match case.extents.shared(&case.chart, tip) {
        Some(shared) => {
            let excess = tip.offset.bytes_since(shared.offset).get();
            Stands::new(Standing::Divergent, None, Some(excess))
        }
        None => Stands::new(Standing::Unrelated, None, None),
    }
}

/// No copy is chosen, and `i` is beyond what was asked for.
fn beyond(case: &Case<'_>, i: usize, place: Place) -> Stands {
    match case.wished.as_ref().map(|wished| wished.of(place)) {
        // A time is later along whatever line.
        None | Some(Bearing::Ahead { .. }) => Stands::new(Standing::Ahead, None, None),
        Some(Bearing::Divergent { .. }) => Stands::new(Standing::Divergent, None, None),
        Some(Bearing::Equal | Bearing::Behind { .. } | Bearing::Unrelated) => unrelated(case, i),
    }
}

fn unrelated(case: &Case<'_>, i: usize) -> Stands {
    Stands::new(if is_related(case, i) { Standing::Divergent } else { Standing::Unrelated }, None, None)
}

/// Whether nothing is chosen, and `i` has a path to something that contends.
pub(crate) fn is_related(case: &Case<'_>, i: usize) -> bool {
    let root = |place: Place| case.chart.root(place.history);
    case.reference.is_none() && case.place(i).is_some_and(|place| case.tips.keys().any(|&tip| root(tip) == root(place)))
}
