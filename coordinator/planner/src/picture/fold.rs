//! What nobody needs to see at first: counted, not drawn.
//!
//! Folded are rows of ordinary backups; and, in a large picture, chains of histories that are long
//! over, and branches on which nothing lives and nothing is left to decide. Never folded: what is
//! canonical, contends, is suspect or lives.

use urtext_types::Offset;

use super::{
    Folded, Way,
    layout::{Laid, LaidLane, Layout, What},
    survey::Survey,
};
use crate::{selection::Standing, view::Source};

/// Of more ordinary backups than this in a row, only the first and the last are drawn.
const BACKUPS_IN_A_ROW: usize = 4;

/// A picture of no more histories than this fits a screen, and is drawn whole.
const HISTORIES_DRAWN_WHOLE: usize = 12;

/// Of more quiet histories than this in a row, only the first and the last are drawn.
const HISTORIES_IN_A_ROW: usize = 3;

pub(super) fn fold(survey: &Survey<'_>, layout: &mut Layout) {
    if survey.chart.len() > HISTORIES_DRAWN_WHOLE {
        fold_dead_branches(survey, layout);
        for lane in &mut layout.lanes {
            fold_quiet_histories(survey, lane);
        }
        fold_dead_trees(survey, layout);
    }
    for lane in &mut layout.lanes {
        fold_backups(survey, lane);
    }
}

/// Whether anybody must see this.
fn matters(survey: &Survey<'_>, laid: &Laid) -> bool {
    match laid.what {
        What::Copy(i) => {
            let judged = survey.judged[i];
            let is_node = survey.view.candidates[i].source == Source::Node;
            is_node || judged.contends || matches!(judged.standing, Standing::Canonical | Standing::Suspect)
        }
        What::History { .. } => laid.way == Way::Contends,
        What::Head(_) | What::Branch(_) | What::Folded(_) => false,
    }
}

fn count(laid: &Laid) -> Folded {
    let mut folded = Folded { to: laid.offset, ..Folded::default() };
    match laid.what {
        What::History { is_rest, .. } => folded.histories = usize::from(!is_rest),
        What::Copy(_) => folded.backups = 1,
        What::Head(_) => folded.remembered = 1,
        What::Folded(inner) => folded = inner,
        What::Branch(_) => {}
    }
    folded
}

impl Folded {
    fn and(self, other: Self) -> Self {
        Self {
            histories: self.histories + other.histories,
            backups: self.backups + other.backups,
            remembered: self.remembered + other.remembered,
            to: self.to.max(other.to),
        }
    }
}

fn sum(items: &[Laid]) -> Folded {
    items.iter().map(count).fold(Folded::default(), Folded::and)
}

/// A branch with nothing that matters becomes one item of the lane that it leaves.
fn fold_dead_branches(survey: &Survey<'_>, layout: &mut Layout) {
    let is_trunk = |lane: usize, layout: &Layout| layout.trees.contains(&lane);
    // Branches are made after the lanes that they leave: backwards, the inner ones are folded first.
    let mut folded: Vec<Option<Folded>> = vec![None; layout.lanes.len()];
    for lane in (0..layout.lanes.len()).rev() {
        let mut kept: Vec<Laid> = Vec::with_capacity(layout.lanes[lane].items.len());
        for mut laid in std::mem::take(&mut layout.lanes[lane].items) {
            if let What::Branch(branch) = laid.what
                && let Some(inner) = folded[branch].take()
            {
                laid.what = What::Folded(inner);
                if let Some(Laid { what: What::Folded(before), .. }) = kept.last_mut() {
                    *before = before.and(inner);
                    continue;
                }
            }
            kept.push(laid);
        }
        let is_dead = !kept.iter().any(|laid| matches!(laid.what, What::Branch(_)) || matters(survey, laid));
        // What is one item anyway is not worth folding.
        if is_dead && kept.len() > 1 && !is_trunk(lane, layout) {
            folded[lane] = Some(sum(&kept));
        } else {
            layout.lanes[lane].items = kept;
        }
    }
}

/// A chain of histories without branches and without anything that matters: the first and the last
/// one stay.
fn fold_quiet_histories(survey: &Survey<'_>, lane: &mut LaidLane) {
    let is_start = |laid: &Laid| matches!(laid.what, What::History { .. });
    let starts: Vec<usize> = (0..lane.items.len()).filter(|&i| is_start(&lane.items[i])).collect();
    let end_of = |k: usize| starts.get(k + 1).copied().unwrap_or(lane.items.len());
    let is_quiet = |k: usize| {
        let items = &lane.items[starts[k]..end_of(k)];
        !items.iter().any(|laid| matches!(laid.what, What::Branch(_)) || matters(survey, laid))
    };
    let mut kept: Vec<Laid> = Vec::with_capacity(lane.items.len());
    let mut k = 0;
    while k < starts.len() {
        let mut quiet = 0;
        while k + quiet < starts.len() && is_quiet(k + quiet) {
            quiet += 1;
        }
        if quiet > HISTORIES_IN_A_ROW {
            let (first, last) = (k, k + quiet - 1);
            kept.extend(&lane.items[starts[first]..end_of(first)]);
            let middle = &lane.items[starts[first + 1]..starts[last]];
            kept.push(Laid { what: What::Folded(sum(middle)), ..middle[0] });
            kept.extend(&lane.items[starts[last]..end_of(last)]);
        } else {
            kept.extend(&lane.items[starts[k]..end_of(k + quiet.max(1) - 1)]);
        }
        k += quiet.max(1);
    }
    lane.items = kept;
}

/// Trees that were set aside, and on which nothing matters, are counted together.
fn fold_dead_trees(survey: &Survey<'_>, layout: &mut Layout) {
    let is_dead = |lane: usize, layout: &Layout| {
        layout.lanes[lane]
            .items
            .iter()
            .all(|laid| laid.way == Way::SetAside && !matches!(laid.what, What::Branch(_)) && !matters(survey, laid))
    };
    let (dead, mut kept): (Vec<usize>, Vec<usize>) = layout.trees.iter().partition(|&&lane| is_dead(lane, layout));
    let [first, _, ..] = dead[..] else { return };
    let folded = dead.iter().map(|&lane| sum(&layout.lanes[lane].items)).fold(Folded::default(), Folded::and);
    layout.lanes[first].items = vec![Laid { offset: Offset::ZERO, way: Way::SetAside, what: What::Folded(folded) }];
    kept.push(first);
    layout.trees = kept;
}

fn fold_backups(survey: &Survey<'_>, lane: &mut LaidLane) {
    let is_plain = |laid: &Laid| matches!(laid.what, What::Copy(_)) && !matters(survey, laid);
    let mut kept: Vec<Laid> = Vec::with_capacity(lane.items.len());
    for row in lane.items.chunk_by(|a, b| is_plain(a) && is_plain(b)) {
        match row {
            [first, between @ .., last] if row.len() > BACKUPS_IN_A_ROW => {
                let to = between.last().map_or(Offset::ZERO, |laid| laid.offset);
                let folded = Folded { backups: between.len(), to, ..Folded::default() };
                kept.extend([*first, Laid { what: What::Folded(folded), ..between[0] }, *last]);
            }
            row => kept.extend(row),
        }
    }
    lane.items = kept;
}
