//! Portions of a file hold what the file holds, each on its own.

use urtext_rdb::{Checksum, ContentDigest, Limits, Portions, RdbError};

use crate::{
    content::{digest, records},
    support::{corpus, samples, verify},
};

fn portions(bytes: &[u8], size: usize, piece: usize) -> Result<(Vec<Vec<u8>>, Checksum), RdbError> {
    let mut portions = Portions::new(Limits::default(), size);
    let mut out = Vec::new();
    bytes.chunks(piece).try_for_each(|piece| portions.feed(piece, &mut |portion| out.push(portion)))?;
    let (last, checksum) = portions.finish()?;
    out.extend(last);
    Ok((out, checksum))
}

/// The digests of all portions, added up; an error of the file or of a portion.
fn digest_of(portions: &[Vec<u8>]) -> Result<ContentDigest, RdbError> {
    let mut sum = ContentDigest::default();
    for portion in portions {
        let summary = verify(portion)?;
        assert!(summary.keys() + summary.empty_keys + summary.functions > 0, "no portion is empty");
        sum.merge(&digest(portion));
    }
    Ok(sum)
}

/// Every layout and opcode, and the files of the corpus.
fn sound_files() -> Vec<(String, Vec<u8>)> {
    let mut files = samples::all();
    files.extend(corpus());
    files.retain(|(_, bytes)| verify(bytes).is_ok());
    assert!(files.len() > 60, "{}", files.len());
    files
}

#[test]
fn the_digests_of_portions_are_the_digest_of_the_whole() {
    for (name, bytes) in sound_files() {
        let summary = verify(&bytes).expect("a sound file");
        for size in [0, 100, 3000, usize::MAX] {
            let (out, checksum) = portions(&bytes, size, bytes.len()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(checksum, summary.checksum, "{name}");
            assert_eq!(digest_of(&out), Ok(digest(&bytes)), "{name} in portions of {size}");
            assert_eq!(portions(&bytes, size, 7), Ok((out.clone(), checksum)), "{name}: the split is no matter");
            let each = out.iter().flat_map(|portion| records(portion)).map(|record| record.key);
            assert!(each.eq(records(&bytes).into_iter().map(|record| record.key)), "{name}");
            match size {
                0 => assert!(out.iter().all(|portion| records(portion).len() <= 1), "{name}"),
                usize::MAX => assert!(out.len() <= 1),
                _ => {}
            }
        }
    }
}

#[test]
fn damage_is_found_in_the_whole_or_in_a_portion() {
    for (name, bytes) in sound_files().into_iter().filter(|(_, bytes)| bytes.len() < 700) {
        // Data beside the keys is in no portion.
        let beside = bytes.contains(&247);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let whole = verify(&damaged).map(|_| digest(&damaged));
            let parts = portions(&damaged, 0, damaged.len()).and_then(|(out, _)| digest_of(&out));
            match whole {
                Ok(whole) => assert_eq!(parts, Ok(whole), "{name}, byte {at}"),
                // What follows the file is nobody's portion.
                Err(RdbError::TrailingBytes { .. }) => {}
                Err(error) => assert!(parts.is_err() || beside, "{name}, byte {at}: {error}"),
            }
        }
    }
}

#[test]
fn templates_do_not_multiply() {
    let template = |id: u16| {
        let [high, low] = id.to_be_bytes();
        [&[242, 0x40 | high, low, 1, 50][..], &[b'f'; 50]].concat()
    };
    let templates: Vec<u8> = (0..500).flat_map(template).collect();
    let record = |n: u16| [&[0, 2][..], &n.to_be_bytes(), &[1, b'v']].concat();
    let bytes = samples::file(b"REDIS0015", &[&templates, &(0..5000).flat_map(record).collect::<Vec<_>>()]);
    let (out, _) = portions(&bytes, 0, bytes.len()).expect("a sound file");
    assert_eq!(digest_of(&out), Ok(digest(&bytes)));
    assert!(out.iter().map(Vec::len).sum::<usize>() <= 2 * bytes.len() + templates.len());
}
