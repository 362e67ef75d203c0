//! Copying what one repository has into another one.
//!
//! A plan first: what is missing, by the listings alone. Then, backup after backup, the parts, and the manifest
//! last, so that the destination never lists what it does not have. Every byte is compared with the signed
//! manifest on its way. What is there in the right size is not sent again; `check_backup` finds what is damaged
//! all the same.
//!
//! **Interrupted** at any point: what was put is there and the next run does not send it again.
//!
//! **Beside a prune** of the destination that takes the parts for garbage before their manifest is there: after
//! the commit the folder is listed again, and what vanished is put once more.
//!
//! **Memory**: [`OBJECTS_IN_FLIGHT`] objects of at most [`crate::MAX_OBJECT_BYTES`], and the names in both.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use urtext_types::{DeploymentName, ErrorKind, Explain};

use crate::{
    BackupKey, Location, Manifest, ManifestVerifier, ObjectName, ObjectPrefix, Recipients, Store, TransferError,
    check::sizes,
    reader::{data_objects, fetch, read_manifest},
    transfer::{get_plain, put},
};

/// Data objects in memory at the same time: one pair travels in while another travels out.
const OBJECTS_IN_FLIGHT: usize = 4;

/// Backups under way at the same time: small ones are little but waiting for answers.
const BACKUPS_IN_FLIGHT: usize = 8;

/// How often what vanished after the commit is put again.
const ROUNDS: usize = 3;

/// A committed backup of which the destination lacks something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupToCopy {
    pub key: BackupKey,
    /// Objects that are missing, the manifest included.
    pub objects: usize,
    /// Their sizes together.
    pub bytes: u64,
}

/// What the destination lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncPlan {
    /// In the order of their names: per shard, the oldest first.
    pub backups: Vec<BackupToCopy>,
    /// Records and whatever else is small and belongs to no backup.
    pub others: Vec<ObjectName>,
    /// Backups that the destination has whole, by the sizes.
    pub present: usize,
    /// Objects that both have, in different sizes: one of the two is damaged.
    pub differing: Vec<ObjectName>,
}

/// How far a sync has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncStep {
    pub objects: usize,
    pub bytes: u64,
}

/// What a sync did.
#[derive(Debug, Default)]
pub struct Synced {
    /// Now whole at the destination.
    pub backups: Vec<BackupKey>,
    pub others: usize,
    pub objects: usize,
    pub bytes: u64,
    /// Of the copied backups: those that none of the destination's recipients opens, each with whom it is
    /// sealed to.
    pub sealed_to_others: Vec<(BackupKey, Recipients)>,
    /// What could not be copied, because it is damaged on one of the sides. It kept nothing else from being copied.
    pub failed: Vec<(String, TransferError)>,
}

impl SyncPlan {
    /// Lists both sides.
    ///
    /// # Errors
    /// One of them cannot be listed.
    pub async fn make(
        from: &dyn Store,
        to: &dyn Store,
        deployment: Option<&DeploymentName>,
    ) -> Result<Self, TransferError> {
        let there: HashMap<ObjectName, u64> = to
            .list(&ObjectPrefix::all())
            .map_ok(|object| (object.name, object.size))
            .try_collect()
            .await
            .map_err(TransferError::List)?;
        let mut listed = from.list(&ObjectPrefix::all());
        let mut plan = Self::default();
        let mut committed = BTreeSet::new();
        let mut missing: BTreeMap<BackupKey, (usize, u64)> = BTreeMap::new();
        while let Some(object) = listed.try_next().await.map_err(TransferError::List)? {
            let Some(location) = Location::parse(&object.name) else { continue };
            if !is_copied(&location) || deployment.is_some_and(|wanted| deployment_of(&location) != Some(wanted)) {
                continue;
            }
            let at_destination = there.get(&object.name);
            if at_destination.is_some_and(|size| *size != object.size) {
                plan.differing.push(object.name.clone());
            }
            let is_missing = at_destination.is_none();
            match location {
                Location::Manifest(key) | Location::Part(key, _) | Location::Settings(key) => {
                    if object.name == key.manifest() {
                        committed.insert(key.clone());
                    }
                    if is_missing {
                        let (objects, bytes) = missing.entry(key).or_default();
                        *objects += 1;
                        *bytes += object.size;
                    }
                }
                _ if is_missing => plan.others.push(object.name),
                _ => {}
            }
        }
        plan.present = committed.iter().filter(|key| !missing.contains_key(key)).count();
        // What was never committed is nobody's backup.
        plan.backups = missing
            .into_iter()
            .filter(|(key, _)| committed.contains(key))
            .map(|(key, (objects, bytes))| BackupToCopy { key, objects, bytes })
            .collect();
        plan.others.sort_unstable();
        plan.differing.sort_unstable();
        Ok(plan)
    }

    pub fn is_empty(&self) -> bool {
        self.backups.is_empty() && self.others.is_empty()
    }

    /// Bytes of backups that are to be copied.
    pub fn bytes(&self) -> u64 {
        self.backups.iter().map(|backup| backup.bytes).sum()
    }

    /// Objects that are to be copied.
    pub fn objects(&self) -> usize {
        self.others.len() + self.backups.iter().map(|backup| backup.objects).sum::<usize>()
    }

    /// Copies. Records go first: whoever finds a backup at the destination finds what was decided about it.
    /// `progress` is told of each object.
    ///
    /// # Errors
    /// One of the stores does not answer, is full, or does not let us in. What was copied is there.
    pub async fn execute(
        &self,
        from: &dyn Store,
        to: &dyn Store,
        recipients: &Recipients,
        verifier: &dyn ManifestVerifier,
        progress: &(dyn Fn(SyncStep) + Sync),
    ) -> Result<Synced, TransferError> {
        let mut synced = Synced::default();
        let mut others = stream::iter(self.others.clone())
            .map(|object| async move {
                let copied = async {
                    let bytes = get_plain(from, &object).await?;
                    put(to, &object, &bytes).await?;
                    Ok(bytes.len() as u64)
                };
                let copied = copied.await;
                (object, copied)
            })
            .buffer_unordered(BACKUPS_IN_FLIGHT);
        while let Some((object, copied)) = others.next().await {
            match copied {
                Ok(bytes) => {
                    synced.others += 1;
                    synced.objects += 1;
                    synced.bytes += bytes;
                    progress(SyncStep { objects: 1, bytes });
                }
                Err(error) => synced.failed.push((object.to_string(), endure(error)?)),
            }
        }
        drop(others);
        let room = Arc::new(Semaphore::new(OBJECTS_IN_FLIGHT));
        let copy = Copy { from, to, verifier, progress, room };
        let (copy, keys) = (&copy, self.backups.iter().map(|backup| backup.key.clone()));
        let mut backups = stream::iter(keys.collect::<Vec<_>>())
            .map(|key| async move {
                let copied = copy.backup(&key).await;
                (key, copied)
            })
            .buffer_unordered(BACKUPS_IN_FLIGHT);
        while let Some((key, copied)) = backups.next().await {
            match copied {
                Ok((manifest, step)) => {
                    synced.objects += step.objects;
                    synced.bytes += step.bytes;
                    if !manifest.recipients.iter().any(|one| recipients.iter().any(|other| one == other)) {
                        synced.sealed_to_others.push((key.clone(), manifest.recipients));
                    }
                    synced.backups.push(key.clone());
                }
                Err(error) => synced.failed.push((key.to_string(), endure(error)?)),
            }
        }
        Ok(synced)
    }
}

/// Whether the trouble is that of one object and the others can go on.
fn endure(error: TransferError) -> Result<TransferError, TransferError> {
    match error.kind() {
        // Gone meanwhile at the source, damaged at one of the sides.
        ErrorKind::Integrity | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Usage => Ok(error),
        _ => Err(error),
    }
}

/// What makes the destination a repository is its own, and so is who its recipients are from when on.
fn is_copied(location: &Location) -> bool {
    !matches!(location, Location::Repository | Location::Keys(_))
}

fn deployment_of(location: &Location) -> Option<&DeploymentName> {
    match location {
        Location::Manifest(key) | Location::Part(key, _) | Location::Settings(key) => Some(&key.deployment),
        Location::Record { deployment, .. } => Some(deployment),
        Location::Repository | Location::Keys(_) | Location::HandedOn(_) | Location::Authority(_) => None,
    }
}

/// What all copies of one run share.
struct Copy<'a> {
    from: &'a dyn Store,
    to: &'a dyn Store,
    verifier: &'a dyn ManifestVerifier,
    progress: &'a (dyn Fn(SyncStep) + Sync),
    room: Arc<Semaphore>,
}

impl Copy<'_> {
    /// Copies what the destination lacks of one backup, the manifest last.
    async fn backup(&self, key: &BackupKey) -> Result<(Manifest, SyncStep), TransferError> {
        let (manifest, raw) = read_manifest(self.from, key, self.verifier).await?;
        let mut whole = self.data(key, &manifest).await?;
        for _ in 0..ROUNDS {
            if put(self.to, &key.manifest(), &raw).await? == crate::PutOutcome::Created {
                let step = SyncStep { objects: 1, bytes: raw.len() as u64 };
                (self.progress)(step);
                whole = sum(whole, step);
            }
            // From here on no prune takes the parts for garbage. One that did so before may have deleted some.
            let again = self.data(key, &manifest).await?;
            if again.objects == 0 {
                return Ok((manifest, whole));
            }
            whole = sum(whole, again);
        }
        Err(TransferError::Vanishes { object: key.part(0) })
    }

    /// Copies the data objects that the destination does not list in their right size.
    async fn data(&self, key: &BackupKey, manifest: &Manifest) -> Result<SyncStep, TransferError> {
        let there = sizes(self.to, key).await?;
        let missing = data_objects(manifest)
            .into_iter()
            .filter(|(object, entry)| there.get(object) != Some(&entry.stored_bytes))
            .collect::<Vec<_>>();
        stream::iter(missing)
            .map(|(object, entry)| async move {
                let _room = self.room.acquire().await;
                let bytes = fetch(self.from, object.clone(), &entry).await?;
                put(self.to, &object, &bytes).await?;
                let step = SyncStep { objects: 1, bytes: entry.stored_bytes };
                (self.progress)(step);
                Ok(step)
            })
            .buffer_unordered(OBJECTS_IN_FLIGHT)
            .try_fold(SyncStep { objects: 0, bytes: 0 }, |all, step| async move { Ok(sum(all, step)) })
            .await
    }
}

fn sum(one: SyncStep, other: SyncStep) -> SyncStep {
    SyncStep { objects: one.objects + other.objects, bytes: one.bytes + other.bytes }
}
