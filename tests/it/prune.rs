//! What stays, what goes, and what nobody may remove by mistake.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime},
};

use tokio_stream::StreamExt;
use urtext_repository::{BackupKey, ObjectName, ObjectPrefix, PrunePlan, PruneRequest, SweepStore};
use urtext_tests::{
    data::{Contents, load_strings},
    fleet::{Fleet, ORDERS, files_below},
    servers::{Server, Version},
};
use urtext_types::{BackupId, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

/// A file that was written two days ago.
fn old_file(path: &Path) {
    fs::create_dir_all(path.parent().expect("in a folder")).expect("folders");
    fs::write(path, b"half of").expect("a file");
    let file = File::options().append(true).open(path).expect("open");
    file.set_modified(SystemTime::now() - 2 * DAY).expect("set its time");
}

#[test]
fn prune_shows_what_stays_and_why_asks_and_sweeps_what_no_backup_names() {
    let mut fleet = Fleet::new();
    let master = Server::start(Version::Valkey81);
    let replica = Server::start(Version::Valkey81);
    replica.replicate(&master);
    load_strings(&master, "bulk", 5, 20, 1000);
    replica.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    fleet.wait_until_seen("nyc-1");
    let (first, second) = (fleet.snapshot("nyc-1"), fleet.snapshot("nyc-1"));
    let repository = fleet.coordinator.repository();
    let orphan = repository.join("backups/orders/0/01ARYZ6S410000000000000000/rdb.00000.zst.age");
    let young = repository.join("backups/orders/0/01ARYZ6S420000000000000000/rdb.00000.zst.age");
    let staging = repository.join("backups/orders/0/01ARYZ6S430000000000000000/rdb.00000.zst.age#1");
    old_file(&orphan);
    old_file(&staging);
    fs::create_dir_all(young.parent().expect("in a folder")).expect("folders");
    fs::write(&young, b"being copied from elsewhere").expect("a file");
    let before = files_below(&repository);

    // Nothing is removed before somebody said yes.
    let plan = ["1 folder without a manifest", "1 file of puts that did not end", "not verified yet"];
    let shown = fleet.coordinator.urtext(&["prune", "--dry-run"]).expect(0);
    for words in plan {
        assert!(shown.stdout.contains(words), "{words}:\n{}", shown.stdout);
    }
    assert!(shown.stdout.contains("younger than 24 h"), "{}", shown.stdout);
    fleet.coordinator.urtext(&["prune", ORDERS]).expect(5).says(&["nobody is here to say yes"]);
    assert_eq!(files_below(&repository), before);

    let done = fleet.coordinator.json(&["prune", ORDERS, "--yes"]);
    let outcome = &done["repositories"][0]["outcome"];
    assert_eq!((outcome["swept"].as_u64(), outcome["deleted_objects"].as_u64()), (Some(1), Some(2)), "{done}");
    assert_eq!(outcome["removed"].as_array().map(Vec::len), Some(0), "what is not verified stays: {done}");
    assert!(!orphan.exists() && !staging.exists() && young.exists());
    fleet.coordinator.urtext(&["prune", ORDERS, "--yes"]).expect(0).says(&["there is nothing to remove"]);
    fleet.coordinator.urtext(&["audit", ORDERS]).expect(0).says(&["pruned", "1 folders without a manifest"]);
    let expected = Contents::of(fleet.server("nyc-1"));
    fleet.add("fra-2", Server::start(Version::Valkey81));
    fleet.restore_to("fra-2", &["--backup", &first]);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));

    // A hold is a reason of its own, until it is released.
    let reasons = |id: &str| {
        let retention = fleet.coordinator.json(&["retention", ORDERS]);
        let backups = retention["shards"][0]["backups"].as_array().expect("backups").clone();
        let found = backups.into_iter().find(|backup| backup["backup"] == *id).expect("listed");
        let codes = found["reasons"].as_array().expect("reasons").clone();
        codes.into_iter().map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&first), ["not-verified"]);
    assert!(reasons(&second).contains(&"not-verified".to_owned()));
    fleet.coordinator.urtext(&["hold", &first, "--reason", "for the auditors"]).expect(0).says(&["is on hold"]);
    assert_eq!(reasons(&first), ["held", "not-verified"]);
    fleet.coordinator.urtext(&["hold", "list"]).expect(0).says(&[&first, "for the auditors"]);
    fleet.coordinator.urtext(&["hold", &first]).expect(2).says(&["--reason"]);
    fleet.coordinator.urtext(&["hold", "--release", &first, "--reason", "seen"]).expect(0);
    assert_eq!(fleet.coordinator.json(&["hold", "list", ORDERS])["holds"].as_array().map(Vec::len), Some(0));
    fleet.coordinator.urtext(&["hold", "--release", &second, "--reason", "x"]).expect(3).says(&["is not on hold"]);

    // No branch was set aside.
    let history = fleet.canonical()["canonical"]["position"]["history"].as_str().expect("a history").to_owned();
    let let_go = ["prune", ORDERS, "--let-go", &history, "--reason", "x"];
    fleet.coordinator.urtext(&let_go).expect(5).says(&["is set aside"]);
}

/// Removes a backup and what no manifest names from an empty store, and leaves it empty.
pub(crate) async fn check_pruning(store: &dyn SweepStore) {
    let now = Timestamp::from_millis(
        i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis())
            .expect("a time"),
    );
    let key = |n: u8| BackupKey {
        deployment: ORDERS.parse().expect("a name"),
        shard: "0".parse().expect("a name"),
        id: BackupId::new(now.minus(3 * DAY), [n; 10]),
    };
    let (gone, stays, orphan) = (key(1), key(2), key(3));
    for name in [gone.manifest(), gone.part(0), gone.settings(), stays.manifest(), stays.part(0), orphan.part(0)] {
        store.put_new(&name, name.to_string().into_bytes().into()).await.expect("put");
    }
    let request = |now| PruneRequest {
        deployment: None,
        gone: BTreeSet::from([gone.clone()]),
        busy: BTreeSet::new(),
        relied_on: BTreeSet::from([stays.clone()]),
        grace: DAY,
        now,
    };
    let young = PrunePlan::make(store, request(now)).await.expect("a plan");
    assert_eq!((young.orphans.len(), young.waiting.objects), (0, 1), "its objects are new by the store's clock");
    let plan = PrunePlan::make(store, request(now.plus(2 * DAY))).await.expect("a plan");
    assert_eq!((plan.backups.len(), plan.orphans.len(), plan.freed().0), (1, 1, 4));
    let outcome = plan.execute(store).await;
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    let mut left = names(store).await;
    left.sort();
    assert_eq!(left, [stays.manifest(), stays.part(0)]);
    for name in left {
        store.delete(&name).await.expect("deleted");
    }
    assert_eq!(names(store).await, Vec::<ObjectName>::new());
}

async fn names(store: &dyn SweepStore) -> Vec<ObjectName> {
    let listed: Vec<_> = store.list(&ObjectPrefix::all()).collect().await;
    listed.into_iter().map(|object| object.expect("listed").name).collect()
}
