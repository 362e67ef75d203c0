//! Every file of the corpus, read; and every way to damage the small ones.

use crate::support::{corpus, verify, verify_split};
use urtext_rdb::{Checksum, Depth, Event, Limits, Options, Parser, RdbError, TrailingBytes, Verifier};

/// Damaged on purpose, or not only an RDB.
const SPECIAL: [&str; 4] = [
    "redis-corrupt_ziplist.rdb",
    "redis-corrupt_empty_keys.rdb",
    "redis-rdb-preamble.aof",
    // Taken from a replication link: forty bytes of end mark follow.
    "rdbtools-redis_40_with_module.rdb",
];

#[test]
fn every_sound_file_is_read() {
    for (name, bytes) in corpus() {
        if SPECIAL.contains(&name.as_str()) {
            continue;
        }
        let summary = verify(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(summary.bytes, bytes.len() as u64, "{name}");
        let holds_no_key = ["empty_database", "module_aux", "scriptbackup"].iter().any(|part| name.contains(part));
        assert_eq!(summary.keys() == 0, holds_no_key, "{name}");
    }
}

#[test]
fn the_special_files_are_told_apart() {
    let read = |name: &str| corpus().into_iter().find(|(n, _)| n == name).expect("in the corpus").1;
    assert!(matches!(verify(&read("redis-corrupt_ziplist.rdb")), Err(RdbError::Damaged { .. })));
    let summary = verify(&read("redis-corrupt_empty_keys.rdb")).expect("servers load it and drop the empty keys");
    assert_eq!((summary.keys(), summary.empty_keys), (0, 9));
    let aof = read("redis-rdb-preamble.aof");
    assert!(matches!(verify(&aof), Err(RdbError::TrailingBytes { .. })));
    let mut verifier = Verifier::new(Options { trailing: TrailingBytes::Allow, ..Options::default() });
    verifier.feed(&aof).expect("the RDB at its head is sound");
    let summary = verifier.finish().expect("complete");
    assert!(summary.aux.is_aof_base);
    assert_eq!(summary.bytes + summary.trailing_bytes, aof.len() as u64);
}

#[test]
fn checksums_are_verified_from_version_5_on() {
    for (name, bytes) in corpus() {
        if let Ok(summary) = verify(&bytes) {
            assert_eq!(matches!(summary.checksum, Checksum::Verified(_)), summary.header.version >= 5, "{name}");
        }
    }
}

#[test]
fn every_split_gives_the_same_result() {
    for (name, bytes) in corpus() {
        let whole = verify(&bytes);
        for size in [1, 2, 3, 7, 64, 1000] {
            assert_eq!(verify_split(&bytes, size), whole, "{name} in pieces of {size}");
        }
        if bytes.len() < 2000 {
            for at in 0..bytes.len() {
                let mut verifier = Verifier::new(Options::default());
                let (head, tail) = bytes.split_at(at);
                let result = verifier.feed(head).and_then(|()| verifier.feed(tail)).and_then(|()| verifier.finish());
                assert_eq!(result, whole, "{name} split at {at}");
            }
        }
    }
}

#[test]
fn every_split_gives_the_same_events() {
    for (name, bytes) in corpus() {
        let events = |size: usize| {
            let mut parser = Parser::new(Depth::Values, Limits::default());
            let mut events = Vec::new();
            let mut sink = |event: Event<'_>| events.push(format!("{event:?}"));
            let fed = bytes.chunks(size).try_for_each(|piece| parser.feed(piece, &mut sink));
            (events, fed)
        };
        let whole = events(bytes.len());
        for size in [1, 3, 100] {
            assert!(events(size) == whole, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn raw_records_are_the_bytes_of_the_file() {
    for (name, bytes) in corpus() {
        for size in [1, 5, bytes.len()] {
            let mut parser = Parser::new(Depth::Frame, Limits::default());
            let (mut at, mut raw, mut records) = (0, Vec::new(), 0);
            let mut sink = |event: Event<'_>| match event {
                Event::Key(key) => at = key.offset as usize,
                Event::Raw(piece) => raw.extend_from_slice(piece),
                Event::KeyEnd(end) => {
                    assert_eq!(end.bytes, raw.len() as u64);
                    assert_eq!(bytes[at..at + raw.len()], raw[..], "{name}");
                    raw.clear();
                    records += 1;
                }
                _ => {}
            };
            bytes.chunks(size).try_for_each(|piece| parser.feed(piece, &mut sink)).expect("frames are sound");
            if let Ok(summary) = verify(&bytes) {
                assert_eq!(records, summary.keys() + summary.empty_keys, "{name}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_under_a_checksum_is_an_error() {
    for (name, bytes) in corpus() {
        let Ok(summary) = verify(&bytes) else { continue };
        if bytes.len() < 2000 && matches!(summary.checksum, Checksum::Verified(_)) {
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let result = verify(&flipped);
                // The version is the one place where a flip may turn the checksum off: below 5 there
                // is none, and then its bytes are left over.
                assert!(result.is_err(), "{name} bit {bit}: {result:?}");
            }
        }
    }
}
