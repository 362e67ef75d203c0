//! The catalog follows the repository: what is committed there is listed here, what is gone there goes
//! here, and what cannot be believed is shown as such without hiding the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_planner::{ClockSkew, Learned};
use urtext_repository::{BackupKey, Manifest, Repository, SignedManifest, StoreError};
use urtext_types::{Chain, DeploymentName, ErrorKind, Explain, NodeObservation, RepositoryName, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, Copies, CopyState},
    repositories::Place,
    shard::ShardKey,
};

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
    /// Compares the catalog with every repository, of one deployment or of all.
    ///
    /// A repository that does not answer is remembered as down, with what was known of it.
    ///
    /// # Errors
    /// No repository answers, or the catalog does not. What was compared until then stands.
    pub async fn reconcile(&self, deployment: Option<&DeploymentName>) -> Result<(), Fault> {
        // In this order: what is indexed was committed before, so that a backup which is committed meanwhile
        // is not taken for one that has disappeared.
        let indexed = self.catalog.backups(deployment).await.map_err(Fault::while_doing(attempt()))?;
        let answers = futures::future::join_all(self.repositories.iter().map(|place| async move {
            // Before anything that takes long: whether there is anybody.
            place.open_unless_resting().await?;
            let repository = place.check_answers().await?;
            let found = repository.backups(deployment).await.map_err(Fault::while_doing(attempt()));
            if let Err(fault) = &found {
                place.failed(fault);
            }
            Ok((repository, found?))
        }));
        let mut indexed: BTreeMap<BackupKey, BackupEntry> =
            indexed.into_iter().map(|entry| (entry.key(), entry)).collect();
        let (mut answered, mut first_fault) = (false, None);
        for (place, answer) in self.repositories.iter().zip(answers.await) {
            let compared = match answer {
                Ok((repository, found)) => self.compare(place, &repository, found, &mut indexed, deployment).await,
                Err(fault) => Err(Stopped::Silent(fault)),
            };
            match compared {
                Ok(()) => {
                    place.listed(self.clock.now());
                    answered = true;
                }
                Err(Stopped::Silent(fault)) => first_fault = first_fault.or(Some(fault)),
                Err(Stopped::Catalog(fault)) => return Err(fault),
            }
        }
        match first_fault {
            Some(fault) if !answered => Err(fault),
            _ => Ok(()),
        }
    }

    /// Compares the catalog with what was found in one repository. `indexed` is brought into line, too.
    async fn compare(
        &self,
        place: &Place,
        repository: &Repository,
        found: Vec<BackupKey>,
        indexed: &mut BTreeMap<BackupKey, BackupEntry>,
        deployment: Option<&DeploymentName>,
    ) -> Result<(), Stopped> {
        let name = place.name();
        let in_catalog = |error| Stopped::Catalog(Fault::while_doing(attempt())(error));
        let verify_all = found.len() <= VERIFIED_EACH_TIME;
        let listed: BTreeSet<&BackupKey> = found.iter().collect();
        let gone: Vec<BackupKey> = indexed
            .iter()
            .filter(|(key, entry)| entry.copies.contains_key(name) && !listed.contains(key))
            .map(|(key, _)| key.clone())
            .collect();
        let is_to_be_read = |key: &&BackupKey| {
            let copy = indexed.get(*key).and_then(|entry| entry.copies.get(name));
            verify_all || copy.is_none_or(|copy| copy.trouble().is_some())
        };
        let to_read: Vec<&BackupKey> = found.iter().filter(is_to_be_read).collect();
        let mut unreadable = BTreeMap::new();
        for some in to_read.chunks(READS_IN_FLIGHT) {
            let looks = futures::future::join_all(some.iter().map(|key| self.look(repository, key))).await;
            for (&key, look) in some.iter().zip(looks) {
                if matches!(look, Look::Unreadable(_)) {
                    // That one object cannot be read is said of that one; that none can be, of the repository.
                    place.check_answers().await.map_err(Stopped::Silent)?;
                }
                if let Some(reason) = self.take_in(place, key, indexed, look).await.map_err(Stopped::Catalog)? {
                    unreadable.insert((key.clone(), name.clone()), reason);
                }
            }
        }
        for key in gone {
            warn!(backup = %key, repository = %name, "a backup has disappeared from the repository");
            self.catalog.remove_copy(&key, name).await.map_err(in_catalog)?;
        }
        let mut known = self.unreadable.lock().expect("nothing panics while it holds the unreadable");
        for ((key, _), reason) in &unreadable {
            if known.get(&(key.clone(), name.clone())) != Some(reason) {
                warn!(backup = %key, repository = %name, %reason, "a backup cannot be read");
            }
        }
        known.retain(|(key, place), _| place != name || deployment.is_some_and(|wanted| key.deployment != *wanted));
        known.extend(unreadable);
        Ok(())
    }

    /// Reads and verifies one manifest.
    pub async fn look(&self, repository: &Repository, key: &BackupKey) -> Look {
        let name = key.manifest();
        let mut tries = 1;
        let bytes = loop {
            let read = tokio::time::timeout(READ_LIMIT, repository.store().get(&name)).await;
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

    /// Brings the entry of one copy into line with what was found. Returns why it cannot be read, if so.
    async fn take_in(
        &self,
        place: &Place,
        key: &BackupKey,
        indexed: &mut BTreeMap<BackupKey, BackupEntry>,
        look: Look,
    ) -> Result<Option<String>, Fault> {
        let (damaged, unreadable) = match look {
            // Removed between the listing and the reading.
            Look::Gone => return Ok(None),
            Look::Good(manifest) => {
                if !indexed.contains_key(key) {
                    // Committed and indexed meanwhile, with what its session knows.
                    let known = self.catalog.backup_at(key).await.map_err(Fault::while_doing("look up a backup"))?;
                    let entry = match known {
                        Some(entry) => entry,
                        None => {
                            info!(backup = %key, repository = %place.name(), "found a backup in the repository");
                            self.index(&manifest, place.name(), key.id.timestamp(), None).await?
                        }
                    };
                    indexed.insert(key.clone(), entry);
                }
                (None, None)
            }
            Look::Damaged(reason) => (Some(reason), None),
            Look::Unreadable(reason) => (None, Some(reason)),
        };
        let reason = damaged.clone().or(unreadable.clone());
        // A manifest that was never read says nothing to be listed.
        if let Some(entry) = indexed.get_mut(key) {
            let known = entry.copies.get(place.name());
            let now = CopyState { damaged, unreadable, ..known.cloned().unwrap_or_default() };
            if known != Some(&now) {
                let kept = self.catalog.put_copy(key, place.name(), &now).await;
                kept.map_err(Fault::while_doing("keep what is known of a copy"))?;
                entry.copies.insert(place.name().clone(), now);
            }
        }
        Ok(reason)
    }

    /// Adds a committed backup to the catalog, and what its manifest says of the histories.
    ///
    /// `clock` is how its agent's clock stood, where that was measured.
    pub async fn index(
        &self,
        manifest: &Manifest,
        repository: &RepositoryName,
        received_at: Timestamp,
        clock: Option<ClockSkew>,
    ) -> Result<BackupEntry, Fault> {
        let mut entry = entry(manifest, received_at);
        entry.copies.insert(repository.clone(), CopyState::default());
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
            self.spread_records().await;
        }
    }
}

/// Why a comparison ended early.
enum Stopped {
    /// The repository does not answer.
    Silent(Fault),
    Catalog(Fault),
}

fn attempt() -> String {
    "compare the catalog with the repository".to_owned()
}

/// What the catalog keeps of a manifest, without the places where it is.
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
        content_digest: manifest.rdb.content_digest,
        recipients: manifest.recipients.iter().map(ToString::to_string).collect(),
        copies: Copies::default(),
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
