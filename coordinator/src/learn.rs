//! What is seen becomes what is known: in memory at once, in the catalog within seconds, edges also as
//! records in the repository, so that another coordinator that has only that learns the same tree.

use std::{sync::Arc, time::Duration};

use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_repository::{Record, RecordBody};
use urtext_types::{Chain, ForkEdge, NodeObservation, RecordId};

use crate::{
    Fault,
    app::App,
    catalog::{CatalogError, KnownEdge},
    clock::entropy,
    histories::{EXACT_SAMPLES_FOR, Learned, OLD_SAMPLES_EVERY},
    shard::{NodeKey, ShardKey},
};

/// A crash loses at most so much of what was observed.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// How often old samples are thinned out.
const THIN_EVERY: Duration = Duration::from_secs(600);

impl App {
    /// One look at one server, from its agent.
    pub async fn observed(&self, agent: &AgentIdentity, observation: NodeObservation, skew_ms: i64) {
        let (key, shard, now) = (NodeKey::of(agent), ShardKey::of(agent), self.clock.now());
        let other = self.fleet.same_run(&key, &observation.server.run_id);
        let before = self.fleet.observed(&key, observation.clone(), now);
        let before = before.map(|seen| seen.observation);
        let mut learned = self
            .histories
            .with(&shard, |known| known.observe(&agent.node, before.as_ref(), &observation, now, skew_ms));
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
        let Learned { edges, findings, head, sample } = learned;
        {
            let mut unsaved = self.unsaved.lock().expect("nothing panics while it holds what is unsaved");
            if let Some(head) = head {
                unsaved.heads.insert((shard.clone(), head.position.history), head);
            }
            unsaved.samples.extend(sample.map(|sample| (shard.clone(), sample)));
        }
        for sentence in findings {
            warn!(%shard, finding = %sentence, "something does not fit");
            if let Err(error) = self.catalog.put_finding(shard, &sentence, self.clock.now()).await {
                warn!(%shard, error = %Chain(&error), "could not keep a finding");
            }
        }
        for edge in edges {
            info!(%shard, child = %edge.child, parent = %edge.parent, evidence = ?edge.evidence, "learned a fork");
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
                let before = self.clock.now().minus(EXACT_SAMPLES_FOR);
                if let Err(error) = self.catalog.thin_samples(before, OLD_SAMPLES_EVERY).await {
                    warn!(error = %Chain(&error), "could not thin out old samples");
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

    async fn save_observations(&self) -> Result<(), CatalogError> {
        let seen = self.fleet.take_unsaved();
        let unsaved = std::mem::take(&mut *self.unsaved.lock().expect("nothing panics while it holds what is unsaved"));
        if !seen.is_empty()
            && let Err(error) = self.catalog.put_observations(&seen).await
        {
            warn!(error = %Chain(&error), "could not save observations; the next ones will tell the same");
        }
        let heads: Vec<_> = unsaved.heads.into_iter().map(|((shard, _), head)| (shard, head)).collect();
        if heads.is_empty() && unsaved.samples.is_empty() {
            return Ok(());
        }
        let saved = self.catalog.put_progress(&heads, &unsaved.samples).await;
        if saved.is_err() {
            // Nobody tells of a head again that does not move.
            let mut unsaved = self.unsaved.lock().expect("nothing panics while it holds what is unsaved");
            for (shard, head) in heads {
                unsaved.heads.entry((shard, head.position.history)).or_insert(head);
            }
        }
        saved
    }

    /// Writes the records of edges that have none yet.
    async fn record_edges(&self) -> Result<(), Fault> {
        let unrecorded = self.catalog.unrecorded_edges().await.map_err(Fault::while_doing("look for new forks"))?;
        for (shard, edge) in unrecorded {
            self.record_edge(&shard, edge).await?;
        }
        Ok(())
    }

    async fn record_edge(&self, shard: &ShardKey, edge: ForkEdge) -> Result<(), Fault> {
        let body = RecordBody::LineageEdge { shard: shard.shard.clone(), edge };
        self.put_record(shard, "coordinator", None, body).await?;
        self.catalog
            .put_edge(shard, KnownEdge { edge, recorded: true })
            .await
            .map_err(Fault::while_doing("keep a fork"))
    }

    /// Keeps a record in the repository.
    pub async fn put_record(
        &self,
        shard: &ShardKey,
        who: &str,
        reason: Option<String>,
        body: RecordBody,
    ) -> Result<RecordId, Fault> {
        let now = self.clock.now();
        let id = RecordId::new(now, entropy());
        let record = Record {
            format_version: urtext_repository::FORMAT_VERSION,
            id,
            deployment: shard.deployment.clone(),
            who: who.to_owned(),
            at: now,
            reason,
            body,
        };
        self.repository.put_record(&record).await.map_err(Fault::while_doing("keep a record in the repository"))?;
        Ok(id)
    }
}
