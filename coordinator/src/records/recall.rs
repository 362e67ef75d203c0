//! What the records say of histories and copies, taken in whenever a coordinator starts.

use tracing::warn;
use urtext_planner::{AcceptedLineage, AcceptedLoss};
use urtext_repository::{Record, RecordBody, RecordKind};
use urtext_types::{Chain, ForkEdge, NodeName, Position, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{Decision, KnownEdge, Vouch},
    shard::ShardKey,
};

/// One thing that the repository says about a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recalled {
    Fork(ForkEdge),
    Decision(Decision),
    Vouch(Vouch),
    Losses(Vec<AcceptedLoss>),
}

/// What all records say, each about its shard, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Recollection {
    pub recalled: Vec<(ShardKey, Recalled)>,
    /// Records that could not be read, each with the reason.
    pub unreadable: Vec<String>,
}

/// What a record says about a shard; an audit record says nothing about copies.
fn recalled(record: Record) -> Option<(ShardKey, Recalled)> {
    let Record { id, deployment, who, at, reason, body, .. } = record;
    let reason = reason.unwrap_or_default();
    let (shard, recalled) = match body {
        RecordBody::LineageEdge { shard, edge } => (shard, Recalled::Fork(edge)),
        RecordBody::AcceptedLineage { shard, history, over } => {
            let accepted = AcceptedLineage { history, over, at, by: who, reason };
            (shard, Recalled::Decision(Decision { record: id, accepted }))
        }
        RecordBody::Vouch { shard, backup } => {
            (shard, Recalled::Vouch(Vouch { record: id, backup, by: who, at, reason }))
        }
        // What was proved is in the catalog, and read again only when that is made anew: see `rebuild`. Orders are
        // read whenever something is to go: see `retention`.
        RecordBody::Verified { .. } | RecordBody::Hold { .. } | RecordBody::LetGo { .. } | RecordBody::Audit { .. } => {
            return None;
        }
        RecordBody::AcceptedLoss { shard, restored, nodes, .. } => {
            (shard, Recalled::Losses(accepted_losses(restored, nodes, at, &who, &reason)))
        }
    };
    Some((ShardKey::new(deployment, shard), recalled))
}

/// What a record of an accepted loss says to those who ask later. Of a backup without a position, and of what has
/// none itself, nobody can say later whether it is the same.
pub(crate) fn accepted_losses(
    restored: Option<Position>,
    nodes: Vec<(NodeName, Position)>,
    at: Timestamp,
    by: &str,
    reason: &str,
) -> Vec<AcceptedLoss> {
    let Some(restored) = restored else { return Vec::new() };
    let loss =
        |(node, position)| AcceptedLoss { node, position, restored, at, by: by.to_owned(), reason: reason.to_owned() };
    nodes.into_iter().map(loss).collect()
}

impl App {
    /// Takes in the records of all deployments.
    pub async fn recall_records(&self) -> Result<(), Fault> {
        let kinds = [RecordKind::LineageEdge, RecordKind::AcceptedLineage, RecordKind::Vouch, RecordKind::AcceptedLoss];
        let Recollection { recalled, unreadable } = self.read_records(&kinds).await?;
        for sentence in &unreadable {
            warn!(record = %sentence, "a record cannot be read");
        }
        *self.unreadable_records.lock().expect("nothing panics while it holds the unreadable") = unreadable;
        for (shard, recalled) in recalled {
            self.recall(&shard, recalled).await?;
        }
        Ok(())
    }

    /// Reads what all records of these kinds say about copies.
    ///
    /// # Errors
    /// They cannot be listed. One that cannot be read does not hide the others.
    pub async fn read_records(&self, kinds: &[RecordKind]) -> Result<Recollection, Fault> {
        let attempt = || "read the records of the repository".to_owned();
        let mut all = Recollection::default();
        for deployment in self.recorded_deployments().await? {
            for &kind in kinds {
                let records = self.records(&deployment, kind).await.map_err(Fault::while_doing(attempt()))?;
                for record in records {
                    match record {
                        Ok(record) => all.recalled.extend(recalled(record)),
                        Err(error) => all.unreadable.push(Chain(&error).to_string()),
                    }
                }
            }
        }
        Ok(all)
    }

    async fn recall(&self, shard: &ShardKey, recalled: Recalled) -> Result<(), Fault> {
        match recalled {
            Recalled::Fork(edge) => {
                let mut learned = self.histories.with(shard, |known| known.learn_edge(edge));
                // It has its record already.
                for edge in learned.edges.drain(..).chain(learned.refused.drain(..)) {
                    self.catalog
                        .put_edge(shard, KnownEdge { edge, recorded: true })
                        .await
                        .map_err(Fault::while_doing("keep a fork"))?;
                }
                self.keep(shard, learned).await;
            }
            Recalled::Decision(decision) => {
                self.histories.with(shard, |known| {
                    if !known.decisions.contains(&decision.accepted) {
                        known.decisions.push(decision.accepted.clone());
                    }
                });
                self.catalog
                    .put_decision(shard, &decision)
                    .await
                    .map_err(Fault::while_doing("keep an accepted lineage"))?;
            }
            Recalled::Vouch(vouch) => {
                let kept = self.catalog.put_vouch(shard, &vouch).await;
                kept.map_err(Fault::while_doing("keep what an operator vouches for"))?;
            }
            Recalled::Losses(losses) => self.recall_losses(shard, losses),
        }
        Ok(())
    }

    /// Not in the catalog: where the records cannot be read, a person is asked again.
    pub(crate) fn recall_losses(&self, shard: &ShardKey, losses: Vec<AcceptedLoss>) {
        self.histories.with(shard, |known| {
            known.losses.extend(losses.into_iter().filter(|loss| !known.losses.contains(loss)).collect::<Vec<_>>());
        });
    }
}
