//! Several repositories: which site writes where, and what holds while one of them is gone.

use std::fs;

use serde_json::Value;
use urtext_tests::{
    data::load_strings,
    fleet::{Fleet, ORDERS, files_below},
    servers::Version,
};

/// The names of the repositories that have the backup.
fn places(fleet: &Fleet, id: &str) -> Vec<String> {
    let backups = fleet.backups();
    let backup = backups.iter().find(|backup| backup["id"] == id).expect("it is listed");
    let copies = backup["copies"].as_array().expect("a list").iter();
    copies.map(|copy| copy["repository"].as_str().expect("a name").to_owned()).collect()
}

fn state(fleet: &Fleet, name: &str) -> Value {
    let listed = fleet.json(&["repository", "list"]);
    let repositories = listed["repositories"].as_array().expect("a list");
    repositories.iter().find(|repository| repository["name"] == name).expect("it is listed").clone()
}

#[test]
fn a_repository_that_is_down_is_named_and_hides_nothing_of_the_others() {
    let mut fleet = Fleet::of_three_sites(Version::Valkey81);
    let (second, away) = (fleet.work().join("nyc"), fleet.work().join("away"));
    let url = second.display().to_string();
    fleet
        .coordinator
        .urtext(&["repository", "add", "nyc", "ftp://nyc"])
        .expect(2)
        .says(&["nothing is known of ftp://"]);
    fleet.coordinator.urtext(&["repository", "add", "nyc", &url, "--site", "nyc"]).expect(0);
    fleet
        .coordinator
        .urtext(&["repository", "add", "nyc", &url])
        .expect(5)
        .says(&["there is a repository nyc already"]);
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.wait_for_node(node, "its agent connected", |seen| seen["connected"] == true);
    }
    fleet.coordinator.urtext(&["repository", "check"]).expect(0);

    load_strings(fleet.server("fra-1"), "old", 71, 20, 50);
    fleet.server("sgp-1").catch_up_with(fleet.server("fra-1"));
    let old = fleet.snapshot("sgp-1");
    load_strings(fleet.server("fra-1"), "new", 72, 20, 50);
    fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
    let new = fleet.snapshot("nyc-1");
    assert_eq!(places(&fleet, &old), ["main"]);
    assert_eq!(places(&fleet, &new), ["nyc"]);
    assert!(files_below(&second).iter().any(|file| file.to_string_lossy().contains(&new)));
    assert_eq!(fleet.canonical()["canonical"]["id"], new);
    let listed = state(&fleet, "nyc");
    assert_eq!((&listed["backups"], &listed["sites"][0], &listed["trouble"]), (&1.into(), &"nyc".into(), &Value::Null));

    // Gone: what is there is judged, what is not is named, and a restore stops.
    fs::rename(&second, &away).expect("take the second repository away");
    assert!(state(&fleet, "nyc")["trouble"].as_str().is_some_and(|why| why.contains("directory")));
    fleet.coordinator.urtext(&["repository", "check"]).expect(6);
    fleet.coordinator.urtext(&["status"]).expect(0).says(&["repository nyc does not answer"]);
    let canonical = fleet.canonical();
    assert_eq!(canonical["canonical"]["id"], old);
    let candidates = canonical["candidates"].as_array().expect("a list");
    let missing = candidates.iter().find(|candidate| candidate["id"] == new).expect("it is remembered");
    assert!(missing["reason"].as_str().is_some_and(|why| why.contains("nyc")), "{missing}");
    let out = fleet.work().join("out").display().to_string();
    let stopped = fleet.coordinator.urtext(&["restore", ORDERS, "--to-dir", &out, "--yes"]);
    stopped.expect(5).says(&["nyc"]);
    // A decision meanwhile is kept where it can be, and comes to the other one afterwards.
    fleet.coordinator.urtext(&["vouch", ORDERS, &old, "--reason", "looked at it"]).expect(0);
    let records = |at: &std::path::Path| {
        files_below(at).iter().filter(|file| file.components().any(|part| part.as_os_str() == "vouch")).count()
    };
    assert_eq!((records(&fleet.coordinator.repository()), records(&away)), (1, 0));

    fs::rename(&away, &second).expect("bring it back");
    fleet.coordinator.urtext(&["repository", "check"]).expect(0);
    assert_eq!(fleet.canonical()["canonical"]["id"], new);
    fleet.coordinator.urtext(&["catalog", "rebuild"]).expect(0);
    assert_eq!(records(&second), 1);
    assert_eq!((places(&fleet, &old), places(&fleet, &new)), (vec!["main".to_owned()], vec!["nyc".to_owned()]));
    fleet.coordinator.urtext(&["restore", ORDERS, "--to-dir", &out, "--yes"]).expect(0);
}
