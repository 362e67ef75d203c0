//! The catalog follows the repository: what is committed there is listed here, what is gone there goes
//! here, and what cannot be believed is shown as such without hiding the others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_planner::{ClockSkew, Learned};
use urtext_repository::{BackupKey, Location, Manifest, SignedManifest, StoreError, StoreOperation};
use urtext_types::{Chain, DeploymentName, ErrorKind, Explain, NodeObservation, Timestamp};

use crate::{Fault, app::App, catalog::BackupEntry, shard::ShardKey};

/// How often everything is compared without anybody asking.
const EVERY: Duration = Duration::from_secs(60);

/// Up to so many backups, every manifest is read and verified again whenever somebody looks: some 0.2 s.
/// Beyond that, only the ones that are new.
const VERIFIED_EACH_TIME: usize = 1000;

/// Manifests that are read at the same time.
const READS_IN_FLIGHT: usize = 8;

/// A manifest that cannot be read is tried so often before its backup alone is shown as unreadable. Somebody
/// waits for the answer, and the next who asks tries again.
const READ_TRIES: u32 = 3;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A store that hangs over one object must not hide the others.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// What came of reading one manifest.
#[derive(Debug)]
pub enum Look {
    Good(Box<Manifest>),
    /// There is none.
    Gone,
    /// It was read, and cannot be believed.
    Damaged(String),
    /// It could not be read now.
    Unreadable(String),
}

impl App {
    /// Compares catalog and repository, of one deployment or of all.
    ///
    /// # Errors
    /// The repository or the catalog does not answer. What was compared until then stands.
    pub async fn reconcile(&self, deployment: Option<&DeploymentName>) -> Result<(), Fault> {
        let attempt = || "compare the catalog with the repository".to_owned();
        // In this order: what is indexed was committed before, so that a backup which is committed meanwhile
        // is not taken for one that has disappeared.
        let indexed = self.catalog.backups(deployment).await.map_err(Fault::while_doing(attempt()))?;
        let found = self.repository.backups(deployment).await.map_err(Fault::while_doing(attempt()))?;
        let mut indexed: BTreeMap<BackupKey, BackupEntry> =
            indexed.into_iter().map(|entry| (entry.key(), entry)).collect();
        let verify_all = found.len() <= VERIFIED_EACH_TIME;
        let mut to_read = Vec::new();
        for key in found {
            let entry = indexed.remove(&key);
            if verify_all || entry.as_ref().is_none_or(|entry| entry.trouble().is_some()) {
                to_read.push((key, entry));
            }
        }
        let mut unreadable = BTreeMap::new();
        for some in to_read.chunks(READS_IN_FLIGHT) {
            let looks = futures::future::join_all(some.iter().map(|(key, _)| self.look(key))).await;
            for ((key, entry), look) in some.iter().zip(looks) {
                if matches!(look, Look::Unreadable(_)) {
                    self.check_repository_answers().await.map_err(Fault::while_doing(attempt()))?;
                }
                if let Some(reason) = self.take_in(key, entry.clone(), look).await? {
                    unreadable.insert(key.clone(), reason);
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

    /// Reads and verifies one manifest.
    pub async fn look(&self, key: &BackupKey) -> Look {
        let name = key.manifest();
        let mut tries = 1;
        let bytes = loop {
            let read = tokio::time::timeout(READ_LIMIT, self.repository.store().get(&name)).await;
            match read {
                Ok(Ok(bytes)) => break bytes,
                Ok(Err(StoreError::NotFound { .. })) => return Look::Gone,
                Ok(Err(error)) if error.kind() == ErrorKind::Unavailable && tries < READ_TRIES => {
                    tries += 1;
                    tokio::time::sleep(READ_AGAIN_AFTER).await;
                }
                Ok(Err(error)) => return Look::Unreadable(Chain(&error).to_string()),
                Err(_) => return Look::Unreadable(format!("{name} was not read within {READ_LIMIT:?}")),
            }
        };
        match SignedManifest::parse(key, &bytes).and_then(|signed| signed.verify(&self.verifier)) {
            Ok(manifest) => Look::Good(Box::new(manifest)),
            Err(error) => Look::Damaged(Chain(&error).to_string()),
        }
    }

    /// That one object cannot be read is said of that one; that none can be, of the repository.
    pub async fn check_repository_answers(&self) -> Result<(), StoreError> {
        let name = Location::Repository.name();
        let place = || self.settings.repository.to_string();
        match tokio::time::timeout(READ_LIMIT, self.repository.store().get(&name)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Unavailable {
                operation: StoreOperation::Get,
                object: name.to_string(),
                place: place(),
                source: None,
            }),
        }
    }

    /// Brings the entry of one backup into line with what was found. Returns why it cannot be read, if so.
    async fn take_in(&self, key: &BackupKey, entry: Option<BackupEntry>, look: Look) -> Result<Option<String>, Fault> {
        let (damaged, unreadable) = match look {
            Look::Good(manifest) => {
                match entry {
                    // Committed and indexed meanwhile, with what its session knows.
                    None if self.is_indexed(key).await? => {}
                    None => {
                        info!(backup = %key, "found a backup in the repository");
                        self.index(&manifest, key.id.timestamp(), None).await?;
                    }
                    Some(entry) if entry.trouble().is_some() => self.mark(entry, None, None).await?,
                    Some(_) => {}
                }
                return Ok(None);
            }
            // Removed between the listing and the reading.
            Look::Gone => return Ok(None),
            Look::Damaged(reason) => (Some(reason), None),
            Look::Unreadable(reason) => (None, Some(reason)),
        };
        let reason = damaged.clone().or(unreadable.clone());
        if let Some(entry) = entry {
            self.mark(entry, damaged, unreadable).await?;
        }
        Ok(reason)
    }

    async fn is_indexed(&self, key: &BackupKey) -> Result<bool, Fault> {
        let indexed = self.catalog.backup_at(key).await.map_err(Fault::while_doing("look up a backup"))?;
        Ok(indexed.is_some())
    }

    async fn mark(
        &self,
        mut entry: BackupEntry,
        damaged: Option<String>,
        unreadable: Option<String>,
    ) -> Result<(), Fault> {
        if entry.damaged == damaged && entry.unreadable == unreadable {
            return Ok(());
        }
        (entry.damaged, entry.unreadable) = (damaged, unreadable);
        self.catalog.put_backup(&entry).await.map_err(Fault::while_doing("mark what is wrong with a backup"))
    }

    /// Adds a committed backup to the catalog, and what its manifest says of the histories.
    ///
    /// `clock` is how its agent's clock stood, where that was measured.
    pub async fn index(
        &self,
        manifest: &Manifest,
        received_at: Timestamp,
        clock: Option<ClockSkew>,
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
        let clock = clock.unwrap_or_else(|| estimated_clock(manifest));
        for learned in self.histories.with(&shard, |known| learn_from(known, manifest, received_at, clock)) {
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
            let is_whole = self.unreadable_records.lock().expect("nothing panics while it holds them").is_empty();
            if !is_whole && let Err(error) = self.recall_records().await {
                warn!(error = %Chain(&error), "could not read the records again; trying again");
            }
        }
    }
}

pub fn entry(manifest: &Manifest, received_at: Timestamp) -> BackupEntry {
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
        run_id: uncounted_run(manifest),
        stale: manifest.stale.as_ref().map(|stale| stale.reason.clone()),
        damaged: None,
        unreadable: None,
        content_digest: manifest.rdb.content_digest,
        recipients: manifest.recipients.iter().map(ToString::to_string).collect(),
    }
}

/// In which run of a master that counts nothing it was taken, from beginning to end; empty otherwise.
fn uncounted_run(manifest: &Manifest) -> String {
    let of = |seen: &Option<NodeObservation>| seen.as_ref().map(NodeObservation::uncounted_run).unwrap_or_default();
    let (before, after) = (of(&manifest.observed_before), of(&manifest.observed_after));
    if before == after { before } else { String::new() }
}

pub fn learn_from(
    known: &mut urtext_planner::ShardHistories,
    manifest: &Manifest,
    received_at: Timestamp,
    clock: ClockSkew,
) -> Vec<Learned> {
    let mut learned = Vec::new();
    for edge in manifest.lineage.iter().chain(&manifest.fork) {
        learned.push(known.learn_edge(*edge));
    }
    for observation in manifest.observed_before.iter().chain(&manifest.observed_after) {
        learned.push(known.observe(&manifest.node, None, observation, received_at, clock));
    }
    learned
}

/// The id of a backup is from the coordinator's clock just before the capture began: so much later the agent's
/// clock may show the beginning although both are right.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// How the agent's clock stood, judged by the id of the backup. What may as well be waiting counts as that.
pub fn estimated_clock(manifest: &Manifest) -> ClockSkew {
    let ahead = manifest.timings.started_at.as_millis().saturating_sub(manifest.backup.timestamp().as_millis());
    let is_off = u128::from(ahead.unsigned_abs()) > BEGINS_WITHIN.as_millis();
    ClockSkew { ahead_ms: if is_off { ahead } else { 0 }, within: BEGINS_WITHIN }
}
