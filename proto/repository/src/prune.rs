//! Removing backups, and what no manifest names.
//!
//! A plan first ([`PrunePlan::make`]): complete, printable, and without effect. Then [`PrunePlan::execute`], which
//! makes no choices of its own, may run twice, and may be cut off anywhere.
//!
//! - A backup that goes loses its manifest first: from then on it does not exist, and whatever happens, none is
//!   listed that cannot be restored. Then go its parts.
//! - A folder without a manifest is swept when it is old: by the newest of its objects, *and* by the id of its
//!   backup, and neither by a clock of an agent's. It is listed again right before, and its manifest is asked for
//!   by name: a backup that is committed meanwhile, or a listing that is behind, costs nothing.
//! - Nobody locks anything. Agents write new folders, which are young. Two coordinators that prune at once delete
//!   the same twice, which is once; and each looks, before it removes a backup, whether those that it
//!   relies on to stay are still there.
//!
//! What a store keeps by a lock of its own is counted, and is no error: it goes when it is unlocked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tracing::{info, warn};
use urtext_types::{BackupId, ByteCount, Chain, DeploymentName, Timestamp};

use crate::{
    BackupKey, Location, ObjectInfo, ObjectName, ObjectPrefix, StoreError, SweepStore, Unfinished, store::with_patience,
};

/// For how long a store may fail, in one piece, before one object is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Parts deleted at the same time.
const DELETIONS_IN_FLIGHT: usize = 8;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// Only what is of this deployment.
    pub deployment: Option<DeploymentName>,
    /// The backups that go.
    pub gone: BTreeSet<BackupKey>,
    /// Those of them, and of what has no manifest, that a running task owns: they are left alone.
    pub busy: BTreeSet<BackupId>,
    /// Backups that stay, without which nothing of their shard goes.
    pub relied_on: BTreeSet<BackupKey>,
    /// How old what no manifest names must be.
    pub grace: Duration,
    pub now: Timestamp,
}

/// What goes from one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunePlan {
    /// Backups, oldest first within their shard.
    pub backups: Vec<FolderSeen>,
    /// Folders without a manifest that are old.
    pub orphans: Vec<FolderSeen>,
    /// What is left of puts that did not end.
    pub unfinished: Vec<Unfinished>,
    /// What no manifest names, and is not old yet.
    pub waiting: Waiting,
    relied_on: BTreeSet<BackupKey>,
    grace: Duration,
    now: Timestamp,
}

/// The objects of one backup, as they were listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSeen {
    pub key: BackupKey,
    pub objects: u64,
    pub bytes: u64,
    /// When the newest of them was put, by the store's clock. `None` if the store does not tell of one.
    pub newest: Option<Timestamp>,
}

/// What is left for a later run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    pub objects: u64,
    pub bytes: u64,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct PruneOutcome {
    /// The backups that do not exist any more.
    pub removed: Vec<BackupKey>,
    /// Folders without a manifest that were swept.
    pub swept: Vec<BackupKey>,
    pub deleted_objects: u64,
    pub deleted_bytes: u64,
    /// What the store keeps by a lock of its own.
    pub locked: Vec<ObjectName>,
    /// What was left alone because it is not as it was when the plan was made, each with the reason.
    pub spared: Vec<(BackupKey, String)>,
    pub failed: Vec<PruneFailure>,
}

/// One thing that could not be done.
#[derive(Debug)]
pub struct PruneFailure {
    /// A folder, or a staging file.
    pub subject: String,
    pub error: StoreError,
}

/// A folder while its objects come in.
#[derive(Default)]
struct Folder {
    is_committed: bool,
    objects: u64,
    bytes: u64,
    newest: Option<Timestamp>,
    /// The store did not say when one of them was put.
    is_undated: bool,
}

impl Folder {
    fn add(&mut self, object: &ObjectInfo, location: &Location) {
        self.is_committed |= matches!(location, Location::Manifest(_));
        self.objects += 1;
        self.bytes += object.size;
        self.newest = self.newest.max(object.modified);
        self.is_undated |= object.modified.is_none();
    }

    fn seen(&self, key: &BackupKey) -> FolderSeen {
        let newest = self.newest.filter(|_| !self.is_undated);
        FolderSeen { key: key.clone(), objects: self.objects, bytes: self.bytes, newest }
    }
}

/// The backup whose object that is.
fn owner(location: &Location) -> Option<&BackupKey> {
    match location {
        Location::Manifest(key) | Location::Part(key, _) | Location::Settings(key) => Some(key),
        Location::Repository
        | Location::Record { .. }
        | Location::Keys(_)
        | Location::HandedOn(_)
        | Location::Authority(_) => None,
    }
}

impl FolderSeen {
    /// Whether everything about it is older than the grace period.
    fn is_old(&self, now: Timestamp, grace: Duration) -> bool {
        let is_past = |at: Timestamp| at.plus(grace) <= now;
        self.newest.is_some_and(is_past) && is_past(self.key.id.timestamp())
    }
}

impl PrunePlan {
    /// Lists the repository and plans.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn make(store: &dyn SweepStore, request: PruneRequest) -> Result<Self, StoreError> {
        let PruneRequest { deployment, gone, busy, relied_on, grace, now } = request;
        // Before the objects: a put that ends meanwhile has its object in the listing.
        let unfinished = with_patience(PATIENCE, || store.unfinished()).await?;
        let everything = ObjectPrefix::backups(deployment.as_ref());
        let folders = with_patience(PATIENCE, || list(store, &everything)).await?;
        let (mut backups, mut orphans, mut waiting) = (Vec::new(), Vec::new(), Waiting::default());
        for (key, folder) in &folders {
            let seen = folder.seen(key);
            if busy.contains(&key.id) {
                continue;
            }
            if folder.is_committed {
                if gone.contains(key) {
                    backups.push(seen);
                }
            } else if seen.is_old(now, grace) {
                orphans.push(seen);
            } else {
                waiting.objects += seen.objects;
                waiting.bytes += seen.bytes;
            }
        }
        let is_wanted = |left: &Unfinished| deployment.is_none() || everything.contains(&left.object);
        let is_old = |left: &Unfinished| is_wanted(left) && left.modified.plus(grace) <= now;
        Ok(Self {
            backups,
            orphans,
            unfinished: unfinished.into_iter().filter(is_old).collect(),
            waiting,
            relied_on,
            grace,
            now,
        })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.backups.is_empty() && self.orphans.is_empty() && self.unfinished.is_empty()
    }

    /// How many objects go, and how many bytes.
    pub fn freed(&self) -> (u64, ByteCount) {
        let folders = || self.backups.iter().chain(&self.orphans);
        let objects = folders().map(|folder| folder.objects).sum::<u64>() + self.unfinished.len() as u64;
        let bytes = folders().map(|folder| folder.bytes).sum::<u64>()
            + self.unfinished.iter().map(|left| left.size).sum::<u64>();
        (objects, ByteCount::new(bytes))
    }

    /// Does what the plan says. What fails does not keep the rest from being done.
    ///
    /// # Cancel safety
    /// May be dropped anywhere: what is listed then can be restored, and the next run takes away the rest.
    pub async fn execute(&self, store: &dyn SweepStore) -> PruneOutcome {
        let mut outcome = PruneOutcome::default();
        for folder in &self.backups {
            let key = &folder.key;
            let result = self.remove(store, key, &mut outcome).await;
            outcome.note(key.to_string(), result);
        }
        for folder in &self.orphans {
            let result = self.sweep(store, &folder.key, &mut outcome).await;
            outcome.note(folder.key.to_string(), result);
        }
        for left in &self.unfinished {
            let result = with_patience(PATIENCE, || store.discard(left)).await;
            if matches!(result, Ok(true)) {
                outcome.deleted_objects += 1;
                outcome.deleted_bytes += left.size;
            }
            outcome.note(format!("{}#{}", left.object, left.attempt), result.map(|_| ()));
        }
        outcome
    }

    /// Removes one backup: its manifest, then the rest.
    async fn remove(
        &self,
        store: &dyn SweepStore,
        key: &BackupKey,
        outcome: &mut PruneOutcome,
    ) -> Result<(), StoreError> {
        let of_shard =
            self.relied_on.iter().filter(|other| (&other.deployment, &other.shard) == (&key.deployment, &key.shard));
        for other in of_shard {
            if !is_committed(store, other).await? {
                let reason = format!("backup {} was to stay, and is gone: somebody else prunes here", other.id);
                warn!(backup = %key, %reason, "a backup was not removed");
                outcome.spared.push((key.clone(), reason));
                return Ok(());
            }
        }
        let manifest = key.manifest();
        match with_patience(PATIENCE, || store.delete(&manifest)).await {
            Ok(()) => {}
            Err(StoreError::Locked { .. }) => {
                outcome.locked.push(manifest);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        info!(backup = %key, "backup removed");
        outcome.removed.push(key.clone());
        let objects = with_patience(PATIENCE, || objects(store, key)).await?;
        delete_all(store, objects, outcome).await
    }

    /// Removes what is in one folder without a manifest.
    async fn sweep(
        &self,
        store: &dyn SweepStore,
        key: &BackupKey,
        outcome: &mut PruneOutcome,
    ) -> Result<(), StoreError> {
        let objects = with_patience(PATIENCE, || objects(store, key)).await?;
        let mut folder = Folder::default();
        for object in &objects {
            if let Some(location) = Location::parse(&object.name) {
                folder.add(object, &location);
            }
        }
        // A listing may be behind; asking for the object is not.
        if folder.is_committed || is_committed(store, key).await? {
            outcome.spared.push((key.clone(), "it was committed meanwhile".to_owned()));
            return Ok(());
        }
        if objects.is_empty() {
            return Ok(());
        }
        if !folder.seen(key).is_old(self.now, self.grace) {
            outcome.spared.push((key.clone(), "something was put there meanwhile".to_owned()));
            return Ok(());
        }
        delete_all(store, objects, outcome).await?;
        outcome.swept.push(key.clone());
        Ok(())
    }
}

impl PruneOutcome {
    fn note(&mut self, subject: String, result: Result<(), StoreError>) {
        if let Err(error) = result {
            warn!(%subject, error = %Chain(&error), "not removed; the next run tries again");
            self.failed.push(PruneFailure { subject, error });
        }
    }
}

/// Everything below `prefix`, by backup.
async fn list(store: &dyn SweepStore, prefix: &ObjectPrefix) -> Result<BTreeMap<BackupKey, Folder>, StoreError> {
    let mut folders: BTreeMap<BackupKey, Folder> = BTreeMap::new();
    let mut listed = store.list(prefix);
    let mut last: Option<BackupKey> = None;
    while let Some(object) = listed.try_next().await? {
        let Some(location) = Location::parse(&object.name) else { continue };
        let Some(key) = owner(&location) else { continue };
        // Of very many backups the names are few: keys share them.
        let key = match &last {
            Some(last) if (&last.deployment, &last.shard) == (&key.deployment, &key.shard) => {
                BackupKey { id: key.id, ..last.clone() }
            }
            _ => key.clone(),
        };
        folders.entry(key.clone()).or_default().add(&object, &location);
        last = Some(key);
    }
    Ok(folders)
}

/// The objects of one backup.
async fn objects(store: &dyn SweepStore, key: &BackupKey) -> Result<Vec<ObjectInfo>, StoreError> {
    let is_ours = |object: &ObjectInfo| Location::parse(&object.name).as_ref().and_then(owner) == Some(key);
    store.list(&key.prefix()).try_filter(|object| std::future::ready(is_ours(object))).try_collect().await
}

async fn is_committed(store: &dyn SweepStore, key: &BackupKey) -> Result<bool, StoreError> {
    let manifest = key.manifest();
    match with_patience(PATIENCE, || store.get(&manifest)).await {
        // Whatever is in it.
        Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes objects, none of which is a manifest. Goes on after one that fails, and says what the first failure was.
async fn delete_all(
    store: &dyn SweepStore,
    objects: Vec<ObjectInfo>,
    outcome: &mut PruneOutcome,
) -> Result<(), StoreError> {
    let deletions = objects.into_iter().map(|object| async move {
        let result = with_patience(PATIENCE, || store.delete(&object.name)).await;
        (object, result)
    });
    let mut deletions = stream::iter(deletions).buffer_unordered(DELETIONS_IN_FLIGHT);
    let mut first = Ok(());
    while let Some((object, result)) = deletions.next().await {
        match result {
            Ok(()) => {
                outcome.deleted_objects += 1;
                outcome.deleted_bytes += object.size;
            }
            Err(StoreError::Locked { .. }) => outcome.locked.push(object.name),
            Err(error) if first.is_ok() => first = Err(error),
            Err(_) => {}
        }
    }
    first
}

/// A few sentences. Which backups go, and why the others stay, is said by whoever decided it.
impl fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (objects, bytes) = self.freed();
        let of = |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
        write!(f, "{} to remove", of(self.backups.len(), "backup", "backups"))?;
        if !self.orphans.is_empty() {
            write!(f, ", {} without a manifest", of(self.orphans.len(), "folder", "folders"))?;
        }
        if !self.unfinished.is_empty() {
            write!(f, ", {} of puts that did not end", of(self.unfinished.len(), "file", "files"))?;
        }
        write!(f, ": frees {bytes} in {objects} objects")?;
        if self.waiting.objects > 0 {
            let Waiting { objects, bytes } = self.waiting;
            let grace = self.grace.as_secs() / 3600;
            write!(
                f,
                "; {} in {objects} objects that no manifest names are younger than {grace} h, and stay for now",
                ByteCount::new(bytes)
            )?;
        }
        Ok(())
    }
}
