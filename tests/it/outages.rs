//! The coordinator goes away, at any moment, with or without its catalog, or its disk fills: what was
//! committed stays, what was not is not listed.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;
use urtext_tests::{
    data::{Contents, Random, load, load_strings},
    eventually::{SOON, until},
    fleet::{Fleet, ORDERS, files_below, program},
    process::{Daemon, run},
    say,
    servers::{Server, Version},
};

/// The ids of the committed backups, as listed.
fn ids(fleet: &Fleet) -> Vec<String> {
    fleet.backups().iter().map(|backup| backup["id"].as_str().expect("an id").to_owned()).collect()
}

/// Restores a backup to plain files and lets the server's own tool check the RDB.
#[track_caller]
fn restores(fleet: &Fleet, id: &str) {
    let dir = fleet.work().join(format!("files-{id}-{}", Random::new(files_below(fleet.work()).len() as u64).number()));
    let to = dir.to_str().expect("a temporary folder's path is text");
    fleet.json(&["restore", ORDERS, "--to-dir", to, "--backup", id, "--yes"]);
    let files = files_below(&dir);
    let rdb = files.iter().find(|file| file.extension().is_some_and(|extension| extension == "rdb"));
    let rdb = rdb.unwrap_or_else(|| panic!("an RDB among {files:#?}"));
    let check = run(Command::new("redis-check-rdb").arg(rdb), Duration::from_secs(60)).expect(0);
    assert!(check.stdout.contains("RDB looks OK"), "{}", check.stdout);
}

#[test]
fn the_agent_waits_for_a_coordinator_that_is_down_and_comes_back_by_itself() {
    let mut fleet = Fleet::of_three_sites(Version::Redis70);
    fleet.snapshot("nyc-1");
    fleet.coordinator.kill9();
    fleet.coordinator.urtext(&["status"]).expect(6).says(&[fleet.coordinator.address(), "hint:"]);
    let told = fleet.agent_mut("nyc-1").daemon().wait_for_line("connect to the coordinator");
    assert!(!told.contains("ERROR"), "the agent copes, and no person must act: {told}");
    load(fleet.server("fra-1"), 61, 50);
    assert!(fleet.agent_mut("nyc-1").daemon().is_running());

    fleet.coordinator.serve();
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.wait_until_seen(node);
    }
    assert_eq!(ids(&fleet).len(), 1);
    fleet.snapshot("nyc-1");
}

#[test]
fn an_observation_older_than_five_seconds_survives_a_kill_of_the_coordinator() {
    let mut fleet = Fleet::of_three_sites(Version::Redis70);
    let seen = fleet.wait_for_node("sgp-1", "a position", |seen| seen["offset"].is_u64());
    std::thread::sleep(Duration::from_secs(5));
    fleet.agent_mut("sgp-1").kill9();
    fleet.coordinator.kill9();
    fleet.coordinator.serve();
    let kept = fleet.wait_for_node("sgp-1", "what was known", |seen| seen["offset"].is_u64());
    assert_eq!(kept["history"], seen["history"]);
    assert!(kept["offset"].as_u64() >= seen["offset"].as_u64());
    assert_eq!(kept["connected"], false);
}

#[test]
fn a_coordinator_killed_at_any_moment_of_a_backup_loses_no_committed_one_and_lists_no_half_one() {
    let mut fleet = Fleet::of_three_sites(Version::Redis70);
    // Three parts, so that there are moments between them.
    load_strings(fleet.server("fra-1"), "bulk", 62, 800, 50_000);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    let mut random = Random::new(63);
    let mut promised: Vec<String> = Vec::new();
    for round in 0..8 {
        let out = fleet.work().join(format!("snapshot-{round}"));
        let mut command = Command::new(program("urtext"));
        command.args(["snapshot", ORDERS, "--node", "nyc-1", "--json", "--dir"]).arg(fleet.coordinator.dir());
        let mut snapshot = Daemon::start("urtext snapshot", &mut command, &out);
        std::thread::sleep(Duration::from_millis(random.below(1_200)));
        fleet.coordinator.kill9();
        let ended = snapshot.wait(SOON);
        if ended.success() {
            let said = snapshot.log();
            let json = &said[said.find('{').expect("JSON")..];
            let json: Value = serde_json::from_str(json.trim()).unwrap_or_else(|error| panic!("{error}: {said}"));
            promised.push(json["backups"][0]["id"].as_str().expect("an id").to_owned());
        }
        fleet.coordinator.serve();
        fleet.wait_for_node("nyc-1", "its agent connected", |seen| seen["connected"] == true);
        let listed = ids(&fleet);
        for id in &promised {
            assert!(listed.contains(id), "{id} was promised and is lost after round {round}");
        }
    }
    let last = fleet.snapshot("nyc-1");
    let listed = ids(&fleet);
    assert!(listed.contains(&last));
    say(&format!("{} backups were promised, {} are listed, all restore", promised.len(), listed.len()));
    for id in &listed {
        restores(&fleet, id);
    }
}

#[test]
fn a_deleted_catalog_is_rebuilt_from_the_repository() {
    let mut fleet = Fleet::of_three_sites(Version::Redis70);
    load(fleet.server("fra-1"), 64, 100);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    let first = fleet.snapshot("nyc-1");
    // A failover in between, so that there is a lineage to be rebuilt as well.
    fleet.server("nyc-1").promote();
    fleet.server("sgp-1").replicate(fleet.server("nyc-1"));
    load_strings(fleet.server("nyc-1"), "more", 65, 20, 50);
    fleet.server("sgp-1").catch_up_with(fleet.server("nyc-1"));
    for node in ["nyc-1", "sgp-1"] {
        fleet.wait_until_seen(node);
    }
    let second = fleet.snapshot("sgp-1");
    let (backups, lineage) = (fleet.json(&["backups", ORDERS]), fleet.json(&["lineage", ORDERS]));
    assert_eq!(fleet.canonical()["canonical"]["id"], second);

    fleet.coordinator.stop();
    let catalog = files_below(fleet.coordinator.dir())
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("catalog")));
    let deleted = catalog.map(|file| fs::remove_file(file).expect("delete the catalog")).count();
    assert!(deleted > 0, "there is a catalog to delete");
    fleet.coordinator.serve();
    let rebuilt = fleet.json(&["backups", ORDERS]);
    let key = |list: &Value| -> Vec<[Value; 4]> {
        let backups = list["backups"].as_array().expect("a list").iter();
        backups.map(|b| ["id", "history", "offset", "keys"].map(|field| b[field].clone())).collect()
    };
    assert_eq!(key(&rebuilt), key(&backups));
    let edges = |lineage: &Value| lineage["edges"].as_array().expect("a list").clone();
    for edge in edges(&lineage) {
        let rebuilt = edges(&fleet.json(&["lineage", ORDERS]));
        let same = |other: &Value| ["child", "parent", "offset"].iter().all(|field| other[*field] == edge[*field]);
        assert!(rebuilt.iter().any(same), "{edge} is not in {rebuilt:#?}");
    }
    assert_eq!(fleet.canonical()["canonical"]["id"], second);
    restores(&fleet, &first);
    restores(&fleet, &second);
    // The agents are still who they were.
    fleet.wait_for_node("sgp-1", "its agent connected", |seen| seen["connected"] == true);
    fleet.snapshot("sgp-1");
}

/// A file system of its own that is small, or why there is none.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, megabytes: u32) -> Result<Self, String> {
        fs::create_dir_all(at).expect("make a mount point");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(at);
        let output = run(&mut command, SOON);
        if output.code() == 0 { Ok(Self(at)) } else { Err(output.stderr) }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: a daemon that is about to be killed may still have a file open.
        run(Command::new("umount").arg("-l").arg(self.0), SOON);
    }
}

#[test]
fn a_full_disk_at_the_coordinator_is_one_clear_sentence_and_no_half_backup() {
    let mount = tempfile::tempdir().expect("make a folder");
    let disk = match SmallDisk::mount(mount.path(), 40) {
        Ok(disk) => disk,
        Err(why) => return say(&format!("skipped: a small file system cannot be mounted here: {}", why.trim())),
    };
    let url = format!("file://{}/repository", mount.path().display());
    let mut fleet = Fleet::with(&["--repository", &url], "");
    let (master, replica) = (Server::start(Version::Redis70), Server::start(Version::Redis70));
    replica.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let small = fleet.snapshot("nyc-1");
    load_strings(fleet.server("fra-1"), "bulk", 66, 600, 100_000);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "nyc-1"]).expect(6).says(&["space"]);
    assert_eq!(ids(&fleet), [small.as_str()]);
    assert!(fleet.coordinator.daemon().is_running());

    // Room again: the next one works.
    fleet.server("fra-1").call(&["FLUSHALL"]);
    load_strings(fleet.server("fra-1"), "few", 67, 10, 1_000);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    run(Command::new("mount").args(["-o", "remount,size=200m"]).arg(mount.path()), SOON).expect(0);
    let next = fleet.snapshot("nyc-1");
    restores(&fleet, &next);
    drop(fleet);
    drop(disk);
}

#[test]
fn an_agent_killed_between_two_parts_leaves_nothing_listed_and_the_next_backup_works() {
    let mut fleet = Fleet::of_three_sites(Version::Redis82);
    load_strings(fleet.server("fra-1"), "bulk", 68, 1_000, 100_000);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    let out = fleet.work().join("snapshot");
    let mut command = Command::new(program("urtext"));
    command.args(["snapshot", ORDERS, "--node", "nyc-1", "--dir"]).arg(fleet.coordinator.dir());
    let mut snapshot = Daemon::start("urtext snapshot", &mut command, &out);
    let parts = |fleet: &Fleet| {
        let files = files_below(&fleet.coordinator.repository());
        files.iter().filter(|file| file.to_string_lossy().contains("rdb.0")).count()
    };
    until("a first part to be stored", SOON, || parts(&fleet) > 0);
    fleet.agent_mut("nyc-1").kill9();
    let stored = parts(&fleet);
    assert!(stored < 7, "killed too late to prove anything: {stored} parts");
    fleet.wait_for_node("nyc-1", "its agent gone", |seen| seen["connected"] == false);
    assert!(ids(&fleet).is_empty());
    let waits = "waiting for the agent of nyc-1 to come back";
    until("the snapshot to say what it waits for", SOON, || snapshot.log().contains(waits));

    // The task waits for its agent, which comes back and knows nothing of it: that is said.
    fleet.agent_mut("nyc-1").run();
    let status = snapshot.wait(SOON);
    assert_eq!(status.code(), Some(6), "{}", snapshot.log());
    assert!(snapshot.log().contains("nyc-1"), "{}", snapshot.log());
    assert!(ids(&fleet).is_empty());
    let id = fleet.snapshot("nyc-1");
    assert_eq!(ids(&fleet), [id.as_str()]);
    let expected = Contents::of(fleet.server("nyc-1"));
    fleet.add("fra-2", Server::start(Version::Redis82));
    fleet.restore_to("fra-2", &[]);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
}
