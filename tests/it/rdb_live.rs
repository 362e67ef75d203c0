//! A file says what its server says: every type, every encoding, every version.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use urtext_rdb::{Depth, Event, Options, SLOTS, Verifier, key_slot};
use urtext_tests::{
    encodings::load_every_encoding,
    eventually::until,
    ports::free_port,
    servers::{self, Server, Version},
};

use crate::{
    rdb_contents::{assert_same, digest, events, functions_of_file, functions_of_server, of_file, of_server, saved},
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

/// Slots as the file announces them: number of the slot, keys, keys that expire; and how many of its keys follow.
fn slots_of_file(file: &[u8]) -> BTreeMap<u64, [u64; 4]> {
    let mut slots = BTreeMap::<u64, [u64; 4]>::new();
    let mut current = None;
    events(file, Depth::Verify, &mut |event| {
        let told = match event {
            Event::SlotInfo { slot, keys, expires } => [slot, keys, expires],
            Event::Aux { key: b"slot-info", value } => {
                // Valkey 9 adds a fourth: hashes whose fields expire.
                let numbers = String::from_utf8_lossy(value).into_owned();
                let mut numbers = numbers.split(',').map(|text| text.parse().expect("a number"));
                [(); 3].map(|()| numbers.next().expect("three numbers"))
            }
            Event::Key(key) => {
                if let Some(slot) = current {
                    assert_eq!(u64::from(key_slot(key.key)), slot, "a key behind another slot");
                    let [_, _, follow, expire] = slots.get_mut(&slot).expect("the slot at hand");
                    *follow += 1;
                    *expire += u64::from(key.expires_at.is_some());
                }
                return;
            }
            _ => return,
        };
        current = Some(told[0]);
        assert_eq!(slots.insert(told[0], [told[1], told[2], 0, 0]), None, "a slot comes once");
    });
    slots
}

#[test]
fn a_node_of_a_cluster_tells_its_slots() {
    let fill = |server: &Server| {
        for n in 0..300 {
            server.call(&["SET", &format!("key:{n}"), &n.to_string()]);
            if n % 3 == 0 {
                server.call(&["PEXPIREAT", &format!("key:{n}"), "2000000000000"]);
            }
            server.call(&["RPUSH", &format!("list:{{tag{}}}:{n}", n % 7), "one", "two"]);
        }
    };
    // Redis 6.2 writes none, and its second port cannot be chosen.
    for version in Version::ALL.into_iter().filter(|version| version.is_7_or_later()) {
        let options = servers::Options::default().set("cluster-enabled", "yes");
        let node = Server::with(version, options.set("cluster-port", &free_port().to_string()));
        let all: Vec<String> = (0..SLOTS).map(|slot| slot.to_string()).collect();
        let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(all.iter().map(String::as_str)).collect();
        node.call(&words);
        until("the cluster is up", Duration::from_secs(60), || node.try_call(&["SET", "key:0", "0"]).is_ok());
        fill(&node);
        let file = saved(&node);
        let slots = slots_of_file(&file);
        let tells = matches!(version, Version::Redis82 | Version::Valkey81 | Version::Valkey91);
        assert_eq!(!slots.is_empty(), tells, "{}", version.name());
        for (slot, [keys, expires, follow, expire]) in slots {
            assert_eq!((keys, expires), (follow, expire), "slot {slot} of {}", version.name());
        }
        let single = Server::start(version);
        fill(&single);
        assert_eq!(digest(&file), digest(&saved(&single)), "{}: where a key lives is no content", version.name());
    }
}
