//! A repository in a container of Azure Blob Storage.

use std::{fs, path::Path, process::Command};

use urtext_repository::StoreAddress;
use urtext_tests::{
    azure_server::AzureServer,
    data::{Contents, load, load_strings},
    eventually::SOON,
    fleet::{Fleet, ORDERS, program},
    process::{Output, run},
    servers::{Server, Version},
};
use urtext_types::{ErrorKind, Explain};

use crate::{
    buckets::{check_elsewhere, checked_here, is_a_store},
    disaster::{alone, loaded, text},
};

#[test]
fn a_container_is_a_store() {
    if checked_here(is_a_store) {
        return;
    }
    let Some(server) = AzureServer::start() else { return };
    // In this order: what is below the prefix is in the whole container, too.
    for (prefix, options) in [("", ""), ("conformance", "&storage_class=Cool")] {
        let address = server.address(prefix) + options;
        check_elsewhere("azure::a_container_is_a_store", &address, &AzureServer::credentials());
    }
}

#[test]
fn a_container_a_key_and_one_program_bring_back_what_was_backed_up() {
    let version = Version::Valkey81;
    let Some(container) = AzureServer::start() else { return };
    let (address, keys) = (container.address("redis"), AzureServer::credentials());
    let mut fleet = Fleet::with_env(&["--repository", &address], "", &keys);
    let server = Server::start(version);
    load(&server, 81, 300);
    // Two parts and a bit.
    load_strings(&server, "bulk", 82, 400, 100_000);
    fleet.add("fra-1", server);
    let id = fleet.snapshot("fra-1");
    let expected = Contents::of(fleet.server("fra-1"));
    assert_eq!(fleet.canonical()["canonical"]["id"], id.as_str());

    let work = tempfile::tempdir().expect("make a folder");
    let (identity, to) = (work.path().join("key.txt"), work.path().join("restored"));
    fs::copy(fleet.coordinator.identity(), &identity).expect("the key was kept elsewhere");
    fleet.coordinator.kill9();
    drop(fleet);
    let ask = |args: &[&str]| alone(&[args, &["--repository", &address]].concat(), &keys).expect(0);
    assert_eq!(ask(&["canonical", ORDERS, "--json"]).json()["canonical"]["id"], id.as_str());
    ask(&["restore", ORDERS, "--yes", "--to-dir", text(&to), "--identity", text(&identity)]);
    expected.assert_same(&Contents::of(&loaded(version, &to)));
}

/// `urtext init` with its repository at `address`, in a machine that has no other credentials.
#[track_caller]
fn init(address: &str, dir: &Path, credentials: &[(String, String)]) -> Output {
    let mut command = Command::new(program("urtext"));
    command.args(["init", "--repository", address, "--dir"]).arg(dir);
    command.env("HOME", dir).envs(credentials.iter().cloned());
    run(&mut command, SOON * 4)
}

#[test]
fn who_is_not_let_into_a_container_is_told_so() {
    let Some(server) = AzureServer::start() else { return };
    let work = tempfile::tempdir().expect("make a folder");
    let (address, dir) = (server.address("redis"), work.path().join("installation"));
    let key = |key: &str| vec![("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), key.to_owned())];
    init(&address, &dir, &key("d3Jvbmc=")).expect(8).says(&["not allowed", "az://backups/redis", "credentials"]);
    let unreadable = init(&address, &dir, &key("not-base64!")).expect(2).says(&["az://backups/redis"]);
    assert!(!unreadable.stderr.contains("not-base64"), "a key is a secret: {}", unreadable.stderr);
    init(&address, &dir, &[]).expect(8).says(&["no credentials were found", "check the credentials"]);
    let nowhere = server.address_in("nowhere", "redis");
    init(&nowhere, &dir, &AzureServer::credentials()).expect(6).says(&["is the bucket of az://nowhere/redis", "there"]);
    init("az://backups/redis", &dir, &AzureServer::credentials()).expect(2).says(&["?account=", "_ACCOUNT_NAME"]);
    assert!(!dir.exists(), "nothing is half made");
    // A shared access signature is enough, and names an account just as a key does.
    init(&address, &dir, &AzureServer::credentials_to("rlcw")).expect(0);
    // What is there already is never taken over.
    init(&address, &work.path().join("again"), &AzureServer::credentials()).expect(5).says(&["another repository"]);
}

/// Deletions are asked for by several at once, and each is answered for itself.
#[test]
fn who_may_not_delete_in_a_container_is_told_so() {
    let told = async |address: StoreAddress| {
        let store = address.open_to_sweep().expect("open");
        let name = "backups/orders/0/one".parse().expect("a name");
        store.put_new(&name, (&b"first"[..]).into()).await.expect("put");
        let error = store.delete(&name).await.expect_err("there is no right to");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        store.get(&name).await.expect("it stays");
    };
    if checked_here(told) {
        return;
    }
    let Some(server) = AzureServer::start() else { return };
    let test = "azure::who_may_not_delete_in_a_container_is_told_so";
    check_elsewhere(test, &server.address("redis"), &AzureServer::credentials_to("rlcw"));
}
