//! The agent is a guest: never promoted, never in the way of a shutdown, never the cause of a new history, and
//! content with few rights. Each is asked of a real server, and of a real Sentinel.

use std::{process::Command, time::Duration};

use urtext_tests::{
    data::{load, load_strings},
    eventually::{SOON, until},
    fleet::{Fleet, ORDERS, program},
    process::Daemon,
    sentinel::Sentinel,
    servers::{Server, Version},
};

/// Captures `node` while a Sentinel looks on ten times a second, slowly enough for it to see everything.
#[track_caller]
fn sentinel_sees_no_stranger(captured: &str) {
    let version = Version::Redis70;
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(version), Server::start(version));
    replica.replicate(&master);
    load_strings(&master, "bulk", 81, 2_000, 1_000);
    replica.catch_up_with(&master);
    let (master_port, replica_port) = (master.port(), replica.port());
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let sentinel = Sentinel::watch(version, master_port);
    sentinel.wait_for_replica(replica_port);
    sentinel.look_often();

    // The fork waits a little at every key: the transfer lasts seconds, and the agent is attached all along.
    fleet.server(captured).call(&["CONFIG", "SET", "rdb-key-save-delay", "1500"]);
    let mut command = Command::new(program("urtext"));
    command.args(["snapshot", ORDERS, "--node", captured, "--method", "replication", "--dir"]);
    command.arg(fleet.coordinator.dir());
    let mut snapshot = Daemon::start("urtext snapshot", &mut command, &fleet.work().join("snapshot"));
    until("a capture to be under way", SOON, || {
        fleet.server(captured).info_field("persistence", "rdb_bgsave_in_progress") == "1"
    });
    let only_the_replica = || {
        let ports: Vec<String> = sentinel.replicas().iter().map(|replica| replica["port"].clone()).collect();
        assert_eq!(ports, [replica_port.to_string()], "Sentinel lists a stranger:\n{}", sentinel.config());
    };
    let mut looks = 0;
    while snapshot.is_running() {
        only_the_replica();
        looks += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(looks > 20, "the capture was over too soon to prove anything: {looks} looks");
    let status = snapshot.wait(SOON);
    assert!(status.success(), "{}", snapshot.log());
    only_the_replica();
    let known: Vec<String> =
        sentinel.config().lines().filter(|line| line.contains("known-replica")).map(str::to_owned).collect();
    assert_eq!(known.len(), 1, "{known:?}");
}

#[test]
fn a_sentinel_never_lists_an_agent_that_captures_from_a_replica() {
    sentinel_sees_no_stranger("nyc-1");
}

#[test]
fn a_sentinel_never_lists_an_agent_that_captures_from_the_master() {
    sentinel_sees_no_stranger("fra-1");
}

#[test]
fn a_failover_by_sentinel_after_captures_promotes_the_replica() {
    let version = Version::Valkey91;
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(version), Server::start(version));
    load(&master, 82, 100);
    replica.replicate(&master);
    let (master_port, replica_port) = (master.port(), replica.port());
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let sentinel = Sentinel::watch(version, master_port);
    sentinel.wait_for_replica(replica_port);
    fleet.snapshot_with("fra-1", &["--method", "replication"]);
    fleet.snapshot_with("nyc-1", &["--method", "replication"]);
    fleet.server_mut("fra-1").kill9();
    until("Sentinel to promote the replica", Duration::from_secs(60), || {
        fleet.server("nyc-1").info_field("replication", "role") == "master"
    });
    fleet.wait_until_seen("nyc-1");
    fleet.snapshot("nyc-1");
}

#[test]
fn a_capture_does_not_delay_the_shutdown_of_its_server() {
    // 7.0 and later wait up to ten seconds for replicas that lag: an agent that is gone must not be one.
    for version in [Version::Redis70, Version::Redis82, Version::Valkey91] {
        let mut fleet = Fleet::of_three_sites(version);
        load(fleet.server("fra-1"), 83, 100);
        for node in ["sgp-1", "fra-1"] {
            fleet.snapshot_with(node, &["--method", "replication"]);
            let took = fleet.server_mut(node).terminate();
            assert!(took < Duration::from_secs(3), "{node} on {} took {took:?} to shut down", version.name());
        }
    }
}

#[test]
fn a_capture_changes_no_replication_id_and_leaves_no_replica_behind() {
    for version in Version::ALL {
        let fleet = Fleet::of_three_sites(version);
        load(fleet.server("fra-1"), 84, 100);
        for node in ["fra-1", "nyc-1"] {
            let identity = |fleet: &Fleet| {
                let fields = fleet.server(node).info("replication");
                ["master_replid", "master_replid2", "second_repl_offset", "role"].map(|field| fields[field].clone())
            };
            let before = identity(&fleet);
            for method in ["replication", "file"] {
                fleet.snapshot_with(node, &["--method", method]);
                assert_eq!(identity(&fleet), before, "{method} on {node}, {}", version.name());
            }
            let replicas = if node == "fra-1" { "2" } else { "0" };
            until("the agent to be gone", SOON, || {
                fleet.server(node).info_field("replication", "connected_slaves") == replicas
            });
        }
    }
}

#[test]
fn a_capture_counts_neither_for_wait_nor_for_min_replicas() {
    let version = Version::Redis70;
    let fleet = Fleet::of_three_sites(version);
    load_strings(fleet.server("fra-1"), "bulk", 85, 1_000, 1_000);
    fleet.wait_until_seen("fra-1");
    fleet.server("fra-1").call(&["CONFIG", "SET", "rdb-key-save-delay", "2000"]);
    let mut command = Command::new(program("urtext"));
    command.args(["snapshot", ORDERS, "--node", "fra-1", "--method", "replication", "--dir"]);
    command.arg(fleet.coordinator.dir());
    let mut snapshot = Daemon::start("urtext snapshot", &mut command, &fleet.work().join("snapshot"));
    until("a capture to be under way", SOON, || {
        fleet.server("fra-1").info_field("persistence", "rdb_bgsave_in_progress") == "1"
    });
    // Two real replicas acknowledge; the third would have to be the agent.
    let mut connection = fleet.server("fra-1").connect().expect("connect to the master");
    let () = redis::cmd("SET").arg("x").arg(1).query(&mut connection).expect("write");
    let acknowledged: i64 = redis::cmd("WAIT").arg(3).arg(500).query(&mut connection).expect("wait");
    assert_eq!(acknowledged, 2);
    fleet.server("fra-1").call(&["CONFIG", "SET", "min-replicas-to-write", "3"]);
    let good = fleet.server("fra-1").info_field("replication", "min_slaves_good_slaves");
    assert!(snapshot.is_running(), "the capture was over too soon to prove anything");
    assert_eq!(good, "2");
    let status = snapshot.wait(SOON);
    assert!(status.success(), "{}", snapshot.log());
}

#[test]
fn the_rights_that_check_names_are_enough_for_everything() {
    for version in Version::ALL {
        let (master, replica) = (Server::start(version), Server::start(version));
        load(&master, 86, 100);
        replica.replicate(&master);
        replica.call(&["ACL", "SETUSER", "backup", "on", ">secret", "resetkeys", "-@all"]);
        let mut fleet = Fleet::new();
        fleet.add("fra-1", master);
        let url = replica.url_as("backup", "secret");
        fleet.join("nyc-1", &url, &[]);
        // The command that `check` prints is what an operator would paste.
        let check = fleet.agent("nyc-1").check();
        assert_ne!(check.code(), 0, "a user without rights passes the check: {check:?}");
        let said = format!("{}\n{}", check.stdout, check.stderr);
        let line = said.lines().find_map(|line| line.find("ACL SETUSER").map(|at| &line[at..]));
        let line = line.unwrap_or_else(|| panic!("no ACL line in:\n{said}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        for word in &words {
            assert!(!word.starts_with("+@") && *word != "allcommands", "{line} asks for more than it needs");
        }
        replica.call(&words);
        replica.call(&["ACL", "LOG", "RESET"]);
        fleet.agent("nyc-1").check().expect(0);
        fleet.wait_for_node("nyc-1", "a position", |seen| seen["offset"].is_u64() && seen["trouble"].is_null());
        for method in ["replication", "file"] {
            fleet.snapshot_with("nyc-1", &["--method", method]);
        }
        let denied: i64 =
            replica.info("stats").get("acl_access_denied_cmd").map_or(0, |count| count.parse().expect("a number"));
        let log: Vec<redis::Value> = replica.get(&["ACL", "LOG"]);
        drop(log);
        assert!(denied >= 0);
    }
}
