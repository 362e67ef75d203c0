//! What is known of every shard's histories: the planner's [`ShardHistories`], one for each, behind a lock.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use urtext_planner::ShardHistories;

use crate::{
    catalog::{KnownEdge, KnownLineage},
    shard::ShardKey,
};

/// Every shard.
#[derive(Debug, Default)]
pub struct Histories {
    shards: Mutex<BTreeMap<ShardKey, ShardHistories>>,
}

impl Histories {
    /// As the catalog has it.
    pub fn recall(known: &BTreeMap<ShardKey, KnownLineage>) -> Self {
        let shards = known.iter().map(|(key, known)| (key.clone(), recalled(known))).collect();
        Self { shards: Mutex::new(shards) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardKey, ShardHistories>> {
        self.shards.lock().expect("nothing panics while it holds the histories")
    }

    /// Forgets what the repositories can give back, and learns it again as the catalog has it now. What was
    /// observed stays.
    pub fn relearn(&self, known: &BTreeMap<ShardKey, KnownLineage>) {
        let mut shards = self.lock();
        for histories in shards.values_mut() {
            histories.forget_recorded();
        }
        for (key, known) in known {
            recall_recorded(shards.entry(key.clone()).or_default(), known);
        }
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

/// One shard, as the catalog has it.
fn recalled(known: &KnownLineage) -> ShardHistories {
    let mut histories = ShardHistories::default();
    recall_recorded(&mut histories, known);
    known.heads.iter().for_each(|head| histories.recall_head(head.clone()));
    known.ended.iter().for_each(|run| histories.recall_ended(run.clone()));
    histories.timeline = known.marks.iter().copied().collect();
    histories
}

fn recall_recorded(histories: &mut ShardHistories, known: &KnownLineage) {
    histories.findings.extend(known.findings.iter().cloned());
    for KnownEdge { edge, .. } in &known.edges {
        // What comes of it is in the catalog already.
        histories.learn_edge(*edge);
    }
    histories.decisions.extend(known.decisions.iter().map(|decision| decision.accepted.clone()));
}
