//! What is stored is locked, and its locks are extended for as long as it is to stay.
//!
//! A backup is locked right after it was committed. Once a day, by schedule, the locks of everything that retention keeps
//! are extended; those of what it lets go end by themselves. When a lock ends is remembered with the copy it is of, and
//! only there: a catalog that was lost knows of no lock, and locks again.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tracing::{info, warn};
use urtext_repository::{BackupKey, Lock, LockStore, lock_backup, lock_common};
use urtext_types::{BackupId, Chain, DeploymentName, Explain, RepositoryName, Timestamp};

use crate::{Fault, app::App, catalog::CopyState, repositories::Place, retention::Retained, shard::ShardKey};

/// Clocks of stores and ours may differ by so much, and what was put meanwhile is locked all the same.
const CLOCKS_AGREE_WITHIN: Duration = Duration::from_secs(3600);

/// So many backups are looked up at once.
const LOOKED_UP_AT_ONCE: usize = 500;

/// What was locked in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    pub repository: RepositoryName,
    /// Until when what was locked now is locked.
    pub until: Timestamp,
    /// Backups whose locks were extended.
    pub backups: u64,
    /// Objects, those of these backups and those of none.
    pub objects: u64,
    /// Backups that were locked for long enough.
    pub unchanged: u64,
    /// What could not be locked, each with the reason.
    pub failed: Vec<String>,
}

/// What is of no backup is locked until then, as far as it was there at that time.
#[derive(Debug, Clone, Copy)]
pub struct CommonLock {
    until: Timestamp,
    at: Timestamp,
}

/// How a place locks, and the store that does.
type Locks = (Lock, Arc<dyn LockStore>);

impl Place {
    /// `None` if nothing is locked there.
    fn locks(&self) -> Result<Option<Locks>, Fault> {
        let opened = self.address().open_to_lock();
        let store = opened.map_err(Fault::while_doing(format!("open repository {} to lock in it", self.name())))?;
        Ok(self.address().lock().zip(store))
    }
}

impl App {
    /// Locks a backup that was just committed, in the background: of a large one that takes longer than an agent waits.
    pub fn lock_soon(self: &Arc<Self>, place: &Place, key: &BackupKey) {
        if place.address().lock().is_none() {
            return;
        }
        let (app, name, key) = (Arc::clone(self), place.name().clone(), key.clone());
        self.background.spawn(async move {
            if let Some(place) = app.repositories.get(&name) {
                // What is not locked when the coordinator stops is locked by the next run of the schedule.
                app.stop.run_until_cancelled(app.lock_new(place, &key)).await;
            }
        });
    }

    /// Locks a backup that was just put there. That it is not locked makes it no worse a backup: it is said by
    /// `status`, and the next run of the schedule tries again.
    pub async fn lock_new(&self, place: &Place, key: &BackupKey) {
        let locked = async {
            let Some((lock, store)) = place.locks()? else { return Ok(()) };
            self.lock_one(place, store.as_ref(), key, lock.until(self.clock.now())).await.map(|_| ())
        };
        let locked: Result<(), Fault> = locked.await;
        if let Err(fault) = locked {
            warn!(backup = %key, repository = %place.name(), error = %Chain(&fault), "a backup is not locked");
            place.set_lock_trouble(&key.deployment, Some(Chain(&fault).to_string()));
        }
    }

    async fn lock_one(
        &self,
        place: &Place,
        store: &dyn LockStore,
        key: &BackupKey,
        until: Timestamp,
    ) -> Result<u64, Fault> {
        let locked = lock_backup(store, key, until).await;
        let objects = locked.map_err(Fault::while_doing(format!("lock backup {} in {}", key.id, place.name())))?;
        if let Some(known) = self.known_copy(key, place.name()).await? {
            let state = CopyState { locked_until: Some(until), ..known };
            let kept = self.catalog.put_copy(key, place.name(), &state).await;
            kept.map_err(Fault::while_doing("keep what is known of a copy"))?;
        }
        Ok(objects)
    }

    /// Extends the locks of all that is to stay, in every repository that locks.
    ///
    /// # Errors
    /// What is to stay cannot be said. What could not be locked is in the result.
    pub async fn extend_locks(&self, deployment: Option<&DeploymentName>) -> Result<Vec<Locked>, Fault> {
        if self.repositories.iter().all(|place| place.address().lock().is_none()) {
            return Ok(Vec::new());
        }
        // What is deleted meanwhile would be in the way.
        let _not_while_pruning = self.pruning.lock().await;
        let kept = kept_by_repository(self.retention(deployment).await?);
        let mut deployments: Vec<_> = self.shards(deployment).into_iter().map(|shard| shard.deployment).collect();
        deployments.dedup();
        let mut all = Vec::new();
        for place in self.repositories.iter() {
            let Some((lock, store)) = place.locks()? else { continue };
            let kept = kept.get(place.name()).map_or(&[][..], Vec::as_slice);
            let now = self.clock.now();
            let (repository, until) = (place.name().clone(), lock.until(now));
            let mut locked = Locked { repository, until, backups: 0, objects: 0, unchanged: 0, failed: Vec::new() };
            // For one that does not answer nobody waits object by object.
            let answers = place.check_answers().await;
            for deployment in &deployments {
                let before = locked.failed.len();
                match &answers {
                    Ok(_) => {
                        let kept = kept.iter().filter(|(shard, _)| shard.deployment == *deployment);
                        self.extend_backups(place, lock, store.as_ref(), kept, now, &mut locked).await?;
                        self.extend_common(place, lock, store.as_ref(), deployment, now, &mut locked).await;
                    }
                    Err(fault) => locked.failed.push(Chain(fault).to_string()),
                }
                place.set_lock_trouble(deployment, locked.failed.get(before).cloned());
            }
            info!(repository = %locked.repository, until = %locked.until, backups = locked.backups,
                objects = locked.objects, failed = locked.failed.len(), "extended the locks");
            all.push(locked);
        }
        Ok(all)
    }

    /// Of the backups that are to stay.
    async fn extend_backups(
        &self,
        place: &Place,
        lock: Lock,
        store: &dyn LockStore,
        kept: impl Iterator<Item = &(ShardKey, Vec<BackupId>)>,
        now: Timestamp,
        locked: &mut Locked,
    ) -> Result<(), Fault> {
        for (shard, ids) in kept {
            for ids in ids.chunks(LOOKED_UP_AT_ONCE) {
                let known = self.catalog.backups_at(shard, ids).await;
                let known = known.map_err(Fault::while_doing("look up the backups that stay"))?;
                for entry in known.values() {
                    let copy = entry.copies.get(place.name());
                    if !lock.is_due(copy.and_then(|copy| copy.locked_until), now) {
                        locked.unchanged += 1;
                        continue;
                    }
                    match self.lock_one(place, store, &entry.key(), locked.until).await {
                        Ok(objects) => {
                            locked.backups += 1;
                            locked.objects += objects;
                        }
                        Err(fault) => {
                            locked.failed.push(Chain(&fault).to_string());
                            // It was tried for a while, and so it would be with each of the others.
                            if fault.kind().is_transient() {
                                return Ok(());
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Of what is of no backup.
    async fn extend_common(
        &self,
        place: &Place,
        lock: Lock,
        store: &dyn LockStore,
        deployment: &DeploymentName,
        now: Timestamp,
        locked: &mut Locked,
    ) {
        let known = place.common_lock(deployment).filter(|known| !lock.is_due(Some(known.until), now));
        let put_after = known.map(|known| known.at.minus(CLOCKS_AGREE_WITHIN));
        match lock_common(store, deployment, put_after, locked.until).await {
            Ok(objects) => {
                locked.objects += objects;
                // What was locked before is so until then.
                let until = known.map_or(locked.until, |known| known.until);
                place.set_common_lock(deployment, CommonLock { until, at: now });
            }
            Err(error) => {
                let what = format!("lock what is of no backup in repository {}", place.name());
                locked.failed.push(Chain(&Fault::while_doing(what)(error)).to_string());
            }
        }
    }
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repository, until, backups, objects, unchanged, failed: _ } = self;
        write!(f, "{backups} backups, {objects} objects in {repository} are locked until {until}")?;
        match unchanged {
            0 => Ok(()),
            unchanged => write!(f, ", {unchanged} more backups for long enough"),
        }
    }
}

/// What stays, by repository.
fn kept_by_repository(retained: Vec<Retained>) -> BTreeMap<RepositoryName, Vec<(ShardKey, Vec<BackupId>)>> {
    let mut kept: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for Retained { repository, shard, retention } in retained {
        let ids = retention.kept().map(|verdict| verdict.backup.id).collect();
        kept.entry(repository).or_default().push((shard, ids));
    }
    kept
}
