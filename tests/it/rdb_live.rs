//! A file says what its server says: every type, every encoding, every version.

use std::collections::{BTreeMap, BTreeSet};

use urtext_rdb::{Options, Verifier};
use urtext_tests::{
    encodings::load_every_encoding,
    servers::{Server, Version},
};

use crate::{
    rdb_contents::{assert_same, functions_of_file, functions_of_server, of_file, of_server, saved},
    rdb_sightings::sightings,
};

#[track_caller]
fn check(version: Version) {
    let server = Server::start(version);
    load_every_encoding(&server);
    let (contents, functions) = (of_server(&server), functions_of_server(&server));

    let mut seen = BTreeSet::new();
    // With compression, and so that what is compressed can be looked into; with what either eviction keeps of keys.
    for (compression, eviction) in [("yes", "noeviction"), ("no", "allkeys-lru"), ("yes", "allkeys-lfu")] {
        server.call(&["CONFIG", "SET", "rdbcompression", compression]);
        server.call(&["CONFIG", "SET", "maxmemory-policy", eviction]);
        let file = saved(&server);
        assert_same(&contents, &of_file(&file));
        assert_eq!(functions, functions_of_file(&file));
        assert_eq!(counts_of_server(&server), counts_of_file(&file));
        seen.extend(sightings(&file));
    }
    let expected: BTreeSet<_> = EVERYWHERE.iter().chain(only_in(version)).map(|name| (*name).to_owned()).collect();
    let missing: Vec<_> = expected.difference(&seen).collect();
    let unexpected: Vec<_> = seen.difference(&expected).collect();
    assert!(missing.is_empty() && unexpected.is_empty(), "missing: {missing:#?}, and unexpected: {unexpected:#?}");
}

/// The encodings that every server writes.
const EVERYWHERE: &[&str] = &[
    "0 string",
    "2 set",
    "4 hash",
    "5 zset-2",
    "11 set-intset",
    "intset of 16 bits",
    "intset of 32 bits",
    "intset of 64 bits",
    "key: 6-bit length",
    "key: 14-bit length",
    "key: 8-bit integer",
    "key: 16-bit integer",
    "key: 32-bit integer",
    "key: compressed",
    "string: 6-bit length",
    "string: 14-bit length",
    "string: 32-bit length",
    "string: 8-bit integer",
    "string: 16-bit integer",
    "string: 32-bit integer",
    "string: compressed",
    "member: 6-bit length",
    "member: 14-bit length",
    "member: 32-bit length",
    "member: 8-bit integer",
    "member: 16-bit integer",
    "member: 32-bit integer",
    "member: compressed",
    "field: 6-bit length",
    "field: 14-bit length",
    "field: 32-bit length",
    "field: 8-bit integer",
    "field: 16-bit integer",
    "field: 32-bit integer",
    "field: compressed",
    "field value: 6-bit length",
    "field value: 14-bit length",
    "field value: 32-bit length",
    "field value: 8-bit integer",
    "field value: 16-bit integer",
    "field value: 32-bit integer",
    "field value: compressed",
    "intset: 6-bit length",
    "intset: 14-bit length",
    "intset: compressed",
    "entry id: 6-bit length",
    "packed: 6-bit length",
    "packed: 14-bit length",
    "packed: 32-bit length",
    "packed: compressed",
    // Streams are made of them in 6.2 already.
    "listpack: uint7",
    "listpack: int13",
    "listpack: int16",
    "listpack: int24",
    "listpack: int32",
    "listpack: int64",
    "listpack: 6-bit length",
    "listpack: 12-bit length",
    "listpack: 32-bit length",
    "idle time",
    "frequency",
];

/// The encodings that servers with ziplists write.
const ZIPLISTS: &[&str] = &[
    "12 zset-ziplist",
    "13 hash-ziplist",
    "14 list-quicklist",
    "15 stream-listpacks",
    "ziplist: 0 to 12",
    "ziplist: int8",
    "ziplist: int16",
    "ziplist: int24",
    "ziplist: int32",
    "ziplist: int64",
    "ziplist: 6-bit length",
    "ziplist: 14-bit length",
    "ziplist: 32-bit length",
    "ziplist: far from the entry before",
];

/// The encodings that came with Redis 7.0.
const SINCE_7_0: &[&str] = &[
    "16 hash-listpack",
    "17 zset-listpack",
    "18 list-quicklist-2",
    "list node: 14-bit length",
    "list node: 32-bit length",
    "list node: compressed",
    "function",
];

fn only_in(version: Version) -> impl Iterator<Item = &'static &'static str> {
    let (shared, own): (&[&str], &[&str]) = match version {
        Version::Redis62 => (ZIPLISTS, &["listpack: entry of 16383 bytes, long way back"]),
        Version::Redis70 => (SINCE_7_0, &["19 stream-listpacks-2", "listpack: entry of 16383 bytes, long way back"]),
        Version::Redis82 => (
            SINCE_7_0,
            &[
                "20 set-listpack",
                "21 stream-listpacks-3",
                "24 hash-metadata",
                "25 hash-listpack-ex",
                "listpack: entry of 16383 bytes, long way back",
            ],
        ),
        Version::Valkey81 => {
            (SINCE_7_0, &["20 set-listpack", "21 stream-listpacks-3", "listpack: entry of 16383 bytes, long way back"])
        }
        Version::Valkey91 => (
            SINCE_7_0,
            &[
                "20 set-listpack",
                "21 stream-listpacks-3",
                "22 hash-2",
                "listpack: entry of 16383 bytes, short way back",
            ],
        ),
    };
    shared.iter().chain(own)
}

/// Keys, and those that expire, by database.
type Counts = BTreeMap<u32, (u64, u64)>;

fn counts_of_server(server: &Server) -> Counts {
    let databases = server.info("keyspace").into_iter().map(|(name, counts)| {
        let number = |name: &str| {
            let value = counts.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).expect("a count of keys")
        };
        (name.trim_start_matches("db").parse().expect("a database's number"), (number("keys"), number("expires")))
    });
    databases.collect()
}

fn counts_of_file(file: &[u8]) -> Counts {
    let mut verifier = Verifier::new(Options::default());
    let summary = verifier.feed(file).and_then(|()| verifier.finish()).expect("a server's own file");
    summary.databases.iter().map(|(number, database)| (*number, (database.keys, database.expires))).collect()
}

#[test]
fn a_file_of_redis_6_2_says_what_its_server_says() {
    check(Version::Redis62);
}

#[test]
fn a_file_of_redis_7_0_says_what_its_server_says() {
    check(Version::Redis70);
}

#[test]
fn a_file_of_redis_8_2_says_what_its_server_says() {
    check(Version::Redis82);
}

#[test]
fn a_file_of_valkey_8_1_says_what_its_server_says() {
    check(Version::Valkey81);
}

#[test]
fn a_file_of_valkey_9_1_says_what_its_server_says() {
    check(Version::Valkey91);
}
