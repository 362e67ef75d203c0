//! Files to read, and short ways to read them.

pub(crate) mod consistent;
pub(crate) mod encode;
pub(crate) mod samples;

use std::{fs, path::Path};

use urtext_rdb::{Options, RdbError, Summary, Verifier};

/// Every file of `tests/corpus`, by name.
pub(crate) fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "rdb" || kind == "aof"))
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        })
        .collect();
    files.sort();
    assert!(files.len() > 30, "the corpus is complete");
    files
}

pub(crate) fn verify(bytes: &[u8]) -> Result<Summary, RdbError> {
    verify_split(bytes, bytes.len().max(1))
}

pub(crate) fn verify_split(bytes: &[u8], size: usize) -> Result<Summary, RdbError> {
    let mut verifier = Verifier::new(Options::default());
    bytes.chunks(size).try_for_each(|piece| verifier.feed(piece))?;
    verifier.finish()
}
