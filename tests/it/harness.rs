//! The harness keeps its own promises.

use std::time::Duration;

use urtext_tests::{
    data::{Contents, load, load_strings},
    eventually::{SOON, until},
    link::Link,
    sentinel::Sentinel,
    servers::{Options, Server, Version},
};

#[test]
fn every_version_replicates_a_data_set_of_every_type() {
    for version in Version::ALL {
        let master = Server::start(version);
        load(&master, 7, 400);
        let replica = Server::start(version);
        replica.replicate(&master);
        replica.catch_up_with(&master);
        let contents = Contents::of(&master);
        assert!(contents.len() > 300, "{} keys on {}", contents.len(), version.name());
        contents.assert_same(&Contents::of(&replica));
    }
}

#[test]
fn the_same_seed_gives_the_same_data_and_another_does_not() {
    let [a, b, c] = [5, 5, 6].map(|seed| {
        let server = Server::start(Version::Redis70);
        load(&server, seed, 200);
        Contents::of(&server)
    });
    a.assert_same(&b);
    assert_ne!(a, c);
}

#[test]
fn a_link_is_cut_in_the_middle_and_mended() {
    let master = Server::start(Version::Redis70);
    load_strings(&master, "bulk", 1, 100, 10_000);
    let link = Link::to(master.port());
    link.cut_after(300_000);
    let replica = Server::start(Version::Redis70);
    replica.call(&["REPLICAOF", "127.0.0.1", &link.port().to_string()]);
    until("the link to cut itself", SOON, || !link.is_up());
    assert_eq!(link.carried(), 300_000);
    replica.wait_for_link("down");
    link.mend();
    replica.wait_for_link("up");
    Contents::of(&master).assert_same(&Contents::of(&replica));
}

#[test]
fn a_server_that_speaks_tls_only_speaks_tls_only() {
    let server = Server::with(Version::Redis70, Options::default().tls_only());
    assert_eq!(server.get::<String>(&["PING"]), "PONG");
    let plain = redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).expect("a valid address");
    assert!(plain.get_connection_with_timeout(Duration::from_secs(2)).is_err());
}

#[test]
fn a_server_keeps_its_folder_and_port_over_a_restart() {
    let mut server = Server::start(Version::Valkey91);
    server.call(&["SET", "kept", "1"]);
    server.call(&["SAVE"]);
    let port = server.port();
    server.kill9();
    assert!(server.try_call(&["PING"]).is_err());
    server.restart();
    assert_eq!((server.port(), server.get::<i64>(&["GET", "kept"])), (port, 1));
}

#[test]
fn a_sentinel_lists_the_replicas_of_its_master() {
    let (master, replica) = (Server::start(Version::Redis70), Server::start(Version::Redis70));
    replica.replicate(&master);
    let sentinel = Sentinel::watch(Version::Redis70, master.port());
    sentinel.wait_for_replica(replica.port());
    assert_eq!(sentinel.replicas().len(), 1);
}
