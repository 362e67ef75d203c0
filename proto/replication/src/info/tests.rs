//! What real servers say, file by file in this folder.

use super::*;

fn observation(text: &str) -> NodeObservation {
    Info::parse(text).observation(Timestamp::from_millis(7)).expect("a data server")
}

#[track_caller]
fn check_server(text: &str, engine: Engine, version: &str) {
    let server = observation(text).server;
    assert_eq!((server.engine, server.version.as_str(), server.cluster_enabled), (engine, version, false));
    assert_eq!(server.run_id.len(), 40);
}

#[test]
fn every_server_says_who_it_is() {
    check_server(include_str!("redis-6.2-master.txt"), Engine::Redis, "6.2.14");
    check_server(include_str!("redis-7.0-master.txt"), Engine::Redis, "7.0.15");
    check_server(include_str!("redis-8.2-master.txt"), Engine::Redis, "8.2.3");
    check_server(include_str!("valkey-8.1-master.txt"), Engine::Valkey, "8.1.8");
    check_server(include_str!("valkey-9.1-master.txt"), Engine::Valkey, "9.1.2");
}

#[track_caller]
fn check_pair(master: &str, replica: &str) {
    let (master, replica) = (observation(master), observation(replica));
    let Role::Master { replicas } = &master.replication.role else { panic!("a master") };
    assert_eq!(replicas.len(), 1);
    assert_eq!(replicas[0].state, "online");
    let Role::Replica { master: address, link, read_only, priority } = &replica.replication.role else {
        panic!("a replica")
    };
    assert_eq!((address.host.as_str(), read_only, priority), ("127.0.0.1", &true, &100));
    assert_eq!((link.up, link.down_since_seconds, link.sync_in_progress), (true, None, false));
    assert!(link.last_io_seconds.is_some());
    assert_eq!(replica.position(), master.position());
    assert!(master.position().is_some());
    let one = |expires| Keyspace { keys: 1, expires };
    for node in [&master, &replica] {
        assert_eq!(node.keyspace, [(0, one(0)), (9, one(1))].into());
        assert_eq!(node.replication.parent, None);
        assert!(node.replication.backlog_active && !node.replication.failover_in_progress);
        assert!(node.persistence.last_save_at.is_some() && node.persistence.last_bgsave_ok);
        assert!(node.used_memory > 500_000);
    }
}

#[test]
fn a_master_and_its_replica_say_the_same_position() {
    check_pair(include_str!("redis-6.2-master.txt"), include_str!("redis-6.2-replica.txt"));
    check_pair(include_str!("redis-7.0-master.txt"), include_str!("redis-7.0-replica.txt"));
    check_pair(include_str!("redis-8.2-master.txt"), include_str!("redis-8.2-replica.txt"));
    check_pair(include_str!("valkey-8.1-master.txt"), include_str!("valkey-8.1-replica.txt"));
    check_pair(include_str!("valkey-9.1-master.txt"), include_str!("valkey-9.1-replica.txt"));
}

#[test]
fn saves_are_counted_from_7_0_on() {
    assert_eq!(observation(include_str!("redis-6.2-master.txt")).persistence.saves, None);
    assert_eq!(observation(include_str!("redis-7.0-master.txt")).persistence.saves, Some(0));
}

#[test]
fn a_link_that_is_down_has_no_last_byte() {
    let Role::Replica { link, .. } = observation(include_str!("redis-7.0-replica-link-down.txt")).replication.role
    else {
        panic!("a replica")
    };
    assert_eq!((link.up, link.last_io_seconds, link.down_since_seconds), (false, None, Some(1)));
}

#[test]
fn a_replica_that_never_was_in_sync_has_no_position() {
    let node = observation(include_str!("redis-6.2-replica-never-synced.txt"));
    let Role::Replica { link, .. } = &node.replication.role else { panic!("a replica") };
    assert_eq!((link.up, link.down_since_seconds), (false, None));
    assert_eq!(node.position(), None);
}

#[test]
fn a_promoted_replica_names_the_fork() {
    let node = observation(include_str!("redis-7.0-promoted.txt"));
    let parent = node.replication.parent.expect("a parent");
    assert_eq!(parent.to_string(), "a16473b4662db62b320f5b18b984528a5c7ea94b:130");
    assert!(node.replication.role.is_master());
    assert_eq!(node.fork_edge().map(|edge| edge.child), Some(node.replication.history));
}

#[test]
fn captures_are_not_counted_as_replicas() {
    let text = include_str!("redis-8.2-master.txt").replace("port=24105", "port=-1");
    assert_eq!(observation(&text).replication.role, Role::Master { replicas: vec![] });
}

#[test]
fn every_field_that_must_be_there_is_missed_by_name() {
    let text = include_str!("valkey-9.1-replica.txt");
    for field in ["run_id", "role", "master_replid", "master_repl_offset", "master_host", "master_port"] {
        let without: String =
            text.lines().filter(|line| !line.starts_with(&format!("{field}:"))).map(|l| format!("{l}\n")).collect();
        assert_eq!(Info::parse(&without).observation(Timestamp::from_millis(0)), Err(InvalidInfo::Missing { field }));
    }
}

#[test]
fn what_is_no_data_server_is_refused() {
    let at = Timestamp::from_millis(0);
    let sentinel = include_str!("redis-7.0-master.txt").replace("redis_mode:standalone", "redis_mode:sentinel");
    assert_eq!(Info::parse(&sentinel).observation(at), Err(InvalidInfo::Sentinel));
    let wrong = include_str!("redis-7.0-master.txt").replace("master_repl_offset:", "master_repl_offset:-");
    assert!(matches!(Info::parse(&wrong).observation(at), Err(InvalidInfo::Wrong { field: "master_repl_offset", .. })));
    assert!(Info::parse("\0\0:::\r\n:\n").observation(at).is_err());
}
