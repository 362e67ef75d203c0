//! The tree of a shard's histories, and the partial order that it gives to positions.
//!
//! A history `h` that is not a root has a parent `p(h)` and a fork offset `f(h)`: a node that held
//! `p(h)` up to and including `f(h)` was promoted and went on as `h`. Offsets continue across the
//! fork. The writes that a position holds are the parent's up to the fork, then its own; one
//! position is at or behind another if its writes are a subset.
//!
//! What is not known is not guessed: two histories without a known path between them are
//! [`Relation::Unrelated`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{ByteCount, Offset, Position, ReplicationId};

/// How a fork edge came to be known. Decides how much its offset says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A master's own `master_replid2` and `second_repl_offset`: the exact fork.
    PromotedMaster,
    /// A restore that we carried out: the exact position at which the target was promoted.
    Restore,
    /// A replica's `master_replid2`: a *lower bound* of the fork offset. On `+CONTINUE <newid>` a
    /// replica records the offset that it had applied so far (`replication.c`,
    /// `slaveTryPartialResynchronization`), which is at or before the offset of the promotion.
    FollowingReplica,
    /// The same run of a server showed the child after the parent without a promotion: backlog
    /// expired, or first replica attached. Or it was promoted without a backlog. The offset is the last
    /// one seen under the parent, and the server may have written since *without counting*: see
    /// [`Evidence::is_gapless`].
    InferredSameRun,
}

impl Evidence {
    /// Whether the edge's offset is the fork itself and not only at or before it.
    pub fn is_exact(self) -> bool {
        match self {
            Self::PromotedMaster | Self::Restore => true,
            Self::FollowingReplica | Self::InferredSameRun => false,
        }
    }

    /// Whether the child at the fork offset holds the same writes as the parent there.
    ///
    /// Without a backlog a master does not count what it writes (`replication.c`,
    /// `replicationFeedSlaves` returns early), and both the end of a backlog and the first replica
    /// after it change the id but not the offset. So a bridge over such a change has the same number
    /// on both sides, and more data on the far one.
    pub fn is_gapless(self) -> bool {
        match self {
            Self::PromotedMaster | Self::Restore | Self::FollowingReplica => true,
            Self::InferredSameRun => false,
        }
    }
}

/// `child` forked from `parent.history` after `parent.offset`, which is common to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForkEdge {
    pub child: ReplicationId,
    pub parent: Position,
    pub evidence: Evidence,
}

/// Two statements about one history that cannot both be true. A finding, never an overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contradiction {
    pub known: ForkEdge,
    pub claimed: ForkEdge,
}

/// How one position stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Both hold exactly the same writes.
    Equal,
    /// The left one lacks `missing` bytes that the right one holds, and holds nothing of its own.
    /// Across an edge that is not gapless the count leaves out what the server did not count: it may
    /// even be zero.
    Behind { missing: ByteCount },
    /// The left one holds `excess` bytes more, and lacks nothing. Counted as in `Behind`.
    Ahead { excess: ByteCount },
    /// Both hold writes that the other lacks; `common` is the last position that they share.
    /// `certain` is false where the fork offset is only known to be at or after `common`.
    Divergent { common: Position, left_excess: ByteCount, right_excess: ByteCount, certain: bool },
    /// No path between the two histories is known: nothing is proved about them.
    Unrelated,
}

/// The known fork edges of one shard, keyed by child: a forest of histories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    edges: BTreeMap<ReplicationId, ForkEdge>,
    /// Every history that is the parent of another one: only such a one can close a circle.
    parents: BTreeSet<ReplicationId>,
}

impl Lineage {
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns an edge. Returns whether anything changed.
    ///
    /// The order in which edges are learned does not matter, as long as none contradicts another: of
    /// two edges with the same child and parent the exact one wins, of two lower bounds the greater,
    /// and of two with the same offset the better evidence. For the rest see [`Lineage::trusted`].
    ///
    /// # Errors
    /// The edge contradicts a known one, or would make a history its own ancestor. The lineage is
    /// unchanged.
    pub fn learn(&mut self, edge: ForkEdge) -> Result<bool, Contradiction> {
        if let Some(&known) = self.edges.get(&edge.child) {
            let contradiction = Contradiction { known, claimed: edge };
            if known.parent.history != edge.parent.history {
                return Err(contradiction);
            }
            let (old, new) = (known.parent.offset, edge.parent.offset);
            let better = match (known.evidence.is_exact(), edge.evidence.is_exact()) {
                (true, true) if old != new => return Err(contradiction),
                (true, false) if new > old => return Err(contradiction),
                (false, true) if old > new => return Err(contradiction),
                (true, false) => false,
                (false, true) => true,
                (true, true) | (false, false) => (new, known.evidence) > (old, edge.evidence),
            };
            if better {
                self.edges.insert(edge.child, edge);
            }
            return Ok(better);
        }
        let may_be_ancestor = edge.child == edge.parent.history || self.parents.contains(&edge.child);
        if may_be_ancestor && self.ancestors(edge.parent.history).any(|ancestor| ancestor == edge.child) {
            let known = self.edges.get(&edge.parent.history).copied().unwrap_or(edge);
            return Err(Contradiction { known, claimed: edge });
        }
        self.edges.insert(edge.child, edge);
        self.parents.insert(edge.parent.history);
        Ok(true)
    }

    /// The lineage without what `contradictions` cast doubt on. It does not depend on the order in
    /// which the contradicting edges were learned, so it is what copies may be judged by.
    ///
    /// - Two parents of one history: neither is known, the history becomes a root.
    /// - Two offsets of one fork: the smaller one, as a lower bound.
    /// - A history that would be its own ancestor: every edge of the circle goes.
    pub fn trusted(&self, contradictions: &[Contradiction]) -> Self {
        let mut trusted = self.clone();
        for Contradiction { known, claimed } in contradictions {
            if known.child != claimed.child || claimed.child == claimed.parent.history {
                let circle = self.ancestors(claimed.parent.history).take_while(|&history| history != claimed.child);
                for history in circle {
                    trusted.edges.remove(&history);
                }
            } else if known.parent.history != claimed.parent.history {
                trusted.edges.remove(&claimed.child);
            } else if let Some(edge) = trusted.edges.get_mut(&claimed.child) {
                edge.parent.offset = edge.parent.offset.min(known.parent.offset).min(claimed.parent.offset);
                if edge.evidence.is_exact() {
                    edge.evidence = Evidence::FollowingReplica;
                }
            }
        }
        trusted.parents = trusted.edges.values().map(|edge| edge.parent.history).collect();
        trusted
    }

    /// All edges, ordered by child.
    pub fn edges(&self) -> impl Iterator<Item = &ForkEdge> {
        self.edges.values()
    }

    /// The edge by which `history` left its parent; `None` for a root, or where nobody saw it.
    pub fn edge_of(&self, history: ReplicationId) -> Option<&ForkEdge> {
        self.edges.get(&history)
    }

    /// `history` and all its ancestors, nearest first.
    pub fn ancestors(&self, history: ReplicationId) -> impl Iterator<Item = ReplicationId> {
        std::iter::successors(Some(history), |h| self.edges.get(h).map(|edge| edge.parent.history))
    }

    /// The oldest known ancestor of `history`, perhaps itself.
    pub fn root_of(&self, history: ReplicationId) -> ReplicationId {
        self.ancestors(history).last().unwrap_or(history)
    }

    /// The same writes, named by the history in which the last of them was made.
    pub fn normalize(&self, mut position: Position) -> Position {
        while let Some(edge) = self.edges.get(&position.history) {
            let (offset, fork) = (position.offset, edge.parent.offset);
            // Below the fork there is nothing that was not counted.
            if offset > fork || offset == fork && !edge.evidence.is_gapless() {
                break;
            }
            position.history = edge.parent.history;
        }
        position
    }

    /// The stretches of history that a position is made of, newest first, each with the last offset
    /// that the position includes of it. The first is the normalized position itself.
    pub fn path(&self, position: Position) -> impl Iterator<Item = Position> {
        std::iter::successors(Some(self.normalize(position)), |at| {
            self.edges.get(&at.history).map(|edge| self.normalize(edge.parent))
        })
    }

    /// How `left` stands to `right`.
    pub fn relate(&self, left: Position, right: Position) -> Relation {
        let right_path: BTreeMap<ReplicationId, Offset> = self.path(right).map(|at| (at.history, at.offset)).collect();
        let (left, right) = (self.normalize(left), self.normalize(right));
        let Some((on_left, on_right)) =
            self.path(left).find_map(|at| right_path.get(&at.history).map(|&offset| (at, offset)))
        else {
            return Relation::Unrelated;
        };
        let common = Position::new(on_left.history, on_left.offset.min(on_right));
        let left_excess = left.offset.bytes_since(common.offset);
        let right_excess = right.offset.bytes_since(common.offset);
        match (left == common, right == common) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Behind { missing: right_excess },
            (false, true) => Relation::Ahead { excess: left_excess },
            (false, false) => {
                Relation::Divergent { common, left_excess, right_excess, certain: self.is_certain(left, right, common) }
            }
        }
    }

    /// Whether the two part at `common` and cannot have parted later: an edge by which one of them
    /// leaves its history there states the fork itself.
    fn is_certain(&self, left: Position, right: Position, common: Position) -> bool {
        [left, right].into_iter().any(|side| {
            let leaving = self.path(side).take_while(|at| at.history != common.history).last();
            leaving
                .and_then(|at| self.edges.get(&at.history))
                .is_some_and(|edge| self.normalize(edge.parent).offset == common.offset && edge.evidence.is_exact())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(n: u8) -> ReplicationId {
        ReplicationId::from_bytes([n; 20]).expect("not zero")
    }

    fn at(n: u8, offset: u64) -> Position {
        Position::new(history(n), Offset::new(offset).expect("small"))
    }

    fn edge(child: u8, parent: u8, offset: u64, evidence: Evidence) -> ForkEdge {
        ForkEdge { child: history(child), parent: at(parent, offset), evidence }
    }

    fn bytes(n: u64) -> ByteCount {
        ByteCount::new(n)
    }

    /// A master with history 1; a replica promoted at 615 as 2; another one promoted at 600 as 3;
    /// 4 follows 2 from 700. History 9 is not known to belong to them.
    fn lineage() -> Lineage {
        let mut lineage = Lineage::new();
        for (child, parent, offset) in [(2, 1, 615), (3, 1, 600), (4, 2, 700)] {
            assert_eq!(lineage.learn(edge(child, parent, offset, Evidence::PromotedMaster)), Ok(true));
        }
        lineage
    }

    #[track_caller]
    fn check(left: Position, right: Position, expect: Relation) {
        assert_eq!(lineage().relate(left, right), expect);
        let mirrored = match expect {
            Relation::Behind { missing } => Relation::Ahead { excess: missing },
            Relation::Ahead { excess } => Relation::Behind { missing: excess },
            Relation::Divergent { common, left_excess, right_excess, certain } => {
                Relation::Divergent { common, left_excess: right_excess, right_excess: left_excess, certain }
            }
            same => same,
        };
        assert_eq!(lineage().relate(right, left), mirrored, "mirrored");
    }

    #[test]
    fn positions_of_one_history_are_ordered_by_offset() {
        check(at(1, 10), at(1, 10), Relation::Equal);
        check(at(1, 10), at(1, 25), Relation::Behind { missing: bytes(15) });
    }

    #[test]
    fn the_fork_offset_itself_is_common_to_both() {
        check(at(1, 615), at(2, 615), Relation::Equal);
        check(at(1, 615), at(2, 616), Relation::Behind { missing: bytes(1) });
        check(at(2, 300), at(1, 300), Relation::Equal);
    }

    #[test]
    fn one_byte_past_the_fork_is_divergent() {
        let common = at(1, 615);
        check(
            at(1, 616),
            at(2, 669),
            Relation::Divergent { common, left_excess: bytes(1), right_excess: bytes(54), certain: true },
        );
    }

    #[test]
    fn a_grandchild_holds_its_grandparent_up_to_the_first_fork() {
        check(at(1, 615), at(4, 701), Relation::Behind { missing: bytes(86) });
        check(at(2, 700), at(4, 700), Relation::Equal);
        check(
            at(1, 700),
            at(4, 701),
            Relation::Divergent { common: at(1, 615), left_excess: bytes(85), right_excess: bytes(86), certain: true },
        );
    }

    #[test]
    fn two_children_share_the_smaller_fork() {
        check(
            at(2, 650),
            at(3, 640),
            Relation::Divergent { common: at(1, 600), left_excess: bytes(50), right_excess: bytes(40), certain: true },
        );
    }

    #[test]
    fn histories_without_a_known_path_are_unrelated() {
        check(at(9, 1_000_000), at(2, 1), Relation::Unrelated);
    }

    /// A replica that lagged behind at the failover reports the offset at which *it* changed over.
    #[test]
    fn the_edge_of_a_following_replica_is_a_lower_bound() {
        let (low, exact) = (edge(2, 1, 400, Evidence::FollowingReplica), edge(2, 1, 615, Evidence::PromotedMaster));
        for order in [[low, exact], [exact, low]] {
            let mut lineage = Lineage::new();
            for edge in order {
                lineage.learn(edge).expect("no contradiction");
            }
            assert_eq!(lineage.edge_of(history(2)), Some(&exact));
        }
        let mut only_low = Lineage::new();
        only_low.learn(low).expect("first");
        let Relation::Divergent { certain, .. } = only_low.relate(at(1, 500), at(2, 600)) else {
            panic!("not proved to be contained")
        };
        assert!(!certain);
    }

    /// 2 left 1 at 615. A replica that followed it had only 600 when a second promotion made it follow
    /// on to 3: what 3 shares with 1 and with 2 may be more than the 600 that are known.
    #[test]
    fn certainty_is_that_of_the_edge_by_which_a_position_leaves() {
        let mut lineage = Lineage::new();
        lineage.learn(edge(2, 1, 615, Evidence::PromotedMaster)).expect("first");
        lineage.learn(edge(3, 2, 600, Evidence::FollowingReplica)).expect("second");
        let certain = |left, right| match lineage.relate(left, right) {
            Relation::Divergent { certain, common, .. } => {
                assert_eq!(common, at(1, 600));
                certain
            }
            other => panic!("{other:?}"),
        };
        assert!(!certain(at(3, 900), at(2, 1200)));
        assert!(!certain(at(3, 900), at(1, 610)));
        // The earlier of two forks decides, and a late one that is vague does not blur it.
        let mut lineage = self::lineage();
        lineage.learn(edge(5, 1, 700, Evidence::FollowingReplica)).expect("third");
        assert!(matches!(lineage.relate(at(5, 800), at(2, 800)), Relation::Divergent { certain: true, .. }));
    }

    /// A lone master whose backlog expired goes on writing under a new id at the same offset.
    #[test]
    fn a_bridge_over_uncounted_writes_makes_nothing_equal() {
        let mut lineage = Lineage::new();
        lineage.learn(edge(2, 1, 500, Evidence::InferredSameRun)).expect("first");
        assert_eq!(lineage.relate(at(1, 500), at(2, 500)), Relation::Behind { missing: ByteCount::ZERO });
        assert_eq!(lineage.relate(at(2, 500), at(1, 400)), Relation::Ahead { excess: bytes(100) });
        assert!(matches!(lineage.relate(at(2, 500), at(1, 501)), Relation::Divergent { certain: false, .. }));
    }

    /// Learns `edges` in every order: with their contradictions they give one trusted lineage.
    #[track_caller]
    fn check_trusted(edges: [ForkEdge; 3], expect: &[ForkEdge]) {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut lineage = Lineage::new();
            let contradictions: Vec<_> = order.iter().filter_map(|&i| lineage.learn(edges[i]).err()).collect();
            let trusted = lineage.trusted(&contradictions);
            assert_eq!(trusted.edges().copied().collect::<Vec<_>>(), expect, "learned in the order {order:?}");
        }
    }

    #[test]
    fn what_is_contradicted_is_not_trusted_in_any_order() {
        use Evidence::{FollowingReplica, PromotedMaster};
        let sound = edge(4, 1, 700, PromotedMaster);
        check_trusted([edge(2, 1, 615, PromotedMaster), edge(2, 3, 615, PromotedMaster), sound], &[sound]);
        check_trusted(
            [edge(2, 1, 615, PromotedMaster), edge(2, 1, 600, PromotedMaster), sound],
            &[edge(2, 1, 600, FollowingReplica), sound],
        );
        check_trusted(
            [edge(2, 1, 615, PromotedMaster), edge(2, 1, 700, FollowingReplica), edge(2, 1, 500, FollowingReplica)],
            &[edge(2, 1, 615, FollowingReplica)],
        );
        check_trusted(
            [edge(2, 1, 615, PromotedMaster), edge(3, 2, 700, PromotedMaster), edge(1, 3, 800, PromotedMaster)],
            &[],
        );
    }

    #[test]
    fn equal_statements_keep_the_better_evidence_in_any_order() {
        check_trusted(
            [
                edge(2, 1, 500, Evidence::InferredSameRun),
                edge(2, 1, 500, Evidence::FollowingReplica),
                edge(2, 1, 400, Evidence::FollowingReplica),
            ],
            &[edge(2, 1, 500, Evidence::FollowingReplica)],
        );
    }

    #[test]
    fn contradictions_are_reported_and_change_nothing() {
        let mut lineage = lineage();
        let before = lineage.clone();
        for claim in [
            edge(2, 3, 615, Evidence::PromotedMaster),
            edge(2, 1, 614, Evidence::PromotedMaster),
            edge(2, 1, 616, Evidence::FollowingReplica),
            edge(1, 4, 10, Evidence::PromotedMaster),
            edge(9, 9, 10, Evidence::PromotedMaster),
        ] {
            assert!(lineage.learn(claim).is_err(), "{claim:?}");
        }
        assert_eq!(lineage, before);
    }
}
