//! Locks that last as long as what they lock is to stay.
//!
//! Whoever holds the coordinator's credentials may delete. A bucket with object lock keeps what is locked against
//! them as well. A lock ends by itself, so it is extended for as long as retention keeps a backup, and ends
//! some time after.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use urtext_types::{DeploymentName, Timestamp};

use crate::{
    BackupKey, Location, Lock, LockStore, ObjectInfo, ObjectName, ObjectPrefix, StoreError, store::with_patience,
};

/// For how long a store may fail, in one piece, before one object is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Objects locked at the same time.
const LOCKS_IN_FLIGHT: usize = 8;

/// Locks are looked at once a day.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Lock {
    /// Whether a lock would be shorter than it is to be before it is looked at again.
    pub fn is_due(&self, locked_until: Option<Timestamp>, now: Timestamp) -> bool {
        locked_until.is_none_or(|until| until < now.plus(self.period).plus(LOOKED_AT_EVERY))
    }

    /// Until when to lock: a quarter longer than it must be, so that not every object is locked anew every day.
    pub fn until(&self, now: Timestamp) -> Timestamp {
        now.plus(self.period).plus((self.period / 4).max(2 * LOOKED_AT_EVERY))
    }
}

/// Locks every object of a backup. Says how many there are.
///
/// # Errors
/// The first that could not be locked; what was not tried then is not locked.
///
/// # Cancel safety
/// May be dropped anywhere, and done again.
pub async fn lock_backup(store: &dyn LockStore, key: &BackupKey, until: Timestamp) -> Result<u64, StoreError> {
    let is_ours = |location: &Location| matches!(location, Location::Manifest(of) | Location::Part(of, _) | Location::Settings(of) if of == key);
    let folder = key.prefix();
    let objects = with_patience(PATIENCE, || listed(store, &folder, None, &is_ours)).await?;
    lock_all(store, objects, until).await
}

/// Locks what is of no backup: what makes it a repository, its keys and authorities, and a deployment's records. Of
/// those that were put before `put_after` all are locked already.
///
/// # Errors
/// The first that could not be locked; what was not tried then is not locked.
pub async fn lock_common(
    store: &dyn LockStore,
    deployment: &DeploymentName,
    put_after: Option<Timestamp>,
    until: Timestamp,
) -> Result<u64, StoreError> {
    let mut objects = vec![Location::Repository.name()];
    for prefix in [ObjectPrefix::keys(), ObjectPrefix::authorities(), ObjectPrefix::all_records(deployment)] {
        objects.extend(with_patience(PATIENCE, || listed(store, &prefix, put_after, &|_| true)).await?);
    }
    lock_all(store, objects, until).await
}

async fn listed(
    store: &dyn LockStore,
    prefix: &ObjectPrefix,
    put_after: Option<Timestamp>,
    is_wanted: &(dyn Fn(&Location) -> bool + Sync),
) -> Result<Vec<ObjectName>, StoreError> {
    let is_wanted = |object: &ObjectInfo| {
        let is_new = put_after.is_none_or(|after| object.modified.is_none_or(|modified| modified > after));
        is_new && Location::parse(&object.name).as_ref().is_some_and(is_wanted)
    };
    let objects = store.list(prefix).try_filter(|object| std::future::ready(is_wanted(object)));
    objects.map_ok(|object| object.name).try_collect().await
}

/// Stops at the first that fails: it was tried for a while, and so would each of the others be.
async fn lock_all(store: &dyn LockStore, objects: Vec<ObjectName>, until: Timestamp) -> Result<u64, StoreError> {
    let lock = |object: ObjectName| async move { with_patience(PATIENCE, || store.lock(&object, until)).await };
    let locks = stream::iter(objects.into_iter().map(lock)).buffer_unordered(LOCKS_IN_FLIGHT);
    locks.try_fold(0, |locked, ()| std::future::ready(Ok(locked + 1))).await
}
