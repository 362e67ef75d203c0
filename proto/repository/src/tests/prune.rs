//! Pruning on good days and bad ones: whatever fails wherever, what is listed restores, and what is
//! not listed does not stay for longer than the grace period.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{TryStreamExt, stream::BoxStream};
use urtext_types::{ErrorKind, Timestamp};

use super::{back_up, key, noise, read_back};
use crate::{
    BackupKey, DirectoryStore, Identity, Location, ObjectInfo, ObjectName, ObjectPrefix, PrunePlan, PruneRequest,
    PutOutcome, Recipients, Store, StoreError, StoreOperation, SweepStore,
    testing::{Fault, FaultyStore, MemoryStore},
};

const DAY: Duration = Duration::from_secs(86_400);

/// When everything in [`scene`] was put.
fn past() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

/// Two days later.
fn now() -> Timestamp {
    past().plus(2 * DAY)
}

fn rdb(n: i64) -> Vec<u8> {
    noise(n as u64 + 1, 5000)
}

/// Three backups, 1 to 3, and the parts of a fourth that was never committed.
async fn scene() -> (MemoryStore, Identity) {
    let identity = Identity::generate();
    let recipients: Recipients = identity.recipient().into();
    let memory = MemoryStore::default();
    memory.set_time(past());
    for n in 1..=4 {
        back_up(Arc::new(memory.clone()), &key(n), &recipients, &rdb(n)).await.expect("backed up");
    }
    memory.tamper(&key(4).manifest(), |_| None);
    memory.set_time(now());
    (memory, identity)
}

fn request(gone: &[i64], now: Timestamp) -> PruneRequest {
    PruneRequest {
        deployment: None,
        gone: gone.iter().map(|&n| key(n)).collect(),
        busy: BTreeSet::new(),
        relied_on: BTreeSet::from([key(3)]),
        grace: DAY,
        now,
    }
}

async fn names(store: &dyn Store) -> Vec<ObjectName> {
    store.list(&ObjectPrefix::all()).map_ok(|object| object.name).try_collect().await.expect("a listing")
}

/// Which backups are listed; each of them restores.
async fn listed(memory: &MemoryStore, identity: &Identity) -> Vec<BackupKey> {
    let mut found = Vec::new();
    for name in names(memory).await {
        if let Some(Location::Manifest(listed)) = Location::parse(&name) {
            let n = (1..=9).find(|&n| key(n) == listed).expect("one of the scene's");
            let read = read_back(Arc::new(memory.clone()), &listed, identity).await;
            assert!(read.expect("what is listed restores") == rdb(n), "{listed}");
            found.push(listed);
        }
    }
    found
}

/// No object is left that belongs to none of `listed`.
async fn assert_no_garbage(memory: &MemoryStore, listed: &[BackupKey]) {
    for name in names(memory).await {
        assert!(listed.iter().any(|key| key.prefix().contains(&name)), "{name} is garbage");
    }
}

#[tokio::test]
async fn a_plan_says_what_goes_and_does_nothing() {
    let (memory, identity) = scene().await;
    let before = names(&memory).await;
    let plan = PrunePlan::make(&memory, request(&[1, 2], now())).await.expect("a plan");
    assert_eq!(plan.backups.iter().map(|folder| &folder.key).collect::<Vec<_>>(), [&key(1), &key(2)]);
    assert_eq!(plan.orphans.iter().map(|folder| &folder.key).collect::<Vec<_>>(), [&key(4)]);
    assert_eq!(plan.freed().0, 3 + 3 + 2);
    let text = plan.to_string();
    assert!(text.starts_with("2 backups to remove, 1 folder without a manifest: frees "), "{text}");
    assert_eq!(names(&memory).await, before);

    let outcome = plan.execute(&memory).await;
    assert_eq!((outcome.removed, outcome.swept), (vec![key(1), key(2)], vec![key(4)]));
    // The manifests' sizes are not counted: they are not listed again once they are gone.
    assert_eq!(outcome.deleted_objects, 2 + 2 + 2);
    assert_eq!(listed(&memory, &identity).await, [key(3)]);
    assert_no_garbage(&memory, &[key(3)]).await;
    let again = plan.execute(&memory).await;
    assert!(again.failed.is_empty() && again.locked.is_empty(), "a plan may run twice: {again:?}");
    assert_eq!(listed(&memory, &identity).await, [key(3)]);
}

#[tokio::test]
async fn what_is_young_or_busy_stays() {
    let (memory, _) = scene().await;
    for (now, busy, orphans, waiting) in [
        (past().plus(DAY / 2), None, 0, 2),
        // By the store's clock it is old, by the id of the backup not yet.
        (past().plus(DAY), None, 0, 2),
        (key(4).id.timestamp().plus(DAY), None, 1, 0),
        (self::now(), Some(key(4).id), 0, 0),
    ] {
        let mut wanted = request(&[], now);
        wanted.busy.extend(busy);
        let plan = PrunePlan::make(&memory, wanted).await.expect("a plan");
        assert_eq!((plan.orphans.len(), plan.waiting.objects), (orphans, waiting), "{now}");
    }
    let mut wanted = request(&[1], now());
    wanted.busy.insert(key(1).id);
    assert_eq!(PrunePlan::make(&memory, wanted).await.expect("a plan").backups, []);
    // Old by its id, young by its objects: as while it is copied from elsewhere.
    memory.tamper(&key(4).part(0), Some);
    assert_eq!(PrunePlan::make(&memory, request(&[], now())).await.expect("a plan").orphans, []);
}

#[tokio::test]
async fn what_changed_since_the_plan_is_spared() {
    let (memory, identity) = scene().await;
    let manifest = {
        let (other, _) = (MemoryStore::default(), ());
        back_up(Arc::new(other.clone()), &key(4), &identity.recipient().into(), &rdb(4)).await.expect("backed up");
        other
    };
    let plan = PrunePlan::make(&memory, request(&[1], now())).await.expect("a plan");
    // Committed after all: with its parts put again, as its writer left them.
    for name in names(&manifest).await {
        let bytes = manifest.get(&name).await.expect("there");
        memory.tamper(&name, |_| Some(bytes.to_vec()));
    }
    // And what was to stay is gone.
    memory.tamper(&key(3).manifest(), |_| None);
    let outcome = plan.execute(&memory).await;
    assert_eq!((outcome.removed.len(), outcome.swept.len(), outcome.spared.len()), (0, 0, 2), "{outcome:?}");
    assert_eq!(listed(&memory, &identity).await, [key(1), key(2), key(4)]);
}

#[tokio::test]
async fn what_the_store_keeps_is_counted_and_is_no_error() {
    let (memory, identity) = scene().await;
    memory.lock_for_good(&key(1).manifest());
    memory.lock_for_good(&key(2).part(0));
    let plan = PrunePlan::make(&memory, request(&[1, 2], now())).await.expect("a plan");
    let outcome = plan.execute(&memory).await;
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    assert_eq!(outcome.locked, [key(1).manifest(), key(2).part(0)]);
    assert_eq!(outcome.removed, [key(2)]);
    assert_eq!(listed(&memory, &identity).await, [key(1), key(3)], "a backup that is kept is kept whole");
}

/// How many requests a plan and its execution make.
async fn requests() -> usize {
    let (memory, _) = scene().await;
    let store = FaultyStore::new(memory, |_, _, _| None);
    PrunePlan::make(&store, request(&[1, 2], now())).await.expect("a plan").execute(&store).await;
    store.requests()
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_dies_between_any_two_requests_leaves_nothing_half() {
    let requests = requests().await;
    assert!(requests >= 15, "{requests} requests are fewer than there are things to do");
    for at in 0..=requests {
        for last in [Fault::Before(ErrorKind::Denied), Fault::After(ErrorKind::Denied)] {
            let (memory, identity) = scene().await;
            // The last request may have been carried out; from then on there are none.
            let store = FaultyStore::new(memory.clone(), move |n, _, _| match n {
                n if n == at => Some(last),
                n if n > at => Some(Fault::Before(ErrorKind::Denied)),
                _ => None,
            });
            if let Ok(plan) = PrunePlan::make(&store, request(&[1, 2], now())).await {
                plan.execute(&store).await;
            }
            let left = listed(&memory, &identity).await;
            assert!(left.contains(&key(3)), "request {at}, {last:?}");
            let plan = PrunePlan::make(&memory, request(&[1, 2], now().plus(DAY))).await.expect("a plan");
            plan.execute(&memory).await;
            assert_eq!(listed(&memory, &identity).await, [key(3)], "request {at}, {last:?}");
            assert_no_garbage(&memory, &[key(3)]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stumbles_at_any_request_is_got_over() {
    let requests = requests().await;
    for at in 0..=requests {
        for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::Unavailable)] {
            let (memory, identity) = scene().await;
            let store = FaultyStore::new(memory.clone(), move |n, _, _| (at..at + 2).contains(&n).then_some(fault));
            let plan = PrunePlan::make(&store, request(&[1, 2], now())).await.expect("a plan");
            let outcome = plan.execute(&store).await;
            assert!(outcome.failed.is_empty() && outcome.spared.is_empty(), "request {at}: {outcome:?}");
            assert_eq!(listed(&memory, &identity).await, [key(3)], "request {at}, {fault:?}");
            assert_no_garbage(&memory, &[key(3)]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_deleted_keeps_its_parts() {
    let (memory, identity) = scene().await;
    let stuck = key(1).manifest();
    let store = FaultyStore::new(memory.clone(), move |_, operation, object| {
        (operation == StoreOperation::Delete && object == stuck.as_str())
            .then_some(Fault::Before(ErrorKind::Unavailable))
    });
    let plan = PrunePlan::make(&store, request(&[1, 2], now())).await.expect("a plan");
    let outcome = plan.execute(&store).await;
    assert_eq!(outcome.failed.len(), 1, "{outcome:?}");
    assert_eq!(listed(&memory, &identity).await, [key(1), key(3)], "the others went");
}

/// Reads and deletes what is there, and lists what was there once.
struct BehindStore {
    inner: MemoryStore,
    once: MemoryStore,
}

#[async_trait]
impl Store for BehindStore {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        self.inner.put_new(name, bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        self.once.list(prefix)
    }
}

#[async_trait]
impl SweepStore for BehindStore {
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }
}

#[tokio::test]
async fn a_listing_that_is_behind_costs_nothing_that_is_committed() {
    let (memory, identity) = scene().await;
    // As if the manifest of 2 were not listed yet, and 1 still were although it is gone.
    let once = memory.copy();
    once.tamper(&key(2).manifest(), |_| None);
    for name in names(&memory).await.iter().filter(|name| key(1).prefix().contains(name)) {
        memory.delete(name).await.expect("deleted");
    }
    let store = BehindStore { inner: memory.clone(), once };
    let plan = PrunePlan::make(&store, request(&[1], now())).await.expect("a plan");
    assert_eq!(plan.orphans.len(), 2, "2 looks like garbage");
    let outcome = plan.execute(&store).await;
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    assert_eq!(listed(&memory, &identity).await, [key(2), key(3)]);
    assert_no_garbage(&memory, &[key(2), key(3)]).await;
}

#[tokio::test]
async fn two_coordinators_that_prune_at_once_never_remove_what_either_relies_on() {
    // The second one starts after each request of the first in turn.
    let requests = requests().await;
    for at in 0..=requests {
        let (memory, identity) = scene().await;
        let recipients: Recipients = identity.recipient().into();
        let store = FaultyStore::new(memory.clone(), move |n, _, _| (n >= at).then_some(Fault::Hang));
        let plan_of_first = PrunePlan::make(&memory, request(&[1, 2], now())).await.expect("a plan");
        // The first is cut off here, and goes on below.
        let cut = tokio::time::timeout(Duration::from_millis(1), plan_of_first.execute(&store)).await;
        // An agent writes meanwhile.
        back_up(Arc::new(memory.clone()), &key(5), &recipients, &rdb(5)).await.expect("backed up");
        let other = PrunePlan::make(&memory, request(&[2], now())).await.expect("a plan");
        other.execute(&memory).await;
        if cut.is_err() {
            let outcome = plan_of_first.execute(&memory).await;
            assert!(outcome.failed.is_empty(), "{outcome:?}");
        }
        let left = listed(&memory, &identity).await;
        assert_eq!(left, [key(3), key(5)], "request {at}");
        assert_no_garbage(&memory, &left).await;
    }
}

#[tokio::test]
async fn in_a_directory_what_is_left_of_puts_goes_when_it_is_old() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DirectoryStore::open(directory.path()).expect("open");
    let part = directory.path().join(key(1).part(0).as_str());
    fs::create_dir_all(part.parent().expect("below the root")).expect("folders");
    let staging = |attempt: &str| format!("{}#{attempt}", part.display());
    for attempt in ["1", "2"] {
        fs::write(staging(attempt), b"half of").expect("a staging file");
    }
    fs::write(directory.path().join("notes#x"), b"not ours").expect("a file");
    fs::write(directory.path().join("a b#1"), b"not ours").expect("a file");
    let written = store.unfinished().await.expect("listed")[1].modified;

    let plan = PrunePlan::make(&store, request(&[], written.plus(DAY / 2))).await.expect("a plan");
    assert_eq!(plan.unfinished, [], "they are young");
    let plan = PrunePlan::make(&store, request(&[], written.plus(DAY))).await.expect("a plan");
    assert_eq!(plan.unfinished.len(), 2);
    assert!(plan.to_string().contains("2 files of puts that did not end"), "{plan}");
    // One goes on growing.
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    fs::File::options().append(true).open(staging("2")).expect("open").set_modified(later).expect("touched");
    let outcome = plan.execute(&store).await;
    assert_eq!((outcome.deleted_objects, outcome.failed.len()), (1, 0), "{outcome:?}");
    let left = |attempt: &str| fs::exists(staging(attempt)).expect("looked");
    assert!(!left("1") && left("2"));
    assert!(directory.path().join("notes#x").exists() && directory.path().join("a b#1").exists());
}

#[tokio::test]
async fn in_a_directory_a_backup_goes_with_its_folder() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DirectoryStore::open(directory.path()).expect("open");
    let identity = Identity::generate();
    for n in [1, 3] {
        back_up(Arc::new(store.clone()), &key(n), &identity.recipient().into(), &rdb(n)).await.expect("backed up");
    }
    let folder = |n| directory.path().join(key(n).to_string());
    fs::write(folder(1).join("notes.txt"), b"somebody's").expect("a file of somebody else");
    let plan = PrunePlan::make(&store, request(&[1], now())).await.expect("a plan");
    plan.execute(&store).await;
    let left: Vec<_> =
        fs::read_dir(folder(1)).expect("there").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["notes.txt"], "files of others are left alone");
    let mut wanted = request(&[3], now());
    wanted.relied_on.clear();
    PrunePlan::make(&store, wanted).await.expect("a plan").execute(&store).await;
    assert!(!folder(3).exists() && directory.path().join("backups").exists());
    assert!(names(&store).await.iter().all(|name| Location::parse(name).is_none()));
}
