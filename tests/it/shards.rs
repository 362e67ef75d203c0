//! A deployment of two shards: each has its own histories, backups and verdicts, and nobody mixes them.

use urtext_tests::{
    data::{Contents, load_strings},
    fleet::{Fleet, ORDERS},
    servers::{Server, Version},
};

#[test]
fn each_shard_is_judged_and_restored_by_itself() {
    let version = Version::Redis70;
    let mut fleet = Fleet::new();
    for (shard, [master, replica]) in [("0", ["fra-1", "nyc-1"]), ("1", ["fra-2", "nyc-2"])] {
        fleet.add_to_shard(master, shard, Server::start(version));
        let server = Server::start(version);
        server.replicate(fleet.server(master));
        fleet.add_to_shard(replica, shard, server);
    }
    // What shard 1 wrote is much more: a greater offset of another shard means nothing.
    load_strings(fleet.server("fra-1"), "zero", 96, 20, 50);
    load_strings(fleet.server("fra-2"), "one", 97, 200, 50);
    for [replica, master] in [["nyc-1", "fra-1"], ["nyc-2", "fra-2"]] {
        fleet.server(replica).catch_up_with(fleet.server(master));
        fleet.wait_until_seen(replica);
    }
    let ids = ["nyc-1", "nyc-2"].map(|node| fleet.snapshot(node));

    fleet.coordinator.urtext(&["canonical", ORDERS]).expect(2).says(&["2 shards", "--shard", "0, 1"]);
    fleet.coordinator.urtext(&["canonical", ORDERS, "--shard", "7"]).expect(3).says(&["no shard 7", "0, 1"]);
    for (shard, id, nodes) in [("0", &ids[0], ["fra-1", "nyc-1"]), ("1", &ids[1], ["fra-2", "nyc-2"])] {
        let canonical = fleet.json(&["canonical", ORDERS, "--shard", shard]);
        assert_eq!((&canonical["verdict"], &canonical["shard"]), (&"canonical".into(), &shard.into()));
        assert_eq!(canonical["canonical"]["id"], **id);
        let candidates = canonical["candidates"].as_array().expect("a list");
        let is_own = |node: &str| nodes.contains(&node);
        assert!(candidates.iter().all(|one| one["node"].as_str().is_some_and(is_own)), "{candidates:#?}");
        let lineage = fleet.coordinator.urtext(&["lineage", ORDERS, "--shard", shard]).expect(0).stdout;
        assert!(lineage.contains(&fleet.server(nodes[0]).history()[..8]), "{lineage}");
    }
    let status = fleet.json(&["status", ORDERS]);
    let shards: Vec<_> = status["shards"].as_array().expect("a list").iter().map(|one| one["shard"].clone()).collect();
    assert_eq!(shards, ["0", "1"]);

    // Each is restored from its own.
    let expected = ["nyc-1", "nyc-2"].map(|node| Contents::of(fleet.server(node)));
    for (shard, target, expected) in [("0", "sgp-1", &expected[0]), ("1", "sgp-2", &expected[1])] {
        fleet.add_to_shard(target, shard, Server::start(version));
        let restored = fleet.restore_to(target, &["--shard", shard]);
        assert_eq!(restored["plan"]["backup"]["shard"], shard);
        expected.assert_same(&Contents::of(fleet.server(target)));
    }
}
