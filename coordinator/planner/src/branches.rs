//! Forks, and what an operator's decision about one does.
//!
//! # What a decision means
//!
//! `accept-lineage D h` says that the writes of history `h` are the right ones. Accepted are then
//! `h`, its ancestors up to where the path to `h` leaves them, and everything that descends from
//! `h`. Set aside is what was known to be elsewhere: the record of the decision names those histories
//! ([`crate::AcceptedLineage::over`], made by [`set_aside_by`]), and they stay set aside, however far
//! they are still written, with all that descends from them.
//!
//! A decision decides about what the person saw, and nothing else. A fork that appears *later*,
//! below `h` or beside it, has writes that nobody has weighed: it makes the verdict ambiguous again.
//!
//! # Several decisions
//!
//! A decision holds until a later one accepts what it had set aside: then the person has changed her
//! mind about it, and all of it is void ([`Decisions`]). Otherwise both hold: who decides about
//! another fork says nothing about this one. In particular, a later decision for a parent of both
//! branches does not let back in the one that was given up, and neither does one that was made while
//! the repository that holds that branch could not be asked.
//!
//! For example: the master writes `P`; `C` is promoted at offset 615 while `P` goes on to 678.
//!
//! ```text
//! P ──────── 615 ── 678
//!             └──── C ── 669
//! ```
//!
//! - `accept C` sets `P` aside: of `P`, what is at or below 615 is still on the accepted path.
//! - `accept P` sets `C` aside. That is why the record names what it decided against: `C` descends
//!   from `P` just as a replica does that is promoted at 700 next month, and that one is welcome.
//! - After `accept C`, a replica that holds `C` only up to 650 is promoted as `E` when `C` is at 700:
//!   a new fork, between `C` and `E`. Silently keeping `C` would lose what `E` goes on to write.
//! - After `accept C`, a node promoted from `P` at 600 shows up as `Q`: nobody weighed `Q`, so the
//!   verdict is ambiguous.
//! - After `accept C` and then `accept P`, the first one is void: `C` is set aside, and `P` is not.
//!
//! Copies without a position have no history to name: a decision sets aside those that had been
//! received when it was made.

use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Offset, ReplicationId};

use crate::{
    chart::{Bearings, Chart, Extents, Place},
    selection::Fork,
    view::{AcceptedLineage, ShardView},
};

/// Which histories a decision for `history`, made now, sets aside: for [`AcceptedLineage::over`].
///
/// What earlier decisions have given up stays so, unless this one overrules them: it is not weighed again.
///
/// # Errors
/// Nothing is known of `history`, or no copy is on it: then there is nothing to accept.
pub fn set_aside_by(view: &ShardView, history: ReplicationId) -> Result<Vec<ReplicationId>, AcceptRefusal> {
    let lineage = view.lineage.trusted(&view.contradictions);
    let positions = view.candidates.iter().filter(|c| c.is_eligible()).filter_map(|c| c.position);
    let on_copies = positions.clone().map(|position| position.history);
    let chart = Chart::new(&lineage, on_copies.chain(named(&view.accepted)));
    let places: Vec<Place> = positions.filter_map(|position| chart.place(position)).collect();
    let Some(number) = chart.number(history) else {
        let is_known = lineage.edges().any(|edge| edge.child == history || edge.parent.history == history);
        return Err(if is_known {
            AcceptRefusal::NothingOnIt { history }
        } else {
            AcceptRefusal::UnknownHistory { history }
        });
    };
    if !Extents::of(&chart, places.iter().copied()).reaches(number) {
        return Err(AcceptRefusal::NothingOnIt { history });
    }
    let before = Decisions::before(&chart, &view.accepted, Some(number));
    let extents = Extents::of(&chart, places.into_iter().filter(|&place| !before.hold_aside(place)));
    let mut over: Vec<_> = rivals(&chart, &extents, number).into_iter().map(|rival| chart.id(rival)).collect();
    over.sort_unstable();
    Ok(over)
}

/// A history that cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AcceptRefusal {
    #[error("history {history} is not known here")]
    UnknownHistory { history: ReplicationId },
    #[error("no backup and no live node holds anything of history {history}")]
    NothingOnIt { history: ReplicationId },
}

impl Explain for AcceptRefusal {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NotFound
    }

    fn hint(&self) -> Option<String> {
        Some("`urtext lineage` shows the histories and what each of them holds".to_owned())
    }
}

/// The histories of the tips that `accepted` does not lead to.
pub(crate) fn rivals(chart: &Chart, extents: &Extents, accepted: usize) -> Vec<usize> {
    let way = Bearings::new(chart, Place { history: accepted, offset: Offset::MAX });
    // Where the accepted history has a tip of its own, its children are rivals; where it ends in
    // its children, they are its continuation.
    let goes_on_itself = extents.own_tip(accepted).is_some();
    let mut rivals = Vec::new();
    let mut seen = vec![false; chart.len()];
    for tip in extents.tips() {
        let beside: Vec<_> = chart.path(tip).take_while(|&stretch| !way.holds(stretch)).collect();
        let leaves = beside.last().and_then(|first| chart.up(first.history));
        if leaves.is_some_and(|at| at.history == accepted) && !goes_on_itself {
            continue;
        }
        for stretch in beside {
            if !std::mem::replace(&mut seen[stretch.history], true) {
                rivals.push(stretch.history);
            }
        }
    }
    rivals
}

/// What a decision sets aside, ready to be asked about any place.
#[derive(Debug)]
pub(crate) struct Aside {
    way: Bearings,
    is_rival: Vec<bool>,
    /// Whether what a history begins with is set aside already.
    from_the_start: Vec<bool>,
}

impl Aside {
    pub(crate) fn new(chart: &Chart, accepted: usize, rivals: impl Iterator<Item = usize>) -> Self {
        let way = Bearings::new(chart, Place { history: accepted, offset: Offset::MAX });
        let mut aside = Self { way, is_rival: vec![false; chart.len()], from_the_start: vec![false; chart.len()] };
        for rival in rivals {
            aside.is_rival[rival] = true;
        }
        for history in 0..chart.len() {
            aside.from_the_start[history] = chart.up(history).is_some_and(|up| aside.holds(up));
        }
        aside
    }

    /// The chart must have been made with the histories that the decision names.
    pub(crate) fn by_operator(chart: &Chart, decision: &AcceptedLineage) -> Self {
        let accepted = chart.number(decision.history).expect("the chart holds what the decision names");
        Self::new(chart, accepted, decision.over.iter().filter_map(|&history| chart.number(history)))
    }

    /// Whether `place` is set aside.
    pub(crate) fn holds(&self, place: Place) -> bool {
        self.from_the_start[place.history] || self.is_rival[place.history] && !self.way.holds(place)
    }
}

/// The operators' decisions that hold.
#[derive(Debug)]
pub(crate) struct Decisions {
    /// The latest first, each with its place in [`ShardView::accepted`].
    standing: Vec<(usize, Aside)>,
}

impl Decisions {
    /// The chart must have been made with the histories that the decisions name.
    pub(crate) fn of(chart: &Chart, accepted: &[AcceptedLineage]) -> Self {
        Self::before(chart, accepted, None)
    }

    /// Those that hold when a later one is for the history with this number.
    fn before(chart: &Chart, accepted: &[AcceptedLineage], next: Option<usize>) -> Self {
        let mut latest_first: Vec<(usize, &AcceptedLineage)> = accepted.iter().enumerate().collect();
        latest_first.sort_by(|(_, a), (_, b)| age(b).cmp(&age(a)));
        let mut later: Vec<usize> = next.into_iter().collect();
        let mut standing: Vec<(usize, Aside)> = Vec::with_capacity(accepted.len());
        for (index, decision) in latest_first {
            let aside = Aside::by_operator(chart, decision);
            let is_overruled = later.iter().any(|&history| aside.holds(Place { history, offset: Offset::MAX }));
            if !is_overruled {
                later.extend(chart.number(decision.history));
                standing.push((index, aside));
            }
        }
        Self { standing }
    }

    /// Whether `place` is set aside.
    pub(crate) fn hold_aside(&self, place: Place) -> bool {
        self.against(place).is_some()
    }

    /// The latest decision by which `place` is set aside.
    pub(crate) fn against(&self, place: Place) -> Option<usize> {
        self.standing.iter().find(|(_, aside)| aside.holds(place)).map(|&(index, _)| index)
    }
}

/// Later decisions are greater; of simultaneous ones the one about the greater history.
pub(crate) fn age(decision: &AcceptedLineage) -> impl Ord + '_ {
    (decision.at, decision.history, &decision.over)
}

/// Every history that decisions name.
pub(crate) fn named(accepted: &[AcceptedLineage]) -> impl Iterator<Item = ReplicationId> {
    accepted.iter().flat_map(|decision| std::iter::once(decision.history).chain(decision.over.iter().copied()))
}

/// Where the paths to the tips part. `chosen` are the tips that are left after all decisions.
pub(crate) fn forks(chart: &Chart, extents: &Extents, chosen: &[Place]) -> Vec<Fork> {
    let mut taken: Vec<Option<Offset>> = vec![None; chart.len()];
    for &tip in chosen {
        for stretch in chart.path(tip) {
            let before = taken[stretch.history];
            taken[stretch.history] = before.max(Some(stretch.offset));
            // The way to a history is the same for all that come through it.
            if before.is_some() {
                break;
            }
        }
    }
    let mut forks = Vec::new();
    for history in 0..chart.len() {
        let mut leaving = extents.leaving(history).to_vec();
        leaving.sort_unstable();
        let mut rest = leaving.as_slice();
        while let Some(&(offset, _)) = rest.first() {
            let (here, later) = rest.split_at(rest.partition_point(|&(at, _)| at == offset));
            rest = later;
            let mut ways: Vec<_> = here.iter().map(|&(_, child)| (chart.id(child), taken[child].is_some())).collect();
            if !later.is_empty() || extents.own_tip(history).is_some() {
                ways.push((chart.id(history), taken[history].is_some_and(|taken| taken > offset)));
            }
            if ways.len() < 2 {
                continue;
            }
            ways.sort_unstable();
            let mut taken = ways.iter().filter(|(_, is_taken)| *is_taken).map(|&(way, _)| way);
            let accepted = taken.next().filter(|_| taken.next().is_none());
            let children = ways.iter().map(|&(way, _)| way).collect();
            forks.push(Fork { parent: chart.id(history), offset, children, accepted });
        }
    }
    forks.sort_unstable_by_key(|fork| (fork.parent, fork.offset));
    forks
}
