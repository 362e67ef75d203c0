//! Memory is constant in the size of the data: half a gigabyte passes through 128 MiB.

use std::time::Duration;

use urtext_tests::{
    data::load_strings,
    fleet::{Fleet, ORDERS, backup_id},
    say,
    servers::{Server, Version},
};

/// What agent and coordinator may have resident at most.
const LIMIT: u64 = 128 * 1024 * 1024;

/// A large data set is given more time than other commands.
const MINUTES: Duration = Duration::from_secs(240);

#[test]
fn half_a_gigabyte_is_captured_shipped_and_restored_within_128_mib() {
    let version = Version::Redis70;
    let (master, replica) = (Server::start(version), Server::start(version));
    // 300 MB that do not compress, 230 MB that do: keys and values of a kilobyte, and a few of megabytes.
    load_strings(&master, "incompressible", 101, 270_000, 1_024);
    load_strings(&master, "large", 102, 4, 8 * 1024 * 1024);
    master.call(&["CONFIG", "SET", "rdbcompression", "no"]);
    replica.call(&["CONFIG", "SET", "rdbcompression", "no"]);
    master.call(&["DEBUG", "POPULATE", "230000", "filler", "1000"]);
    replica.replicate(&master);
    replica.catch_up_with(&master);
    let mut fleet = Fleet::new();
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);

    let within = |args: &[&str]| {
        let begin = std::time::Instant::now();
        let json = fleet.coordinator.urtext_within(args, MINUTES).expect(0).json();
        (json, begin.elapsed())
    };
    let (snapshot, captured_in) = within(&["snapshot", ORDERS, "--node", "nyc-1", "--json"]);
    let id = backup_id(&snapshot);
    let size = snapshot["backups"][0]["rdb_bytes"].as_u64().expect("a size");
    assert!(size > 500_000_000, "{size} bytes are not half a gigabyte");

    fleet.add("fra-2", Server::start(version));
    let within = |args: &[&str]| {
        let begin = std::time::Instant::now();
        let json = fleet.coordinator.urtext_within(args, MINUTES).expect(0).json();
        (json, begin.elapsed())
    };
    let args = ["restore", ORDERS, "--to", "fra-2", "--backup", &id, "--yes", "--json"];
    let (restored, restored_in) = within(&args);
    assert_eq!(restored["proof"]["expected"], restored["proof"]["found"]);
    // Comparing by the server's own digest: half a gigabyte of values need not cross the test.
    let digest = |node: &str| fleet.server(node).get::<String>(&["DEBUG", "DIGEST"]);
    assert_eq!(digest("fra-2"), digest("nyc-1"));

    let peaks = [
        ("coordinator", fleet.coordinator.peak_memory()),
        ("agent that captured", fleet.agent("nyc-1").peak_memory()),
        ("agent that restored", fleet.agent("fra-2").peak_memory()),
    ];
    say(&format!("{} MB captured in {captured_in:?}, restored in {restored_in:?}", size / 1_000_000));
    for (who, peak) in peaks {
        say(&format!("{who}: {} MiB at most", peak / 1024 / 1024));
        assert!(peak < LIMIT, "the {who} had {} MiB resident", peak / 1024 / 1024);
    }
}
