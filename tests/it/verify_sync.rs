//! Stored backups are proved, put right from another repository, copied, and carried on a tape.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use urtext_repository::Identity;
use urtext_tests::{
    data::{Contents, load_strings},
    fleet::{Fleet, ORDERS, candidate, files_below, program},
    object_server::ObjectServer,
    servers::{Server, Version},
};

#[track_caller]
fn stored(repository: &Path, id: &str, end: &str) -> PathBuf {
    let is_it = |file: &PathBuf| file.to_string_lossy().contains(id) && file.to_string_lossy().ends_with(end);
    files_below(repository).into_iter().find(is_it).unwrap_or_else(|| panic!("no {end} of {id}"))
}

#[track_caller]
fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("read a stored file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).expect("remove a stored file");
    fs::write(path, bytes).expect("write a stored file");
}

/// What `verify` says of one backup in one repository.
#[track_caller]
fn copy<'a>(verified: &'a Value, id: &str, repository: &str) -> &'a Value {
    let copies = verified["copies"].as_array().expect("copies");
    let found = copies.iter().find(|copy| copy["id"] == id && copy["repository"] == repository);
    found.unwrap_or_else(|| panic!("no {id} in {repository}: {verified:#}"))
}

/// A pipe between two command lines, as a person would make it.
#[track_caller]
fn shell(fleet: &Fleet, line: &str) {
    let (urtext, dir) = (program("urtext"), fleet.coordinator.dir().to_owned());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]).current_dir(fleet.work()).stdin(Stdio::null());
    command.env("urtext", urtext).env("URTEXT_DIR", dir).envs(ObjectServer::credentials());
    urtext_tests::process::run(&mut command, urtext_tests::eventually::SOON * 4).expect(0);
}

#[test]
fn damage_is_found_named_and_put_right_from_another_repository() {
    let bucket = ObjectServer::start();
    let mut fleet = Fleet::with_env(&[], "", &ObjectServer::credentials());
    fleet.add("fra-1", Server::start(Version::Valkey81));
    let ids = [71, 72].map(|seed| {
        load_strings(fleet.server("fra-1"), &format!("bulk{seed}"), seed, 400, 50_000);
        fleet.wait_until_seen("fra-1");
        fleet.snapshot("fra-1")
    });
    let [older, newer] = [&ids[0], &ids[1]];
    let main = fleet.coordinator.repository();
    let contents = Contents::of(fleet.server("fra-1"));
    assert_eq!(fleet.canonical()["canonical"]["id"], newer.as_str());

    // One bit, and the canonical copy is another one.
    let part = stored(&main, newer, "rdb.00001.zst.age");
    let good = fs::read(&part).expect("read a part");
    flip_a_bit(&part);
    let said = fleet.coordinator.urtext(&["verify", ORDERS]).expect(7);
    said.prints(&["rdb.00001.zst.age", "breaks off after 16.0 MiB", "no other repository has it"]);
    let canonical = fleet.canonical();
    assert_eq!(canonical["canonical"]["id"], older.as_str());
    assert_eq!(candidate(&canonical, newer)["standing"], "ineligible");
    assert_eq!(candidate(&canonical, older)["verified"], "stored");
    fs::remove_file(&part).expect("remove");
    fs::write(&part, &good).expect("as it was");
    fleet.json(&["verify", newer]);
    assert_eq!(fleet.canonical()["canonical"]["id"], newer.as_str());

    // A second repository, in a bucket, gets both; what is there is not sent again.
    let recipient = Identity::generate().recipient().to_string();
    let listed = fleet.json(&["repository", "list"]);
    let first = listed["repositories"][0]["recipients"][0].as_str().expect("a recipient").to_owned();
    let address = bucket.address("redis");
    let add = ["repository", "add", "far", &address, "--recipient", &recipient, "--recipient", &first];
    fleet.coordinator.urtext(&add).expect(0).prints(&[&recipient, &first]);
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    let plan = fleet.json(&["repository", "sync", "main", "far", "--dry-run"]);
    assert_eq!((plan["planned"]["backups"].as_array().map(Vec::len), &plan["done"]), (Some(2), &Value::Null));
    let other = fleet.json(&["repository", "sync", "main", "far", "--deployment", "carts"]);
    assert_eq!(other["done"]["backups"], 0, "{other:#}");
    let done = fleet.json(&["repository", "sync", "main", "far"]);
    assert_eq!((&done["done"]["backups"], &done["done"]["failed"]), (&2.into(), &Value::Array(vec![])));
    let again = fleet.json(&["repository", "sync", "main", "far"]);
    assert_eq!((&again["planned"]["present"], &again["done"]["bytes"]), (&2.into(), &0.into()));

    // Damaged and lost in one of them: the other copy still stands, and gives back what is needed.
    flip_a_bit(&part);
    fs::remove_file(stored(&main, older, "rdb.00000.zst.age")).expect("lose a part");
    let found = fleet.coordinator.json_with_code(&["verify", ORDERS, "--percent", "1"], 7);
    assert!(copy(&found, older, "main")["damaged"][0]["problem"].to_string().contains("missing"), "{found:#}");
    fleet.coordinator.urtext(&["verify", ORDERS, "--since", "2100-01-01T00:00:00Z"]).expect(3);
    fleet.coordinator.json_with_code(&["verify", ORDERS, "--since", "1h", "--percent", "1"], 7);
    let found = fleet.coordinator.json_with_code(&["verify", "--repository", "main"], 7);
    assert_eq!(copy(&found, newer, "main")["also_in"][0], "far");
    assert_eq!(fleet.canonical()["canonical"]["id"], newer.as_str());
    // With its manifest damaged as well, nobody knows what its parts must be before that is put right.
    flip_a_bit(&stored(&main, older, "manifest.json"));
    let repaired = fleet.json(&["verify", ORDERS, "--repair"]);
    for (id, objects) in [(older, 2), (newer, 1)] {
        assert_eq!(copy(&repaired, id, "main")["mended"].as_array().map(Vec::len), Some(objects), "{repaired:#}");
    }
    assert_eq!(fs::read(&part).expect("read a part"), good);
    fleet.coordinator.urtext(&["audit", ORDERS]).expect(0).prints(&["repair in main", "from far"]);

    // What was proved is on record.
    fleet.json(&["catalog", "rebuild"]);
    assert_eq!(candidate(&fleet.canonical(), newer)["verified"], "stored");

    // Onto tape, and into a third repository that nobody has heard of.
    shell(&fleet, &format!(r#""$urtext" export {ORDERS} > tape.tar; tar -tf tape.tar | grep -q SHA256SUMS"#));
    let named = format!(
        r#""$urtext" export {ORDERS} {older} > one.tar; tar -tf one.tar > names; grep -q {older}/manifest.json names"#
    );
    shell(&fleet, &named);
    fleet.coordinator.urtext(&["export", ORDERS, "--json"]).expect(2);
    let on_a_terminal = format!(r#"script -qec '"$urtext" export {ORDERS}' said && exit 1 || test $? = 2"#);
    shell(&fleet, &on_a_terminal);
    shell(&fleet, "grep -q 'a terminal' said");
    fleet.coordinator.urtext(&["repository", "add", "fresh", "fresh"]).expect(0);
    fleet.coordinator.stop();
    fleet.coordinator.serve();
    shell(&fleet, r#""$urtext" import --repository fresh < tape.tar"#);
    shell(&fleet, r#"head -c 1000000 tape.tar | "$urtext" import --repository fresh && exit 1 || test $? = 7"#);
    fs::rename(&main, fleet.work().join("gone")).expect("lose the first repository");
    let bucket_is_gone = bucket;
    drop(bucket_is_gone);
    fleet.add("fra-2", Server::start(Version::Valkey81));
    fleet.restore_to("fra-2", &["--backup", newer]);
    contents.assert_same(&Contents::of(fleet.server("fra-2")));
}
