//! From an empty directory to a restored server, on every version: the same content at the same position.

use urtext_tests::{
    data::{Contents, load},
    eventually::{SOON, until},
    fleet::{Fleet, ORDERS, backup_id, candidate},
    servers::{Server, Version},
};

#[test]
fn redis_6_2_is_backed_up_and_restored() {
    check(Version::Redis62);
}

#[test]
fn redis_7_0_is_backed_up_and_restored() {
    check(Version::Redis70);
}

#[test]
fn redis_8_2_is_backed_up_and_restored() {
    check(Version::Redis82);
}

#[test]
fn valkey_8_1_is_backed_up_and_restored() {
    check(Version::Valkey81);
}

#[test]
fn valkey_9_1_is_backed_up_and_restored() {
    check(Version::Valkey91);
}

#[track_caller]
fn check(version: Version) {
    let (master, replica) = (Server::start(version), Server::start(version));
    replica.replicate(&master);
    load(&master, 11, 700);
    replica.catch_up_with(&master);
    let mut fleet = Fleet::new();
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    // Of the replica, which is backed up: 7.0 replicates how far a stream's group has read, but not exactly.
    let contents = Contents::of(fleet.server("nyc-1"));

    // Nobody names a node: the replica is asked, so that the master is left alone.
    let snapshot = fleet.json(&["snapshot", ORDERS]);
    let id = backup_id(&snapshot);
    let backups = fleet.backups();
    let [backup] = &backups[..] else { panic!("one backup, not {backups:#?}") };
    assert_eq!(backup["id"], id);
    assert_eq!(backup["node"], "nyc-1");
    assert_eq!(backup["keys"], contents.len());
    assert_eq!(backup["history"], *fleet.server("fra-1").history());
    let offset = backup["offset"].as_u64().expect("an exact offset");
    assert!((1..=fleet.server("fra-1").offset()).contains(&offset));

    let canonical = fleet.canonical();
    assert_eq!(canonical["verdict"], "canonical");
    assert_eq!(canonical["canonical"]["id"], id);
    assert_eq!(candidate(&canonical, &id)["standing"], "canonical");
    let shown = fleet.json(&["backup", "show", &id]);
    assert_eq!(shown["backup"]["id"], id);

    // A plan alone changes nothing; the restore itself does what it says.
    fleet.add("sgp-1", Server::start(version));
    let plan = fleet.restore_to("sgp-1", &["--dry-run"]);
    assert_eq!(plan["plan"]["backup"]["id"], id);
    assert!(Contents::of(fleet.server("sgp-1")).is_empty());
    let restored = fleet.restore_to("sgp-1", &[]);
    let target = fleet.server("sgp-1");
    contents.assert_same(&Contents::of(target));
    assert_eq!(restored["proof"]["expected"], restored["proof"]["found"]);
    assert_eq!(restored["proof"]["new_history"], *target.history());
    if version.is_7_or_later() {
        assert_eq!(target.get::<i64>(&["FCALL", "answer", "0"]), 42, "functions are restored");
    }

    // The exact position, as the parent of a history of its own.
    let replication = target.info("replication");
    assert_eq!(replication["role"], "master");
    assert_eq!(backup["history"], replication["master_replid2"]);
    assert_eq!(replication["second_repl_offset"], (offset + 1).to_string());
    let lineage = fleet.json(&["lineage", ORDERS]);
    let edges = lineage["edges"].as_array().expect("a list of edges");
    let edge = edges.iter().find(|edge| edge["child"] == *target.history());
    let edge = edge.unwrap_or_else(|| panic!("the restored history is not on record: {lineage:#}"));
    assert_eq!((&edge["parent"], &edge["offset"]), (&backup["history"], &backup["offset"]));

    // The restored node goes on: its next backup is the canonical one, and the first is behind it.
    target.call(&["SET", "after", "the restore"]);
    let next = fleet.snapshot("sgp-1");
    assert_eq!(fleet.json(&["backup", "show", &next])["backup"]["keys"], contents.len() + 1);
}

#[test]
fn a_server_without_any_replica_is_backed_up_without_changing_its_identity() {
    let server = Server::start(Version::Redis70);
    load(&server, 12, 200);
    let contents = Contents::of(&server);
    let mut fleet = Fleet::new();
    fleet.add("fra-1", server);
    let history = fleet.server("fra-1").history();
    fleet.snapshot("fra-1");
    assert_eq!(fleet.server("fra-1").history(), history);
    let backups = fleet.backups();
    assert_eq!((&backups[0]["method"], &backups[0]["keys"]), (&"file".into(), &contents.len().into()));

    fleet.add("fra-2", Server::start(Version::Redis70));
    fleet.restore_to("fra-2", &["--backup", backups[0]["id"].as_str().expect("an id")]);
    contents.assert_same(&Contents::of(fleet.server("fra-2")));
}

#[test]
fn both_methods_give_the_same_copy_at_the_same_position() {
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(Version::Valkey81), Server::start(Version::Valkey81));
    load(&master, 13, 300);
    replica.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let stream = fleet.snapshot_with("nyc-1", &["--method", "replication"]);
    let file = fleet.snapshot_with("nyc-1", &["--method", "file"]);
    let [stream, file] = [stream, file].map(|id| fleet.json(&["backup", "show", &id])["backup"].clone());
    assert_eq!((&stream["method"], &file["method"]), (&"replication".into(), &"file".into()));
    assert_eq!(stream["history"], file["history"]);
    assert_eq!(stream["keys"], file["keys"]);
    // Nothing is written meanwhile; only the master's ping may lie between the two.
    let offsets = [&stream, &file].map(|backup| backup["offset"].as_u64().expect("an exact offset"));
    assert!(offsets[1] - offsets[0] <= 14 * 3, "{offsets:?}");
}

#[test]
fn a_target_that_holds_data_is_refused_and_then_saved_before_it_is_overwritten() {
    let mut fleet = Fleet::of_three_sites(Version::Redis82);
    load(fleet.server("fra-1"), 14, 100);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    let contents = Contents::of(fleet.server("nyc-1"));
    fleet.snapshot("nyc-1");

    let target = Server::start(Version::Redis82);
    target.call(&["SET", "mine", "precious"]);
    fleet.add("fra-2", target);
    let args = ["restore", ORDERS, "--to", "fra-2", "--yes"];
    fleet.coordinator.urtext(&args).expect(5).says(&["fra-2", "1 key", "--overwrite"]);
    assert_eq!(fleet.server("fra-2").get::<String>(&["GET", "mine"]), "precious");

    let restored = fleet.restore_to("fra-2", &["--overwrite"]);
    contents.assert_same(&Contents::of(fleet.server("fra-2")));
    let safety = &restored["safety_backup"];
    assert_eq!((&safety["node"], &safety["keys"]), (&"fra-2".into(), &1.into()));
    assert!(fleet.backups().iter().any(|backup| backup["id"] == safety["id"]));
}

#[test]
fn a_detached_snapshot_is_made_all_the_same_and_one_may_wait_for_an_offset() {
    let fleet = Fleet::of_three_sites(Version::Redis70);
    load(fleet.server("fra-1"), 71, 50);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    let detached = fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "nyc-1", "--detach", "--json"]);
    let id = detached.expect(0).json()["backups"][0]["id"].clone();
    let of = |id: &serde_json::Value| {
        let listed = fleet.coordinator.urtext(&["backups", ORDERS, "--json"]).expect(0).json();
        listed["backups"].as_array().expect("a list").iter().find(|backup| backup["id"] == *id).cloned()
    };
    until("the detached snapshot to be committed", SOON, || of(&id).is_some());

    let offset = of(&id).expect("committed")["offset"].as_u64().expect("an offset");
    fleet.server("fra-1").call(&["SET", "later", "1"]);
    let wanted = (offset + 1).to_string();
    let waited = fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "nyc-1", "--at-least", &wanted, "--json"]);
    let waited = waited.expect(0).json()["backups"][0]["offset"].as_u64().expect("an offset");
    assert!(waited > offset, "{waited} is not beyond {offset}");
}
