//! `urtext catalog rebuild`: the index is thrown away and made again from the repository, while everything
//! goes on.
//!
//! Kept is what no repository has: who may connect, what is under way, what was observed. All else comes from
//! the manifests and the records, so that a catalog which has gone wrong, or was edited, is right again.
//!
//! What is read goes into tables beside the index in use, some hundred backups at a time, and takes its place in the end.
//!
//! **Memory**: some 150 bytes for each backup: its id, and what was proved of it. A manifest is forgotten once it was
//! read.

mod proofs;

use std::{
    collections::{BTreeSet, HashSet},
    pin::pin,
};

use futures::StreamExt;
use tracing::info;
use urtext_repository::{RecordKind, Repository};
use urtext_types::{BackupId, Chain, ForkEdge};

use self::proofs::Proofs;
use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, CopyState, Index, KnownEdge, StagedBackup, StagedCopy},
    manifests::{Look, MANIFESTS_KEPT_AT_ONCE, edges, entry},
    records::{Recalled, Recollection},
    repositories::Place,
    shard::ShardKey,
};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    pub backups: u64,
    /// Of those: not in the catalog before.
    pub backups_found: u64,
    /// In the catalog before, and not in the repository.
    pub backups_gone: u64,
    pub edges: usize,
    pub contradictions: usize,
    pub accepted: usize,
    pub vouches: usize,
    /// What could not be read, each with the reason.
    pub unreadable: Vec<String>,
}

/// What the manifests said of the histories, each statement once, in the order of the backups.
#[derive(Default)]
struct Told {
    edges: Vec<(ShardKey, ForkEdge)>,
    known: HashSet<(ShardKey, ForkEdge)>,
}

impl Told {
    fn tell(&mut self, shard: &ShardKey, edge: ForkEdge) {
        if self.known.insert((shard.clone(), edge)) {
            self.edges.push((shard.clone(), edge));
        }
    }
}

impl App {
    /// Makes the index again.
    ///
    /// # Errors
    /// The repository or the catalog does not answer: the index is as it was.
    pub async fn rebuild_catalog(&self) -> Result<Rebuilt, Fault> {
        let _alone = self.rebuilding.lock().await;
        let attempt = || "rebuild the catalog".to_owned();
        self.record_edges().await?;
        self.spread_records().await;
        let kinds = [RecordKind::LineageEdge, RecordKind::AcceptedLineage, RecordKind::Vouch, RecordKind::AcceptedLoss];
        let Recollection { recalled, unreadable } = self.read_records(&kinds).await?;
        let mut rebuilt = Rebuilt { unreadable, ..Rebuilt::default() };
        let mut index = Index::default();
        let mut losses = Vec::new();
        for (shard, recalled) in recalled {
            match recalled {
                Recalled::Fork(edge) => index.edges.push((shard, KnownEdge { edge, recorded: true })),
                Recalled::Decision(decision) => index.decisions.push((shard, decision)),
                Recalled::Vouch(vouch) => index.vouches.push((shard, vouch)),
                Recalled::Losses(accepted) => losses.push((shard, accepted)),
            }
        }
        (rebuilt.accepted, rebuilt.vouches) = (index.decisions.len(), index.vouches.len());
        let proofs = self.read_proofs(&mut rebuilt.unreadable).await?;
        let told = self.read_repositories(&proofs, &mut rebuilt).await?;
        drop(proofs);

        let replaced = self.catalog.replace_index(&index).await.map_err(Fault::while_doing(attempt()))?;
        (rebuilt.backups, rebuilt.backups_found, rebuilt.backups_gone) =
            (replaced.backups, replaced.found, replaced.gone);
        let known = self.catalog.lineages().await.map_err(Fault::while_doing(attempt()))?;
        self.histories.relearn(&known);
        for (shard, accepted) in losses {
            self.recall_losses(&shard, accepted);
        }
        for (shard, edge) in told.edges {
            let learned = self.histories.with(&shard, |known| known.learn_edge(edge));
            self.keep(&shard, learned).await;
        }
        // What was committed meanwhile.
        self.reconcile(None).await?;
        let shards: BTreeSet<&ShardKey> = known.keys().collect();
        for shard in shards {
            let histories = self.histories.of(shard);
            rebuilt.edges += histories.lineage.edges().count();
            rebuilt.contradictions += histories.contradictions.len();
        }
        info!(backups = rebuilt.backups, edges = rebuilt.edges, "rebuilt the catalog from the repository");
        Ok(rebuilt)
    }

    /// Stages what every repository has.
    async fn read_repositories(&self, proofs: &Proofs, rebuilt: &mut Rebuilt) -> Result<Told, Fault> {
        let in_catalog = || Fault::while_doing("rebuild the catalog");
        self.catalog.clear_staged().await.map_err(in_catalog())?;
        let mut told = Told::default();
        for place in self.repositories.iter() {
            let answer = async {
                let repository = place.check_answers().await?;
                let found = repository
                    .backups_to_read(None, usize::MAX)
                    .await
                    .map_err(Fault::while_doing("list the backups"))?;
                Ok::<_, Fault>((repository, found))
            };
            let (repository, found) = match answer.await {
                Ok(answer) => answer,
                // What was known of it is all that there is; with one repository there would be nothing.
                Err(fault) if self.repositories.iter().count() > 1 => {
                    rebuilt.unreadable.push(format!("repository {}: {}", place.name(), Chain(&fault)));
                    self.catalog.stage_as_known(place.name()).await.map_err(in_catalog())?;
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            for ((deployment, shard), ids) in found {
                let shard = ShardKey::new(deployment, shard);
                for ids in ids.chunks(MANIFESTS_KEPT_AT_ONCE) {
                    let staged = self.read_some(place, &repository, &shard, ids, proofs, &mut told, rebuilt).await?;
                    self.catalog.stage(&staged).await.map_err(in_catalog())?;
                    self.save_marks_if_many().await;
                }
            }
        }
        Ok(told)
    }

    /// Reads some manifests of one shard in one repository.
    #[expect(clippy::too_many_arguments, reason = "where it reads, and the three things that come of it")]
    async fn read_some(
        &self,
        place: &Place,
        repository: &Repository,
        shard: &ShardKey,
        ids: &[BackupId],
        proofs: &Proofs,
        told: &mut Told,
        rebuilt: &mut Rebuilt,
    ) -> Result<Vec<StagedCopy>, Fault> {
        let before = self.catalog.backups_at(shard, ids).await.map_err(Fault::while_doing("rebuild the catalog"))?;
        let mut staged = Vec::with_capacity(ids.len());
        let mut looks = pin!(self.look_at_each(repository, shard, ids));
        while let Some((key, look)) = looks.next().await {
            let known = before.get(&key.id);
            let state = known.and_then(|entry| entry.copies.get(place.name())).cloned().unwrap_or_default();
            let (damaged, unreadable, backup) = match look {
                Look::Good(manifest) => {
                    // Only the coordinator that was there knows when it arrived; its id is from then, nearly.
                    let received_at = known.map_or(key.id.timestamp(), |entry| entry.received_at);
                    edges(&manifest).for_each(|edge| told.tell(shard, edge));
                    // Of offsets and times nothing is forgotten: what is known of them grows at once.
                    self.learn(&manifest, received_at, None).await;
                    (None, None, StagedBackup::Read(Box::new(entry(&manifest, received_at))))
                }
                Look::Gone => continue,
                Look::Damaged(reason) => (Some(reason), None, remembered(known)),
                Look::Unreadable(reason) => {
                    place.check_answers().await?;
                    (None, Some(reason), remembered(known))
                }
            };
            if let Some(reason) = damaged.as_ref().or(unreadable.as_ref()) {
                rebuilt.unreadable.push(format!("backup {} in {}: {reason}", key.id, place.name()));
            }
            let mut state = CopyState { damaged, unreadable, ..state };
            proofs.apply(repository.header().repository, &key, &mut state);
            staged.push(StagedCopy { key, repository: place.name().clone(), state, backup });
        }
        Ok(staged)
    }
}

/// What was known of a backup whose manifest says nothing.
fn remembered(known: Option<&BackupEntry>) -> StagedBackup {
    known.map_or(StagedBackup::Unknown, |entry| StagedBackup::Remembered(Box::new(entry.clone())))
}
