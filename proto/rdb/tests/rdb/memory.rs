//! Memory stays a small multiple of one packed structure, whatever the file holds or claims.
//!
//! Peaks are those of the process, as the kernel counts them: the bounds leave room for other tests
//! in the same process, and are far below what holding the data would take.

use std::fs;

use urtext_rdb::{Depth, DigestBuilder, Event, Limits, Parser, RdbError};

/// More than any bound below.
const LONG: u64 = 512 << 20;
const PIECE: usize = 64 << 10;
const BOUND: u64 = 128 << 20;

/// `VmHWM`, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Feeds a head, `long` bytes of `fill`, and a tail at every depth, with the digest at the deepest.
fn feed(head: &[u8], fill: &[u8], long: u64, tail: &[u8]) -> Result<(), RdbError> {
    for depth in [Depth::Frame, Depth::Verify, Depth::Values] {
        let mut parser = Parser::new(depth, Limits::default());
        let mut digest = DigestBuilder::new();
        let mut sink = |event: Event<'_>| digest.event(&event);
        parser.feed(head, &mut sink)?;
        let piece: Vec<u8> = fill.iter().copied().cycle().take(PIECE - PIECE % fill.len()).collect();
        let mut left = long;
        while left > 0 {
            let now = left.min(piece.len() as u64);
            parser.feed(&piece[..now as usize], &mut sink)?;
            left -= now;
        }
        parser.feed(tail, &mut sink)?;
        parser.finish()?;
    }
    Ok(())
}

const TAIL: &[u8] = &[0xff, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_long_string_passes_through() {
    let length = [&[0x81][..], &LONG.to_be_bytes()].concat();
    for value in [[&[0, 1, b'k'][..], &length].concat(), [&[2, 1, b'k', 1][..], &length].concat()] {
        feed(&[&b"REDIS0011"[..], &value].concat(), b"x", LONG, TAIL).expect("a sound file");
    }
    assert!(peak() < BOUND, "{}", peak());
}

#[test]
fn a_long_compressed_string_passes_through() {
    // One literal, then matches of 264 bytes, one byte back: 8 MiB that say 700 MiB.
    let matches = (8 << 20) / 3_u64;
    let (compressed, len) = (2 + matches * 3, 1 + matches * 264);
    let lengths = [&[0xc3, 0x81][..], &compressed.to_be_bytes(), &[0x81], &len.to_be_bytes(), &[0, b'x']].concat();
    let head = [&b"REDIS0011"[..], &[0, 1, b'k'], &lengths].concat();
    feed(&head, &[7 << 5, 255, 0], matches * 3, TAIL).expect("a sound file");
    assert!(peak() < BOUND, "{}", peak());
}

#[test]
fn a_large_collection_passes_through() {
    let elements: u64 = 16 << 20;
    let head = [&b"REDIS0011"[..], &[2, 1, b'k', 0x81], &elements.to_be_bytes()].concat();
    // Only frames and checks: sixteen million members are not hashed in a test.
    for depth in [Depth::Frame, Depth::Verify] {
        let mut parser = Parser::new(depth, Limits::default());
        parser.feed(&head, &mut |_| ()).expect("a sound head");
        for _ in 0..elements * 2 / PIECE as u64 {
            parser.feed(&[1; PIECE], &mut |_| ()).expect("members of one byte");
        }
        parser.feed(TAIL, &mut |_| ()).expect("a sound tail");
        parser.finish().expect("a whole file");
    }
    assert!(peak() < BOUND, "{}", peak());
}

#[test]
fn what_a_head_claims_is_not_reserved() {
    let claims: [&[u8]; 5] = [
        &[0, 0x81, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0xff], // a key
        &[16, 1, b'k', 0x80, 0x0f, 0xff, 0xff, 0xff],   // a listpack
        &[16, 1, b'k', 0xc3, 0x80, 0x0f, 0xff, 0xff, 0xff, 0x80, 0x0f, 0xff, 0xff, 0xff], // a compressed one
        &[4, 1, b'k', 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // a hash
        &[15, 1, b'k', 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // a stream
    ];
    for claim in claims {
        let file = [b"REDIS0011", claim, &[0; 100]].concat();
        for depth in [Depth::Frame, Depth::Verify, Depth::Values] {
            let mut parser = Parser::new(depth, Limits::default());
            let fed = parser.feed(&file, &mut |_| ());
            assert!(fed.is_err() || parser.finish().is_err());
        }
    }
    assert!(peak() < BOUND, "{}", peak());
}

#[test]
fn what_is_above_the_limit_is_refused_by_size() {
    let limits = Limits { packed_bytes: 1000, name_bytes: 100 };
    let fed = |value: &[u8]| {
        let mut parser = Parser::new(Depth::Verify, limits);
        parser.feed(&[b"REDIS0011", value].concat(), &mut |_| ())
    };
    let error = fed(&[16, 1, b'k', 0x47, 0xd0]).expect_err("2,000 bytes");
    let text = "a packed structure of 2000 bytes at offset 12 is above the limit of 1000 bytes";
    assert_eq!(error.to_string(), text);
    assert!(matches!(fed(&[0, 0x40, 101]), Err(RdbError::TooLarge { limit: 100, .. })));
}
