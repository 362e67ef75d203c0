//! What is seen becomes what is known: in memory at once, in the catalog within seconds, edges also as
//! records in the repository, so that another coordinator that has only that learns the same tree.

use std::{sync::Arc, time::Duration};

use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_planner::{ClockSkew, Learned};
use urtext_types::{Chain, NodeObservation, Timestamp};

use crate::{
    alarms::is_other_story,
    app::{App, Unsaved},
    catalog::{CatalogError, KnownEdge},
    shard::{NodeKey, ShardKey},
};

/// A crash loses at most so much of what was observed.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// So many marks wait to be saved while manifests are read: 200 bytes each.
const MARKS_WAITING: usize = 5000;

/// How often old marks are thinned out.
const THIN_EVERY: Duration = Duration::from_secs(600);

impl App {
    /// One look at one server, from its agent. `clock` is how the agent's clock stands, once that was measured.
    pub async fn observed(&self, agent: &AgentIdentity, observation: NodeObservation, clock: Option<ClockSkew>) {
        let (key, shard, now) = (NodeKey::of(agent), ShardKey::of(agent), self.clock.now());
        let other = self.fleet.same_run(&key, &observation.server.run_id);
        let before = self.fleet.observed(&key, observation.clone(), now);
        let before = before.map(|seen| seen.observation);
        if is_other_story(before.as_ref(), &observation) {
            self.alarms.look_at(&shard);
        }
        let clock = clock.unwrap_or_else(|| on_arrival(&observation, now));
        let mut learned =
            self.histories.with(&shard, |known| known.observe(&agent.node, before.as_ref(), &observation, now, clock));
        if let Some(other) = other {
            let (one, two) = if other.node < agent.node { (&other, agent) } else { (agent, &other) };
            let sentence = format!(
                "nodes {} and {} show the same server (run {}): one of their agents is pointed at the wrong one",
                one.node, two.node, observation.server.run_id
            );
            if self.histories.with(&shard, |known| known.find(sentence.clone())) {
                learned.findings.push(sentence);
            }
        }
        self.keep(&shard, learned).await;
    }

    /// Makes durable what was learned. What does not succeed is said in the log and stays in memory.
    pub async fn keep(&self, shard: &ShardKey, learned: Learned) {
        let Learned { edges, refused, findings, head, marks, ended } = learned;
        {
            let mut unsaved = self.unsaved.lock().expect("nothing panics while it holds what is unsaved");
            if let Some(head) = head {
                unsaved.heads.insert((shard.clone(), head.position.history), head);
            }
            unsaved.ended.extend(ended.map(|run| (shard.clone(), run)));
            unsaved.marks.extend(marks.into_iter().map(|mark| (shard.clone(), mark)));
        }
        for sentence in findings {
            warn!(%shard, finding = %sentence, "something does not fit");
            if let Err(error) = self.catalog.put_finding(shard, &sentence, self.clock.now()).await {
                warn!(%shard, error = %Chain(&error), "could not keep a finding");
            }
        }
        for edge in &edges {
            info!(%shard, child = %edge.child, parent = %edge.parent, evidence = ?edge.evidence, "learned a fork");
        }
        // What was refused is kept as well: without it, nobody would doubt what it contradicts.
        for edge in edges.into_iter().chain(refused) {
            if let Err(error) = self.catalog.put_edge(shard, KnownEdge { edge, recorded: false }).await {
                warn!(%shard, error = %Chain(&error), "could not keep a fork in the catalog");
            }
        }
    }

    /// Keeps saving until the coordinator stops, and once more then.
    pub async fn keep_saving(self: Arc<Self>) {
        let mut thinned = tokio::time::Instant::now();
        while self.stop.run_until_cancelled(tokio::time::sleep(SAVE_EVERY)).await.is_some() {
            self.save().await;
            if thinned.elapsed() >= THIN_EVERY {
                thinned = tokio::time::Instant::now();
                if let Err(error) = self.thin_marks().await {
                    warn!(error = %Chain(&error), "could not thin out old marks");
                }
            }
        }
        self.save().await;
    }

    async fn save(&self) {
        if let Err(error) = self.save_observations().await {
            warn!(error = %Chain(&error), "could not save how far the histories have come; trying again");
        }
        if let Err(error) = self.record_edges().await {
            warn!(error = %Chain(&error), "could not record a fork in the repository; trying again");
        }
    }

    /// Saves marks before there are many: reading a whole repository learns some of every backup.
    pub async fn save_marks_if_many(&self) {
        let marks = self.unsaved.lock().expect("nothing panics while it holds what is unsaved").marks.len();
        if marks >= MARKS_WAITING
            && let Err(error) = self.save_observations().await
        {
            warn!(error = %Chain(&error), "could not save how far the histories have come; trying again");
        }
    }

    async fn save_observations(&self) -> Result<(), CatalogError> {
        let seen = self.fleet.take_unsaved();
        let unsaved = std::mem::take(&mut *self.unsaved.lock().expect("nothing panics while it holds what is unsaved"));
        if !seen.is_empty()
            && let Err(error) = self.catalog.put_observations(&seen).await
        {
            warn!(error = %Chain(&error), "could not save observations; the next ones will tell the same");
        }
        let heads: Vec<_> = unsaved.heads.iter().map(|((shard, _), head)| (shard.clone(), head.clone())).collect();
        let Unsaved { marks, ended, .. } = unsaved;
        if heads.is_empty() && marks.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let saved = self.catalog.put_progress(&heads, &marks, &ended).await;
        if saved.is_err() {
            // Nobody tells of a head again that does not move, or of a run that has ended.
            let mut unsaved = self.unsaved.lock().expect("nothing panics while it holds what is unsaved");
            unsaved.ended.extend(ended);
            for (shard, head) in heads {
                unsaved.heads.entry((shard, head.position.history)).or_insert(head);
            }
        }
        saved
    }

    /// The catalog drops the marks that memory drops: after a restart the same is known.
    async fn thin_marks(&self) -> Result<(), CatalogError> {
        for shard in self.shards(None) {
            let backups = self.catalog.backups_of(&shard).await?;
            let positions = backups.iter().filter_map(|entry| entry.position);
            let gone = self.histories.with(&shard, |known| known.thin(self.clock.now(), positions));
            self.catalog.drop_marks(&shard, &gone).await?;
        }
        Ok(())
    }
}

/// An observation that was made before the session, or on its way, is not older than this when it arrives.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

/// Until an agent's clock has been compared with ours, its observations are from when they arrive, or from a
/// little before.
fn on_arrival(observation: &NodeObservation, now: Timestamp) -> ClockSkew {
    let ahead_ms = observation.observed_at.as_millis().saturating_sub(now.as_millis());
    ClockSkew { ahead_ms, within: ARRIVES_WITHIN }
}
