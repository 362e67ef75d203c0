//! The content digest and the values: equal data in any layout, from any server, is equal.

use std::collections::BTreeMap;

use crate::support::{corpus, encode, samples, verify};
use proptest::{collection::vec, prelude::*};
use urtext_rdb::{
    Collector, ContentDigest, Depth, DigestBuilder, Event, Key, Limits, Options, Parser, RdbError, Record, Summary,
    Value, ValueType, Verifier, part_of,
};
use urtext_types::Timestamp;

pub(crate) fn events(bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), RdbError> {
    let mut parser = Parser::new(Depth::Values, Limits::default());
    parser.feed(bytes, sink)?;
    parser.finish().map(drop)
}

pub(crate) fn digest(bytes: &[u8]) -> ContentDigest {
    let mut digest = DigestBuilder::new();
    events(bytes, &mut |event| digest.event(&event)).expect("a sound file");
    digest.finish()
}

pub(crate) fn records(bytes: &[u8]) -> Vec<Record> {
    let (mut collector, mut records) = (Collector::new(), Vec::new());
    events(bytes, &mut |event| records.extend(collector.event(&event))).expect("a sound file");
    records
}

/// The digest of each key by itself, as if it were named `name_of` it.
fn digests(bytes: &[u8], name_of: impl Fn(&str) -> Option<String>) -> BTreeMap<String, ContentDigest> {
    let mut digests = BTreeMap::new();
    let mut current: Option<(String, DigestBuilder)> = None;
    events(bytes, &mut |event| match event {
        Event::Key(key) => {
            let text = String::from_utf8_lossy(key.key).into_owned();
            current = name_of(&text).map(|name| {
                let mut digest = DigestBuilder::new();
                digest.event(&Event::Key(Key { key: name.as_bytes(), ..key }));
                (text, digest)
            });
        }
        Event::KeyEnd(_) => {
            if let Some((name, mut digest)) = current.take() {
                digest.event(&event);
                digests.insert(name, digest.finish());
            }
        }
        Event::Item(_) => {
            if let Some((_, digest)) = &mut current {
                digest.event(&event);
            }
        }
        _ => {}
    })
    .expect("a sound file");
    digests
}

fn server_files() -> Vec<(String, Vec<u8>)> {
    corpus().into_iter().filter(|(name, _)| name.starts_with("server-")).collect()
}

/// Values that hold the time at which the file was made.
fn depends_on_the_clock(key: &str) -> bool {
    key.ends_with(":stream") || key.ends_with(":volatile")
}

#[test]
fn all_servers_hold_the_same_data() {
    let files = server_files();
    assert_eq!(files.len(), 5);
    let (first, reference) = &files[0];
    let reference = digests(reference, |name| Some(name.to_owned()));
    for (name, bytes) in &files[1..] {
        let theirs = digests(bytes, |name| Some(name.to_owned()));
        for (key, digest) in &reference {
            // Newer servers were given field expiries counted from then.
            if !depends_on_the_clock(key) && !key.ends_with(":hash") {
                assert_eq!(theirs.get(key), Some(digest), "{key} of {name} against {first}");
            }
        }
    }
}

#[test]
fn field_expiries_are_the_same_in_both_dialects() {
    let files = server_files();
    let read = |name: &str| {
        let (_, bytes) = files.iter().find(|(file, _)| file == name).expect("in the corpus");
        digests(bytes, |key| Some(key.to_owned()))
    };
    let (redis, valkey) = (read("server-redis-8.2.rdb"), read("server-valkey-9.1.rdb"));
    for key in ["small:hash2", "small:hash3", "large:hash2", "large:hash3"] {
        assert!(redis.contains_key(key));
        assert_eq!(redis.get(key), valkey.get(key), "{key}");
    }
}

#[test]
fn small_and_large_layouts_are_the_same_data() {
    for (name, bytes) in server_files() {
        let digests = digests(&bytes, |key| key.split_once(':').map(|(_, rest)| rest.to_owned()));
        let mut compared = 0;
        for (key, small) in &digests {
            let Some(rest) = key.strip_prefix("small:") else { continue };
            // `ints` were given other members; a hash's expiries count from when they were set.
            if !depends_on_the_clock(key) && rest != "ints" && rest != "hash" {
                assert_eq!(digests.get(&format!("large:{rest}")), Some(small), "{rest} of {name}");
                compared += 1;
            }
        }
        assert!(compared >= 15, "{name}");
    }
}

#[test]
fn values_are_what_was_written() {
    for (name, bytes) in server_files() {
        let records: BTreeMap<_, _> = records(&bytes)
            .into_iter()
            .map(|record| (String::from_utf8_lossy(&record.key).into_owned(), record))
            .collect();
        let value = |key: &str| &records.get(key).unwrap_or_else(|| panic!("{key} is in {name}")).value;
        for size in ["small", "large"] {
            let text = |s: &str| s.as_bytes().to_vec();
            assert_eq!(value(&format!("{size}:int64")), &Value::String(text("4611686018427387904")));
            assert_eq!(value(&format!("{size}:compressible")), &Value::String(text(&"abc".repeat(200))));
            let Value::List(list) = value(&format!("{size}:list")) else { panic!("a list") };
            assert_eq!(list[..3], [text("1"), text("-1"), text("200")]);
            assert_eq!((list[7].clone(), list[10].len()), (text("-4611686018427387904"), 300));
            let Value::Zset(zset) = value(&format!("{size}:zset")) else { panic!("a sorted set") };
            let scores: BTreeMap<_, _> = zset.iter().cloned().collect();
            assert_eq!((scores[&text("b")], scores[&text("c")], scores[&text("42")]), (2.5, f64::NEG_INFINITY, 3.0));
            let Value::Stream(stream) = value(&format!("{size}:stream")) else { panic!("a stream") };
            let ids: Vec<_> = stream.entries.iter().map(|entry| entry.id.to_string()).collect();
            assert_eq!(ids, ["5-1", "6-0", "7-0"]);
            assert_eq!(stream.entries[0].fields, [(text("a"), text("1")), (text("b"), text("2"))]);
            assert_eq!(stream.groups.len(), 2);
            assert_eq!(stream.groups[0].pending.len(), 2);
            let held: Vec<_> = stream.groups[0].consumers.iter().map(|(name, ids)| (name.clone(), ids.len())).collect();
            assert_eq!(held, [(text("alice"), 1), (text("bob"), 1)]);
        }
        assert_eq!(records["other"].database, 9);
        assert!(records["small:volatile"].expires_at.is_some());
        let Value::List(edge) = value("edge") else { panic!("a list") };
        assert_eq!(edge.iter().map(Vec::len).collect::<Vec<_>>(), [16375, 16376, 16377, 16378, 16379, 16380]);
    }
}

#[test]
fn expired_keys_and_fields_are_left_out_on_request() {
    let file = encode::file(&[
        encode::string(b"stays", b"x"),
        encode::expiring(1000, &encode::string(b"goes", b"x")),
        encode::valkey_hash(b"hash", &[(b"old", b"1", 1000), (b"new", b"2", 3000), (b"ever", b"3", -1)]),
        encode::valkey_hash(b"gone", &[(b"old", b"1", 1000)]),
    ]);
    let left = encode::file(&[
        encode::string(b"stays", b"x"),
        encode::valkey_hash(b"hash", &[(b"new", b"2", 3000), (b"ever", b"3", -1)]),
    ]);
    let mut at_2000 = DigestBuilder::as_of(Timestamp::from_millis(2000));
    events(&file, &mut |event| at_2000.event(&event)).expect("a sound file");
    assert_eq!(at_2000.finish(), digest(&left));
    assert_ne!(digest(&file), digest(&left));
}

#[test]
fn verification_makes_the_same_digest_on_the_way() {
    for (name, bytes) in server_files() {
        let mut verifier = Verifier::new(Options { digest: true, ..Options::default() });
        bytes.chunks(1000).try_for_each(|piece| verifier.feed(piece)).expect("a sound file");
        let summary = verifier.finish().expect("a whole file");
        assert_eq!(summary.digest, Some(digest(&bytes)), "{name}");
        assert_eq!(Summary { digest: None, ..summary }, verify(&bytes).expect("a sound file"), "{name}");
    }
}

#[test]
fn differences_name_the_database_and_the_part() {
    let a = encode::file(&[encode::string(b"same", b"x"), encode::string(b"changed", b"x")]);
    let b = encode::file(&[encode::string(b"same", b"x"), encode::string(b"changed", b"y")]);
    assert_eq!(digest(&a).differences(&digest(&b)), [(0, part_of(b"changed"))]);
    assert_eq!(digest(&a).differences(&digest(&a)), []);
}

/// A server may turn one into the other when it packs a sorted set.
#[test]
fn the_sign_of_a_score_of_zero_does_not_count() {
    let with = |score: f64| {
        let value = [&encode::length(1)[..], &encode::text(b"x"), &score.to_le_bytes()].concat();
        digest(&samples::file(b"REDIS0012", &[&samples::record(ValueType::Zset2.byte(), &[&value])]))
    };
    assert_eq!(with(-0.0), with(0.0));
    assert_ne!(with(-0.0), with(f64::MIN_POSITIVE));
}

#[test]
fn the_digest_never_changes() {
    // Digests are stored with backups for years. If this fails, old backups no longer compare: make it a new
    // version of the construction, in `DataDigest` too.
    let large: Vec<Vec<u8>> = (0..100_000_u32).map(|n| format!("member number {n}").into_bytes()).collect();
    let long = [vec![b'x'; 5_000], vec![b'y'; 300_000], b"z".to_vec()];
    let mut contents = samples::all();
    contents.extend([
        ("a set of long members".to_owned(), encode::file(&[encode::strings(2, b"long", &long)])),
        ("a list of long elements".to_owned(), encode::file(&[encode::strings(1, b"long", &long)])),
        ("a set of many members".to_owned(), encode::file(&[encode::strings(2, b"many", &large[..1000])])),
        ("a set too large to be sorted".to_owned(), encode::file(&[encode::strings(2, b"large", &large)])),
    ]);
    let found: String = contents.iter().map(|(name, bytes)| format!("{} {name}\n", digest(bytes).root())).collect();
    assert_eq!(found, include_str!("digests.txt"), "\n{found}");
}

/// Texts of all kinds that layouts treat differently: numbers, short, long, compressible.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        (-200_i64..5000).prop_map(|n| n.to_string().into_bytes()),
        vec(any::<u8>(), 0..80),
        vec(any::<u8>(), 100..5000),
    ]
}

fn distinct() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(text(), 1..60).prop_map(|mut texts| {
        texts.sort();
        texts.dedup();
        texts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_is_the_same_in_every_layout(texts in vec(text(), 1..60)) {
        let plain = digest(&encode::file(&[encode::strings(1, b"k", &texts)]));
        prop_assert_eq!(&plain, &digest(&encode::file(&[encode::quicklist2(b"k", &texts, 7)])));
        prop_assert_eq!(&plain, &digest(&encode::file(&[encode::lzf_strings(1, b"k", &texts)])));
        let values = records(&encode::file(&[encode::quicklist2(b"k", &texts, 7)]));
        prop_assert_eq!(&values[0].value, &Value::List(texts));
    }

    #[test]
    fn a_set_is_the_same_in_every_layout_and_order(mut texts in distinct()) {
        let packed = digest(&encode::file(&[encode::packed(20, b"k", &texts)]));
        texts.reverse();
        prop_assert_eq!(&packed, &digest(&encode::file(&[encode::strings(2, b"k", &texts)])));
        prop_assert_eq!(&packed, &digest(&encode::file(&[encode::lzf_strings(2, b"k", &texts)])));
    }

    #[test]
    fn one_changed_byte_is_another_digest(texts in distinct(), pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let pick = pick.index(texts.len());
        prop_assume!(!texts[pick].is_empty());
        let mut changed = texts.clone();
        let at = at.index(changed[pick].len());
        changed[pick][at] ^= 1;
        prop_assume!(!texts.contains(&changed[pick]));
        for kind in [1, 2] {
            let before = digest(&encode::file(&[encode::strings(kind, b"k", &texts)]));
            prop_assert_ne!(&before, &digest(&encode::file(&[encode::strings(kind, b"k", &changed)])));
        }
    }

    #[test]
    fn any_bytes_behind_a_header_are_an_error_or_a_reading(bytes in vec(any::<u8>(), 0..300), head in 0..3_usize) {
        let mut file = [&b"REDIS0003"[..], b"REDIS0012", b"VALKEY080"][head].to_vec();
        file.extend_from_slice(&bytes);
        for depth in [Depth::Frame, Depth::Verify, Depth::Values] {
            let mut whole = Parser::new(depth, Limits::default());
            let result = whole.feed(&file, &mut |_| ());
            let mut split = Parser::new(depth, Limits::default());
            let by_byte = file.chunks(1).try_for_each(|byte| split.feed(byte, &mut |_| ()));
            prop_assert_eq!(result, by_byte);
        }
    }
}

#[test]
fn a_large_set_is_the_same_in_any_order() {
    // Above what is sorted in memory, and with members above what is kept whole.
    let mut texts: Vec<Vec<u8>> = (0..60_000).map(|n| format!("member number {n}").into_bytes()).collect();
    texts.push(vec![b'x'; 300_000]);
    texts.push(vec![b'y'; 5_000]);
    let forward = digest(&encode::file(&[encode::strings(2, b"k", &texts)]));
    texts.reverse();
    assert_eq!(forward, digest(&encode::file(&[encode::strings(2, b"k", &texts)])));
    texts[1][250_000] = b'z';
    assert_ne!(forward, digest(&encode::file(&[encode::strings(2, b"k", &texts)])));
}
