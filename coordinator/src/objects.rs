//! The repository for those who reach it only through the coordinator.
//!
//! An object is held in memory while it arrives, because its digest must be right before it is put; so the
//! number of them is bounded ([`OBJECTS_AT_ONCE`]), and further agents wait. A manifest is the commit: it is
//! verified, put, indexed and announced, in this order; whatever comes between two of these steps, the next
//! look at the repository brings the rest about.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_repository::{
    BackupKey, Location, MAX_OBJECT_BYTES, Manifest, ObjectName, PutOutcome, Repository, Sha256Digest, SignedManifest,
    StoreError,
};
use urtext_types::{ByteCount, Chain, ErrorKind, Explain};

use crate::{
    Fault,
    app::App,
    catalog::BackupEntry,
    repositories::Place,
    shard::{NodeKey, ShardKey},
    tasks::{Outcome, Task},
};

/// Three objects of 17 MiB, each perhaps twice while it goes to the disk, keep the coordinator below
/// 128 MiB; on one disk more would not be faster.
pub const OBJECTS_AT_ONCE: usize = 3;

/// An agent that sends nothing for so long gives up its place.
pub const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// Places in memory for objects.
#[derive(Debug)]
pub struct PutGate(Semaphore);

impl Default for PutGate {
    fn default() -> Self {
        Self(Semaphore::new(OBJECTS_AT_ONCE))
    }
}

impl PutGate {
    /// Waits for a place.
    pub async fn enter(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("the gate is never closed")
    }
}

/// What an agent announced before it sends an object.
#[derive(Debug)]
pub struct Announced {
    pub name: ObjectName,
    location: Location,
    pub size: usize,
    sha256: Sha256Digest,
    /// Its backup is committed: what is there may be sent again, and nothing is added.
    is_committed: bool,
}

impl App {
    /// Whether that agent may put this object now.
    pub async fn announce(
        &self,
        agent: &AgentIdentity,
        name: &str,
        size: u64,
        sha256: &[u8],
    ) -> Result<Announced, Fault> {
        let usage = |message: String| Fault::new(ErrorKind::Usage, message);
        let name: ObjectName = name.parse().map_err(Fault::while_doing("put an object"))?;
        let denied = |why: String| {
            Fault::new(ErrorKind::Denied, format!("agent {agent} may not write {name}: {why}"))
                .with_hint("an agent writes only the backup that it was asked to take")
        };
        let location = Location::parse(&name).ok_or_else(|| denied("it is no part of a backup".to_owned()))?;
        let (Location::Manifest(key) | Location::Part(key, _) | Location::Settings(key)) = &location else {
            return Err(denied("it is no part of a backup".to_owned()));
        };
        let is_committed = self.may_write(agent, key).await?.map_err(denied)?;
        if size > MAX_OBJECT_BYTES as u64 {
            let (size, limit) = (ByteCount::new(size), ByteCount::new(MAX_OBJECT_BYTES as u64));
            return Err(usage(format!("{name} has {size}; an object may have {limit}")));
        }
        let sha256: [u8; 32] =
            sha256.try_into().map_err(|_| usage(format!("the SHA-256 of {name} has {} bytes", sha256.len())))?;
        Ok(Announced { name, location, size: size as usize, sha256: Sha256Digest::from_bytes(sha256), is_committed })
    }

    /// Whether the backup is committed already; `Err` with the reason if that agent may not write there.
    async fn may_write(&self, agent: &AgentIdentity, key: &BackupKey) -> Result<Result<bool, String>, Fault> {
        if self.tasks.capture(agent, key).is_some() {
            return Ok(Ok(false));
        }
        // An answer got lost, and the same bytes come again. Nodes of two deployments may have one name.
        let committed = self.catalog.backup_at(key).await.map_err(Fault::while_doing("look up a backup"))?;
        let is_own = |entry: &BackupEntry| {
            (&entry.deployment, &entry.shard, &entry.node) == (&agent.deployment, &agent.shard, &agent.node)
        };
        Ok(match committed {
            Some(entry) if is_own(&entry) => Ok(true),
            Some(_) | None => Err("it was not asked for that backup".to_owned()),
        })
    }

    /// Puts an object that arrived whole. Says whether it was there already.
    pub async fn put(
        self: &Arc<Self>,
        agent: &AgentIdentity,
        announced: Announced,
        bytes: Bytes,
    ) -> Result<PutOutcome, Fault> {
        let Announced { name, location, size: _, sha256, is_committed } = announced;
        let hashed = bytes.clone();
        let found = tokio::task::spawn_blocking(move || Sha256Digest::of(&hashed)).await;
        let found = found.map_err(|error| Fault::new(ErrorKind::Internal, format!("hash an object: {error}")))?;
        if found != sha256 {
            let message = format!("{name} arrived damaged: its SHA-256 is {found} and should be {sha256}");
            return Err(Fault::new(ErrorKind::Unavailable, message));
        }
        let Location::Manifest(key) = location else {
            if is_committed {
                return self.put_again(agent, &name, &bytes).await;
            }
            let repository = self.repository_for(agent).await?;
            return repository.store().put_new(&name, bytes).await.map_err(Fault::while_doing("store an object"));
        };
        self.commit(agent, &key, bytes).await
    }

    /// What a committed backup consists of is decided: the same bytes are there already, or it is refused.
    async fn put_again(&self, agent: &AgentIdentity, name: &ObjectName, bytes: &Bytes) -> Result<PutOutcome, Fault> {
        match self.repository_for(agent).await?.store().get(name).await {
            Ok(there) if there == *bytes => Ok(PutOutcome::AlreadyIdentical),
            Ok(_) | Err(StoreError::NotFound { .. }) => {
                let message = format!("agent {agent} may not write {name}: its backup is committed");
                Err(Fault::new(ErrorKind::Denied, message))
            }
            Err(error) => Err(Fault::while_doing("store an object")(error)),
        }
    }

    /// Verifies a manifest, puts it, and lists the backup.
    async fn commit(
        self: &Arc<Self>,
        agent: &AgentIdentity,
        key: &BackupKey,
        bytes: Bytes,
    ) -> Result<PutOutcome, Fault> {
        let refused = || format!("commit backup {}", key.id);
        let manifest = SignedManifest::parse(key, &bytes)
            .and_then(|signed| signed.verify(&self.verifier))
            .map_err(Fault::while_doing(refused()))?;
        if manifest.node != agent.node || manifest.site != agent.site {
            let message = format!(
                "{}: agent {agent} may not commit a backup of node {} at site {}",
                refused(),
                manifest.node,
                manifest.site
            );
            return Err(Fault::new(ErrorKind::Denied, message));
        }
        let place = self.repositories.for_site(&agent.site)?;
        let repository = place.open().await?;
        check_objects(&repository, key, &manifest).await?;
        let known = self.catalog.backup_at(key).await.map_err(Fault::while_doing(refused()))?;
        let outcome =
            repository.store().put_new(&key.manifest(), bytes).await.map_err(Fault::while_doing(refused()))?;
        // From here on the backup is committed, whatever becomes of the rest.
        let clock = self.fleet.node(&NodeKey::of(agent)).and_then(|node| node.session?.clock);
        let entry = match known {
            Some(entry) => entry,
            None => self.index(&manifest, place.name(), self.clock.now(), clock).await?,
        };
        if let Some(task) = self.tasks.capture(agent, key) {
            self.end_task(&task, Outcome::Committed(Box::new(entry))).await;
        }
        self.lock_soon(place, key);
        self.alarms.look_at(&ShardKey::of(agent));
        info!(backup = %key.id, %agent, position = ?manifest.position, "committed a backup");
        Ok(outcome)
    }

    /// Where that agent puts its backups.
    async fn repository_for(&self, agent: &AgentIdentity) -> Result<Repository, Fault> {
        self.repositories.for_site(&agent.site)?.open().await
    }

    /// Records how a task ended, and tells who waits for it.
    pub async fn end_task(&self, task: &Task, outcome: Outcome) {
        let failure = if let Outcome::Failed(failure) = &outcome { Some(failure.clone()) } else { None };
        if let Some(failure) = &failure {
            warn!(task = %task.stored.id, agent = %task.stored.agent, error = %failure, "a task failed");
        }
        if self.tasks.end(task.stored.id, outcome)
            && let Err(error) = self.catalog.end_task(task.stored.id, self.clock.now(), failure.as_ref()).await
        {
            warn!(task = %task.stored.id, error = %Chain(&error), "could not record the end of a task");
        }
        self.share_uploads();
    }

    /// The object, for an agent that restores it.
    pub async fn get_for_agent(&self, agent: &AgentIdentity, name: &str) -> Result<Bytes, Fault> {
        let name: ObjectName = name.parse().map_err(Fault::while_doing("read an object"))?;
        let may_read = match Location::parse(&name) {
            Some(Location::Manifest(key) | Location::Part(key, _) | Location::Settings(key)) => {
                self.tasks.may_read(agent, &key)
            }
            Some(
                Location::Repository
                | Location::Record { .. }
                | Location::Keys(_)
                | Location::HandedOn(_)
                | Location::Authority(_),
            )
            | None => false,
        };
        if !may_read {
            return Err(Fault::new(ErrorKind::Denied, format!("agent {agent} may not read {name}"))
                .with_hint("an agent reads only the backup that it was asked to restore"));
        }
        self.get(&name).await
    }

    /// The object, for somebody who may read everything: from whichever repository gives it.
    pub async fn get(&self, name: &ObjectName) -> Result<Bytes, Fault> {
        let key = match Location::parse(name) {
            Some(Location::Manifest(key) | Location::Part(key, _) | Location::Settings(key)) => Some(key),
            _ => None,
        };
        let mut first_fault = None;
        for place in self.places_with(key.as_ref()).await? {
            let read = async {
                let repository = place.open_unless_resting().await?;
                repository.store().get(name).await.map_err(Fault::while_doing("read an object"))
            };
            match read.await {
                Ok(bytes) => return Ok(bytes),
                Err(fault) => {
                    if fault.kind() == ErrorKind::Unavailable && !place.is_resting() {
                        // Whether that is this object or all of them: what is read next is asked of another one then.
                        let _ = place.check_answers().await;
                    }
                    first_fault = first_fault.or(Some(fault));
                }
            }
        }
        Err(first_fault.unwrap_or_else(|| Fault::new(ErrorKind::NotFound, format!("no repository has {name}"))))
    }

    /// The repositories that have a copy of that backup, in the order in which it is best read: good ones that
    /// answer first. All of them for what belongs to no backup, or to one that nobody knows.
    pub async fn places_with(&self, key: Option<&BackupKey>) -> Result<Vec<&Place>, Fault> {
        let entry = match key {
            Some(key) => self.catalog.backup_at(key).await.map_err(Fault::while_doing("look up a backup"))?,
            None => None,
        };
        let copies = entry.map(|entry| entry.copies).filter(|copies| !copies.is_empty());
        let mut places: Vec<&Place> = self.repositories.iter().collect();
        if let Some(copies) = copies {
            places.retain(|place| copies.contains_key(place.name()));
            let is_bad = |place: &Place| copies.get(place.name()).is_none_or(|copy| copy.trouble().is_some());
            places.sort_by_key(|place| (is_bad(place), place.down().is_some()));
        }
        Ok(places)
    }
}

/// Every object that the manifest names must be there in its size before the backup is listed.
async fn check_objects(repository: &Repository, key: &BackupKey, manifest: &Manifest) -> Result<(), Fault> {
    use futures::TryStreamExt;
    let mut listed = repository.store().list(&key.prefix());
    let mut sizes = std::collections::BTreeMap::new();
    while let Some(object) = listed.try_next().await.map_err(Fault::while_doing("list a backup's objects"))? {
        sizes.insert(object.name.as_str().to_owned(), object.size);
    }
    for object in manifest.parts.iter().chain(&manifest.settings.object) {
        let name = format!("{key}/{}", object.name);
        if sizes.get(&name) != Some(&object.stored_bytes) {
            let message = format!("commit backup {}: {name} is not there in its full size", key.id);
            return Err(Fault::new(ErrorKind::Integrity, message));
        }
    }
    Ok(())
}
