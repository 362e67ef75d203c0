//! With nothing left but what is stored, a key and one program; and keys that change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use urtext_repository::Identity;
use urtext_tests::{
    data::{Contents, load, load_strings},
    fleet::{Fleet, ORDERS, candidate, files_below, program},
    object_server::ObjectServer,
    process::{Output, run},
    servers::{Options, Server, Version},
};

/// `urtext`, and nothing else: no coordinator, no directory of one.
#[track_caller]
pub(crate) fn alone(args: &[&str], env: &[(String, String)]) -> Output {
    let mut command = Command::new(program("urtext"));
    command.args(args).env_remove("URTEXT_DIR").env_remove("AWS_ACCESS_KEY_ID").envs(env.iter().cloned());
    run(&mut command, Duration::from_secs(120))
}

/// A server that holds what was restored into `dir`.
#[track_caller]
pub(crate) fn loaded(version: Version, dir: &Path) -> Server {
    let folder = tempfile::tempdir().expect("make a folder");
    fs::copy(dir.join("dump.rdb"), folder.path().join("dump.rdb")).expect("the restored file");
    Server::in_folder(version, Options::default(), folder)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's path is text")
}

fn digest_of<'a>(backups: &'a Value, id: &str) -> &'a Value {
    let all = backups["backups"].as_array().expect("a list");
    &all.iter().find(|backup| backup["id"] == id).unwrap_or_else(|| panic!("{id} is not in {backups:#}"))["content_digest"]
}

#[test]
fn a_bucket_a_key_and_one_program_answer_as_the_coordinator_did() {
    let version = Version::Valkey81;
    let bucket = ObjectServer::start();
    let (address, keys) = (bucket.address("redis"), ObjectServer::credentials());
    let mut fleet = Fleet::with_env(&["--repository", &address], "", &keys);
    // No pings: what was seen after the capture is what was captured.
    let quiet = || Options::default().set("repl-ping-replica-period", "3600");
    let (master, replica) = (Server::with(version, quiet()), Server::with(version, quiet()));
    replica.replicate(&master);
    load(&master, 41, 300);
    load_strings(&master, "bulk", 42, 400, 50_000);
    replica.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let first = fleet.snapshot("nyc-1");
    // A failover, so that there is a fork to know of.
    fleet.server_mut("fra-1").kill9();
    fleet.server("nyc-1").promote();
    fleet.server("nyc-1").call(&["SET", "after", "the failover"]);
    fleet.wait_until_seen("nyc-1");
    let second = fleet.snapshot("nyc-1");
    let expected = Contents::of(fleet.server("nyc-1"));
    let before = fleet.json(&["lineage", ORDERS]);
    assert_ne!(before["edges"], serde_json::json!([]), "{before:#}");

    let work = tempfile::tempdir().expect("make a folder");
    let (identity, authority) = (work.path().join("key.txt"), work.path().join("ca.pem"));
    fs::copy(fleet.coordinator.identity(), &identity).expect("the key was kept elsewhere");
    fs::copy(fleet.coordinator.dir().join("operator/ca.pem"), &authority).expect("the authority was kept elsewhere");
    let dir = fleet.coordinator.dir().to_owned();
    fleet.coordinator.kill9();
    drop(fleet);
    assert!(!dir.exists(), "nothing of the installation is left");

    let ask = |args: &[&str], code: i32| {
        let with: Vec<&str> = args.iter().copied().chain(["--repository", &address]).collect();
        alone(&with, &keys).expect(code)
    };
    let listed = ask(&["backups", ORDERS, "--json"], 0)
        .says(&["no coordinator is asked", "signatures are checked against"])
        .json();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(2), "{listed:#}");
    let canonical = ask(&["canonical", ORDERS, "--json"], 0).json();
    assert_eq!(canonical["canonical"]["id"], second.as_str(), "{canonical:#}");
    assert_eq!(candidate(&canonical, &first)["standing"], "behind");
    assert_eq!(ask(&["lineage", ORDERS, "--json"], 0).json()["edges"], before["edges"]);
    let key = text(&identity);
    let inspected = ask(&["inspect", &second, "--identity", key, "--json"], 0).json();
    assert_eq!(inspected["content_digest"], *digest_of(&listed, &second), "{inspected:#}");

    let verified = ask(&["verify", ORDERS, "--authority", text(&authority)], 0);
    assert!(verified.stdout.contains(&first) && verified.stdout.contains(&second), "{}", verified.stdout);
    ask(&["verify", &second, "--repair"], 2).says(&["--repair needs one"]);
    ask(&["verify", &second, "--repository", "main"], 2).says(&["either a name"]);

    let to = work.path().join("restored");
    let restore =
        ["restore", ORDERS, "--yes", "--to-dir", text(&to), "--identity", key, "--authority", text(&authority)];
    let restored = ask(&restore, 0);
    assert!(!restored.stderr.contains("signatures are checked against"), "{}", restored.stderr);
    expected.assert_same(&Contents::of(&loaded(version, &to)));
    // Another authority's signatures prove nothing, whatever the repository says of itself.
    let stranger = Fleet::new();
    let other = stranger.coordinator.dir().join("operator/ca.pem");
    let backups = ["backups", ORDERS, "--authority", text(&other)];
    ask(&backups, 7).says(&["no backup of orders can be believed", "not of this authority"]);
    ask(&["verify", ORDERS, "--authority", text(&other)], 7).prints(&[&first, &second, "not of this authority"]);
    ask(&["backups", "carts"], 3).says(&["known are: orders"]);
    // A key is needed, and said to be before anything is fetched.
    ask(&["restore", ORDERS, "--yes", "--to-dir", text(&work.path().join("none"))], 2).says(&["--identity FILE"]);
    assert!(!work.path().join("none").exists());
}

#[test]
fn a_manifest_that_was_damaged_before_anybody_looked_is_named_by_verify() {
    let work = tempfile::tempdir().expect("make a folder");
    let repository = work.path().join("backups");
    let mut fleet = Fleet::with(&["--repository", text(&repository)], "");
    let server = Server::start(Version::Redis62);
    load(&server, 61, 50);
    fleet.add("fra-1", server);
    let (good, damaged) = (fleet.snapshot("fra-1"), fleet.snapshot("fra-1"));
    let manifest = repository.join(format!("backups/{ORDERS}/0/{damaged}/manifest.json"));
    let mut bytes = fs::read(&manifest).expect("the manifest");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&manifest, bytes).expect("damage it");
    let address = text(&repository);
    let verified = alone(&["verify", "--repository", address, "--json"], &[]).expect(7).json();
    let copies = verified["copies"].as_array().expect("a list");
    let found = |id: &str| copies.iter().find(|copy| copy["id"] == id).unwrap_or_else(|| panic!("{id}: {verified:#}"));
    assert!(found(&good)["reason"].is_null(), "{verified:#}");
    assert!(found(&damaged)["reason"].as_str().is_some_and(|why| why.contains("believed")), "{verified:#}");
    alone(&["verify", &good, "--repository", address], &[]).expect(0);
    alone(&["verify", &damaged, "--repository", address], &[]).expect(7).prints(&[&damaged]);
}

/// A new key pair in a file, and its public half.
fn new_key(path: PathBuf) -> (PathBuf, String) {
    let identity = Identity::generate();
    fs::write(&path, format!("{}\n", identity.to_secret().expose())).expect("write a key");
    (path, identity.recipient().to_string())
}

#[test]
fn after_the_keys_were_changed_the_new_one_alone_opens_old_and_new() {
    let version = Version::Redis82;
    let work = tempfile::tempdir().expect("make a folder");
    let repository = work.path().join("backups");
    let mut fleet = Fleet::with(&["--repository", text(&repository)], "");
    let server = Server::start(version);
    load(&server, 51, 200);
    fleet.add("fra-1", server);
    let old = fleet.snapshot("fra-1");
    let old_contents = Contents::of(fleet.server("fra-1"));
    let stored = files_below(&repository.join("backups"));

    let (key, recipient) = new_key(work.path().join("new.txt"));
    let listed = fleet.json(&["repository", "list"]);
    let before = listed["repositories"][0]["recipients"][0].as_str().expect("a recipient").to_owned();
    let change = ["repository", "rekey", "--recipient", &recipient, "--drop", &before, "--reason", "a laptop was lost"];
    let changed = fleet.json(&change);
    let changed = &changed["repositories"][0];
    assert_eq!(changed["recipients"], serde_json::json!([recipient]));
    assert_eq!(changed["handed_on"], serde_json::json!([before]));
    assert_eq!(changed["left_behind"], serde_json::json!([]));
    assert_eq!(changed["backups_not_rewritten"], 1);
    assert_eq!(files_below(&repository.join("backups")), stored, "nothing that is stored was touched");
    fleet.coordinator.urtext(&change).expect(3).says(&["is no recipient", &recipient]);
    let again = ["repository", "rekey", "main", "--recipient", &recipient];
    fleet.coordinator.urtext(&again).expect(5).says(&["its recipients are these already"]);
    let audit = fleet.json(&["audit", ORDERS]).to_string();
    assert!(["changed the keys", "a laptop was lost"].iter().all(|said| audit.contains(said)), "{audit}");

    fleet.server("fra-1").call(&["SET", "after", "the change"]);
    fleet.wait_until_seen("fra-1");
    let new = fleet.snapshot("fra-1");
    let new_contents = Contents::of(fleet.server("fra-1"));
    let to = |name: &str| text(&work.path().join(name)).to_owned();
    // The old key opens what it always opened, and not what came after: said with the key that is needed.
    let with_old =
        |id: &str, dir: &str| fleet.coordinator.urtext(&["restore", ORDERS, "--backup", id, "--to-dir", dir, "--yes"]);
    with_old(&old, &to("old-by-old")).expect(0);
    with_old(&new, &to("new-by-old")).expect(8).says(&[
        "does not open this backup",
        &before,
        &recipient,
        "nothing was",
    ]);
    assert!(!Path::new(&to("new-by-old")).exists());
    // Handed on, also to the agent beside a server.
    fleet.add("nyc-1", Server::start(version));
    let args = ["restore", ORDERS, "--backup", &old, "--to", "nyc-1", "--identity", text(&key), "--yes"];
    fleet.coordinator.urtext(&args).expect(0);
    old_contents.assert_same(&Contents::of(fleet.server("nyc-1")));

    fleet.coordinator.kill9();
    drop(fleet);
    let gone = to("gone");
    let place = ["--repository", text(&repository), "--repository", gone.as_str(), "--identity", text(&key), "--yes"];
    for (id, contents, dir) in [(&old, &old_contents, to("old-alone")), (&new, &new_contents, to("new-alone"))] {
        let args: Vec<&str> = ["restore", ORDERS, "--backup", id, "--to-dir", &dir].into_iter().chain(place).collect();
        alone(&args, &[]).expect(0).says(&["repository gone does not answer"]);
        contents.assert_same(&Contents::of(&loaded(version, Path::new(&dir))));
    }
    // What cannot be asked may hold more: a restore of the best one stops, as it does with a coordinator.
    let args: Vec<&str> = ["restore", ORDERS, "--to-dir", &gone].into_iter().chain(place).collect();
    alone(&args, &[]).expect(5).says(&["there may be more"]);
    let args: Vec<&str> = args.into_iter().chain(["--accept-loss", "--reason", "the site is gone"]).collect();
    alone(&args, &[]).expect(0).says(&["is not on record"]);
    // A third key, of somebody who was never told.
    let (stranger, _) = new_key(work.path().join("stranger.txt"));
    let args = ["inspect", &old, "--repository", text(&repository), "--identity", text(&stranger)];
    alone(&args, &[]).expect(8).says(&[&before, &recipient, "opens it as well"]);
}

#[test]
fn an_identity_under_a_passphrase_opens_with_it_alone() {
    let work = tempfile::tempdir().expect("make a folder");
    let (right, wrong) = (work.path().join("right"), work.path().join("wrong"));
    fs::write(&right, "correct horse\n").expect("write a file");
    fs::write(&wrong, "battery staple\n").expect("write a file");
    let env = |file: &Path| vec![("URTEXT_PASSPHRASE_FILE".to_owned(), text(file).to_owned())];
    let mut fleet = Fleet::with_env(&["--passphrase"], "", &env(&right));
    let server = Server::start(Version::Redis70);
    load(&server, 61, 50);
    fleet.add("fra-1", server);
    let id = fleet.snapshot("fra-1");
    let key = fs::read_to_string(fleet.coordinator.identity()).expect("a key file");
    assert!(key.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{key}");
    let (identity, repository) = (fleet.coordinator.identity(), fleet.coordinator.repository());
    let inspect = ["inspect", &id, "--identity", text(&identity), "--repository", text(&repository), "--json"];
    alone(&inspect, &env(&right)).expect(0);
    alone(&inspect, &env(&wrong)).expect(8).says(&["the passphrase does not open it"]);
    // Typed on a terminal, which does not show it.
    let line = format!("'{}' {}", program("urtext").display(), inspect.map(|arg| format!("'{arg}'")).join(" "));
    let log = work.path().join("terminal");
    let asked =
        format!("for i in $(seq 300); do grep -qs 'passphrase of' '{}' && break; sleep 0.1; done", log.display());
    let typed = format!("({asked}; echo 'correct horse'; sleep 3) | script -qfec \"{line}\" '{}'", log.display());
    let mut terminal = Command::new("sh");
    terminal.args(["-c", &typed]).env_remove("URTEXT_DIR").env_remove("URTEXT_PASSPHRASE_FILE");
    let seen = run(&mut terminal, Duration::from_secs(60)).expect(0);
    assert!(seen.stdout.contains("passphrase of") && seen.stdout.contains("content_digest"), "{}", seen.stdout);
    assert!(!seen.stdout.contains("horse"), "what is typed is not shown: {}", seen.stdout);
}
