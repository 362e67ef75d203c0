//! A backup is loaded into a throw-away server and compared; what cannot be loaded is said by name.

use std::fs;

use urtext_tests::{
    data::load,
    fleet::{Fleet, ORDERS},
    servers::{Server, Version},
};

fn left_behind() -> usize {
    let entries = fs::read_dir(std::env::temp_dir()).expect("a temporary folder").flatten();
    let own = |name: &str| name.starts_with("urtext-rehearsal-");
    entries.filter(|entry| entry.file_name().to_str().is_some_and(own)).count()
}

#[test]
fn a_backup_is_rehearsed_and_known_to_be() {
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(Version::Valkey91), Server::start(Version::Valkey91));
    replica.replicate(&master);
    load(&master, 81, 400);
    // Gone before the rehearsal, and no difference.
    master.call(&["SET", "short", "lived", "PX", "1"]);
    replica.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let id = fleet.snapshot("nyc-1");
    let (valkey, redis) = (Version::Valkey91.program(), Version::Redis62.program());
    let server = |path: &std::path::Path| path.display().to_string();

    let refused = fleet.coordinator.urtext(&["rehearse", &id, "--server", &server(&redis)]);
    refused.expect(5).says(&["no installed server can load this backup", "6.2"]);
    assert_eq!(fleet.canonical()["canonical"]["verified"], "never");
    fleet
        .coordinator
        .urtext(&["rehearse", &id, "--server", "/bin/true"])
        .expect(2)
        .says(&["no Redis or Valkey server"]);

    let servers = ["--server", &server(&redis), "--server", &server(&valkey)].map(str::to_owned);
    let mut args = vec!["rehearse", ORDERS, "--shard", "0"];
    args.extend(servers.iter().map(String::as_str));
    let rehearsed = fleet.json(&args);
    assert_eq!((&rehearsed["id"], &rehearsed["repository"]), (&id.as_str().into(), &"main".into()));
    assert_eq!(rehearsed["keys"], fleet.backups()[0]["keys"]);
    let canonical = fleet.canonical();
    assert_eq!(canonical["canonical"]["verified"], "rehearsed", "{canonical:#}");
    let audit = fleet.json(&["audit", ORDERS]);
    assert!(audit.to_string().contains("\"rehearsed\""), "{audit:#}");
    // Also to a catalog that is made anew.
    fleet.json(&["catalog", "rebuild"]);
    assert_eq!(fleet.canonical()["canonical"]["verified"], "rehearsed");
    assert_eq!(left_behind(), 0);
}
