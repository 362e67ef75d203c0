//! What is stored was changed: by hand, by a disk, by half a copy. It is found, named, and never restored.

use std::{fs, path::PathBuf};

use urtext_tests::{
    data::{Contents, load_strings},
    fleet::{Fleet, ORDERS, files_below},
    servers::{Server, Version},
};

/// A fleet with two backups of one node; the second is the canonical one. The target holds a key of its own.
#[track_caller]
fn two_backups() -> (Fleet, [String; 2]) {
    let version = Version::Redis70;
    let mut fleet = Fleet::new();
    let (master, replica) = (Server::start(version), Server::start(version));
    replica.replicate(&master);
    fleet.add("fra-1", master);
    fleet.add("nyc-1", replica);
    let ids = [71, 72].map(|seed| {
        load_strings(fleet.server("fra-1"), &format!("bulk{seed}"), seed, 400, 50_000);
        fleet.server("nyc-1").catch_up_with(fleet.server("fra-1"));
        fleet.wait_until_seen("nyc-1");
        fleet.snapshot("nyc-1")
    });
    let target = Server::start(version);
    target.call(&["SET", "mine", "precious"]);
    fleet.add("fra-2", target);
    (fleet, ids)
}

/// The stored file of a backup whose name ends so.
#[track_caller]
fn stored(fleet: &Fleet, id: &str, end: &str) -> PathBuf {
    let files = files_below(&fleet.coordinator.repository());
    let mut found = files.iter().filter(|file| {
        let name = file.to_string_lossy();
        name.contains(id) && name.ends_with(end)
    });
    found.next().unwrap_or_else(|| panic!("no {end} of {id} among {files:#?}")).clone()
}

/// Changes a stored file, which may be kept read-only.
#[track_caller]
fn alter(path: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("read a stored file");
    let before = bytes.clone();
    change(&mut bytes);
    assert_ne!(bytes, before, "nothing was changed");
    fs::remove_file(path).expect("remove a stored file");
    fs::write(path, bytes).expect("write a stored file");
}

/// A restore of `id` must fail, with words, before the target is touched.
#[track_caller]
fn refuses_to_restore(fleet: &Fleet, id: &str, words: &[&str]) {
    let args = ["restore", ORDERS, "--to", "fra-2", "--backup", id, "--overwrite", "--yes"];
    fleet.coordinator.urtext(&args).expect(7).says(words);
    assert_eq!(fleet.server("fra-2").get::<String>(&["GET", "mine"]), "precious");
    assert_eq!(fleet.server("fra-2").info_field("replication", "role"), "master");
}

#[test]
fn one_flipped_bit_in_a_part_is_found_before_the_target_is_touched() {
    let (fleet, [good, bad]) = two_backups();
    let part = stored(&fleet, &bad, "rdb.00001.zst.age");
    alter(&part, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    refuses_to_restore(&fleet, &bad, &["rdb.00001", &bad]);
    // To plain files: refused as well, and no RDB is left that somebody could take for one.
    let dir = fleet.work().join("files");
    let to = dir.to_str().expect("a temporary folder's path is text");
    fleet.coordinator.urtext(&["restore", ORDERS, "--to-dir", to, "--backup", &bad, "--yes"]).expect(7);
    let left: Vec<_> =
        files_below(&dir).into_iter().filter(|file| file.extension().is_some_and(|e| e == "rdb")).collect();
    assert!(left.is_empty(), "{left:?}");
    // The other backup is none the worse.
    fleet.restore_to("fra-2", &["--backup", &good, "--overwrite"]);
    assert_eq!(Contents::of(fleet.server("fra-2")).len(), 400);
}

#[test]
fn a_truncated_part_is_found_before_the_target_is_touched() {
    let (fleet, [_, bad]) = two_backups();
    alter(&stored(&fleet, &bad, "rdb.00000.zst.age"), |bytes| bytes.truncate(bytes.len() - 100));
    refuses_to_restore(&fleet, &bad, &["rdb.00000", &bad]);
}

#[test]
fn a_missing_part_is_found_before_the_target_is_touched() {
    let (fleet, [_, bad]) = two_backups();
    fs::remove_file(stored(&fleet, &bad, "rdb.00001.zst.age")).expect("remove a part");
    refuses_to_restore(&fleet, &bad, &["rdb.00001", &bad]);
}

#[test]
fn an_edited_manifest_is_named_and_hides_no_other_backup() {
    let (mut fleet, [good, forged]) = two_backups();
    assert_eq!(fleet.canonical()["canonical"]["id"], forged);
    let manifest = stored(&fleet, &forged, "manifest.json");
    // Somebody makes it look more complete than it is: another digit in the offset.
    let offset = fleet.json(&["backup", "show", &forged])["backup"]["offset"].to_string();
    alter(&manifest, |bytes| {
        let text = String::from_utf8(bytes.clone()).expect("a manifest is text");
        let changed = format!("9{}", &offset[1..]);
        let other = if changed == offset { format!("8{}", &offset[1..]) } else { changed };
        *bytes = text.replace(&offset, &other).into_bytes();
    });
    // Whether from a catalog rebuilt now or one that has seen the true manifest: it is not restored.
    refuses_to_restore(&fleet, &forged, &[&forged]);
    fleet.coordinator.stop();
    for file in files_below(fleet.coordinator.dir()) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("catalog")) {
            fs::remove_file(file).expect("delete the catalog");
        }
    }
    fleet.coordinator.serve();
    fleet.wait_for_node("fra-2", "its agent connected", |seen| seen["connected"] == true);
    let listed = fleet.json(&["backups", ORDERS]);
    let usable = listed["backups"].as_array().expect("a list").iter().filter(|backup| backup["ineligible"].is_null());
    assert_eq!(usable.map(|backup| backup["id"].clone()).collect::<Vec<_>>(), [good.as_str()], "{listed:#}");
    assert!(listed.to_string().contains(&forged), "the forged one is named: {listed:#}");
    assert_eq!(fleet.canonical()["canonical"]["id"], good);
    fleet.restore_to("fra-2", &["--overwrite"]);
    assert_eq!(Contents::of(fleet.server("fra-2")).len(), 400);
}
