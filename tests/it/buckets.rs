//! A repository in a bucket of a real S3 server.

use std::{fs, process::Command, sync::Arc};

use urtext_repository::{
    StoreAddress,
    testing::{check_conformance, check_sweeping},
};
use urtext_tests::{
    data::{Contents, load_strings},
    eventually::{SOON, eventually},
    fleet::{Fleet, ORDERS, program},
    object_server::ObjectServer,
    process::run,
    servers::{Server, Version},
};

/// Names the store that this program is to check, and does nothing else.
const TO_CHECK: &str = "URTEXT_TEST_BUCKET";

/// Checks the store that this program was started to check, if it was.
pub(crate) fn checked_here(check: impl AsyncFnOnce(StoreAddress)) -> bool {
    let Some(address) = std::env::var_os(TO_CHECK) else { return false };
    let address: StoreAddress = address.to_string_lossy().parse().expect("an address");
    tokio::runtime::Runtime::new().expect("a runtime").block_on(check(address));
    true
}

/// All that a store must do.
pub(crate) async fn is_a_store(address: StoreAddress) {
    let store = address.open_to_sweep().expect("open");
    check_sweeping(Arc::clone(&store)).await;
    crate::prune::check_pruning(store.as_ref()).await;
    check_conformance(store).await;
}

/// Starts a program that checks the store at `address`, by running `test` and [`checked_here`] in it. The
/// environment must not be changed while other threads run, and this one lets the keys in.
#[track_caller]
pub(crate) fn check_elsewhere(test: &str, address: &str, credentials: &[(String, String)]) {
    let mut again = Command::new(std::env::current_exe().expect("this program"));
    again.args(["--exact", test]).env(TO_CHECK, address).envs(credentials.iter().cloned());
    let ended = run(&mut again, SOON * 4);
    assert!(ended.stdout.contains("1 passed"), "{}{}", ended.stdout, ended.stderr);
    ended.expect(0);
}

#[test]
fn a_bucket_is_a_store() {
    if checked_here(is_a_store) {
        return;
    }
    let server = ObjectServer::start();
    // In this order: what is below the prefix is in the whole bucket, too.
    for prefix in ["", "conformance"] {
        check_elsewhere("buckets::a_bucket_is_a_store", &server.address(prefix), &ObjectServer::credentials());
    }
}

#[test]
fn a_deployment_is_backed_up_to_a_bucket_and_restored_from_it() {
    let mut bucket = ObjectServer::start();
    let address = bucket.address("redis/orders");
    let mut fleet = Fleet::with_env(&["--repository", &address], "", &ObjectServer::credentials());
    let (master, replica) = (Server::start(Version::Valkey81), Server::start(Version::Valkey81));
    replica.replicate(&master);
    // Two parts and a bit.
    load_strings(&master, "bulk", 71, 400, 100_000);
    replica.catch_up_with(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let id = fleet.snapshot("nyc-1");
    let expected = Contents::of(fleet.server("nyc-1"));
    let canonical = fleet.coordinator.json(&["canonical", ORDERS]);
    assert_eq!(canonical["canonical"]["id"], id.as_str());

    // While the bucket is away nothing pretends to be well; what it kept is there when it is back.
    bucket.kill9();
    let patient = SOON * 6;
    fleet.coordinator.urtext_within(&["canonical", ORDERS], patient).expect(6).says(&["s3://backups/redis/orders"]);
    bucket.run();
    eventually("the bucket to answer again", patient, || {
        let listed = fleet.coordinator.urtext(&["backups", ORDERS, "--json"]);
        if listed.code() == 0 && listed.stdout.contains(&id) { Ok(()) } else { Err(listed.stderr) }
    });
    fleet.add("fra-2", Server::start(Version::Valkey91));
    fleet.restore_to("fra-2", &[]);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
}

#[test]
fn who_is_not_let_into_a_bucket_is_told_so() {
    let server = ObjectServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let init = |name: &str, env: &[(&str, &str)]| {
        let address = server.address("redis");
        let mut command = Command::new(program("urtext"));
        command.args(["init", "--repository", &address, "--dir"]).arg(dir.path().join(name));
        command.env_remove("AWS_ACCESS_KEY_ID").env("HOME", dir.path()).envs(env.iter().copied());
        run(&mut command, SOON * 4)
    };
    let wrong = [("AWS_ACCESS_KEY_ID", "tester"), ("AWS_SECRET_ACCESS_KEY", "wrong")];
    init("wrong", &wrong).expect(8).says(&["not allowed", "s3://backups/redis", "credentials"]);
    init("none", &[]).expect(8).says(&["no credentials were found", "check the credentials"]);
    assert!(!dir.path().join("wrong").exists() && !dir.path().join("none").exists(), "nothing is half made");
    // The file that the service's own tools use.
    fs::create_dir(dir.path().join(".aws")).expect("a folder");
    fs::write(dir.path().join(".aws/credentials"), ObjectServer::credentials_file()).expect("a file");
    init("right", &[]).expect(0);
    // What is there already is never taken over.
    init("again", &[]).expect(5).says(&["another repository"]);
}
