//! Taking a snapshot.

use std::time::Duration;

use urtext_replication::{AnnouncePort, ReplicationError, SnapshotRequest};
use urtext_types::Explain;

use crate::{
    on_every_server,
    server::{Program, Server, credentials, request, snapshot},
};

on_every_server! {
    a_snapshot_is_whole_and_exact_over_both_framings_from_master_and_replica,
    nobody_is_attached_after_a_snapshot_and_shutdown_is_not_delayed,
    an_unroutable_port_is_accepted,
    a_user_without_the_rights_is_told_which,
    a_replica_without_its_master_says_so,
}

async fn a_snapshot_is_whole_and_exact_over_both_framings_from_master_and_replica(program: &Program) {
    let master = Server::start(program, &[]).await;
    let replica = Server::start(program, &[]).await;
    replica.follow(&master).await;
    master.fill(20_000).await;
    if program.version == "9.1.2" {
        // Fails the whole save unless the version was announced.
        master.ask(&["HSET", "hash", "field", "value"]).await;
        assert_eq!(master.ask(&["HEXPIRE", "hash", "1000", "FIELDS", "1", "field"]).await, "1");
    }
    for server in [&master, &replica] {
        for diskless in ["no", "yes"] {
            server.ask(&["CONFIG", "SET", "repl-diskless-sync", diskless]).await;
            let before = server.position().await;
            let snapshot = snapshot(server, &request(program)).await.expect("a snapshot");
            let after = server.position().await;
            let rdb = snapshot.rdb();

            assert_eq!(snapshot.length.is_some(), diskless == "no");
            assert!(snapshot.length.is_none_or(|length| length == rdb.len() as u64));
            assert_eq!(snapshot.position.history, before.history, "attaching changes no history");
            assert_eq!(after.history, before.history, "attaching changes no history");
            assert!(before.offset <= snapshot.position.offset && snapshot.position.offset <= after.offset);

            assert!(rdb.starts_with(b"REDIS") || rdb.starts_with(b"VALKEY"));
            let holds = |text: &str| rdb.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(holds(&snapshot.position.history.to_string()), "repl-id of the RDB is the one announced");
            assert_eq!(rdb[rdb.len() - 9], 0xff, "the end of an RDB is its EOF byte and a checksum");
            // All but the last are at least a quarter of a mebibyte.
            assert!(snapshot.pieces.len() <= 1 + rdb.len() / (256 * 1024), "{} pieces", snapshot.pieces.len());
        }
    }
    assert_eq!(master.info("connected_slaves").await, "1");
}

async fn nobody_is_attached_after_a_snapshot_and_shutdown_is_not_delayed(program: &Program) {
    for diskless in ["no", "yes"] {
        let master = Server::start(program, &["--repl-diskless-sync", diskless]).await;
        snapshot(&master, &request(program)).await.expect("a snapshot");
        master.wait_for("connected_slaves", "0").await;
        assert!(!master.ask(&["CLIENT", "LIST"]).await.contains("flags=S"));
        // Servers from 7.0 on wait ten seconds for a replica that has not acknowledged everything.
        master.ask(&["SET", "key", "value"]).await;
        let took = master.shut_down().await;
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
}

async fn an_unroutable_port_is_accepted(program: &Program) {
    let master = Server::start(program, &[]).await;
    let request = SnapshotRequest { announce_port: AnnouncePort::Unroutable, ..request(program) };
    let snapshot = snapshot(&master, &request).await.expect("a snapshot");
    assert!(!snapshot.rdb().is_empty());
}

async fn a_user_without_the_rights_is_told_which(program: &Program) {
    let master = Server::start(program, &[]).await;
    let with = |user, password| SnapshotRequest { credentials: credentials(user, password), ..request(program) };
    let fails = async |request: SnapshotRequest| snapshot(&master, &request).await.expect_err("refused");

    let error = fails(with(None, "surplus")).await;
    assert!(matches!(error, ReplicationError::PasswordNotExpected { .. }), "{error}");

    master.ask(&["ACL", "SETUSER", "backup", "on", ">secret", "-@all"]).await;
    let error = fails(with(Some("backup"), "wrong")).await;
    assert!(matches!(error, ReplicationError::WrongPassword { .. }), "{error}");
    let error = fails(with(Some("backup"), "secret")).await;
    assert!(matches!(error, ReplicationError::NotPermitted { command: "REPLCONF", .. }), "{error}");
    master.ask(&["ACL", "SETUSER", "backup", "+replconf"]).await;
    let error = fails(with(Some("backup"), "secret")).await;
    assert!(matches!(error, ReplicationError::NotPermitted { command: "PSYNC", .. }), "{error}");

    // The hint is a line that can be pasted.
    let hint = error.hint().expect("a hint");
    let line: Vec<&str> = hint.strip_prefix("on the server: ").expect("a command").split(' ').collect();
    assert_eq!(master.ask(&line).await, "OK");
    snapshot(&master, &with(Some("backup"), "secret")).await.expect("a snapshot");

    master.ask(&["CONFIG", "SET", "requirepass", "hunter2"]).await;
    let error = fails(request(program)).await;
    assert!(matches!(error, ReplicationError::AuthenticationRequired), "{error}");
    snapshot(&master, &with(None, "hunter2")).await.expect("a snapshot");
}

async fn a_replica_without_its_master_says_so(program: &Program) {
    let master = Server::start(program, &[]).await;
    let replica = Server::start(program, &[]).await;
    replica.follow(&master).await;
    drop(master);
    replica.wait_for("master_link_status", "down").await;
    let error = snapshot(&replica, &request(program)).await.expect_err("refused");
    assert!(matches!(error, ReplicationError::MasterLinkDown { .. }), "{error}");

    replica.ask(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    let error = snapshot(&replica, &request(program)).await.expect_err("refused");
    assert!(matches!(error, ReplicationError::MasterDown), "{error}");
}
