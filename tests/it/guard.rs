//! Something that may hold more cannot be asked: a restore stops and names it, until a person accepts the loss.

use serde_json::Value;
use urtext_tests::{
    data::{load, load_strings},
    fleet::{Fleet, ORDERS},
    servers::{Server, Version},
};

#[test]
fn a_restore_stops_where_a_silent_node_was_ahead_until_the_loss_is_accepted() {
    let version = Version::Redis70;
    let mut fleet = Fleet::of_three_sites(version);
    load(fleet.server("fra-1"), 91, 150);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_until_seen("nyc-1");
    let id = fleet.snapshot("nyc-1");
    // More is written, and seen; then nobody can ask for it any more.
    load_strings(fleet.server("fra-1"), "later", 92, 50, 100);
    fleet.wait_until_seen("fra-1");
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.server_mut(node).kill9();
        fleet.wait_for_node(node, "its trouble", |seen| seen["trouble"].is_object());
    }
    fleet.add("fra-2", Server::start(version));

    let canonical = fleet.canonical();
    assert_eq!(canonical["canonical"]["id"], id);
    let more = canonical["may_hold_more"].as_array().expect("a list");
    assert!(more.iter().any(|more| more["name"] == "fra-1" && more["bytes_more"].as_u64() > Some(5000)), "{more:#?}");
    // Its agent is there, and says so.
    let says = |more: &Value, words: &str| more["sentence"].as_str().is_some_and(|sentence| sentence.contains(words));
    assert!(more.iter().all(|more| says(more, "its server does not answer its agent")), "{more:#?}");
    assert!(more.iter().all(|more| more["accepted"].is_null()), "{more:#?}");
    let printed = fleet.coordinator.urtext(&["canonical", ORDERS]).expect(0).stdout;
    assert!(printed.contains("A restore stops here"), "{printed}");

    let restore = ["restore", ORDERS, "--to", "fra-2", "--yes"];
    fleet.coordinator.urtext(&restore).expect(5).says(&["fra-1", "--accept-loss --reason"]);
    assert_eq!(fleet.server("fra-2").get::<u64>(&["DBSIZE"]), 0);
    let dir = fleet.work().join("files");
    let files = ["restore", ORDERS, "--to-dir", dir.to_str().expect("text"), "--yes"];
    fleet.coordinator.urtext(&files).expect(5).says(&["fra-1"]);
    assert!(!dir.exists());

    let restored = fleet.restore_to("fra-2", &["--accept-loss", "--reason", "the site burned down"]);
    assert_eq!(restored["plan"]["backup"]["id"], id);
    assert!(!restored["plan"]["accepted_loss"].as_array().expect("a list").is_empty());
    let audit = fleet.json(&["audit", ORDERS]);
    let entries = audit["entries"].as_array().expect("a list");
    let accepted = entries.iter().find(|entry| entry["action"] == "accepted a loss").expect("in the audit");
    assert_eq!(accepted["reason"], "the site burned down");
    assert!(accepted["subject"].as_str().is_some_and(|subject| subject.contains("fra-1")), "{accepted:#}");
    assert!(entries.iter().any(|entry| entry["action"] == "restored"), "{audit:#}");

    // What was given up is given up: another restore of the same names it, and goes on. So it is on record, and
    // a coordinator that starts anew knows it.
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.wait_for_node(node, "its trouble", |seen| seen["trouble"].is_object());
    }
    fleet.add("fra-3", Server::start(version));
    let canonical = fleet.canonical();
    let more = canonical["may_hold_more"].as_array().expect("a list");
    let fra = more.iter().find(|more| more["name"] == "fra-1").expect("still named");
    assert_eq!(fra["accepted"]["reason"], "the site burned down", "{fra:#}");
    let printed = fleet.coordinator.urtext(&["canonical", ORDERS]).expect(0).stdout;
    let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(printed.contains("A restore goes on without it") && !printed.contains("A restore stops"), "{printed}");
    let again = fleet.restore_to("fra-3", &[]);
    assert_eq!(again["plan"]["backup"]["id"], id);
    let warnings = again["plan"]["warnings"].to_string();
    assert!(warnings.contains("accepted to be lost by") && warnings.contains("the site burned down"), "{warnings}");
}

/// The coordinator looks every second: what it saw just before is no proof that a server can still be asked.
#[test]
fn a_restore_does_not_trust_what_a_server_said_before_it_died() {
    let version = Version::Valkey81;
    let mut fleet = Fleet::new();
    fleet.add("fra-1", Server::start(version));
    let replica = Server::start(version);
    replica.replicate(fleet.server("fra-1"));
    fleet.add("nyc-1", replica);
    fleet.add("fra-2", Server::start(version));
    load(fleet.server("fra-1"), 93, 150);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_until_seen("nyc-1");
    fleet.snapshot("nyc-1");
    load_strings(fleet.server("fra-1"), "later", 94, 50, 100);
    fleet.wait_until_seen("fra-1");
    for node in ["fra-1", "nyc-1"] {
        fleet.server_mut(node).kill9();
    }
    let restore = ["restore", ORDERS, "--to", "fra-2", "--yes"];
    fleet.coordinator.urtext(&restore).expect(5).says(&["fra-1", "--accept-loss --reason"]);
    assert_eq!(fleet.server("fra-2").get::<u64>(&["DBSIZE"]), 0);
}
