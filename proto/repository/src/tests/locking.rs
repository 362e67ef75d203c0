//! What is to stay is locked, and stays locked.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use urtext_types::Timestamp;

use super::key;
use crate::{
    Location, Lock, LockMode, LockStore, ObjectName, ObjectPrefix, RecordKind, Store, lock_backup, lock_common,
    testing::MemoryStore,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

fn days(n: u32) -> Timestamp {
    now().plus(DAY * n)
}

#[test]
fn a_lock_is_extended_before_it_is_shorter_than_it_is_to_be() {
    let month = Lock { period: DAY * 28, mode: LockMode::Governance };
    assert_eq!(month.until(now()), days(35));
    assert!(month.is_due(None, now()));
    // Looked at again tomorrow: until then it must hold for the whole period.
    assert!(month.is_due(Some(days(28)), now()));
    assert!(!month.is_due(Some(days(29)), now()));
    assert!(!month.is_due(Some(month.until(now())), days(6)));
    assert!(month.is_due(Some(month.until(now())), days(7)));
    // A short one is not extended every day, either.
    let short = Lock { period: DAY, mode: LockMode::Governance };
    assert!(!short.is_due(Some(short.until(now())), days(1)));
}

async fn store() -> MemoryStore {
    let store = MemoryStore::default();
    store.set_time(now());
    let foreign = format!("{}/note.txt", key(1));
    let names = [key(1).manifest(), key(1).part(0), key(1).settings(), key(2).part(0)];
    for name in names.into_iter().chain([foreign.parse().expect("a name"), Location::Repository.name()]) {
        store.put_new(&name, Bytes::from_static(b"x")).await.expect("put");
    }
    store
}

async fn locked(store: &MemoryStore) -> Vec<String> {
    let all: Vec<_> = store.list(&ObjectPrefix::all()).try_collect().await.expect("a listing");
    let mut locked = Vec::new();
    for object in all {
        if store.locked_until(&object.name).await.expect("asked").is_some() {
            locked.push(object.name.to_string());
        }
    }
    locked
}

#[tokio::test]
async fn a_backup_is_locked_with_all_that_it_consists_of_and_nothing_else() {
    let store = store().await;
    assert_eq!(lock_backup(&store, &key(1), days(9)).await.expect("locked"), 3);
    let expected = [key(1).manifest(), key(1).part(0), key(1).settings()].map(|name| name.to_string());
    assert_eq!(locked(&store).await, expected);
    assert_eq!(lock_backup(&store, &key(3), days(9)).await.expect("there is none"), 0);
}

#[tokio::test]
async fn of_what_belongs_to_no_backup_what_is_new_is_locked() {
    let store = store().await;
    let record = |n: i64, deployment: &str| -> ObjectName {
        let id = key(n).id.to_string().parse().expect("an id");
        let deployment = deployment.parse().expect("a name");
        Location::Record { deployment, kind: RecordKind::Audit, id }.name()
    };
    let (old, other) = (record(1, "orders"), record(1, "carts"));
    for name in [&old, &other] {
        store.put_new(name, Bytes::from_static(b"x")).await.expect("put");
    }
    let orders = key(1).deployment;
    assert_eq!(lock_common(&store, &orders, None, days(9)).await.expect("locked"), 2);
    assert_eq!(locked(&store).await, [old.to_string(), Location::Repository.name().to_string()]);
    store.set_time(days(1));
    let new = record(2, "orders");
    store.put_new(&new, Bytes::from_static(b"x")).await.expect("put");
    lock_common(&store, &orders, Some(now()), days(19)).await.expect("locked");
    assert_eq!(store.locked_until(&old).await.expect("asked"), Some(days(9)), "it was, for long enough");
    assert_eq!(store.locked_until(&new).await.expect("asked"), Some(days(19)));
}
