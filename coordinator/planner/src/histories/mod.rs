//! What is known of one shard's histories, learned from everything that is seen.
//!
//! Values in, values out: what was learned is returned ([`Learned`]), so that the caller can make it
//! durable; time comes in with what was seen.

mod bridge;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use urtext_types::{Contradiction, ForkEdge, Lineage, NodeName, NodeObservation, Position, ReplicationId, Timestamp};

use crate::{
    hasher::IdHasher,
    timeline::{ClockSkew, Mark, Sample, Timeline, Witness},
    view::{AcceptedLineage, AcceptedLoss, HeadSeen, RunSeen},
};
use bridge::same_run_bridge;

/// One shard.
#[derive(Debug, Clone, Default)]
pub struct ShardHistories {
    pub lineage: Lineage,
    pub contradictions: Vec<Contradiction>,
    pub decisions: Vec<AcceptedLineage>,
    pub losses: Vec<AcceptedLoss>,
    /// Sentences for people, oldest first.
    pub findings: Vec<String>,
    /// When masters had which offset.
    pub timeline: Timeline,
    heads: BTreeMap<ReplicationId, HeadSeen>,
    ended: BTreeMap<NodeName, RunSeen>,
}

/// What was new in something that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    pub edges: Vec<ForkEdge>,
    /// Statements that contradict what was known: they cast doubt on it, and change nothing else.
    pub refused: Vec<ForkEdge>,
    pub findings: Vec<String>,
    pub head: Option<HeadSeen>,
    /// Each replaces what is stored for its position.
    pub marks: Vec<Mark>,
    /// The server was started anew: the last that was seen of it before.
    pub ended: Option<RunSeen>,
}

impl ShardHistories {
    /// Learns from one look at one node.
    ///
    /// `before` is the look before it, from whichever run of the server and however long ago. `clock`
    /// is how the agent's clock stands to the caller's, in whose time `received_at` is.
    pub fn observe(
        &mut self,
        node: &NodeName,
        before: Option<&NodeObservation>,
        now: &NodeObservation,
        received_at: Timestamp,
        clock: ClockSkew,
    ) -> Learned {
        let mut learned = Learned::default();
        let edge = now.fork_edge().or_else(|| before.and_then(|before| same_run_bridge(before, now)));
        if let Some(edge) = edge {
            self.learn(edge, &mut learned);
        }
        if let Some(ended) = before.and_then(|before| RunSeen::ended(node, before, now, clock, received_at)) {
            self.ended.insert(node.clone(), ended.clone());
            learned.ended = Some(ended);
        }
        let Some(position) = now.position() else { return learned };
        let head = self.heads.get(&position.history);
        let is_further = head.is_none_or(|head| head.position.offset < position.offset);
        if is_further {
            let head = HeadSeen { position, node: node.clone(), seen_at: received_at };
            self.heads.insert(position.history, head.clone());
            learned.head = Some(head);
        }
        let is_master = now.replication.role.is_master();
        if let Some(begun) = before.zip(edge).and_then(|(before, edge)| beginning(before, now, edge, clock)) {
            self.record(begun, &mut learned);
        }
        // A replica that shows the furthest offset proves that it was reached; one that does not, nothing.
        let witness = if is_master { Witness::Master } else { Witness::Replica };
        if is_master || is_further {
            self.record(
                Sample { position, at: clock.correct(now.observed_at), within: clock.within, witness },
                &mut learned,
            );
        }
        learned
    }

    /// Learns an edge from elsewhere: a manifest, a restore, a record.
    pub fn learn_edge(&mut self, edge: ForkEdge) -> Learned {
        let mut learned = Learned::default();
        self.learn(edge, &mut learned);
        learned
    }

    /// Remembers a sentence; says whether it is new.
    pub fn find(&mut self, sentence: String) -> bool {
        let is_new = !self.findings.contains(&sentence);
        if is_new {
            self.findings.push(sentence);
        }
        is_new
    }

    /// Forgets what repositories can give back: edges, what contradicts them, decisions, losses, findings. What
    /// was observed of offsets and runs stays.
    pub fn forget_recorded(&mut self) {
        let Self { lineage, contradictions, decisions, losses, findings, timeline: _, heads: _, ended: _ } = self;
        *lineage = Lineage::default();
        contradictions.clear();
        decisions.clear();
        losses.clear();
        findings.clear();
    }

    /// Takes back what [`Learned`] once said: the greatest position of a history.
    pub fn recall_head(&mut self, head: HeadSeen) {
        let known = self.heads.get(&head.position.history);
        if known.is_none_or(|known| known.position.offset < head.position.offset) {
            self.heads.insert(head.position.history, head);
        }
    }

    /// Takes back what [`Learned`] once said: how a node's previous run ended.
    pub fn recall_ended(&mut self, ended: RunSeen) {
        self.ended.insert(ended.node.clone(), ended);
    }

    pub fn heads(&self) -> Vec<HeadSeen> {
        self.heads.values().cloned().collect()
    }

    /// For each node whose server was started anew, the last that was seen of the run before.
    pub fn ended(&self) -> Vec<RunSeen> {
        self.ended.values().cloned().collect()
    }

    /// Every history that anything is known of.
    pub fn known(&self) -> BTreeSet<ReplicationId> {
        let of_edges = self.lineage.edges().flat_map(|edge| [edge.child, edge.parent.history]);
        of_edges.chain(self.heads.keys().copied()).collect()
    }

    /// Drops what the timeline keeps finer than it is worth at its age, see [`Timeline`]; returns the
    /// positions of the marks that are gone, to be dropped where they are stored as well.
    ///
    /// `backups` are the positions of all backups that are known: their intervals do not widen. It does
    /// not matter how often this is called; every ten minutes is enough.
    pub fn thin(&mut self, now: Timestamp, backups: impl Iterator<Item = Position>) -> Vec<Position> {
        let mut pins: HashMap<ReplicationId, Vec<_>, IdHasher> = HashMap::default();
        let forks = self.lineage.edges().map(|edge| edge.parent);
        for position in backups.chain(forks) {
            // The same copy may be asked about by any of its names.
            let own = self.lineage.normalize(position);
            for at in [position, own] {
                pins.entry(at.history).or_default().push(at.offset);
            }
        }
        for pins in pins.values_mut() {
            pins.sort_unstable();
            pins.dedup();
        }
        self.timeline.thin(now, &pins)
    }

    fn learn(&mut self, edge: ForkEdge, learned: &mut Learned) {
        match self.lineage.learn(edge) {
            Ok(true) => learned.edges.push(edge),
            Ok(false) => {}
            Err(contradiction) => {
                let sentence = contradiction_sentence(&contradiction);
                if !self.contradictions.contains(&contradiction) {
                    self.contradictions.push(contradiction);
                    learned.refused.push(edge);
                }
                if self.find(sentence.clone()) {
                    learned.findings.push(sentence);
                }
            }
        }
    }

    fn record(&mut self, sample: Sample, learned: &mut Learned) {
        learned.marks.push(self.timeline.record(sample));
    }
}

/// A master that shows another history than its same run did at the look before has begun it since: an
/// id is made by the one that first writes under it. At that look nothing of the new history had been
/// written, so on this line of histories nothing was beyond the fork yet.
fn beginning(before: &NodeObservation, now: &NodeObservation, edge: ForkEdge, clock: ClockSkew) -> Option<Sample> {
    let is_same_run = before.server.run_id == now.server.run_id && !now.server.run_id.is_empty();
    let is_new = before.replication.history != edge.child && before.observed_at <= now.observed_at;
    (is_same_run && is_new && now.replication.role.is_master()).then(|| Sample {
        position: Position::new(edge.child, edge.parent.offset),
        at: clock.correct(before.observed_at),
        within: clock.within,
        witness: Witness::Beginning,
    })
}

fn contradiction_sentence(contradiction: &Contradiction) -> String {
    let Contradiction { known, claimed } = contradiction;
    let at = |position: Position| format!("{} at offset {}", position.history.short(), position.offset);
    format!(
        "history {} is said to have left {}, but it is known that {} left {}; neither is relied on",
        claimed.child.short(),
        at(claimed.parent),
        known.child.short(),
        at(known.parent)
    )
}

#[cfg(test)]
mod tests;
