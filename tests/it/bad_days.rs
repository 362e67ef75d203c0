//! What is wrong beside the agent: the server is down, refuses, hides behind TLS; the clock is off. One clear
//! sentence each, nothing lost, and all is well again once the cause has gone.

use std::path::PathBuf;

use urtext_tests::{
    data::{Contents, load},
    eventually::{SOON, eventually, until},
    fleet::{Agent, Fleet, ORDERS},
    process::{Output, run},
    say,
    servers::{Options, Server, Version},
};

/// Waits until `urtext status` shows trouble of a node in a sentence with these words.
#[track_caller]
fn trouble(fleet: &Fleet, node: &str, words: &[&str]) {
    fleet.wait_for_node(node, &format!("trouble that says {words:?}"), |seen| {
        let message = seen["trouble"]["message"].as_str().unwrap_or_default().to_lowercase();
        words.iter().all(|word| message.contains(&word.to_lowercase()))
    });
}

#[test]
fn a_server_that_is_down_is_reported_and_backed_up_again_when_it_is_back() {
    let mut fleet = Fleet::of_three_sites(Version::Redis70);
    fleet.snapshot("sgp-1");
    let seen_before = fleet.wait_for_node("sgp-1", "a position", |seen| seen["offset"].is_u64());
    fleet.server_mut("sgp-1").kill9();
    trouble(&fleet, "sgp-1", &["127.0.0.1", "refused"]);
    // The last observation stands.
    let seen = fleet.wait_for_node("sgp-1", "its trouble", |seen| seen["trouble"].is_object());
    assert_eq!(seen["history"], seen_before["history"]);
    fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "sgp-1"]).expect(6).says(&["sgp-1"]);
    assert_eq!(fleet.backups().len(), 1);

    fleet.server_mut("sgp-1").restart();
    let master = fleet.server("fra-1").port();
    fleet.server("sgp-1").replicate_port(master);
    fleet.wait_for_node("sgp-1", "no trouble", |seen| seen["trouble"].is_null() && seen["link_up"] == true);
    fleet.snapshot("sgp-1");
}

#[test]
fn a_wrong_password_is_called_one_and_is_never_shown() {
    let server = Server::start(Version::Redis82);
    server.call(&["ACL", "SETUSER", "backup", "on", ">right", "~*", "+@all"]);
    let mut fleet = Fleet::new();
    let token = fleet.coordinator.invite("fra", "fra-1");
    let agent = Agent::new("fra-1", &fleet.work().join("agent"));
    let output = agent.try_join(&token, &server.url_as("backup", "wrong-hunter2"), &[]);
    assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    if output.code() != 0 {
        // Refused at once, before the token was spent: then it still works.
        let output = output.expect(8).says(&["password", "backup"]);
        assert!(!output.stdout.contains("hunter2"));
        agent.try_join(&token, &server.url_as("backup", "right"), &[]).expect(0);
    }

    // A password that stops working later is the node's trouble.
    fleet.add("nyc-1", Server::start(Version::Redis82));
    let mut connection = fleet.server("nyc-1").connect().expect("connect");
    let changed = redis::cmd("ACL").arg(&["SETUSER", "default", "resetpass", ">changed"]).query(&mut connection);
    let () = changed.expect("change a password");
    // Who is connected stays so, password or not: until the connection breaks.
    let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query(&mut connection).expect("end connections");
    trouble(&fleet, "nyc-1", &["password"]);
    let refused = fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "nyc-1"]);
    assert!(matches!(refused.code(), 6 | 8), "{refused:?}");
}

#[test]
fn a_user_with_too_few_rights_is_told_which_are_missing_and_how_to_grant_them() {
    let server = Server::start(Version::Redis70);
    let replica = Server::start(Version::Redis70);
    replica.replicate(&server);
    let rights = ["ACL", "SETUSER", "backup", "on", ">secret", "resetkeys", "-@all", "+info", "+ping", "+replconf"];
    server.call(&rights);
    let mut fleet = Fleet::new();
    fleet.join("fra-1", &server.url_as("backup", "secret"), &[]);
    fleet.wait_for_node("fra-1", "a version", |seen| seen["server_version"].is_string());
    let check = fleet.agent("fra-1").check();
    assert_ne!(check.code(), 0, "{check:?}");
    let said = check.stdout + &check.stderr;
    assert!(said.contains("+psync") && said.contains("ACL SETUSER backup"), "{said}");
    let refused = fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "fra-1"]);
    refused.expect(8).says(&["psync"]);
    assert!(fleet.backups().is_empty());

    // As the check says, so it works.
    server.call(&["ACL", "SETUSER", "backup", "+psync"]);
    fleet.snapshot("fra-1");
}

#[test]
fn a_server_that_speaks_tls_only_is_backed_up_and_restored() {
    let tls = || Server::with(Version::Redis70, Options::default().tls_only());
    let mut fleet = Fleet::new();
    let server = tls();
    load(&server, 51, 150);
    // An outgoing link in plain text fails; a replica of its own is not needed for a backlog here.
    fleet.add("fra-1", server);
    let contents = Contents::of(fleet.server("fra-1"));
    let id = fleet.snapshot("fra-1");

    // In plain text: what is wrong, and what would be right.
    let url = fleet.server("fra-1").url().replace("rediss", "redis");
    let token = fleet.coordinator.invite("nyc", "nyc-1");
    let agent = Agent::new("nyc-1", &fleet.work().join("plain"));
    agent.try_join(&token, &url, &[]).says(&["tls", "rediss://", "--redis-ca"]);
    // With TLS, but without the authority.
    let token = fleet.coordinator.invite("sgp", "sgp-1");
    let agent = Agent::new("sgp-1", &fleet.work().join("stranger"));
    agent.try_join(&token, &fleet.server("fra-1").url(), &[]).says(&["authority", "--redis-ca"]);

    fleet.add("fra-2", Server::start(Version::Redis70));
    fleet.restore_to("fra-2", &["--backup", &id]);
    contents.assert_same(&Contents::of(fleet.server("fra-2")));
}

#[test]
fn a_loading_server_is_not_captured() {
    let fleet = Fleet::of_three_sites(Version::Redis70);
    // A replica whose full sync takes for ever: its old data set is about to go.
    fleet.server("sgp-1").call(&["CONFIG", "SET", "repl-diskless-load", "disabled"]);
    let master = fleet.server("fra-1");
    master.call(&["DEBUG", "POPULATE", "20000", "fill", "100"]);
    // Half a second per thousand keys: loading lasts as long as the test needs.
    fleet.server("sgp-1").call(&["CONFIG", "SET", "key-load-delay", "2000"]);
    fleet.server("sgp-1").call(&["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"]);
    fleet.server("sgp-1").call(&["REPLICAOF", "NO", "ONE"]);
    fleet.server("sgp-1").call(&["SET", "mine", "1"]);
    let port = fleet.server("fra-1").port().to_string();
    fleet.server("sgp-1").call(&["REPLICAOF", "127.0.0.1", &port]);
    until("sgp-1 to be loading", SOON, || fleet.server("sgp-1").info_field("persistence", "loading") == "1");
    // The coordinator's view is a second old at most; the loading goes on for forty.
    eventually("a refusal that says why", SOON, || {
        let refused = fleet.coordinator.urtext(&["snapshot", ORDERS, "--node", "sgp-1"]);
        assert!(matches!(refused.code(), 5 | 6), "{refused:?}");
        if refused.stderr.contains("loading") { Ok(()) } else { Err(refused.stderr) }
    });
    assert!(fleet.backups().is_empty());
}

/// Debian keeps it below the folder of the machine's architecture.
fn faketime_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    folders
        .filter_map(|folder| Some(folder.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|library| library.is_file())
}

#[test]
fn an_agents_clock_an_hour_ahead_or_behind_is_reported_and_changes_no_verdict() {
    let Some(faketime) = faketime_library() else {
        say("skipped: faketime is not installed (Debian package faketime)");
        return;
    };
    for (offset, millis) in [("+1h", 3_600_000), ("-1h", -3_600_000)] {
        let mut fleet = Fleet::of_three_sites(Version::Redis70);
        load(fleet.server("fra-1"), 52, 100);
        let first = fleet.snapshot("nyc-1");
        fleet.agent_mut("sgp-1").stop();
        // The library and not the `faketime` program, which would stand between the agent and what stops it.
        fleet.agent_mut("sgp-1").wrapper = vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", faketime.display()),
            format!("FAKETIME={offset}"),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        fleet.agent_mut("sgp-1").run();
        let seen = fleet.wait_for_node("sgp-1", "its clock skew", |seen| {
            seen["connected"] == true && seen["clock_skew_ms"].as_i64().is_some_and(|skew| skew.abs() > 1_000)
        });
        let skew = seen["clock_skew_ms"].as_i64().expect("a number");
        assert!((skew - millis).abs() < 5_000, "{skew} ms for {offset}");
        eventually("the status to name the clock", SOON, || {
            let printed = fleet.coordinator.urtext(&["status", ORDERS]).expect(0).stdout;
            if printed.contains("The clock of node sgp-1") { Ok(()) } else { Err(printed) }
        });

        // Older data, newer or older clock: the position decides alone.
        fleet.server("fra-1").call(&["SET", "later", "1"]);
        fleet.server("sgp-1").catch_up_with(fleet.server("fra-1"));
        let later = fleet.snapshot("sgp-1");
        fleet.server("fra-1").call(&["SET", "latest", "1"]);
        fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
        let latest = fleet.snapshot("nyc-1");
        let canonical = fleet.canonical();
        assert_eq!(canonical["canonical"]["id"], latest, "not {first} or {later}: {canonical:#}");
    }
}

#[test]
fn a_misuse_of_the_command_line_is_told_apart_from_trouble() {
    let fleet = Fleet::new();
    let check = |args: &[&str], code: i32, words: &[&str]| -> Output {
        fleet.coordinator.urtext(args).expect(code).says(words)
    };
    check(&["canonical"], 2, &["deployment"]);
    check(&["restore", ORDERS], 2, &["--to"]);
    check(&["canonical", "nothing-here"], 3, &["nothing-here"]);
    check(&["backup", "show", "01K0000000000000000000000A"], 3, &["01K0000000000000000000000A"]);
    check(&["snapshot", "nothing-here"], 3, &["nothing-here"]);
    let mut command = std::process::Command::new(urtext_tests::fleet::program("urtext"));
    command.args(["status", "--dir", "/nonexistent"]);
    run(&mut command, std::time::Duration::from_secs(10)).expect(3).says(&["/nonexistent", "hint:"]);
}
