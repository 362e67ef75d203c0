//! What comes of a situation, and which of several equal copies is the best.

use std::{cmp::Reverse, collections::HashMap};

use urtext_types::SiteName;

use crate::{
    chart::{Extents, Place},
    copies::Copies,
    selection::Verdict,
    situation::Contender,
    suspect::Shrunken,
    view::{ShardView, Source},
};

/// The verdict, with what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Canonical(usize),
    /// Several contend, and nobody has decided.
    Forked,
    /// The most complete backup is this one, and it is far smaller than those before it.
    OnlySuspect(usize),
    /// The order of backups without a position is not the order in which they were received.
    ClocksDisagree(usize),
    /// No backup is eligible.
    NoBackup,
    /// Eligible backups exist, all of them on branches that were set aside.
    AllSetAside,
    /// Eligible backups exist that were not set aside, all of them beyond what was asked for.
    AllBeyond,
}

impl Outcome {
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Canonical(_) => Verdict::Canonical,
            Self::Forked | Self::OnlySuspect(_) | Self::ClocksDisagree(_) => Verdict::Ambiguous,
            Self::NoBackup | Self::AllSetAside | Self::AllBeyond => Verdict::None,
        }
    }
}

/// What comes of it.
pub(crate) fn decide(
    rank: &Rank<'_>,
    copies: &Copies,
    shrunken: &HashMap<usize, Shrunken>,
    not_aside: &[bool],
    open: &[bool],
    contenders: &[Contender],
) -> Outcome {
    let Copies { places, is_backup, eligible, .. } = copies;
    let backups = |among: &[bool]| (0..places.len()).any(|i| is_backup[i] && among[i]);
    if !backups(eligible) {
        return Outcome::NoBackup;
    }
    if !backups(not_aside) {
        return Outcome::AllSetAside;
    }
    if !backups(open) {
        return Outcome::AllBeyond;
    }
    let [contender] = contenders else {
        return Outcome::Forked;
    };
    let best = match contender {
        // Along one path, later histories have greater numbers: the greatest place is the furthest.
        Contender::Tip(_) => {
            let mut best: Option<(Place, usize)> = None;
            for (i, place) in places.iter().enumerate().filter(|&(i, _)| is_backup[i] && open[i]) {
                let Some(place) = *place else { continue };
                let is_better = best.is_none_or(|(furthest, other)| {
                    place > furthest || place == furthest && rank.of(i, shrunken) > rank.of(other, shrunken)
                });
                if is_better {
                    best = Some((place, i));
                }
            }
            best.map(|(_, i)| i)
        }
        Contender::Run(run) => {
            let received = |i: usize| rank.view.candidates[i].received_at;
            let latest = run.iter().copied().rfind(|&i| is_backup[i]);
            if let Some(latest) = latest
                && run.iter().any(|&i| is_backup[i] && received(i) > received(latest))
            {
                return Outcome::ClocksDisagree(latest);
            }
            latest
        }
    };
    let best = best.expect("an open backup is on the path of the only contender");
    if shrunken.contains_key(&best) { Outcome::OnlySuspect(best) } else { Outcome::Canonical(best) }
}

/// Breaks ties between copies that hold the same: the greater is the better one.
#[derive(Debug)]
pub(crate) struct Rank<'a> {
    pub(crate) view: &'a ShardView,
    pub(crate) prefer_site: Option<&'a SiteName>,
}

impl Rank<'_> {
    fn of(&self, i: usize, shrunken: &HashMap<usize, Shrunken>) -> impl Ord + use<> {
        let candidate = &self.view.candidates[i];
        let is_near = self.prefer_site == Some(&candidate.site);
        // A source that is a backup is better than a node, which `Source` orders the other way.
        (
            !shrunken.contains_key(&i),
            matches!(candidate.source, Source::Backup(_)),
            candidate.verified,
            is_near,
            candidate.received_at,
            candidate.source,
            Reverse(candidate.node.clone()),
        )
    }
}

/// For every tip, the best of the open candidates there.
pub(crate) fn best_at_tips(
    rank: &Rank<'_>,
    copies: &Copies,
    shrunken: &HashMap<usize, Shrunken>,
    open: &[bool],
    extents: &Extents,
) -> HashMap<Place, usize> {
    let mut best: HashMap<Place, usize> = HashMap::new();
    for (i, place) in copies.places.iter().enumerate().filter(|&(i, _)| open[i]) {
        let Some(tip) = place.filter(|place| extents.own_tip(place.history) == Some(*place)) else { continue };
        let at = best.entry(tip).or_insert(i);
        if *at != i && rank.of(i, shrunken) > rank.of(*at, shrunken) {
            *at = i;
        }
    }
    best
}
