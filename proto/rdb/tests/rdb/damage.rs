//! Every changed byte and every cut of small files: an error, or a reading that every depth agrees on.

use std::{collections::BTreeMap, fs};

use urtext_rdb::{Checksum, Depth, Limits, Parser};

use crate::{
    canonical::canonical,
    content::digest,
    support::{consistent::read_consistently, corpus, samples, verify},
};

/// `URTEXT_DAMAGE_BYTES=6000` takes the files of the corpus up to this size, those of real servers among them, and
/// changes each byte into all others; that takes most of an hour.
fn thorough() -> Option<usize> {
    std::env::var("URTEXT_DAMAGE_BYTES").ok().map(|text| text.parse().expect("a number"))
}

/// Otherwise files of the corpus up to this size, and changes of one bit or all.
const SMALL: usize = 150;
const EACH_BIT: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

/// Every layout and opcode, and the small files of the corpus.
fn small_files() -> Vec<(String, Vec<u8>)> {
    let mut files = samples::all();
    // `ab`, then a match of ten bytes two back, then `c`.
    let compressed = [0xc3, 8, 13, 1, b'a', b'b', 7 << 5, 1, 1, 0, b'c'];
    let value = [&[1][..], &compressed].concat();
    files.push(("a compressed string".to_owned(), samples::file(b"REDIS0011", &[&samples::record(0, &[&compressed])])));
    files.push(("a compressed element".to_owned(), samples::file(b"REDIS0011", &[&samples::record(1, &[&value])])));
    files.extend(corpus().into_iter().filter(|(_, bytes)| bytes.len() <= thorough().unwrap_or(SMALL)));
    files.retain(|(_, bytes)| verify(bytes).is_ok());
    assert!(files.len() > 60, "{}", files.len());
    files
}

/// The same without its checksum, so that damage is not found by it alone.
fn without_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    if matches!(verify(&bytes).map(|summary| summary.checksum), Ok(Checksum::Verified(_))) {
        let end = bytes.len() - 8;
        bytes[end..].fill(0);
    }
    bytes
}

/// Calls with every copy that differs in one byte by one of these.
fn each_changed_byte(bytes: &[u8], differences: &[u8], mut with: impl FnMut(usize, &[u8])) {
    let mut changed = bytes.to_vec();
    for at in 0..bytes.len() {
        for difference in differences {
            changed[at] = bytes[at] ^ difference;
            with(at, &changed);
        }
        changed[at] = bytes[at];
    }
}

fn all_differences() -> Vec<u8> {
    (1..=u8::MAX).collect()
}

#[test]
fn every_depth_agrees_on_every_changed_byte() {
    let differences = if thorough().is_some() { all_differences() } else { EACH_BIT.to_vec() };
    let (mut sound, mut damaged) = (0_u64, 0_u64);
    for (_, bytes) in small_files() {
        each_changed_byte(&without_checksum(bytes), &differences, |_, changed| match read_consistently(changed) {
            Ok(_) => sound += 1,
            Err(_) => damaged += 1,
        });
    }
    // Most of a file is not payload, and most bytes of a payload are as good as others.
    assert!(sound > 3_000 && damaged > 10_000, "{sound} sound, {damaged} damaged");
    assert_small();
}

#[test]
fn a_changed_byte_changes_the_digest_if_and_only_if_it_changes_the_content() {
    let (mut changed_content, mut same_content) = (0_u64, 0_u64);
    for (name, bytes) in samples::all() {
        let (content, before) = (canonical(&bytes), digest(&bytes));
        each_changed_byte(&bytes, &all_differences(), |at, changed| {
            if verify(changed).is_err() {
                return;
            }
            let same = canonical(changed) == content;
            assert_eq!(digest(changed) == before, same, "{name}, byte {at} is {}", changed[at]);
            assert_eq!(digest(changed).root() == before.root(), same, "{name}, byte {at} is {}", changed[at]);
            *(if same { &mut same_content } else { &mut changed_content }) += 1;
        });
    }
    assert!(changed_content > 5_000 && same_content > 500, "{changed_content} changed, {same_content} the same");
}

#[test]
fn layouts_have_one_digest_if_and_only_if_they_hold_the_same() {
    let files = samples::all();
    let mut contents: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, bytes) in &files {
        contents.entry(canonical(bytes)).or_default().push((name, digest(bytes)));
    }
    let mut roots: Vec<_> = contents.values().map(|layouts| layouts[0].1.root()).collect();
    for layouts in contents.values() {
        assert!(layouts.iter().all(|(_, digest)| *digest == layouts[0].1), "{layouts:?}");
    }
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), contents.len(), "different contents have different digests");
    let largest = contents.values().map(Vec::len).max();
    assert!(largest >= Some(8), "the layouts of a hash hold the same: {contents:?}");
}

#[test]
fn every_cut_is_an_error_at_every_depth() {
    for (name, bytes) in small_files() {
        for cut in 0..bytes.len() {
            assert!(read_consistently(&bytes[..cut]).is_err(), "{name} cut at {cut}");
            for depth in [Depth::Frame, Depth::Verify, Depth::Values] {
                let mut parser = Parser::new(depth, Limits::default());
                let fed = parser.feed(&bytes[..cut], &mut |_| ());
                assert!(fed.and_then(|()| parser.finish()).is_err(), "{name} cut at {cut}, {depth:?}");
            }
        }
    }
    assert_small();
}

#[test]
fn every_changed_byte_under_a_checksum_is_an_error_at_every_depth() {
    let mut files = 0;
    for (name, bytes) in small_files() {
        if !matches!(verify(&bytes).map(|summary| summary.checksum), Ok(Checksum::Verified(_))) {
            continue;
        }
        files += 1;
        let end = bytes.len() - 8;
        each_changed_byte(&bytes, &all_differences(), |at, changed| {
            for depth in [Depth::Frame, Depth::Verify, Depth::Values] {
                let mut parser = Parser::new(depth, Limits::default());
                let sound = parser.feed(changed, &mut |_| ()).is_ok() && parser.is_complete();
                // A version below 5 has no checksum, and then its bytes are left over; a checksum of one
                // byte that becomes nothing is none.
                let none = parser.trailing_bytes() > 0 || changed[end..] == [0; 8];
                assert!(!sound || none, "{name}, byte {at} is {}, {depth:?}", changed[at]);
            }
        });
    }
    assert!(files > 5, "{files}");
}

/// The peak of this process is far below what claimed sizes would take.
#[track_caller]
fn assert_small() {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("every process has a peak");
    let peak: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 128 << 10, "{peak} KiB");
}
