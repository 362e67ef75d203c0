//! What is wrong is noticed by itself, said on top of the status, and told when it comes and when it goes.

use serde_json::Value;
use urtext_tests::{
    data::{load, load_strings},
    eventually::{SOON, eventually},
    fleet::{Fleet, ORDERS, program},
    link::Link,
    process::Daemon,
    servers::{Server, Version},
};

/// Waits until the status shows an alarm, or shows it no more.
#[track_caller]
fn wait_for_alarm(fleet: &Fleet, kind: &str, subject: Option<&str>, is_there: bool) -> Value {
    let what = format!("the alarm {kind} {} {}", subject.unwrap_or_default(), if is_there { "" } else { "to go" });
    eventually(&what, SOON, || {
        let status = fleet.json(&["status", ORDERS]);
        let alarms = status["shards"][0]["alarms"].as_array().expect("a list of alarms").clone();
        let is_it = |alarm: &&Value| alarm["kind"] == kind && subject.is_none_or(|subject| alarm["subject"] == subject);
        match alarms.iter().find(is_it) {
            Some(found) if is_there => Ok(found.clone()),
            None if !is_there => Ok(Value::Null),
            _ => Err(format!("{alarms:#?}")),
        }
    })
}

#[track_caller]
fn says(alarm: &Value, words: &[&str]) {
    let text = format!("{} {}", alarm["sentence"], alarm["hint"]);
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
}

#[test]
fn a_stale_replica_with_a_fresh_file_is_an_alarm_until_it_follows_again() {
    let version = Version::Redis70;
    let mut fleet = Fleet::with(&[], "[deployments.orders]\nmax_link_down = '1s'");
    let (master, replica) = (Server::start(version), Server::start(version));
    replica.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    load(fleet.server("fra-1"), 61, 50);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    let mut follow = std::process::Command::new(program("urtext"));
    follow.args(["events", ORDERS, "--follow", "--dir"]).arg(fleet.coordinator.dir());
    let mut following = Daemon::start("urtext events", &mut follow, &fleet.work().join("events"));
    fleet.server("nyc-1").call(&["REPLICAOF", "127.0.0.1", "1"]);
    fleet.wait_for_node("nyc-1", "its link down", |seen| seen["link_up"] == false);
    fleet.snapshot_with("nyc-1", &["--allow-stale"]);
    let alarm = wait_for_alarm(&fleet, "replica-stale", Some("nyc-1"), true);
    says(&alarm, &["nyc-1", "cut off", "its backup of"]);
    let printed = fleet.coordinator.urtext(&["status", ORDERS]).expect(0).stdout;
    assert!(printed.contains("ALARM The replica nyc-1"), "{printed}");

    following.wait_for_line("replica-stale");
    drop(following);

    // A restart raises nothing again; what went is told as well.
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    fleet.wait_for_node("nyc-1", "its agent back", |seen| seen["connected"] == true);
    fleet.server("nyc-1").replicate(fleet.server("fra-1"));
    wait_for_alarm(&fleet, "replica-stale", Some("nyc-1"), false);
    let told = |args: &[&str]| -> Vec<String> {
        let args: Vec<&str> = ["events", ORDERS].iter().chain(args).copied().collect();
        let events = fleet.json(&args)["events"].as_array().expect("a list").clone();
        let stale = events.iter().filter(|event| event["kind"] == "replica-stale" && event["subject"] == "nyc-1");
        stale.map(|event| event["what"].as_str().expect("text").to_owned()).collect()
    };
    let all = told(&["--since", "1h"]);
    assert_eq!(all.first().map(String::as_str), Some("raised"));
    assert_eq!(all.last().map(String::as_str), Some("cleared"));
    assert_eq!(told(&["--since", "2100-01-01T00:00:00Z"]), [""; 0]);
}

#[test]
fn a_fork_and_a_master_that_lost_its_data_are_alarms() {
    let version = Version::Redis70;
    let mut fleet = Fleet::of_three_sites(version);
    load(fleet.server("fra-1"), 62, 200);
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).catch_up_with(fleet.server("fra-1"));
        fleet.wait_until_seen(node);
    }
    fleet.snapshot("sgp-1");
    fleet.server("nyc-1").promote();
    load_strings(fleet.server("nyc-1"), "nyc", 63, 20, 100);
    load_strings(fleet.server("fra-1"), "fra", 64, 20, 100);
    let alarm = wait_for_alarm(&fleet, "fork", None, true);
    says(&alarm, &["accept-lineage"]);
    let history = fleet.server("fra-1").history();
    fleet.coordinator.urtext(&["accept-lineage", ORDERS, &history, "--reason", "fra has the clients"]).expect(0);
    wait_for_alarm(&fleet, "fork", None, false);

    // The master comes back from a crash with nothing, and with it a history that nobody knows. Its replica is
    // kept from following it.
    fleet.server("sgp-1").call(&["REPLICAOF", "127.0.0.1", "1"]);
    fleet.server_mut("fra-1").kill9();
    fleet.server_mut("fra-1").restart();
    says(&wait_for_alarm(&fleet, "master-emptier", Some("fra-1"), true), &["holds 0 keys"]);
    says(&wait_for_alarm(&fleet, "lineage-lost", Some("fra-1"), true), &["restarted", "repl-backlog-ttl"]);
}

/// The master crashes and loads what it saved long ago, while a replica that holds more is kept from following it.
#[test]
fn a_master_that_is_back_with_older_data_is_an_alarm() {
    let version = Version::Redis70;
    let mut fleet = Fleet::of_three_sites(version);
    load(fleet.server("fra-1"), 66, 100);
    fleet.server("fra-1").call(&["SAVE"]);
    let saved = fleet.server("fra-1").offset();
    load_strings(fleet.server("fra-1"), "later", 67, 50, 100);
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).catch_up_with(fleet.server("fra-1"));
        fleet.wait_until_seen(node);
    }
    fleet.wait_until_seen("fra-1");
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).call(&["REPLICAOF", "127.0.0.1", "1"]);
    }
    fleet.server_mut("fra-1").kill9();
    fleet.server_mut("fra-1").restart();
    assert!(fleet.server("fra-1").offset() < fleet.server("nyc-1").offset(), "it loaded what it saved at {saved}");
    let alarm = wait_for_alarm(&fleet, "master-older", Some("fra-1"), true);
    says(&alarm, &["fra-1", "does not hold the last", "urtext snapshot orders --node NODE"]);
    let printed = fleet.coordinator.urtext(&["status", ORDERS]).expect(0).stdout;
    assert!(printed.contains("ALARM The master fra-1"), "{printed}");
}

/// Its own link is up: what it follows is cut off.
#[test]
fn a_replica_of_a_stale_replica_is_an_alarm_until_both_follow_again() {
    let version = Version::Valkey81;
    let mut fleet = Fleet::with(&[], "[deployments.orders]\nmax_link_down = '1s'");
    let (master, between, last) = (Server::start(version), Server::start(version), Server::start(version));
    let link = Link::to(master.port());
    between.replicate_port(link.port());
    last.replicate(&between);
    load(&master, 68, 50);
    last.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", between);
    fleet.add("sgp-1", last);
    link.cut();
    fleet.server("nyc-1").wait_for_link("down");
    load_strings(fleet.server("fra-1"), "after-the-cut", 69, 50, 100);
    wait_for_alarm(&fleet, "replica-stale", Some("nyc-1"), true);
    eventually("the alarm that names what is cut off", SOON, || {
        let alarm = wait_for_alarm(&fleet, "replica-behind-stale", Some("sgp-1"), true);
        let text = format!("{} {}", alarm["sentence"], alarm["hint"]);
        let words =
            ["The link of replica sgp-1 is up", "it holds exactly what nyc-1 holds", "follow the master directly"];
        if words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    });
    assert_eq!(fleet.server("sgp-1").info_field("replication", "master_link_status"), "up");
    link.mend();
    wait_for_alarm(&fleet, "replica-behind-stale", Some("sgp-1"), false);
    wait_for_alarm(&fleet, "replica-stale", Some("nyc-1"), false);
}

#[test]
fn two_copies_at_one_position_with_different_data_are_an_alarm() {
    let fleet = Fleet::of_three_sites(Version::Redis70);
    load(fleet.server("fra-1"), 65, 50);
    // Nobody wrote this to the master: the replica's data is its own, and its position says otherwise.
    fleet.server("sgp-1").call(&["CONFIG", "SET", "replica-read-only", "no"]);
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).catch_up_with(fleet.server("fra-1"));
        fleet.wait_until_seen(node);
    }
    fleet.server("sgp-1").call(&["SET", "stray", "1"]);
    // A ping between the two snapshots moves the second one on.
    eventually("two backups at one position", SOON, || {
        let ids = ["nyc-1", "sgp-1"].map(|node| fleet.snapshot(node));
        let offsets = ids.map(|id| fleet.json(&["backup", "show", &id])["backup"]["offset"].clone());
        if offsets[0] == offsets[1] { Ok(()) } else { Err(format!("{offsets:?}")) }
    });
    says(&wait_for_alarm(&fleet, "silent-divergence", None, true), &["hold different data", "urtext diff"]);
}
