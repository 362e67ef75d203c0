//! A replica whose link is down makes the newest file with the oldest data. It must lose, and be told why.

use urtext_tests::{
    data::{Contents, load, load_strings},
    fleet::{Fleet, ORDERS, candidate},
    link::Link,
    servers::{Server, Version},
};

#[test]
fn the_later_backup_of_a_stale_replica_loses_to_the_earlier_one_of_a_fresh_replica() {
    let version = Version::Redis70;
    let mut fleet = Fleet::with(&[], "[deployments.orders]\nmax_link_down = \"0s\"");
    let (master, fresh, stale) = (Server::start(version), Server::start(version), Server::start(version));
    let link = Link::to(master.port());
    fresh.replicate(&master);
    stale.replicate_port(link.port());
    load(&master, 21, 200);
    stale.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", fresh);
    fleet.add("sgp-1", stale);

    link.cut();
    fleet.server("sgp-1").wait_for_link("down");
    load_strings(fleet.server("fra-1"), "after-the-cut", 22, 50, 100);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_until_seen("nyc-1");
    fleet.wait_for_node("sgp-1", "its link down", |seen| seen["link_up"] == false);
    let right = fleet.snapshot("nyc-1");

    // Not by accident: the stale copy must be asked for by name.
    fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "sgp-1"]).expect(5).says(&[
        "sgp-1",
        "link",
        "hint:",
        "--allow-stale",
    ]);
    let wrong = fleet.snapshot_with("sgp-1", &["--allow-stale"]);

    let shown = [&right, &wrong].map(|id| fleet.json(&["backup", "show", id])["backup"].clone());
    let offsets = shown.each_ref().map(|backup| backup["offset"].as_u64().expect("an exact offset"));
    assert!(shown[1]["taken_at"].as_str() > shown[0]["taken_at"].as_str(), "the stale file is the newer one");
    assert!(offsets[1] < offsets[0], "and holds older data");
    assert!(shown[0]["stale"].is_null() && shown[1]["stale"].is_string(), "{shown:#?}");

    let canonical = fleet.canonical();
    assert_eq!(canonical["verdict"], "canonical");
    assert_eq!(canonical["canonical"]["id"], right);
    let loser = candidate(&canonical, &wrong);
    assert_eq!(loser["standing"], "behind");
    assert_eq!(loser["missing_bytes"], offsets[0] - offsets[1]);
    assert!(!loser["reason"].as_str().expect("a reason").is_empty());
    // The live node that is stale is judged by the same measure.
    assert_eq!(candidate(&canonical, "sgp-1")["standing"], "behind");

    let expected = Contents::of(fleet.server("nyc-1"));
    fleet.add("fra-2", Server::start(version));
    let restored = fleet.restore_to("fra-2", &[]);
    assert_eq!(restored["plan"]["backup"]["id"], right);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
}

#[test]
fn the_planner_asks_the_fresh_replica_when_nobody_names_a_node() {
    let mut fleet = Fleet::new();
    let version = Version::Valkey91;
    let (master, stale, fresh) = (Server::start(version), Server::start(version), Server::start(version));
    let link = Link::to(master.port());
    stale.replicate_port(link.port());
    fresh.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", stale);
    fleet.add("sgp-1", fresh);
    link.cut();
    load_strings(fleet.server("fra-1"), "after-the-cut", 23, 50, 100);
    fleet.server("sgp-1").catch_up_with(fleet.server("fra-1"));
    fleet.wait_for_node("nyc-1", "its link down", |seen| seen["link_up"] == false);
    fleet.wait_until_seen("sgp-1");
    assert_eq!(fleet.json(&["snapshot", ORDERS])["backups"][0]["node"], "sgp-1");
}
