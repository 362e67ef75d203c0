//! Equal data is equal however it is stored and whoever stores it, and nothing else is.

use std::collections::BTreeMap;

use urtext_rdb::{ContentDigest, Digest, part_of};
use urtext_tests::{
    encodings::{Layout, load_every_encoding},
    servers::{Server, Version},
};

use crate::rdb_contents::{digest, saved};

fn loaded(version: Version) -> Server {
    let server = Server::start(version);
    load_every_encoding(&server);
    server
}

/// One digest in all of `digests`; who has which, if not.
#[track_caller]
fn assert_one(digests: &BTreeMap<String, Digest>) {
    let first = digests.values().next().expect("at least one digest");
    assert!(digests.values().all(|digest| digest == first), "{digests:#?}");
}

#[test]
fn equal_data_has_one_digest_in_every_layout_of_every_server() {
    let (mut data, mut expiring_fields) = (BTreeMap::new(), BTreeMap::new());
    let mut functions: Option<ContentDigest> = None;
    for version in Version::ALL {
        let content = digest(&saved(&loaded(version)));
        let roots: BTreeMap<u32, Digest> = content.databases().map(|(number, part)| (number, part.root())).collect();
        assert_eq!(roots.len(), if version.has_field_expiry() { 6 } else { 3 }, "databases of {}", version.name());
        for layout in Layout::ALL {
            let name = format!("{} {layout:?}", version.name());
            data.insert(name.clone(), roots[&u32::from(layout.database())]);
            if version.has_field_expiry() {
                expiring_fields.insert(name, roots[&u32::from(layout.field_expiry_database())]);
            }
        }
        if version.is_7_or_later() {
            let before = functions.get_or_insert_with(|| content.clone());
            assert!(before.same_functions(&content), "functions of {}", version.name());
            assert!(!before.same_functions(&ContentDigest::default()), "functions count");
        }
    }
    assert_eq!((data.len(), expiring_fields.len()), (15, 6));
    assert_one(&data);
    assert_one(&expiring_fields);
}

#[test]
fn a_changed_value_is_found_in_its_part_of_its_database() {
    let server = loaded(Version::Redis82);
    let mut before = digest(&saved(&server));
    for (layout, key, change) in [
        (Layout::Default, "string:1", "APPEND string:1 x"),
        (Layout::Packed, "random:131072", "SETRANGE random:131072 100000 x"),
        (Layout::Default, "bits", "SETBIT bits 7 1"),
        (Layout::Packed, "list:many", "LSET list:many 1500 other"),
        (Layout::Plain, "list:many", "LPOP list:many"),
        (Layout::Packed, "set:many", "SREM set:many member\u{a0}5"),
        (Layout::Plain, "set:16 bits", "SADD set:16\u{a0}bits 4242"),
        (Layout::Packed, "zset:many", "ZINCRBY zset:many 0.0000000000001 member\u{a0}8"),
        (Layout::Plain, "zset:one", "ZADD zset:one 1.0000000000000002 one"),
        (Layout::Packed, "hash:many", "HSET hash:many one more"),
        (Layout::Plain, "hash:one", "HSET hash:one field valuE"),
        (Layout::Default, "stream:deleted", "XDEL stream:deleted 15-0"),
        (Layout::Plain, "stream:groups", "XACK stream:groups readers 1-0"),
        (Layout::Packed, "stream:groups", "XCLAIM stream:groups readers two 0 4-0 TIME 1700000000000 JUSTID"),
        (Layout::Plain, "stream:one", "XGROUP CREATE stream:one readers 0"),
        (Layout::Default, "hash:one", "PEXPIREAT hash:one 2000000000000"),
        (Layout::Plain, "hash:one", "PEXPIREAT hash:one 2000000000001"),
        (Layout::Default, "list:one", "DEL list:one"),
    ] {
        change_and_compare(&server, &mut before, layout.database(), key, change);
    }
}

#[test]
fn a_changed_expiry_of_a_field_is_found_in_both_dialects() {
    for version in [Version::Redis82, Version::Valkey91] {
        let server = loaded(version);
        let mut before = digest(&saved(&server));
        for (layout, change) in [
            (Layout::Packed, "HPEXPIREAT expiring:some 2000000000000 FIELDS 1 +1"),
            (Layout::Packed, "HPERSIST expiring:some FIELDS 1 a"),
            (Layout::Plain, "HPEXPIREAT expiring:some 2000000000000 FIELDS 1 a"),
            (Layout::Plain, "HPEXPIREAT expiring:some 2000000000001 FIELDS 1 a"),
        ] {
            change_and_compare(&server, &mut before, layout.field_expiry_database(), "expiring:some", change);
        }
    }
}

/// Words of `change` are separated by spaces; in them, a no-break space stands for a space.
#[track_caller]
fn change_and_compare(server: &Server, before: &mut ContentDigest, database: u8, key: &str, change: &str) {
    let mut connection = server.connect().expect("connect to a server");
    let () = redis::cmd("SELECT").arg(database).query(&mut connection).expect("select a database");
    let words: Vec<_> = change.split(' ').map(|word| word.replace('\u{a0}', " ")).collect();
    let _: redis::Value =
        redis::Cmd::new().arg(words).query(&mut connection).unwrap_or_else(|error| panic!("{change}: {error}"));

    let after = digest(&saved(server));
    assert_eq!(before.differences(&after), [(u32::from(database), part_of(key.as_bytes()))], "{change}");
    assert_ne!(before.root(), after.root(), "{change}");
    *before = after;
}
