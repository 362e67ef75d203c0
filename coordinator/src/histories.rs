//! What is known of every shard's histories, learned from everything that is seen.
//!
//! The core ([`ShardHistories`]) is values in, values out; [`Histories`] holds one for every shard behind a
//! lock. What was learned is returned, so that the caller can make it durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use urtext_planner::{AcceptedLineage, HeadSeen, Sample};
use urtext_types::{
    Contradiction, Evidence, ForkEdge, Lineage, NodeName, NodeObservation, Position, ReplicationId, Timestamp,
};

use crate::{
    catalog::{KnownEdge, KnownLineage},
    shard::ShardKey,
};

/// Samples younger than this stay as they came, one a second; older ones are thinned.
pub const EXACT_SAMPLES_FOR: Duration = Duration::from_secs(3600);
/// How far apart old samples are.
pub const OLD_SAMPLES_EVERY: Duration = Duration::from_secs(60);

/// One shard.
#[derive(Debug, Clone, Default)]
pub struct ShardHistories {
    pub lineage: Lineage,
    pub contradictions: Vec<Contradiction>,
    pub decisions: Vec<AcceptedLineage>,
    /// Sentences for people, oldest first.
    pub findings: Vec<String>,
    heads: BTreeMap<ReplicationId, HeadSeen>,
    samples: BTreeMap<ReplicationId, Vec<Sample>>,
}

/// What was new in something that was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Learned {
    pub edges: Vec<ForkEdge>,
    pub findings: Vec<String>,
    pub head: Option<HeadSeen>,
    pub sample: Option<Sample>,
}

impl ShardHistories {
    /// Learns from one look at one node. `before` is the look before it, `skew_ms` how far the agent's
    /// clock is ahead of ours.
    pub fn observe(
        &mut self,
        node: &NodeName,
        before: Option<&NodeObservation>,
        now: &NodeObservation,
        received_at: Timestamp,
        skew_ms: i64,
    ) -> Learned {
        let mut learned = Learned::default();
        if let Some(edge) = now.fork_edge() {
            self.learn(edge, &mut learned);
        } else if let Some(edge) = before.and_then(|before| same_run_bridge(before, now)) {
            self.learn(edge, &mut learned);
        }
        let Some(position) = now.position() else { return learned };
        let is_further = self.heads.get(&position.history).is_none_or(|head| head.position.offset < position.offset);
        if is_further {
            let head = HeadSeen { position, node: node.clone(), seen_at: received_at };
            self.heads.insert(position.history, head.clone());
            learned.head = Some(head);
        }
        if now.replication.role.is_master() {
            let at = Timestamp::from_millis(now.observed_at.as_millis().saturating_sub(skew_ms));
            let sample = Sample { position, at };
            self.sample(sample);
            learned.sample = Some(sample);
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

    pub fn heads(&self) -> Vec<HeadSeen> {
        self.heads.values().cloned().collect()
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.samples.values().flatten().copied().collect()
    }

    /// Every history that anything is known of.
    pub fn known(&self) -> BTreeSet<ReplicationId> {
        let of_edges = self.lineage.edges().flat_map(|edge| [edge.child, edge.parent.history]);
        of_edges.chain(self.heads.keys().copied()).collect()
    }

    fn learn(&mut self, edge: ForkEdge, learned: &mut Learned) {
        match self.lineage.learn(edge) {
            Ok(true) => learned.edges.push(edge),
            Ok(false) => {}
            Err(contradiction) => {
                let sentence = contradiction_sentence(&contradiction);
                if !self.contradictions.contains(&contradiction) {
                    self.contradictions.push(contradiction);
                }
                if self.find(sentence.clone()) {
                    learned.findings.push(sentence);
                }
            }
        }
    }

    fn sample(&mut self, sample: Sample) {
        let samples = self.samples.entry(sample.position.history).or_default();
        // While nothing is written, the first and the last time say all.
        if let [.., before, last] = samples.as_slice()
            && before.position == last.position
            && last.position == sample.position
        {
            samples.pop();
        }
        samples.push(sample);
        let exact_from = sample.at.minus(EXACT_SAMPLES_FOR);
        // Thinning at each doubling costs little and bounds the memory.
        if samples.len().is_power_of_two() && samples.len() >= 4096 {
            let mut last_kept: Option<i64> = None;
            let every = OLD_SAMPLES_EVERY.as_millis() as i64;
            samples.retain(|sample| {
                let slot = sample.at.as_millis() / every;
                let keep = sample.at >= exact_from || last_kept != Some(slot);
                last_kept = Some(slot);
                keep
            });
        }
    }

    fn from_known(known: &KnownLineage) -> Self {
        let mut histories = Self { findings: known.findings.clone(), ..Self::default() };
        for KnownEdge { edge, .. } in &known.edges {
            histories.learn(*edge, &mut Learned::default());
        }
        histories.decisions = known.decisions.iter().map(|decision| decision.accepted.clone()).collect();
        histories.heads = known.heads.iter().map(|head| (head.position.history, head.clone())).collect();
        for sample in &known.samples {
            histories.samples.entry(sample.position.history).or_default().push(*sample);
        }
        histories
    }
}

/// The server went on under a new id without a promotion: the backlog of a master without replicas expired
/// (`replicationCron` in replication.c changes the id then), or its first replica came. The same run at the
/// same or a greater offset holds everything that it was last seen to hold.
fn same_run_bridge(before: &NodeObservation, now: &NodeObservation) -> Option<ForkEdge> {
    let parent = before.position()?;
    let is_same_run = before.server.run_id == now.server.run_id && !now.server.run_id.is_empty();
    let both_masters = before.replication.role.is_master() && now.replication.role.is_master();
    let went_on = now.replication.history != parent.history && now.replication.offset >= parent.offset;
    (is_same_run && both_masters && went_on && now.replication.parent.is_none()).then_some(ForkEdge {
        child: now.replication.history,
        parent,
        evidence: Evidence::InferredSameRun,
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

/// Every shard.
#[derive(Debug, Default)]
pub struct Histories {
    shards: Mutex<BTreeMap<ShardKey, ShardHistories>>,
}

impl Histories {
    /// As the catalog has it.
    pub fn recall(known: &BTreeMap<ShardKey, KnownLineage>) -> Self {
        let shards = known.iter().map(|(key, known)| (key.clone(), ShardHistories::from_known(known))).collect();
        Self { shards: Mutex::new(shards) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardKey, ShardHistories>> {
        self.shards.lock().expect("nothing panics while it holds the histories")
    }

    /// Does something with one shard's histories.
    pub fn with<T>(&self, shard: &ShardKey, act: impl FnOnce(&mut ShardHistories) -> T) -> T {
        act(self.lock().entry(shard.clone()).or_default())
    }

    /// One shard's histories as they are now.
    pub fn of(&self, shard: &ShardKey) -> ShardHistories {
        self.lock().get(shard).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::{Engine, Offset, PersistenceView, ReplicationView, Role, ServerIdentity};

    use super::*;

    fn history(n: u8) -> ReplicationId {
        ReplicationId::from_bytes([n; 20]).expect("not zero")
    }

    fn at(n: u8, offset: u64) -> Position {
        Position::new(history(n), Offset::new(offset).expect("small"))
    }

    fn master(position: Position, parent: Option<Position>, second: i64) -> NodeObservation {
        NodeObservation {
            observed_at: Timestamp::from_millis(second * 1000),
            server: ServerIdentity {
                engine: Engine::Redis,
                version: "7.0.15".to_owned(),
                run_id: "run".to_owned(),
                cluster_enabled: false,
            },
            replication: ReplicationView {
                history: position.history,
                offset: position.offset,
                parent,
                backlog_active: true,
                failover_in_progress: false,
                role: Role::Master { replicas: Vec::new() },
            },
            persistence: PersistenceView {
                loading: false,
                async_loading: false,
                bgsave_in_progress: false,
                last_bgsave_ok: true,
                last_save_at: None,
                saves: None,
                changes_since_last_save: 0,
                aof_enabled: false,
            },
            keyspace: BTreeMap::new(),
            used_memory: 0,
        }
    }

    fn node() -> NodeName {
        "fra-1".parse().expect("a name")
    }

    #[test]
    fn a_promotion_is_learned_once() {
        let mut histories = ShardHistories::default();
        let seen = master(at(2, 700), Some(at(1, 615)), 1);
        let first = histories.observe(&node(), None, &seen, Timestamp::from_millis(0), 0);
        let edge = ForkEdge { child: history(2), parent: at(1, 615), evidence: Evidence::PromotedMaster };
        assert_eq!(first.edges, [edge]);
        let again = histories.observe(&node(), Some(&seen), &seen, Timestamp::from_millis(0), 0);
        assert_eq!((again.edges, again.head), (vec![], None));
    }

    #[test]
    fn a_master_whose_id_changed_without_a_promotion_is_bridged() {
        let (before, mut now) = (master(at(1, 500), None, 0), master(at(2, 500), None, 1));
        now.replication.backlog_active = false;
        let mut histories = ShardHistories::default();
        let learned = histories.observe(&node(), Some(&before), &now, Timestamp::from_millis(0), 0);
        let edge = ForkEdge { child: history(2), parent: at(1, 500), evidence: Evidence::InferredSameRun };
        assert_eq!(learned.edges, [edge]);
        assert_eq!(learned.head, None, "its offset counts nothing");
    }

    #[test]
    fn a_restarted_master_is_not_bridged() {
        let (before, mut now) = (master(at(1, 500), None, 0), master(at(2, 600), None, 1));
        now.server.run_id = "another".to_owned();
        assert_eq!(same_run_bridge(&before, &now), None);
        let emptied = master(at(2, 0), None, 1);
        assert_eq!(same_run_bridge(&before, &emptied), None);
    }

    #[test]
    fn a_contradiction_becomes_one_finding_and_changes_nothing() {
        let mut histories = ShardHistories::default();
        let known = ForkEdge { child: history(2), parent: at(1, 615), evidence: Evidence::PromotedMaster };
        histories.learn_edge(known);
        let claim = ForkEdge { parent: at(3, 615), ..known };
        assert_eq!(histories.learn_edge(claim).findings.len(), 1);
        assert_eq!(histories.learn_edge(claim), Learned::default());
        assert_eq!(
            histories.findings,
            ["history 02020202 is said to have left 03030303 at offset 615, but it is known that 02020202 left \
              01010101 at offset 615; neither is relied on"]
        );
        assert_eq!(histories.lineage.edge_of(history(2)), Some(&known));
    }

    #[test]
    fn samples_are_corrected_by_the_skew_of_the_clock() {
        let mut histories = ShardHistories::default();
        let seen = master(at(1, 500), None, 3605);
        let learned = histories.observe(&node(), None, &seen, Timestamp::from_millis(5000), 3_600_000);
        assert_eq!(learned.sample.map(|sample| sample.at), Some(Timestamp::from_millis(5000)));
    }

    #[test]
    fn an_idle_master_does_not_pile_up_samples() {
        let mut histories = ShardHistories::default();
        for second in 0..100 {
            histories.observe(&node(), None, &master(at(1, 500), None, second), Timestamp::from_millis(0), 0);
        }
        assert_eq!(histories.samples().len(), 2);
        assert_eq!(histories.samples()[1].at, Timestamp::from_millis(99_000));
    }
}
