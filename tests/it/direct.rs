//! Straight to the bucket, and no faster than is allowed.

use std::time::{Duration, Instant};

use urtext_tests::{
    data::{Contents, load_strings},
    eventually::{SOON, eventually},
    fleet::{Fleet, ORDERS},
    object_server::ObjectServer,
    servers::{Server, Version},
};

/// Two parts and a bit of random bytes.
fn load(master: &Server) {
    load_strings(master, "bulk", 71, 400, 100_000);
}

fn restart_agent(fleet: &mut Fleet, node: &str) {
    fleet.agent_mut(node).stop();
    fleet.agent_mut(node).run();
    fleet.wait_for_node(node, "its agent connected", |seen| seen["connected"] == true);
    fleet.wait_until_seen(node);
}

#[test]
fn agents_reach_a_bucket_by_themselves_and_restores_find_another_way() {
    let bucket = ObjectServer::start();
    let address = bucket.address("hot");
    let mut fleet = Fleet::with_env(&[], "", &ObjectServer::credentials());
    let add = ["repository", "add", "hot", &address, "--site", "nyc", "--direct", "--upload-limit", "64 MiB/s"];
    fleet.coordinator.urtext(&add).expect(0);
    let here = fleet.work().join("here").display().to_string();
    fleet
        .coordinator
        .urtext(&["repository", "add", "cold", &here, "--direct"])
        .expect(2)
        .says(&["agents reach buckets"]);
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    let listed = fleet.json(&["repository", "list"])["repositories"][1].clone();
    assert_eq!((&listed["name"], &listed["direct"]), (&"hot".into(), &true.into()), "{listed}");
    assert_eq!(listed["upload_bytes_per_second"], 64 * 1024 * 1024);

    let (master, replica) = (Server::start(Version::Redis82), Server::start(Version::Redis82));
    replica.replicate(&master);
    load(&master);
    replica.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    // The coordinator has credentials; this host has none, and its bytes take no other way unasked.
    let refused = fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "nyc-1"]);
    refused.expect(8).says(&["from this host", "credentials of its own", "`direct`"]);
    assert_eq!(fleet.backups().len(), 0);

    fleet.agent_mut("nyc-1").env = ObjectServer::credentials();
    restart_agent(&mut fleet, "nyc-1");
    let id = fleet.snapshot("nyc-1");
    let backups = fleet.backups();
    assert_eq!((&backups[0]["id"], &backups[0]["copies"][0]["repository"]), (&id.as_str().into(), &"hot".into()));
    fleet.coordinator.urtext(&["verify", &id]).expect(0);
    let expected = Contents::of(fleet.server("nyc-1"));

    // Through the coordinator, since this host is not let in; then by itself.
    fleet.add("fra-2", Server::start(Version::Redis82));
    fleet.restore_to("fra-2", &[]);
    assert!(fleet.agent("fra-2").log().contains("reading through the coordinator instead"));
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
    fleet.add("fra-3", Server::start(Version::Redis82));
    fleet.agent_mut("fra-3").env = ObjectServer::credentials();
    restart_agent(&mut fleet, "fra-3");
    fleet.restore_to("fra-3", &["--backup", &id]);
    assert!(!fleet.agent("fra-3").log().contains("through the coordinator"));
    expected.assert_same(&Contents::of(fleet.server("fra-3")));
}

#[test]
fn uploads_keep_to_their_limits_and_restores_to_theirs_if_asked() {
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(Version::Valkey81), Server::start(Version::Valkey81));
    replica.replicate(&master);
    load(&master);
    replica.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);

    // All that the repository takes is shared by those who upload.
    let second = fleet.work().join("second").display().to_string();
    let limited = ["--site", "fra", "--site", "nyc", "--upload-limit", "16 MiB/s"];
    fleet.coordinator.urtext(&[&["repository", "add", "second", &second], limited.as_slice()].concat()).expect(0);
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    for node in ["fra-1", "nyc-1"] {
        fleet.wait_for_node(node, "its agent connected", |seen| seen["connected"] == true);
        fleet.wait_until_seen(node);
    }
    for node in ["fra-1", "nyc-1"] {
        fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", node, "--detach"]).expect(0);
    }
    eventually("both snapshots to be committed", SOON * 2, || match fleet.backups().len() {
        2 => Ok(()),
        other => Err(format!("{other} backups")),
    });
    let told = |node: &str, rate: &str| fleet.agent(node).log().contains(&format!("rate={rate}"));
    assert!(told("fra-1", "8.0 MiB/s") && told("nyc-1", "8.0 MiB/s"), "{}", fleet.agent("fra-1").log());
    assert!(told("nyc-1", "16.0 MiB/s"), "who is left has all of it again: {}", fleet.agent("nyc-1").log());

    // An agent's own limit. The first two of three parts must have had their time before the third one goes.
    let settings = fleet.agent("nyc-1").dir().join("agent.toml");
    let text = std::fs::read_to_string(&settings).expect("read agent.toml");
    let limited = text.replace("# upload_limit = \"20 MiB/s\"", "upload_limit = \"12 MiB/s\"");
    assert_ne!(limited, text);
    std::fs::write(&settings, limited).expect("write agent.toml");
    restart_agent(&mut fleet, "nyc-1");
    let began = Instant::now();
    let id = fleet.snapshot("nyc-1");
    assert!(began.elapsed() >= Duration::from_millis(2600), "32 MiB at 12 MiB/s took {:?}", began.elapsed());

    let out = fleet.work().join("out").display().to_string();
    let restore = ["restore", ORDERS, "--backup", &id, "--to-dir", &out, "--yes", "--limit", "12 MiB/s"];
    let began = Instant::now();
    fleet.coordinator.urtext(&restore).expect(0).says(&["at 12.0 MiB/s at most"]);
    assert!(began.elapsed() >= Duration::from_millis(2600), "32 MiB at 12 MiB/s took {:?}", began.elapsed());
    fleet.add("nyc-2", Server::start(Version::Valkey81));
    let began = Instant::now();
    fleet.restore_to("nyc-2", &["--backup", &id, "--limit", "12 MiB/s"]);
    assert!(began.elapsed() >= Duration::from_millis(2600), "32 MiB at 12 MiB/s took {:?}", began.elapsed());
    fleet.coordinator.urtext(&[&restore[..7], &["--limit", "fast"]].concat()).expect(2).says(&["is not a rate"]);
}
