//! The histories that a decision is about, as small numbers: so that a million positions can be
//! placed, related and compared in a few passes.

use std::collections::{HashMap, HashSet};

use urtext_types::{Lineage, Offset, Position, ReplicationId};

use crate::hasher::IdHasher;

/// A normalized position: its history is the one in which the last of its writes was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// A number given by [`Chart`].
    pub(crate) history: usize,
    pub(crate) offset: Offset,
}

/// One history of a [`Chart`].
#[derive(Debug)]
struct Charted {
    id: ReplicationId,
    /// The parent, the fork offset, and whether the edge is gapless.
    edge: Option<(usize, Offset, bool)>,
    /// The normalized place at which this history leaves what came before it.
    up: Option<Place>,
    root: usize,
}

/// Some histories with all their ancestors. A parent's number is smaller than its children's, and
/// numbers do not depend on the order in which histories were named.
#[derive(Debug)]
pub(crate) struct Chart {
    histories: Vec<Charted>,
    numbers: HashMap<ReplicationId, usize, IdHasher>,
}

impl Chart {
    pub(crate) fn new(lineage: &Lineage, histories: impl Iterator<Item = ReplicationId>) -> Self {
        let mut wanted: Vec<_> = histories.collect::<HashSet<_, IdHasher>>().into_iter().collect();
        wanted.sort_unstable();
        let mut chart = Self { histories: Vec::with_capacity(wanted.len()), numbers: HashMap::default() };
        for history in wanted {
            let new: Vec<_> = lineage.ancestors(history).take_while(|id| !chart.numbers.contains_key(id)).collect();
            for id in new.into_iter().rev() {
                chart.add(lineage, id);
            }
        }
        chart
    }

    /// The parent of `id` was added before.
    fn add(&mut self, lineage: &Lineage, id: ReplicationId) {
        let number = self.histories.len();
        let edge = lineage.edge_of(id).map(|edge| {
            let parent = self.numbers[&edge.parent.history];
            (parent, edge.parent.offset, edge.evidence.is_gapless())
        });
        let up = edge.map(|(history, offset, _)| self.normalize(Place { history, offset }));
        let root = edge.map_or(number, |(parent, ..)| self.histories[parent].root);
        self.histories.push(Charted { id, edge, up, root });
        self.numbers.insert(id, number);
    }

    pub(crate) fn normalize(&self, mut place: Place) -> Place {
        while let Some((parent, fork, gapless)) = self.histories[place.history].edge {
            // Below the fork there is nothing that was not counted.
            if place.offset > fork || place.offset == fork && !gapless {
                break;
            }
            place.history = parent;
        }
        place
    }

    /// How many histories there are: the numbers are `0..len`.
    pub(crate) fn len(&self) -> usize {
        self.histories.len()
    }

    pub(crate) fn id(&self, history: usize) -> ReplicationId {
        self.histories[history].id
    }

    pub(crate) fn root(&self, history: usize) -> usize {
        self.histories[history].root
    }

    /// Where `history` leaves what came before it; `None` for a root.
    pub(crate) fn up(&self, history: usize) -> Option<Place> {
        self.histories[history].up
    }

    /// Whether `history` begins with exactly what its parent held at the fork.
    pub(crate) fn is_gapless(&self, history: usize) -> bool {
        self.histories[history].edge.is_none_or(|(.., gapless)| gapless)
    }

    pub(crate) fn number(&self, history: ReplicationId) -> Option<usize> {
        self.numbers.get(&history).copied()
    }

    /// `None` for a history that the chart was not made for.
    pub(crate) fn place(&self, position: Position) -> Option<Place> {
        let history = self.number(position.history)?;
        Some(self.normalize(Place { history, offset: position.offset }))
    }

    pub(crate) fn position(&self, place: Place) -> Position {
        Position::new(self.id(place.history), place.offset)
    }

    /// The stretches of history that `place` is made of, newest first.
    pub(crate) fn path(&self, place: Place) -> impl Iterator<Item = Place> {
        std::iter::successors(Some(place), |at| self.up(at.history))
    }
}

/// How far each history is held by a set of copies.
#[derive(Debug, Clone)]
pub(crate) struct Extents {
    /// The greatest offset of a copy in the history itself.
    own: Vec<Option<Offset>>,
    /// The greatest offset up to which copies in later histories hold it, and the first step there.
    later: Vec<Option<(Offset, usize)>>,
    /// A maximal place that holds everything that the set holds of this history.
    tip: Vec<Option<Place>>,
    /// Where later histories that lead to a copy leave this one.
    leaving: Vec<Vec<(Offset, usize)>>,
}

impl Extents {
    pub(crate) fn of(chart: &Chart, places: impl Iterator<Item = Place>) -> Self {
        let mut extents = Self {
            own: vec![None; chart.len()],
            later: vec![None; chart.len()],
            tip: vec![None; chart.len()],
            leaving: vec![Vec::new(); chart.len()],
        };
        for place in places {
            let own = &mut extents.own[place.history];
            *own = (*own).max(Some(place.offset));
        }
        for history in (0..chart.len()).rev() {
            extents.tip[history] = match (extents.own_tip(history), extents.later[history]) {
                (Some(tip), _) => Some(tip),
                (None, Some((_, step))) => extents.tip[step],
                (None, None) => continue,
            };
            if let Some(up) = chart.up(history) {
                extents.leaving[up.history].push((up.offset, history));
                let later = &mut extents.later[up.history];
                if later.is_none_or(|(offset, _)| up.offset > offset) {
                    *later = Some((up.offset, history));
                }
            }
        }
        extents
    }

    /// The greatest copy in `history` itself, if no copy in a later history holds all of it.
    pub(crate) fn own_tip(&self, history: usize) -> Option<Place> {
        let offset = self.own[history]?;
        let held_later = self.later[history].is_some_and(|(later, _)| later >= offset);
        (!held_later).then_some(Place { history, offset })
    }

    /// The copies whose writes no other copy holds: the maximal elements of the partial order.
    pub(crate) fn tips(&self) -> impl Iterator<Item = Place> {
        (0..self.own.len()).filter_map(|history| self.own_tip(history))
    }

    /// A tip that holds everything that `place`, one of the set, holds.
    pub(crate) fn tip_over(&self, place: Place) -> Option<Place> {
        self.tip[place.history]
    }

    /// Where later histories that lead to a copy leave `history`.
    pub(crate) fn leaving(&self, history: usize) -> &[(Offset, usize)] {
        &self.leaving[history]
    }

    /// The last place that `tip` shares with any other tip; `None` if it shares nothing.
    pub(crate) fn shared(&self, chart: &Chart, tip: Place) -> Option<Place> {
        let mut came_from = None;
        for at in chart.path(tip) {
            let others = self.leaving[at.history].iter().filter(|&&(_, step)| Some(step) != came_from);
            let own = self.own_tip(at.history).filter(|_| came_from.is_some()).map(|own| own.offset);
            if let Some(shared) = others.map(|&(offset, _)| offset).chain(own).max() {
                return Some(Place { history: at.history, offset: shared.min(at.offset) });
            }
            came_from = Some(at.history);
        }
        None
    }

    /// Whether a copy of the set holds everything that `place` holds.
    pub(crate) fn hold(&self, place: Place) -> bool {
        let own = self.own[place.history].is_some_and(|own| own >= place.offset);
        own || self.later[place.history].is_some_and(|(later, _)| later >= place.offset)
    }

    /// Whether a copy holds writes of `history` or of a later one.
    pub(crate) fn reaches(&self, history: usize) -> bool {
        self.tip[history].is_some()
    }
}

/// How any place stands to one fixed place, in constant time.
#[derive(Debug)]
pub(crate) struct Bearings {
    at: Place,
    /// How far the fixed place holds each history.
    held: Vec<Option<Offset>>,
    /// For a history that it does not hold: where that left one that it does hold.
    left: Vec<Option<Place>>,
}

/// Like [`urtext_types::Relation`], seen from the fixed place of [`Bearings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bearing {
    Equal,
    Behind { missing: u64 },
    Ahead { excess: u64 },
    Divergent { common: Place, missing: u64, excess: u64 },
    Unrelated,
}

impl Bearings {
    pub(crate) fn new(chart: &Chart, at: Place) -> Self {
        let mut held = vec![None; chart.len()];
        for stretch in chart.path(at) {
            held[stretch.history] = Some(stretch.offset);
        }
        let mut left: Vec<Option<Place>> = Vec::with_capacity(chart.len());
        for history in 0..chart.len() {
            left.push(chart.up(history).and_then(|up| match held[up.history] {
                Some(_) => Some(up),
                None => left[up.history],
            }));
        }
        Self { at, held, left }
    }

    /// The fixed place.
    pub(crate) fn place(&self) -> Place {
        self.at
    }

    /// Whether the fixed place holds everything that `place` holds.
    pub(crate) fn holds(&self, place: Place) -> bool {
        self.held[place.history].is_some_and(|held| place.offset <= held)
    }

    /// How `place` stands to the fixed one.
    pub(crate) fn of(&self, place: Place) -> Bearing {
        let between = |from: Offset, to: Offset| to.bytes_since(from).get();
        let (history, leaves) = match (self.held[place.history], self.left[place.history]) {
            (Some(held), _) if place.offset <= held => {
                return if place == self.at {
                    Bearing::Equal
                } else {
                    Bearing::Behind { missing: between(place.offset, self.at.offset) }
                };
            }
            (Some(held), _) => (place.history, held),
            (None, Some(left)) => (left.history, left.offset),
            (None, None) => return Bearing::Unrelated,
        };
        let held = self.held[history].expect("chosen because it is held");
        let common = Place { history, offset: leaves.min(held) };
        let excess = between(common.offset, place.offset);
        if common == self.at {
            Bearing::Ahead { excess }
        } else {
            Bearing::Divergent { common, missing: between(common.offset, self.at.offset), excess }
        }
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::{Evidence, ForkEdge, Relation};

    use super::*;

    fn history(n: u8) -> ReplicationId {
        ReplicationId::from_bytes([n; 20]).expect("not zero")
    }

    fn at(n: u8, offset: u64) -> Position {
        Position::new(history(n), Offset::new(offset).expect("small"))
    }

    /// Also with a fork below a fork (4), a history that left its grandparent (5), and a bridge (6).
    fn lineage() -> Lineage {
        let mut lineage = Lineage::new();
        for (child, parent, offset, evidence) in [
            (2, 1, 600, Evidence::PromotedMaster),
            (3, 1, 700, Evidence::PromotedMaster),
            (4, 2, 800, Evidence::FollowingReplica),
            (5, 2, 550, Evidence::FollowingReplica),
            (6, 3, 900, Evidence::InferredSameRun),
        ] {
            let edge = ForkEdge { child: history(child), parent: at(parent, offset), evidence };
            lineage.learn(edge).expect("no contradiction");
        }
        lineage
    }

    fn positions() -> impl Iterator<Item = Position> {
        (1..=7).flat_map(|n| (0..=20).map(move |i| at(n, i * 50)).chain([at(n, 601), at(n, 599)]))
    }

    #[test]
    fn the_chart_agrees_with_the_lineage() {
        let lineage = lineage();
        let chart = Chart::new(&lineage, (1..=7).map(history));
        for left in positions() {
            let bearings = Bearings::new(&chart, chart.place(left).expect("charted"));
            for right in positions() {
                let place = chart.place(right).expect("charted");
                assert_eq!(chart.position(place), lineage.normalize(right));
                let expect = match lineage.relate(right, left) {
                    Relation::Equal => Bearing::Equal,
                    Relation::Behind { missing } => Bearing::Behind { missing: missing.get() },
                    Relation::Ahead { excess } => Bearing::Ahead { excess: excess.get() },
                    Relation::Divergent { common, left_excess, right_excess, .. } => Bearing::Divergent {
                        common: chart.place(common).expect("charted"),
                        missing: right_excess.get(),
                        excess: left_excess.get(),
                    },
                    Relation::Unrelated => Bearing::Unrelated,
                };
                assert_eq!(bearings.of(place), expect, "{right} seen from {left}");
                assert_eq!(
                    bearings.holds(place),
                    matches!(expect, Bearing::Equal | Bearing::Behind { .. }),
                    "{right} seen from {left}"
                );
            }
        }
    }

    #[test]
    fn tips_are_the_copies_that_no_other_one_holds() {
        let lineage = lineage();
        let all: Vec<_> = positions().step_by(3).collect();
        for size in 1..=all.len() {
            let set = &all[..size];
            let chart = Chart::new(&lineage, set.iter().map(|position| position.history));
            let extents = Extents::of(&chart, set.iter().filter_map(|&position| chart.place(position)));
            let mut tips: Vec<_> = extents.tips().map(|tip| chart.position(tip).to_string()).collect();
            let mut expect: Vec<_> = set
                .iter()
                .filter(|&&a| !set.iter().any(|&b| matches!(lineage.relate(a, b), Relation::Behind { .. })))
                .map(|&a| lineage.normalize(a).to_string())
                .collect();
            tips.sort();
            expect.sort();
            expect.dedup();
            assert_eq!(tips, expect);
            for &position in set {
                let tip = extents.tip_over(chart.place(position).expect("charted")).expect("one of the set");
                let relation = lineage.relate(position, chart.position(tip));
                assert!(matches!(relation, Relation::Equal | Relation::Behind { .. }), "{position} under {relation:?}");
            }
        }
    }
}
