use super::*;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus");

fn inspect(bytes: &[u8]) -> Result<Report, RdbError> {
    let settings = Settings { separator: b':', largest: 3, now: Timestamp::from_millis(0) };
    let mut inspector = Inspector::new(settings);
    bytes.chunks(7).try_for_each(|piece| inspector.feed(piece))?;
    inspector.finish()
}

fn corpus(name: &str) -> Vec<u8> {
    std::fs::read(format!("{CORPUS}/{name}")).expect("a file of the corpus")
}

#[test]
fn what_is_counted_by_type_by_database_and_by_prefix_is_the_same_whole() {
    for name in ["server-redis-7.0.rdb", "server-valkey-9.1.rdb", "rdbtools-multiple_databases.rdb"] {
        let report = inspect(&corpus(name)).expect(name);
        let sum = |amounts: &mut dyn Iterator<Item = &Amount>| {
            amounts.fold(Amount::default(), |mut sum, amount| {
                sum.add(amount);
                sum
            })
        };
        let by_type = sum(&mut report.types.values());
        assert_eq!(by_type, sum(&mut report.databases.values()), "{name}");
        let (rows, _, rest) = report.prefixes.top(1000);
        assert_eq!(by_type, sum(&mut rows.iter().map(|row| &row.counts).chain([&rest])), "{name}");
        assert_eq!(by_type.keys, report.summary.keys() + report.summary.empty_keys, "{name}");
        let expiring: u64 = report.expiries.spans.iter().map(|span| span.keys).sum();
        assert_eq!(by_type.keys, expiring + report.expiries.never, "{name}");
        assert!(by_type.bytes < report.summary.bytes, "{name}");
        assert!(report.largest.is_sorted_by(|a, b| a.bytes >= b.bytes), "{name}");
    }
}

#[test]
fn the_head_of_an_append_only_file_is_read() {
    let report = inspect(&corpus("redis-rdb-preamble.aof")).expect("an RDB with a log behind it");
    assert!(report.summary.trailing_bytes > 0);
    assert!(report.summary.aux.is_aof_base);
}

#[test]
fn damage_is_told_with_the_key_that_it_is_in() {
    // One key "k" of type hash-ziplist, whose ziplist says that it is longer than it is.
    let mut bytes = b"REDIS0006\xfe\x00\x0d\x01k\x0b\xff\x00\x00\x00\x0a\x00\x00\x00\x00\x00\xff\xff".to_vec();
    bytes.extend_from_slice(&[0; 8]);
    let settings = Settings { separator: b':', largest: 3, now: Timestamp::from_millis(0) };
    let mut inspector = Inspector::new(settings);
    let error = inspector.feed(&bytes).expect_err("damage");
    assert!(matches!(error, RdbError::Damaged { .. }), "{error}");
    let place = inspector.damaged().expect("a place");
    assert_eq!((place.database, place.key.as_slice(), place.offset), (0, &b"k"[..], 11));
}
