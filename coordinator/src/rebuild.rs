//! `urtext catalog rebuild`: the index is thrown away and made again from the repository, while everything
//! goes on.
//!
//! Kept is what no repository has: who may connect, what is under way, what was observed. All else comes from
//! the manifests and the records, so that a catalog which has gone wrong, or was edited, is right again.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;
use urtext_repository::{BackupKey, Manifest, Proof, RecordKind};
use urtext_types::{Chain, RepositoryId, RepositoryName, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, Copies, CopyState, Index, KnownEdge},
    reconcile::{Look, entry, estimated_clock, learn_from},
    records::{Proved, Recalled, Recollection},
    shard::ShardKey,
};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    pub backups: usize,
    /// Of those: not in the catalog before.
    pub backups_found: usize,
    /// In the catalog before, and not in the repository.
    pub backups_gone: usize,
    pub edges: usize,
    pub contradictions: usize,
    pub accepted: usize,
    pub vouches: usize,
    /// What could not be read, each with the reason.
    pub unreadable: Vec<String>,
}

/// What one manifest says of the histories.
struct Told {
    shard: ShardKey,
    manifest: Manifest,
    received_at: Timestamp,
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
        let before = self.catalog.backups(None).await.map_err(Fault::while_doing(attempt()))?;
        let before: BTreeMap<BackupKey, BackupEntry> = before.into_iter().map(|entry| (entry.key(), entry)).collect();
        let kinds = [RecordKind::LineageEdge, RecordKind::AcceptedLineage, RecordKind::Vouch, RecordKind::Verified];
        let Recollection { recalled, unreadable } = self.read_records(&kinds).await?;
        let mut rebuilt = Rebuilt { unreadable, ..Rebuilt::default() };
        let mut index = Index::default();
        let mut proofs = Vec::new();
        for (shard, recalled) in recalled {
            match recalled {
                Recalled::Fork(edge) => index.edges.push((shard, KnownEdge { edge, recorded: true })),
                Recalled::Decision(decision) => index.decisions.push((shard, decision)),
                Recalled::Vouch(vouch) => index.vouches.push((shard, vouch)),
                Recalled::Proof(proof) => proofs.push((shard, proof)),
            }
        }
        let told = self.read_manifests(&before, &mut index, &mut rebuilt).await?;
        self.apply_proofs(&proofs, &mut index).await;
        let listed: BTreeSet<BackupKey> = index.backups.iter().map(BackupEntry::key).collect();
        rebuilt.backups = listed.len();
        rebuilt.backups_found = listed.iter().filter(|key| !before.contains_key(key)).count();
        rebuilt.backups_gone = before.keys().filter(|key| !listed.contains(key)).count();
        (rebuilt.accepted, rebuilt.vouches) = (index.decisions.len(), index.vouches.len());

        self.catalog.replace_index(&index).await.map_err(Fault::while_doing(attempt()))?;
        let known = self.catalog.lineages().await.map_err(Fault::while_doing(attempt()))?;
        self.histories.relearn(&known);
        for Told { shard, manifest, received_at } in told {
            let clock = estimated_clock(&manifest);
            for learned in self.histories.with(&shard, |known| learn_from(known, &manifest, received_at, clock)) {
                self.keep(&shard, learned).await;
            }
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

    /// What was proved of the copies, the later finding instead of the earlier one.
    async fn apply_proofs(&self, proofs: &[(ShardKey, Proved)], index: &mut Index) {
        let mut names: BTreeMap<RepositoryId, RepositoryName> = BTreeMap::new();
        for place in self.repositories.iter() {
            // Of one that is down nothing new is known.
            if let Ok(repository) = place.open_unless_resting().await {
                names.insert(repository.header().repository, place.name().clone());
            }
        }
        let by_key: BTreeMap<BackupKey, usize> =
            index.backups.iter().enumerate().map(|(place, entry)| (entry.key(), place)).collect();
        for (shard, proof) in proofs {
            let Some(name) = names.get(&proof.repository) else { continue };
            let all = proof.good.iter().map(|id| (id, None));
            for (id, reason) in all.chain(proof.damaged.iter().map(|(id, reason)| (id, Some(reason)))) {
                let key = BackupKey { deployment: shard.deployment.clone(), shard: shard.shard.clone(), id: *id };
                let entry = by_key.get(&key).map(|place| &mut index.backups[*place]);
                if let Some(copy) = entry.and_then(|entry| entry.copies.get_mut(name)) {
                    let proved_at = reason.is_none().then_some(proof.at);
                    copy.broken = reason.cloned();
                    match proof.how {
                        Proof::Stored => copy.verified_at = proved_at,
                        Proof::Rehearsed => copy.rehearsed_at = proved_at,
                    }
                }
            }
        }
    }

    async fn read_manifests(
        &self,
        before: &BTreeMap<BackupKey, BackupEntry>,
        index: &mut Index,
        rebuilt: &mut Rebuilt,
    ) -> Result<Vec<Told>, Fault> {
        let mut entries: BTreeMap<BackupKey, BackupEntry> = BTreeMap::new();
        let mut told: BTreeMap<BackupKey, Told> = BTreeMap::new();
        for place in self.repositories.iter() {
            let answer = async {
                let repository = place.check_answers().await?;
                let found = repository.backups(None).await.map_err(Fault::while_doing("list the backups"))?;
                Ok::<_, Fault>((repository, found))
            };
            let (repository, found) = match answer.await {
                Ok(answer) => answer,
                // What was known of it is all that there is; with one repository there would be nothing.
                Err(fault) if self.repositories.iter().count() > 1 => {
                    rebuilt.unreadable.push(format!("repository {}: {}", place.name(), Chain(&fault)));
                    remember(place.name(), before, &mut entries);
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            for key in found {
                let known = before.get(&key);
                let state = known.and_then(|entry| entry.copies.get(place.name())).cloned().unwrap_or_default();
                let (damaged, unreadable) = match self.look(&repository, &key).await {
                    Look::Good(manifest) => {
                        let mut manifest = *manifest;
                        // Only the coordinator that was there knows when it arrived; its id is from then, nearly.
                        let received_at = known.map_or(key.id.timestamp(), |entry| entry.received_at);
                        let copies = entries.remove(&key).map(|entry| entry.copies).unwrap_or_default();
                        entries.insert(key.clone(), BackupEntry { copies, ..entry(&manifest, received_at) });
                        // Of a large backup they are thousands, and say nothing about histories.
                        manifest.parts = Vec::new();
                        let shard = ShardKey::new(manifest.deployment.clone(), manifest.shard.clone());
                        told.entry(key.clone()).or_insert(Told { shard, manifest, received_at });
                        (None, None)
                    }
                    Look::Gone => continue,
                    Look::Damaged(reason) => (Some(reason), None),
                    Look::Unreadable(reason) => {
                        place.check_answers().await?;
                        (None, Some(reason))
                    }
                };
                if let Some(reason) = damaged.as_ref().or(unreadable.as_ref()) {
                    rebuilt.unreadable.push(format!("backup {} in {}: {reason}", key.id, place.name()));
                    if let Some(known) = known {
                        let blank = || BackupEntry { copies: Copies::default(), ..known.clone() };
                        entries.entry(key.clone()).or_insert_with(blank);
                    }
                }
                if let Some(entry) = entries.get_mut(&key) {
                    entry.copies.insert(place.name().clone(), CopyState { damaged, unreadable, ..state });
                }
            }
        }
        index.backups = entries.into_values().collect();
        let told: Vec<Told> = told.into_values().collect();
        Ok(told)
    }
}

/// What is known of a repository that cannot be asked now.
fn remember(
    repository: &RepositoryName,
    before: &BTreeMap<BackupKey, BackupEntry>,
    entries: &mut BTreeMap<BackupKey, BackupEntry>,
) {
    for (key, known) in before {
        if let Some(state) = known.copies.get(repository) {
            let blank = || BackupEntry { copies: Copies::default(), ..known.clone() };
            entries.entry(key.clone()).or_insert_with(blank).copies.insert(repository.clone(), state.clone());
        }
    }
}
