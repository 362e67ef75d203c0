//! Stored backups are checked, put right, and copied to another repository.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::TryStreamExt;
use urtext_types::{ErrorKind, Explain};

use super::{back_up, key, noise, read_back, stored};
use crate::{
    BackupKey, Checked, DirectoryStore, Identity, Loss, ObjectInfo, ObjectPrefix, PART_BYTES, PutOutcome, ReadError,
    Recipients, Record, RecordBody, Sample, Store, StoreError, StoreOperation, SyncPlan, Synced, TransferError,
    check_backup, repair,
    testing::{DigestVerifier, Fault, FaultyStore, MemoryStore},
};

/// Three parts, settings and the manifest.
const OBJECTS: usize = 5;

/// Little to seal and to store: what is looked at here is objects, not bytes.
fn rdb() -> Vec<u8> {
    [vec![0; 2 * PART_BYTES], noise(21, 4711)].concat()
}

/// A store with one backup of [`rdb`], and whose identity opens it.
async fn with_backup() -> (MemoryStore, Identity, Recipients) {
    let identity = Identity::generate();
    let recipients: Recipients = identity.recipient().into();
    let memory = MemoryStore::default();
    back_up(Arc::new(memory.clone()), &key(1), &recipients, &rdb()).await.expect("a backup");
    (memory, identity, recipients)
}

async fn check(store: &dyn Store, sample: Sample) -> Result<Checked, ReadError> {
    check_backup(store, &key(1), &DigestVerifier, sample, &|_| {}).await
}

fn flip(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Some(bytes)
}

/// Another copy of everything in a store.
async fn copy_of(store: &dyn Store) -> MemoryStore {
    let copy = MemoryStore::default();
    for name in names(store).await {
        copy.put_new(&name, stored(store, &name).await).await.expect("copied");
    }
    copy
}

async fn names(store: &dyn Store) -> BTreeSet<crate::ObjectName> {
    store.list(&ObjectPrefix::all()).map_ok(|object| object.name).try_collect().await.expect("listed")
}

#[tokio::test]
async fn every_object_is_read_and_what_is_damaged_is_named_with_what_it_costs() {
    let (memory, ..) = with_backup().await;
    let read = AtomicU64::new(0);
    let count = |bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
    };
    let checked = check_backup(&memory, &key(1), &DigestVerifier, Sample::ALL, &count).await.expect("checked");
    assert_eq!((checked.read, checked.of, checked.damage.len()), (OBJECTS, OBJECTS, 0));
    assert_eq!((checked.loss(), checked.reason()), (None, None));
    assert_eq!(checked.bytes, read.into_inner());
    assert!(checked.bytes > 4711);

    memory.tamper(&key(1).settings(), flip);
    let checked = check(&memory, Sample::ALL).await.expect("checked");
    assert_eq!(checked.loss(), Some(Loss::Settings));
    let reason = checked.reason().expect("damaged");
    assert!(reason.contains("settings.zst.age") && reason.contains("the data can"), "{reason}");

    memory.tamper(&key(1).part(2), |_| None);
    memory.tamper(&key(1).part(1), flip);
    let checked = check(&memory, Sample::ALL).await.expect("checked");
    let damaged: Vec<_> = checked.damage.iter().map(|damage| damage.object.clone()).collect();
    assert_eq!(damaged, [key(1).part(1), key(1).part(2), key(1).settings()]);
    assert!(matches!(checked.damage[0].error, ReadError::StoredDigest { .. }));
    assert!(matches!(checked.damage[1].error, ReadError::Missing { .. }));
    assert_eq!(checked.loss(), Some(Loss::RdbFrom { byte: PART_BYTES as u64, of: rdb().len() as u64 }));
    let reason = checked.reason().expect("damaged");
    assert!(reason.contains("rdb.00001.zst.age") && reason.contains("and 2 more"), "{reason}");
    assert!(reason.contains("breaks off after 16.0 MiB of 32.0 MiB"), "{reason}");

    memory.tamper(&key(1).manifest(), flip);
    assert_eq!(check(&memory, Sample::ALL).await.expect("checked").loss(), Some(Loss::Backup));
    memory.tamper(&key(1).manifest(), |_| None);
    assert!(matches!(check(&memory, Sample::ALL).await, Err(ReadError::NotCommitted { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_says_nothing_about_a_backup() {
    let (memory, ..) = with_backup().await;
    for at in 0..OBJECTS {
        let store =
            FaultyStore::new(memory.clone(), move |n, _, _| (n >= at).then_some(Fault::Before(ErrorKind::Unavailable)));
        let error = check(&store, Sample::ALL).await.expect_err("silent");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

#[tokio::test]
async fn samples_that_follow_each_other_read_everything_and_each_looks_at_presence() {
    let (memory, ..) = with_backup().await;
    memory.tamper(&key(1).part(1), |_| None);
    for turn in 0..4 {
        let checked = check(&memory, Sample::percent(1, turn)).await.expect("checked");
        assert_eq!(checked.damage.len(), 1, "what is missing is found in every turn");
    }
    let objects: Vec<_> = (0..400).map(|index| key(1).part(index)).collect();
    for (percent, turns) in [(1, 100), (30, 4), (50, 2), (99, 2), (100, 1)] {
        for begin in [0, 7, 19_000] {
            let mut seen = BTreeSet::new();
            for turn in begin..begin + turns {
                let sample = Sample::percent(percent, turn);
                let taken: Vec<_> = objects.iter().filter(|object| sample.takes(object)).collect();
                let expected = objects.len() * usize::from(percent) / 100;
                assert!(taken.len().abs_diff(expected) <= 60, "{percent} %, turn {turn}: {}", taken.len());
                seen.extend(taken);
            }
            assert_eq!(seen.len(), objects.len(), "{percent} % from turn {begin}");
        }
    }
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_taken_from_another_repository() {
    let (memory, identity, _) = with_backup().await;
    let mirror = copy_of(&memory).await;
    memory.tamper(&key(1).part(0), flip);
    memory.tamper(&key(1).part(2), |_| None);
    memory.tamper(&key(1).settings(), |mut bytes| {
        bytes.pop();
        Some(bytes)
    });
    let checked = check(&memory, Sample::ALL).await.expect("checked");
    let repaired = repair(&memory, &mirror, &checked, &DigestVerifier).await.expect("repaired");
    assert_eq!(repaired.mended, [key(1).part(0), key(1).part(2), key(1).settings()]);
    assert!(repaired.left.is_empty());
    assert!(check(&memory, Sample::ALL).await.expect("checked").damage.is_empty());

    memory.tamper(&key(1).manifest(), flip);
    let checked = check(&memory, Sample::ALL).await.expect("checked");
    repair(&memory, &mirror, &checked, &DigestVerifier).await.expect("repaired");
    assert!(read_back(Arc::new(memory), &key(1), &identity).await.expect("restored") == rdb());
}

#[tokio::test]
async fn nothing_is_taken_from_a_copy_that_is_damaged_too_or_is_another_backup() {
    let (memory, _, recipients) = with_backup().await;
    let mirror = copy_of(&memory).await;
    memory.tamper(&key(1).part(0), flip);
    memory.tamper(&key(1).part(1), flip);
    mirror.tamper(&key(1).part(0), flip);
    let checked = check(&memory, Sample::ALL).await.expect("checked");
    let before = stored(&memory, &key(1).part(0)).await;
    let repaired = repair(&memory, &mirror, &checked, &DigestVerifier).await.expect("in part");
    assert_eq!(repaired.mended, [key(1).part(1)]);
    assert_eq!(repaired.left.len(), 1);
    assert_eq!(stored(&memory, &key(1).part(0)).await, before, "what cannot be replaced is not removed");

    let twin = MemoryStore::default();
    back_up(Arc::new(twin.clone()), &key(1), &recipients, &rdb()).await.expect("a backup");
    let checked = check(&memory, Sample::ALL).await.expect("checked");
    let error = repair(&memory, &twin, &checked, &DigestVerifier).await.expect_err("another one");
    assert!(matches!(error, TransferError::Twins { .. }), "{error}");
}

async fn sync(from: &dyn Store, to: &dyn Store, recipients: &Recipients) -> Result<Synced, TransferError> {
    SyncPlan::make(from, to, None).await?.execute(from, to, recipients, &DigestVerifier, &|_| {}).await
}

fn record() -> Record {
    Record {
        format_version: 1,
        id: urtext_types::RecordId::new(key(1).id.timestamp(), [3; 10]),
        deployment: key(1).deployment,
        who: "alice".to_owned(),
        at: key(1).id.timestamp(),
        reason: Some("checked".to_owned()),
        body: RecordBody::Vouch { shard: key(1).shard, backup: key(1).id },
    }
}

async fn put_record(store: &dyn Store) {
    let bytes = record().to_bytes().expect("JSON");
    store.put_new(&record().name(), bytes.into()).await.expect("put");
}

#[tokio::test]
async fn what_one_repository_has_is_copied_to_another_once() {
    let (memory, identity, recipients) = with_backup().await;
    put_record(&memory).await;
    // Never committed: not a backup.
    memory.put_new(&key(2).part(0), Bytes::from_static(b"half")).await.expect("put");
    let folder = tempfile::tempdir().expect("a folder");
    let directory = DirectoryStore::open(folder.path()).expect("a store");
    let plan = SyncPlan::make(&memory, &directory, None).await.expect("a plan");
    assert_eq!((plan.backups.len(), plan.others.len(), plan.present), (1, 1, 0));
    assert_eq!(plan.objects(), OBJECTS + 1);
    let elsewhere = "carts".parse().expect("a name");
    assert!(SyncPlan::make(&memory, &directory, Some(&elsewhere)).await.expect("a plan").is_empty());

    let synced = sync(&memory, &directory, &recipients).await.expect("copied");
    assert_eq!(synced.backups, [key(1)]);
    assert_eq!((synced.objects, synced.others), (OBJECTS + 1, 1));
    assert!(synced.failed.is_empty() && synced.sealed_to_others.is_empty());
    let mut expected = names(&memory).await;
    expected.remove(&key(2).part(0));
    assert_eq!(names(&directory).await, expected);
    assert_eq!(stored(&directory, &key(1).manifest()).await, stored(&memory, &key(1).manifest()).await);
    assert!(read_back(Arc::new(directory.clone()), &key(1), &identity).await.expect("restored") == rdb());

    let plan = SyncPlan::make(&memory, &directory, None).await.expect("a plan");
    assert!(plan.is_empty() && plan.present == 1, "{plan:?}");
    let other: Recipients = Identity::generate().recipient().into();
    let synced = sync(&memory, &MemoryStore::default(), &other).await.expect("copied");
    assert_eq!(synced.sealed_to_others, [(key(1), recipients)]);
}

#[tokio::test]
async fn a_sync_that_is_cut_at_any_request_is_resumed_and_never_lists_half_a_backup() {
    let (memory, identity, recipients) = with_backup().await;
    put_record(&memory).await;
    let mut at = 0;
    loop {
        let there = MemoryStore::default();
        for fault in [Fault::Before(ErrorKind::Denied), Fault::After(ErrorKind::Denied)] {
            let cut = FaultyStore::new(there.clone(), move |n, _, _| (n >= at).then_some(fault));
            let ended = sync(&memory, &cut, &recipients).await;
            if ended.is_ok() {
                // There are no so many requests.
                assert!(at > OBJECTS);
                return;
            }
            if there.get(&key(1).manifest()).await.is_ok() {
                assert!(check(&there, Sample::ALL).await.expect("committed").damage.is_empty(), "request {at}");
            }
        }
        let sent_before = names(&there).await;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let watched = FaultyStore::new(there.clone(), move |_, operation, object| {
            if operation == StoreOperation::Put {
                log.lock().expect("not poisoned").push(object.to_owned());
            }
            None
        });
        sync(&memory, &watched, &recipients).await.expect("resumed");
        for object in sent.lock().expect("not poisoned").iter() {
            let is_commit = object.ends_with("manifest.json");
            assert!(is_commit || !sent_before.iter().any(|name| name.as_str() == object), "{object} was sent twice");
        }
        assert_eq!(names(&there).await, names(&memory).await);
        assert!(read_back(Arc::new(there), &key(1), &identity).await.expect("restored") == rdb());
        at += 1;
    }
}

#[tokio::test]
async fn what_is_damaged_at_the_source_is_named_and_keeps_nothing_else_back() {
    let (memory, identity, recipients) = with_backup().await;
    back_up(Arc::new(memory.clone()), &key(2), &recipients, b"REDIS0012").await.expect("a backup");
    memory.tamper(&key(1).part(1), flip);
    put_record(&memory).await;
    memory.tamper(&record().name(), |_| Some(b"{".to_vec()));
    let there = MemoryStore::default();
    let synced = sync(&memory, &there, &recipients).await.expect("the rest");
    assert_eq!(synced.backups, [key(2)]);
    let failed: Vec<&str> = synced.failed.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(failed, [record().name().as_str(), &key(1).to_string()]);
    assert!(there.get(&key(1).manifest()).await.is_err() && there.get(&key(1).part(1)).await.is_err());
    assert!(there.get(&record().name()).await.is_err(), "a broken record would stay broken");
    assert_eq!(read_back(Arc::new(there), &key(2), &identity).await.expect("restored"), b"REDIS0012");
}

/// A destination whose prune takes a part for garbage just before the backup is committed.
struct Pruned {
    inner: MemoryStore,
    left: Mutex<usize>,
}

#[async_trait::async_trait]
impl Store for Pruned {
    async fn put_new(&self, name: &crate::ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        if *name == key(1).manifest() {
            let mut left = self.left.lock().expect("not poisoned");
            if *left > 0 {
                *left -= 1;
                self.inner.tamper(&key(1).part(0), |_| None);
            }
        }
        self.inner.put_new(name, bytes).await
    }

    async fn get(&self, name: &crate::ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }

    fn list(&self, prefix: &ObjectPrefix) -> futures::stream::BoxStream<'static, Result<ObjectInfo, StoreError>> {
        self.inner.list(prefix)
    }
}

#[tokio::test]
async fn what_a_prune_took_before_the_commit_is_put_again() {
    let (memory, identity, recipients) = with_backup().await;
    let pruned = Pruned { inner: MemoryStore::default(), left: Mutex::new(1) };
    let synced = sync(&memory, &pruned, &recipients).await.expect("copied");
    assert_eq!(synced.objects, OBJECTS + 1, "one object twice");
    let there = pruned.inner.clone();
    assert!(read_back(Arc::new(there), &key(1), &identity).await.expect("restored") == rdb());

    let never: BackupKey = key(1);
    let pruned = Pruned { inner: MemoryStore::default(), left: Mutex::new(usize::MAX) };
    let synced = sync(&memory, &pruned, &recipients).await.expect("said of the one");
    assert!(matches!(&synced.failed[..], [(what, TransferError::Vanishes { .. })] if *what == never.to_string()));
}
