//! What decides which copy is the one: points in time, branches, vouchers, and a catalog made again from nothing
//! but the repository.

use std::fs;

use serde_json::{Value, json};
use urtext_tests::{
    data::{load, load_strings},
    eventually::{SOON, eventually},
    fleet::{Fleet, ORDERS, candidate},
    servers::{Server, Version},
};

/// What of a verdict does not depend on when it is asked for.
fn stable(canonical: &Value) -> Value {
    let of = |entry: &Value| {
        let keep = ["source", "id", "node", "site", "history", "offset", "standing", "missing_bytes", "excess_bytes"];
        keep.iter().map(|&key| (key.to_owned(), entry[key].clone())).collect::<serde_json::Map<_, _>>()
    };
    let mut candidates: Vec<_> = canonical["candidates"].as_array().expect("a list").iter().map(of).collect();
    // Of two nodes at one position the one that was seen last comes first.
    candidates.sort_by_key(|candidate| candidate["id"].to_string());
    json!({
        "verdict": canonical["verdict"],
        "canonical": canonical["canonical"]["id"],
        "candidates": candidates,
        "forks": canonical["forks"],
        "head": [canonical["head"]["history"], canonical["head"]["offset"]],
    })
}

#[test]
fn a_catalog_that_was_thrown_away_is_made_again_and_a_losing_branch_is_restored_beside() {
    let version = Version::Redis70;
    let mut fleet = Fleet::of_three_sites(version);
    // No pings: two answers about one moment must be the same.
    fleet.server("fra-1").call(&["CONFIG", "SET", "repl-ping-replica-period", "3600"]);
    load(fleet.server("fra-1"), 81, 120);
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).catch_up_with(fleet.server("fra-1"));
    }
    fleet.snapshot("sgp-1");
    // A split brain: nyc goes on alone, sgp stays with fra.
    fleet.server("nyc-1").promote();
    load_strings(fleet.server("fra-1"), "only-in-fra", 82, 40, 100);
    load_strings(fleet.server("nyc-1"), "only-in-nyc", 83, 60, 100);
    fleet.server("sgp-1").catch_up_with(fleet.server("fra-1"));
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.wait_until_seen(node);
    }
    let losing = fleet.snapshot("sgp-1");
    let winning = fleet.snapshot("nyc-1");
    let promoted = fleet.server("nyc-1").history();
    fleet.coordinator.urtext(&["accept-lineage", ORDERS, &promoted[..8], "--reason", "nyc took the traffic"]).expect(0);
    // Its backlog expires: the same run goes on under another id, and nobody promoted it.
    fleet.server("nyc-1").call(&["CONFIG", "SET", "repl-backlog-ttl", "1"]);
    eventually("the bridge to be learned", SOON, || {
        let lineage = fleet.json(&["lineage", ORDERS]);
        let edges = lineage["edges"].as_array().expect("a list of edges");
        let is_bridged = edges.iter().any(|edge| edge["evidence"] == "inferred-same-run");
        if is_bridged { Ok(()) } else { Err(format!("{lineage:#}")) }
    });
    fleet.wait_until_seen("nyc-1");

    let lineage = fleet.json(&["lineage", ORDERS]);
    let canonical = fleet.canonical();
    assert_eq!(canonical["canonical"]["id"], winning);
    let rebuilt = fleet.json(&["catalog", "rebuild"]);
    assert_eq!((rebuilt["backups"].as_u64(), rebuilt["backups_found"].as_u64()), (Some(3), Some(0)), "{rebuilt:#}");
    assert_eq!((rebuilt["accepted"].as_u64(), rebuilt["unreadable"].as_array().map(Vec::len)), (Some(1), Some(0)));
    assert_eq!(rebuilt["edges"].as_u64(), lineage["edges"].as_array().map(|edges| edges.len() as u64));
    assert_eq!(fleet.json(&["lineage", ORDERS]), lineage);
    assert_eq!(stable(&fleet.canonical()), stable(&canonical));

    // And with no catalog at all, once everything that was learned has its record.
    fleet.coordinator.stop();
    for file in fs::read_dir(fleet.coordinator.dir()).expect("the folder").flatten() {
        if file.file_name().to_string_lossy().starts_with("catalog") {
            fs::remove_file(file.path()).expect("remove the catalog");
        }
    }
    fleet.coordinator.serve();
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.wait_for_node(node, "its agent back", |seen| seen["connected"] == true);
        fleet.wait_until_seen(node);
    }
    assert_eq!(fleet.json(&["lineage", ORDERS])["edges"], lineage["edges"]);
    let again = fleet.canonical();
    assert_eq!(stable(&again)["canonical"], winning);
    assert_eq!(candidate(&again, &losing)["standing"], "divergent");

    // Nothing is lost by the decision: the command is printed, and it works.
    let branch = fleet.server("fra-1").history();
    let advice = again["advice"].to_string();
    let command = format!("urtext restore {ORDERS} --lineage {} --to-dir DIR", &branch[..8]);
    assert!(advice.contains(&command), "{advice}");
    let beside = fleet.work().join("beside");
    let beside = beside.to_str().expect("a path of text");
    let restore = ["restore", ORDERS, "--lineage", &branch[..8], "--to-dir", beside, "--yes"];
    let restored = fleet.json(&restore);
    assert_eq!(restored["plan"]["backup"]["id"], losing, "{restored:#}");
    assert!(restored["plan"]["warnings"].to_string().contains("not the accepted one"), "{restored:#}");
}

#[test]
fn a_point_in_the_past_and_a_target_choose_among_backups() {
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(Version::Redis82), Server::start(Version::Redis82));
    replica.replicate(&master);
    // A ping would be more than what the replica holds.
    master.call(&["CONFIG", "SET", "repl-ping-replica-period", "3600"]);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    fleet.add("old-1", Server::start(Version::Redis62));
    let take = |seed: u64| {
        load_strings(fleet.server("fra-1"), &format!("s{seed}"), seed, 50, 50);
        fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
        fleet.wait_until_seen("nyc-1");
        fleet.snapshot("nyc-1")
    };
    let first = take(1);
    let between = fleet.json(&["status", ORDERS])["now"].as_str().expect("a time").to_owned();
    let second = take(2);
    let shown = fleet.json(&["backup", "show", &first])["backup"].clone();
    let (history, offset) = (shown["history"].as_str().expect("a history"), shown["offset"].as_u64().expect("one"));

    let chosen = |args: &[&str], code: i32| {
        let args: Vec<&str> = ["canonical", ORDERS].iter().chain(args).copied().collect();
        fleet.coordinator.json_with_code(&args, code)["canonical"]["id"].clone()
    };
    assert_eq!(chosen(&[], 0), second);
    assert_eq!(chosen(&["--as-of", &between], 0), first);
    assert_eq!(chosen(&["--at", &format!("{}:{offset}", &history[..8])], 0), first);
    assert_eq!(chosen(&["--as-of", "1h"], 3), Value::Null);
    assert_eq!(chosen(&["--for-target", "redis-8.2"], 0), second);
    // Redis 6.2 reads neither, by its version and by the name of a node.
    assert_eq!(chosen(&["--for-target", "redis-6.2"], 3), Value::Null);
    assert_eq!(chosen(&["--for-target", "old-1"], 3), Value::Null);
    fleet.coordinator.urtext(&["canonical", ORDERS, "--for-target", "new"]).expect(2).says(&["valkey-8.1", "fra-1"]);

    // Of two that hold the same, the one that was received last, unless a site is nearer.
    let third = fleet.snapshot("fra-1");
    assert_eq!(chosen(&[], 0), third);
    assert_eq!(chosen(&["--prefer-site", "nyc"], 0), second);
    assert_eq!(chosen(&["--shard", "0"], 0), third);

    let plan = ["restore", ORDERS, "--to-dir", "unused", "--dry-run", "--as-of", &between];
    let plan = fleet.json(&plan)["plan"].clone();
    assert_eq!(plan["backup"]["id"], first);
    assert!(!plan["chosen"].as_array().expect("reasons").is_empty(), "{plan:#}");
}

#[test]
fn a_backup_that_shrank_is_right_once_a_person_says_so() {
    let mut fleet = Fleet::of_three_sites(Version::Valkey81);
    load(fleet.server("fra-1"), 85, 300);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_until_seen("nyc-1");
    fleet.snapshot("nyc-1");
    fleet.server("fra-1").call(&["FLUSHALL"]);
    fleet.server("fra-1").call(&["SET", "the-only", "key"]);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_until_seen("nyc-1");
    let shrunken = fleet.snapshot("nyc-1");

    let canonical = fleet.coordinator.json_with_code(&["canonical", ORDERS], 4);
    assert_eq!(candidate(&canonical, &shrunken)["standing"], "suspect");
    let advice = canonical["advice"].to_string();
    assert!(advice.contains(&format!("urtext vouch {ORDERS} {shrunken} --reason")), "{advice}");
    fleet.coordinator.urtext(&["vouch", ORDERS, &shrunken, "--reason", " "]).expect(2).says(&["--reason"]);
    fleet.coordinator.urtext(&["vouch", ORDERS, &shrunken, "--reason", "the sale is over"]).expect(0);
    assert_eq!(fleet.canonical()["canonical"]["id"], shrunken);
    let listed = fleet.backups();
    let vouched = listed.iter().find(|backup| backup["id"] == shrunken).expect("listed");
    assert!(vouched["vouched"].as_str().is_some_and(|by| by.contains("the sale is over")), "{vouched:#}");
    let audit = fleet.json(&["audit", ORDERS]);
    assert_eq!(audit["entries"][0]["action"], "vouched");
    assert_eq!(audit["entries"][0]["reason"], "the sale is over");

    fleet.coordinator.kill9();
    fleet.coordinator.serve();
    assert_eq!(fleet.canonical()["canonical"]["id"], shrunken);
}

#[test]
fn how_old_the_data_is_outlives_the_coordinator() {
    let mut fleet = Fleet::of_three_sites(Version::Redis70);
    load_strings(fleet.server("fra-1"), "before", 86, 30, 50);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_until_seen("nyc-1");
    let id = fleet.snapshot("nyc-1");
    let interval = || {
        let list = fleet.backups();
        list.iter().find(|backup| backup["id"] == id).expect("listed")["data_as_of"].clone()
    };
    // Once the master was seen beyond it, both ends are known, and nothing that is seen later moves them.
    load_strings(fleet.server("fra-1"), "after", 87, 30, 50);
    fleet.wait_until_seen("fra-1");
    let known = eventually("both ends", SOON, || {
        let interval = interval();
        if interval["from"].is_string() && interval["to"].is_string() {
            Ok(interval)
        } else {
            Err(interval.to_string())
        }
    });
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    let list = fleet.backups();
    let after = list.iter().find(|backup| backup["id"] == id).expect("listed");
    assert_eq!(after["data_as_of"], known);
}
