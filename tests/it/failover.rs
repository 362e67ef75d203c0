//! The master dies, a replica is promoted and goes on: its backup is the one, on a history of its own.

use urtext_tests::{
    data::{Contents, load, load_strings},
    fleet::{Fleet, ORDERS, candidate},
    servers::{Server, Version},
};

#[test]
fn after_a_failover_the_backup_of_the_new_master_is_restored_redis_6_2() {
    check(Version::Redis62);
}

#[test]
fn after_a_failover_the_backup_of_the_new_master_is_restored_redis_8_2() {
    check(Version::Redis82);
}

#[test]
fn after_a_failover_the_backup_of_the_new_master_is_restored_valkey_9_1() {
    check(Version::Valkey91);
}

#[track_caller]
fn check(version: Version) {
    let mut fleet = Fleet::of_three_sites(version);
    load(fleet.server("fra-1"), 31, 300);
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).catch_up_with(fleet.server("fra-1"));
    }
    let before = fleet.snapshot("sgp-1");
    let old_history = fleet.server("fra-1").history();

    fleet.server_mut("fra-1").kill9();
    fleet.server("nyc-1").promote();
    let fork = fleet.server("nyc-1").offset();
    fleet.server("sgp-1").replicate(fleet.server("nyc-1"));
    load_strings(fleet.server("nyc-1"), "after-the-failover", 32, 100, 100);
    fleet.server("sgp-1").catch_up_with(fleet.server("nyc-1"));
    fleet.wait_until_seen("nyc-1");
    fleet.wait_until_seen("sgp-1");
    let after = fleet.snapshot("sgp-1");
    let new_history = fleet.server("nyc-1").history();

    let canonical = fleet.canonical();
    assert_eq!(canonical["verdict"], "canonical", "{canonical:#}");
    assert_eq!(canonical["canonical"]["id"], after);
    assert_eq!(canonical["canonical"]["history"], new_history);
    assert_eq!(canonical["head"]["history"], new_history);
    assert_eq!(candidate(&canonical, &before)["standing"], "behind");
    let lineage = fleet.json(&["lineage", ORDERS]);
    let edges = lineage["edges"].as_array().expect("a list of edges");
    let edge = edges.iter().find(|edge| edge["child"] == new_history).expect("the failover is on record");
    assert_eq!((edge["parent"].as_str(), edge["offset"].as_u64()), (Some(old_history.as_str()), Some(fork)));

    // Everything is lost, and comes back into a new server.
    let expected = Contents::of(fleet.server("nyc-1"));
    for node in ["nyc-1", "sgp-1"] {
        fleet.server_mut(node).kill9();
    }
    fleet.add("fra-2", Server::start(version));
    let restored = fleet.restore_to("fra-2", &[]);
    assert_eq!(restored["plan"]["backup"]["id"], after);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
}

#[test]
fn a_greater_offset_on_the_abandoned_branch_does_not_win() {
    let version = Version::Redis70;
    let fleet = Fleet::of_three_sites(version);
    load(fleet.server("fra-1"), 33, 100);
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).catch_up_with(fleet.server("fra-1"));
    }
    fleet.snapshot("sgp-1");
    // nyc goes on alone, a little; fra, cut off from everyone but its agent, writes much more.
    fleet.server("nyc-1").promote();
    fleet.server("sgp-1").replicate(fleet.server("nyc-1"));
    load_strings(fleet.server("nyc-1"), "right", 34, 5, 50);
    load_strings(fleet.server("fra-1"), "abandoned", 35, 500, 100);
    fleet.server("sgp-1").catch_up_with(fleet.server("nyc-1"));
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.wait_until_seen(node);
    }
    let right = fleet.snapshot("sgp-1");
    let abandoned = fleet.snapshot("fra-1");
    let offsets = [&right, &abandoned]
        .map(|id| fleet.json(&["backup", "show", id])["backup"]["offset"].as_u64().expect("an exact offset"));
    assert!(offsets[1] > offsets[0], "the abandoned branch has the greater offset: {offsets:?}");

    // Nobody has decided: no answer. After the decision: the accepted branch, whatever the offsets.
    fleet.coordinator.urtext(&["canonical", ORDERS]).expect(4);
    let history = fleet.server("nyc-1").history();
    let reason = "nyc took the traffic";
    fleet.coordinator.urtext(&["accept-lineage", ORDERS, &history, "--reason", reason]).expect(0);
    let canonical = fleet.canonical();
    assert_eq!(canonical["canonical"]["id"], right);
    let loser = candidate(&canonical, &abandoned);
    assert_eq!(loser["standing"], "divergent");
    assert!(loser["excess_bytes"].as_u64() > Some(50_000), "{loser:#}");
}
