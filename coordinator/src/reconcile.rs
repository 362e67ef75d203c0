//! The catalog follows the repository: what is committed there is listed here, what is gone there goes
//! here, and what cannot be believed is shown as such without hiding the others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_planner::AcceptedLineage;
use urtext_repository::{BackupKey, Manifest, ReadError, RecordBody, RecordKind};
use urtext_types::{Chain, DeploymentName, ErrorKind, Explain, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, Decision, KnownEdge},
    histories::Learned,
    shard::ShardKey,
};

/// How often everything is compared without anybody asking.
const EVERY: Duration = Duration::from_secs(60);

/// Up to so many backups, every manifest is read and verified again whenever somebody looks: some 0.2 s.
/// Beyond that, only the ones that are new.
const VERIFIED_EACH_TIME: usize = 1000;

impl App {
    /// Compares catalog and repository, of one deployment or of all.
    ///
    /// # Errors
    /// The repository or the catalog does not answer: nothing is changed then.
    pub async fn reconcile(&self, deployment: Option<&DeploymentName>) -> Result<(), Fault> {
        let attempt = || "compare the catalog with the repository".to_owned();
        // In this order: what is indexed was committed before, so that a backup which is committed meanwhile
        // is not taken for one that has disappeared.
        let indexed = self.catalog.backups(deployment).await.map_err(Fault::while_doing(attempt()))?;
        let found = self.repository.backups(deployment).await.map_err(Fault::while_doing(attempt()))?;
        let mut indexed: BTreeMap<BackupKey, BackupEntry> =
            indexed.into_iter().map(|entry| (entry.key(), entry)).collect();
        let verify_all = found.len() <= VERIFIED_EACH_TIME;
        let mut unreadable = BTreeMap::new();
        for key in found {
            let entry = indexed.remove(&key);
            if entry.as_ref().is_some_and(|entry| entry.damaged.is_none()) && !verify_all {
                continue;
            }
            match self.repository.read_backup(key.clone(), &self.verifier).await {
                Ok(reader) => match entry {
                    // Committed and indexed meanwhile, with what its session knows.
                    None if self.is_indexed(&key).await? => {}
                    None => {
                        info!(backup = %key, "found a backup in the repository");
                        self.index(reader.manifest(), key.id.timestamp(), None).await?;
                    }
                    Some(mut entry) if entry.damaged.is_some() => {
                        entry.damaged = None;
                        self.catalog.put_backup(&entry).await.map_err(Fault::while_doing(attempt()))?;
                    }
                    Some(_) => {}
                },
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    return Err(Fault::while_doing(attempt())(error));
                }
                // Removed between the listing and the reading.
                Err(ReadError::NotCommitted { .. }) => {}
                Err(error) => {
                    let reason = Chain(&error).to_string();
                    self.mark_damaged(entry, &reason).await?;
                    unreadable.insert(key, reason);
                }
            }
        }
        for key in indexed.into_keys() {
            warn!(backup = %key, "a backup has disappeared from the repository");
            self.catalog.remove_backup(&key).await.map_err(Fault::while_doing(attempt()))?;
        }
        let mut known = self.unreadable.lock().expect("nothing panics while it holds the unreadable");
        for (key, reason) in &unreadable {
            if known.get(key) != Some(reason) {
                warn!(backup = %key, %reason, "a backup cannot be read");
            }
        }
        known.retain(|key, _| deployment.is_some_and(|deployment| key.deployment != *deployment));
        known.extend(unreadable);
        Ok(())
    }

    async fn is_indexed(&self, key: &BackupKey) -> Result<bool, Fault> {
        let indexed = self.catalog.backup_at(key).await.map_err(Fault::while_doing("look up a backup"))?;
        Ok(indexed.is_some())
    }

    async fn mark_damaged(&self, entry: Option<BackupEntry>, reason: &str) -> Result<(), Fault> {
        let Some(mut entry) = entry else { return Ok(()) };
        if entry.damaged.as_deref() == Some(reason) {
            return Ok(());
        }
        entry.damaged = Some(reason.to_owned());
        self.catalog.put_backup(&entry).await.map_err(Fault::while_doing("mark a backup as damaged"))
    }

    /// Adds a committed backup to the catalog, and what its manifest says of the histories.
    ///
    /// `skew_ms` is how far its agent's clock was ahead, where that was measured.
    pub async fn index(
        &self,
        manifest: &Manifest,
        received_at: Timestamp,
        skew_ms: Option<i64>,
    ) -> Result<BackupEntry, Fault> {
        let entry = entry(manifest, received_at);
        self.catalog.put_backup(&entry).await.map_err(Fault::while_doing("index a backup"))?;
        self.fleet.know(&AgentIdentity {
            deployment: manifest.deployment.clone(),
            shard: manifest.shard.clone(),
            site: manifest.site.clone(),
            node: manifest.node.clone(),
        });
        let shard = ShardKey::new(manifest.deployment.clone(), manifest.shard.clone());
        let skew_ms = skew_ms.unwrap_or_else(|| estimated_skew(manifest));
        for learned in self.histories.with(&shard, |known| learn_from(known, manifest, received_at, skew_ms)) {
            self.keep(&shard, learned).await;
        }
        Ok(entry)
    }

    /// Goes on comparing until the coordinator stops.
    pub async fn keep_reconciling(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = self.reconcile(None).await {
                warn!(error = %Chain(&error), "could not compare the catalog with the repository; trying again");
            }
        }
    }
}

fn entry(manifest: &Manifest, received_at: Timestamp) -> BackupEntry {
    BackupEntry {
        deployment: manifest.deployment.clone(),
        shard: manifest.shard.clone(),
        id: manifest.backup,
        site: manifest.site.clone(),
        node: manifest.node.clone(),
        position: manifest.position,
        taken_at: manifest.timings.started_at,
        received_at,
        keys: manifest.contents.keys(),
        rdb_bytes: manifest.rdb.bytes,
        stored_bytes: manifest.stored_bytes(),
        method: manifest.method,
        engine: manifest.server.engine,
        server_version: manifest.server.version.clone(),
        rdb_version: manifest.rdb.version,
        run_id: manifest.server.run_id.clone(),
        stale: manifest.stale.as_ref().map(|stale| stale.reason.clone()),
        damaged: None,
        content_digest: manifest.rdb.content_digest,
        recipients: manifest.recipients.iter().map(ToString::to_string).collect(),
    }
}

fn learn_from(
    known: &mut crate::histories::ShardHistories,
    manifest: &Manifest,
    received_at: Timestamp,
    skew_ms: i64,
) -> Vec<Learned> {
    let mut learned = Vec::new();
    for edge in manifest.lineage.iter().chain(&manifest.fork) {
        learned.push(known.learn_edge(*edge));
    }
    for observation in manifest.observed_before.iter().chain(&manifest.observed_after) {
        learned.push(known.observe(&manifest.node, None, observation, received_at, skew_ms));
    }
    learned
}

/// How far the agent's clock was ahead, judged by the id of the backup, which the coordinator made from
/// its own clock just before the capture began. Below half a minute that may as well be waiting.
fn estimated_skew(manifest: &Manifest) -> i64 {
    let skew = manifest.timings.started_at.as_millis().saturating_sub(manifest.backup.timestamp().as_millis());
    if skew.unsigned_abs() > 30_000 { skew } else { 0 }
}
