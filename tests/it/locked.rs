//! A bucket that locks: what is to stay cannot be removed by anybody, and what somebody hid is restored.

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::TryStreamExt;
use urtext_repository::{ObjectInfo, ObjectPrefix, StoreAddress, testing::check_locking};
use urtext_tests::{
    data::{Contents, load_strings},
    eventually::{SOON, eventually},
    fleet::{Fleet, ORDERS},
    object_server::ObjectServer,
    process::run,
    servers::{Server, Version},
};
use urtext_types::{ErrorKind, Explain, Timestamp};

use crate::{
    buckets::{check_elsewhere, checked_here},
    disaster::{alone, loaded},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const BUCKET: &str = "vault";

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(since.as_millis() as i64)
}

#[test]
fn a_bucket_with_object_lock_locks_as_a_store_must() {
    let locks = async |address: StoreAddress| {
        let store = address.open_to_lock().expect("open").expect("it locks");
        check_locking(store, now()).await;
    };
    if checked_here(locks) {
        return;
    }
    let server = ObjectServer::start();
    server.make_locking_bucket(BUCKET);
    for mode in ["governance", "compliance"] {
        let address = format!("{}&lock=7d&lock_mode={mode}", server.address_in(BUCKET, mode));
        let test = "locked::a_bucket_with_object_lock_locks_as_a_store_must";
        check_elsewhere(test, &address, &ObjectServer::credentials());
    }
}

/// Somebody who has got hold of the coordinator's credentials. What was there is seen all the same.
async fn wipe(address: StoreAddress) {
    let store = address.open_to_sweep().expect("open");
    let all: Vec<_> = store.list(&ObjectPrefix::all()).try_collect().await.expect("a listing");
    assert!(all.len() > 5, "{all:?}");
    for object in &all {
        store.delete(&object.name).await.expect("a bucket with versions hides it");
    }
    // Something else in the place of what was there.
    for object in all.iter().filter(|object| object.name.as_str().ends_with(".json")) {
        store.put_new(&object.name, "nothing to see here".into()).await.expect("the name is free");
    }
    let StoreAddress::Bucket(mut bucket) = address else { panic!("it is a bucket") };
    (bucket.options.lock, bucket.options.first_versions) = (None, true);
    let shown = StoreAddress::Bucket(bucket).open().expect("open");
    let again: Vec<_> = shown.list(&ObjectPrefix::all()).try_collect().await.expect("a listing");
    let seen = |all: &[ObjectInfo]| -> Vec<(String, u64)> {
        all.iter().map(|object| (object.name.to_string(), object.size)).collect()
    };
    assert_eq!(seen(&again), seen(&all), "all of it, and as it was");
    let refused = shown.put_new(&all[0].name, "more".into()).await.expect_err("it is for reading");
    assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
}

#[test]
fn what_is_to_stay_is_locked_and_what_was_wiped_is_restored() {
    if checked_here(wipe) {
        return;
    }
    let server = ObjectServer::start();
    server.make_locking_bucket(BUCKET);
    let address = format!("{}&lock=1d", server.address_in(BUCKET, "redis"));
    let mut fleet = Fleet::with_env(&["--repository", &address], "", &ObjectServer::credentials());
    let master = Server::start(Version::Valkey91);
    load_strings(&master, "bulk", 17, 300, 100_000);
    fleet.add("fra-1", master);
    fleet.wait_until_seen("fra-1");
    let begun = now();
    let id = fleet.snapshot("fra-1");
    let until = |fleet: &Fleet| -> Result<Timestamp, String> {
        let shown = fleet.json(&["backup", "show", &id]);
        let locked = shown["backup"]["copies"][0]["locked_until"].as_str().ok_or_else(|| shown.to_string())?;
        Ok(locked.parse().expect("a time"))
    };
    let first = eventually("the backup to be locked", SOON, || until(&fleet));
    assert!(first >= begun.plus(DAY), "locked right after it was committed");
    fleet.coordinator.urtext(&["backup", "show", &id]).expect(0).prints(&["locked until 20"]);
    fleet.coordinator.urtext(&["repository", "list"]).expect(0).prints(&["locked for 1day (governance)"]);
    fleet.coordinator.urtext(&["repository", "check"]).expect(0);

    // It was locked for long enough; the records are new.
    let again = fleet.json(&["repository", "lock"]);
    let locked = &again["repositories"][0];
    assert_eq!((&locked["backups"], &locked["unchanged"]), (&0.into(), &1.into()), "{again}");
    assert!(locked["objects"].as_u64().expect("a number") >= 2, "{again}");
    fleet.coordinator.urtext(&["repository", "lock"]).expect(0).prints(&["1 more backups were locked for long enough"]);

    // What is to be kept for longer is locked for longer, by itself.
    fleet.coordinator.stop();
    let settings = fleet.coordinator.dir().join("urtext.toml");
    let text = fs::read_to_string(&settings).expect("settings").replace("lock=1d", "lock=30d");
    let text = text.replace("lock = \"0 2 * * *\"", "lock = \"* * * * * *\"");
    let text = text.replace("jitter = \"10m\"", "jitter = \"0s\"");
    fs::write(&settings, text).expect("settings");
    fleet.coordinator.serve();
    eventually("the schedule to extend the lock", SOON * 3, || {
        let at = until(&fleet)?;
        if at >= begun.plus(DAY * 30) { Ok(()) } else { Err(at.to_string()) }
    });
    let schedule = fleet.json(&["schedule"]);
    let jobs = schedule["jobs"].as_array().expect("jobs");
    let lock = jobs.iter().find(|job| job["job"] == "lock").expect("the job");
    assert_ne!(lock["last_good"], serde_json::Value::Null, "{lock}");
    fleet.coordinator.stop();
    fleet.coordinator.urtext(&["repository", "add", "spare", "spare"]).expect(0);

    // Everything is gone, with the coordinator's own rights.
    let test = "locked::what_is_to_stay_is_locked_and_what_was_wiped_is_restored";
    check_elsewhere(test, &address, &ObjectServer::credentials());
    let plain = server.address_in(BUCKET, "redis");
    let alone = |args: &[&str]| alone(args, &ObjectServer::credentials());
    alone(&["backups", "--repository", &plain]).expect(7);
    let shown = format!("{plain}&versions=first");
    alone(&["canonical", ORDERS, "--repository", &shown]).expect(0).prints(&[&id]);
    alone(&["backups", "--repository", &shown]).expect(0).prints(&[&id]);
    alone(&["verify", "--repository", &shown]).expect(0);
    let files = fleet.work().join("restored");
    let identity = fleet.coordinator.identity();
    let (to, key) = (files.display().to_string(), identity.display().to_string());
    alone(&["restore", ORDERS, "--repository", &shown, "--to-dir", &to, "--identity", &key, "--yes"]).expect(0);
    let restored = loaded(Version::Valkey91, &files);
    Contents::of(fleet.server("fra-1")).assert_same(&Contents::of(&restored));

    // Into a repository that goes on in its place.
    let text = fs::read_to_string(&settings).expect("settings");
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("repository = ")).collect();
    fs::write(&settings, without.join("\n")).expect("settings");
    fleet.coordinator.serve();
    let copied = fleet.json(&["repository", "sync", &shown, "spare"]);
    assert_eq!((&copied["done"]["backups"], &copied["done"]["failed"]), (&1.into(), &serde_json::json!([])));
    assert_eq!(fleet.canonical()["canonical"]["id"], id.as_str());
}

#[test]
fn a_bucket_without_object_lock_is_refused_before_anything_is_made() {
    let server = ObjectServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let init = |address: &str| {
        let mut command = Command::new(urtext_tests::fleet::program("urtext"));
        command.args(["init", "--repository", address, "--dir"]).arg(dir.path().join("urtext"));
        run(command.envs(ObjectServer::credentials()), SOON * 4)
    };
    let refused = init(&format!("{}&lock=30d", server.address("redis")));
    refused.expect(2).says(&["has no object lock", "make another bucket, or leave `lock` out"]);
    assert!(!dir.path().join("urtext").exists(), "nothing is half made");
    init(&format!("{}&versions=first", server.address("redis"))).expect(2).says(&["for reading only"]);
}

#[test]
fn what_cannot_be_locked_is_said_and_is_a_backup_all_the_same() {
    let server = ObjectServer::start();
    let address = server.address("redis");
    let mut fleet = Fleet::with_env(&["--repository", &address], "", &ObjectServer::credentials());
    fleet.coordinator.stop();
    let settings = fleet.coordinator.dir().join("urtext.toml");
    let text = fs::read_to_string(&settings).expect("settings").replace("region=us-east-1", "region=us-east-1&lock=7d");
    fs::write(&settings, text).expect("settings");
    fleet.coordinator.serve();
    let master = Server::start(Version::Redis82);
    load_strings(&master, "bulk", 3, 10, 100);
    fleet.add("fra-1", master);
    fleet.wait_until_seen("fra-1");
    let id = fleet.snapshot("fra-1");
    assert_eq!(fleet.canonical()["canonical"]["id"], id.as_str());
    let reason = "has no object lock";
    let sentence = "not everything in repository main is locked";
    eventually("the status to say so", SOON, || {
        let status = fleet.coordinator.urtext(&["status"]);
        let said = status.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.contains(sentence) && said.contains(reason) { Ok(()) } else { Err(said) }
    });
    fleet.coordinator.urtext(&["repository", "lock"]).expect(6).says(&[&format!("lock backup {id}"), reason]);
    fleet.coordinator.urtext(&["repository", "check"]).expect(6).prints(&[reason, "make another bucket"]);
}
