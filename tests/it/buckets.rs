//! A repository in a bucket of a real S3 server.

use std::{fs, sync::Arc};

use urtext_repository::{
    StoreAddress,
    testing::{check_conformance, check_sweeping},
};
use urtext_tests::{
    data::{Contents, load_strings},
    fleet::{Fleet, ORDERS},
    object_server::ObjectServer,
    servers::{Server, Version},
};

/// The environment must not be changed while other threads run, so a program of its own lets the keys in.
#[test]
fn a_bucket_is_a_store() {
    const WITH_KEYS: &str = "URTEXT_TEST_BUCKET";
    if let Some(address) = std::env::var_os(WITH_KEYS) {
        let address: StoreAddress = address.to_string_lossy().parse().expect("an address");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(async {
            let store = address.open_to_sweep().expect("open");
            check_sweeping(Arc::clone(&store)).await;
            crate::prune::check_pruning(store.as_ref()).await;
            check_conformance(store).await;
        });
    }
    let server = ObjectServer::start();
    // In this order: what is below the prefix is in the whole bucket, too.
    for prefix in ["", "conformance"] {
        let mut again = std::process::Command::new(std::env::current_exe().expect("this program"));
        again.args(["--exact", "buckets::a_bucket_is_a_store"]);
        again.env(WITH_KEYS, server.address(prefix)).envs(ObjectServer::credentials());
        let ended = urtext_tests::process::run(&mut again, urtext_tests::eventually::SOON * 4);
        assert!(ended.stdout.contains("1 passed"), "{}", ended.stdout);
        ended.expect(0);
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
    let patient = urtext_tests::eventually::SOON * 6;
    fleet.coordinator.urtext_within(&["canonical", ORDERS], patient).expect(6).says(&["s3://backups/redis/orders"]);
    bucket.run();
    urtext_tests::eventually::eventually("the bucket to answer again", patient, || {
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
        let mut command = std::process::Command::new(urtext_tests::fleet::program("urtext"));
        command.args(["init", "--repository", &address, "--dir"]).arg(dir.path().join(name));
        command.env_remove("AWS_ACCESS_KEY_ID").env("HOME", dir.path()).envs(env.iter().copied());
        urtext_tests::process::run(&mut command, urtext_tests::eventually::SOON * 4)
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
