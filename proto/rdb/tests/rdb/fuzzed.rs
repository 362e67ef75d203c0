//! The corpus that the fuzz targets found, read at every depth.

use std::{fs, path::Path};

use crate::support::consistent::read_consistently;

/// Small inputs that reach every branch the fuzzer has found, in one archive (`tar`): see `fuzz/run`.
fn kept() -> Vec<(String, Vec<u8>)> {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus.tar");
    let bytes = fs::read(archive).expect("the corpus is there");
    let (mut files, mut rest) = (Vec::new(), bytes.as_slice());
    // Headers of 512 bytes: the name, and at 124 the size in octal; contents are filled up to 512 bytes.
    while let Some((header, after)) = rest.split_first_chunk::<512>() {
        let text = |range| String::from_utf8_lossy(&header[range]).trim_end_matches('\0').trim().to_owned();
        let Ok(size) = usize::from_str_radix(&text(124..136), 8) else { break };
        if size > 0 {
            files.push((text(0..100), after[..size].to_vec()));
        }
        rest = &after[size.next_multiple_of(512).min(after.len())..];
    }
    files
}

#[test]
fn what_the_fuzzer_found_is_read_consistently() {
    let files = kept();
    assert!(files.len() > 500, "{}", files.len());
    let mut sound = 0;
    for (_, bytes) in &files {
        sound += usize::from(read_consistently(bytes).is_ok());
    }
    assert!(sound > 20, "{sound} of {}", files.len());
}
