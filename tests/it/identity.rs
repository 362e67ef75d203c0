//! Who may do what: each refusal is one clear sentence, and changes nothing.

use std::{fs, process::Command, thread, time::Duration};

use urtext_tests::{
    fleet::{Agent, Coordinator, Fleet, ORDERS, program},
    liar::{Liar, credentials_folder, refused},
    process::run,
    servers::{Server, Version},
};

#[test]
fn a_token_works_once() {
    let fleet = Fleet::new();
    let server = Server::start(Version::Redis70);
    let token = fleet.coordinator.invite("fra", "fra-1");
    Agent::new("fra-1", &fleet.work().join("first")).try_join(&token, &server.url(), &[]).expect(0);
    let thief = Agent::new("fra-1", &fleet.work().join("second"));
    thief.try_join(&token, &server.url(), &[]).expect(8).says(&["token", "used", "hint:", "invite"]);
    assert_eq!(fleet.json(&["agents", "list"])["agents"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_token_expires() {
    let fleet = Fleet::new();
    let server = Server::start(Version::Redis70);
    let token = fleet.coordinator.invite_with("fra", "fra-1", &["--ttl", "1s"]);
    // The only wait for a time in these suites: expiry is one.
    thread::sleep(Duration::from_millis(2_100));
    let agent = Agent::new("fra-1", &fleet.work().join("agent"));
    agent.try_join(&token, &server.url(), &[]).expect(8).says(&["token", "expired", "hint:", "invite"]);
}

#[test]
fn a_token_that_was_altered_or_never_made_is_refused() {
    let fleet = Fleet::new();
    let server = Server::start(Version::Redis70);
    let agent = Agent::new("fra-1", &fleet.work().join("agent"));
    agent.try_join("nonsense", &server.url(), &[]).expect(2).says(&["token"]);
    let token = fleet.coordinator.invite("fra", "fra-1");
    // The last digit but a few belongs to the secret or to a check over it; whichever, it must not pass.
    let cut = &token[..token.len() - 4];
    let output = agent.try_join(cut, &server.url(), &[]);
    assert!(matches!(output.code(), 2 | 8), "{output:?}");
    let output = output.says(&["token"]);
    assert!(!output.stderr.contains(&token[token.len() / 2..token.len() - 4]), "a secret in a message: {output:?}");
}

#[test]
fn a_stranger_in_the_coordinators_place_is_not_joined_and_not_obeyed() {
    let mut fleet = Fleet::new();
    fleet.add("fra-1", Server::start(Version::Redis70));
    let token = fleet.coordinator.invite("nyc", "nyc-1");
    fleet.coordinator.stop();
    let address = fleet.coordinator.address().to_owned();
    let mut stranger = Coordinator::init_with(&fleet.work().join("stranger"), &address, &[]);
    stranger.serve();

    // Who is not an agent yet does not become one of a stranger.
    let server = Server::start(Version::Redis70);
    let agent = Agent::new("nyc-1", &fleet.work().join("agent"));
    agent.try_join(&token, &server.url(), &[]).expect(8).says(&["not the one that the join token is for"]);
    // Who is one already stays faithful.
    fleet.agent_mut("fra-1").daemon().wait_for_line("authority that we do not trust");
    // And neither is an operator's command given to a stranger.
    fleet.coordinator.urtext(&["status"]).expect(8).says(&["authority"]);
    stranger.stop();
    fleet.coordinator.serve();
    // By itself it asks again half a minute later; a person would not wait either.
    fleet.agent_mut("fra-1").stop();
    fleet.agent_mut("fra-1").run();
    fleet.wait_for_node("fra-1", "its agent connected again", |seen| seen["connected"] == true);
}

#[test]
fn an_agents_certificate_is_not_an_operators() {
    let mut fleet = Fleet::new();
    fleet.add("fra-1", Server::start(Version::Redis70));
    // The operator's folder with the agent's certificate in it: our own command line is refused.
    let borrowed = fleet.work().join("borrowed");
    fs::create_dir(&borrowed).expect("make a folder");
    for file in fs::read_dir(fleet.coordinator.dir().join("operator")).expect("the operator's folder").flatten() {
        fs::copy(file.path(), borrowed.join(file.file_name())).expect("copy a file");
    }
    let agent = credentials_folder(fleet.agent("fra-1").dir());
    for file in ["identity.pem", "ca.pem"] {
        fs::copy(agent.join(file), borrowed.join(file)).expect("copy a credential");
    }
    for args in [&["status"][..], &["invite", "--deployment", ORDERS, "--site", "x"], &["snapshot", ORDERS]] {
        let mut command = Command::new(program("urtext"));
        command.args(args).arg("--dir").arg(&borrowed);
        run(&mut command, Duration::from_secs(20)).expect(8).says(&["operator"]);
    }
    // And so is anybody who speaks the protocol without it.
    let liar = Liar::connect(fleet.coordinator.address(), &borrowed);
    assert!(refused(liar.invite()).contains("operator"));
}

#[test]
fn an_agent_writes_and_reads_nothing_but_its_own() {
    let fleet = Fleet::of_three_sites(Version::Redis70);
    let backup = fleet.snapshot("nyc-1");
    let theirs = format!("backups/{ORDERS}/0/{backup}");
    let liar = Liar::connect(fleet.coordinator.address(), fleet.agent("fra-1").dir());
    // Another node's backup, a backup that nobody asked for, what is not a backup, what is not in the repository.
    for name in [
        &format!("{theirs}/rdb.00099.zst.age"),
        &format!("backups/{ORDERS}/0/01K0000000000000000000000A/rdb.00000.zst.age"),
        &format!("backups/{ORDERS}/0/01K0000000000000000000000A/manifest.json"),
        "urtext.json",
        &format!("records/{ORDERS}/lineage/01K0000000000000000000000A.json"),
    ] {
        refused(liar.put(name, b"forged"));
    }
    for name in ["../escape", "/etc/urtext-test", "backups/../../escape"] {
        assert!(liar.put(name, b"forged").is_err(), "{name}");
    }
    refused(liar.get(&format!("{theirs}/manifest.json")));
    refused(liar.get(&format!("{theirs}/rdb.00000.zst.age")));
    assert_eq!(fleet.backups().len(), 1);
}

#[test]
fn a_second_agent_with_the_same_certificate_is_named_and_does_no_harm() {
    let mut fleet = Fleet::new();
    fleet.add("fra-1", Server::start(Version::Redis70));
    let original = fleet.agent("fra-1").dir().to_owned();
    let copy = fleet.work().join("copy");
    let mut cp = Command::new("cp");
    run(cp.arg("-a").arg(&original).arg(&copy), Duration::from_secs(10)).expect(0);
    let mut second = Agent::new("fra-1 again", &copy);
    second.run();
    // The newcomer is told why it is not wanted, and the node goes on being backed up.
    second.daemon().wait_for_line("another agent");
    assert!(fleet.agent_mut("fra-1").daemon().is_running());
    fleet.snapshot("fra-1");
}

#[test]
fn a_second_invitation_for_a_node_replaces_its_agent_once_it_is_used() {
    let mut fleet = Fleet::new();
    fleet.add("fra-1", Server::start(Version::Redis70));
    let token = fleet.coordinator.invite("fra", "fra-1");
    // An invitation alone changes nothing.
    fleet.snapshot("fra-1");
    let mut newcomer = Agent::new("fra-1 anew", &fleet.work().join("newcomer"));
    newcomer.try_join(&token, &fleet.server("fra-1").url(), &[]).expect(0);
    newcomer.run();
    // The old one is told what has happened, at once, although its connection was open.
    fleet.agent_mut("fra-1").daemon().wait_for_line("was replaced");
    fleet.agent_mut("fra-1").kill9();
    fleet.wait_for_node("fra-1", "the newcomer connected", |seen| seen["connected"] == true);
    fleet.snapshot("fra-1");
}

#[test]
fn secrets_are_in_no_log_and_no_message() {
    let server = Server::start(Version::Redis70);
    server.call(&["ACL", "SETUSER", "backup", "on", ">hunter2-hunter2", "~*", "&*", "+@all"]);
    let mut fleet = Fleet::new();
    fleet.join("fra-1", &server.url_as("backup", "hunter2-hunter2"), &[]);
    fleet.wait_for_node("fra-1", "a version", |seen| seen["server_version"].is_string());
    fleet.snapshot("fra-1");
    let status = fleet.coordinator.urtext(&["status", "--json"]).stdout;
    let agents = fleet.coordinator.urtext(&["agents", "list", "--json"]).stdout;
    let check = fleet.agent("fra-1").check();
    for text in [status, agents, check.stdout, check.stderr, fleet.agent("fra-1").log(), fleet.coordinator.log()] {
        assert!(!text.contains("hunter2"), "a password in:\n{text}");
    }
}
