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
    object_server::ObjectServer,
    servers::{Server, Version},
};
use urtext_types::{BackupId, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);

/// The command ends well, and these words are in what it prints.
#[track_caller]
fn prints(fleet: &Fleet, args: &[&str], words: &[&str]) {
    fleet.coordinator.urtext(args).expect(0).prints(words);
}

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
    let plan =
        ["1 folder without a manifest", "1 file of puts that did not end", "not verified yet", "younger than 24 h"];
    prints(&fleet, &["prune", "--dry-run"], &plan);
    fleet.coordinator.urtext(&["prune", ORDERS]).expect(5).says(&["nobody is here to say yes"]);
    assert_eq!(files_below(&repository), before);

    let done = fleet.coordinator.json(&["prune", ORDERS, "--yes"]);
    let outcome = &done["repositories"][0]["outcome"];
    assert_eq!((outcome["swept"].as_u64(), outcome["deleted_objects"].as_u64()), (Some(1), Some(2)), "{done}");
    assert_eq!(outcome["removed"].as_array().map(Vec::len), Some(0), "what is not verified stays: {done}");
    assert!(!orphan.exists() && !staging.exists() && young.exists());
    prints(&fleet, &["prune", ORDERS, "--yes"], &["there is nothing to remove"]);
    prints(&fleet, &["audit", ORDERS], &["pruned", "1 folders without a manifest"]);

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
    prints(&fleet, &["hold", &first, "--reason", "for the auditors"], &["is on hold"]);
    assert_eq!(reasons(&first), ["held", "not-verified"]);
    prints(&fleet, &["hold", "list"], &[&first, "for the auditors"]);
    fleet.coordinator.urtext(&["hold", &first]).expect(2).says(&["--reason"]);
    fleet.coordinator.urtext(&["hold", "--release", &first, "--reason", "seen"]).expect(0);
    assert_eq!(fleet.coordinator.json(&["hold", "list", ORDERS])["holds"].as_array().map(Vec::len), Some(0));
    fleet.coordinator.urtext(&["hold", "--release", &second, "--reason", "x"]).expect(3).says(&["is not on hold"]);

    // No branch was set aside.
    let history = fleet.canonical()["canonical"]["history"].as_str().expect("a history").to_owned();
    let let_go = ["prune", ORDERS, "--let-go", &history, "--reason", "x"];
    fleet.coordinator.urtext(&let_go).expect(5).says(&["is set aside"]);

    let expected = Contents::of(fleet.server("nyc-1"));
    fleet.add("fra-2", Server::start(Version::Valkey81));
    fleet.restore_to("fra-2", &["--backup", &first]);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
}

/// Backs up twice, proves it, prunes to the last one, and restores that.
#[track_caller]
fn prunes_to_the_last_one(mut fleet: Fleet) {
    let version = Version::Redis82;
    let (master, replica) = (Server::start(version), Server::start(version));
    replica.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let ids = [31, 32, 33].map(|seed| {
        load_strings(fleet.server("fra-1"), &format!("bulk{seed}"), seed, 50, 1000);
        fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
        fleet.wait_until_seen("nyc-1");
        fleet.snapshot("nyc-1")
    });
    fleet.coordinator.urtext(&["hold", &ids[0], "--reason", "for the auditors"]).expect(0);
    let removed = |done: &serde_json::Value| {
        let removed = done["repositories"][0]["outcome"]["removed"].as_array().cloned().unwrap_or_default();
        removed.into_iter().map(|id| id.as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(removed(&fleet.coordinator.json(&["prune", "--yes"])), Vec::<String>::new(), "nothing was verified");
    fleet.coordinator.urtext(&["verify", ORDERS]).expect(0);
    let words = ["remove", "for the auditors", "canonical", "1 backup to remove"];
    prints(&fleet, &["prune", ORDERS, "--dry-run"], &words);
    assert_eq!(fleet.backups().len(), 3);

    let done = fleet.coordinator.json(&["prune", ORDERS, "--yes"]);
    assert_eq!(removed(&done), [ids[1].clone()], "{done}");
    let left: Vec<_> = fleet.backups().iter().map(|backup| backup["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(left, [ids[2].clone(), ids[0].clone()]);
    fleet.coordinator.urtext(&["verify", ORDERS]).expect(0);
    prints(&fleet, &["audit", ORDERS], &["pruned", &ids[1]]);
    fleet.coordinator.urtext(&["hold", "--release", &ids[0], "--reason", "they have seen it"]).expect(0);
    assert_eq!(removed(&fleet.coordinator.json(&["prune", ORDERS, "--yes"])), [ids[0].clone()]);

    let expected = Contents::of(fleet.server("nyc-1"));
    fleet.add("fra-2", Server::start(version));
    fleet.restore_to("fra-2", &[]);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
}

/// Only the last one stays for the rules' sake.
const LAST: &str = "[retention]\ndaily = 0\n";

#[test]
fn what_was_pruned_is_gone_and_what_stays_restores() {
    prunes_to_the_last_one(Fleet::with(&[], LAST));
}

#[test]
fn a_bucket_is_pruned_as_a_directory_is() {
    let bucket = ObjectServer::start();
    let address = bucket.address("redis/orders");
    prunes_to_the_last_one(Fleet::with_env(&["--repository", &address], LAST, &ObjectServer::credentials()));
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
