//! Fingerprints of a data set of any size, on disk in parts small enough for memory.
//!
//! The files have no name: they are gone with the process, however it ends. They hold names of keys and hashes
//! of values, and lie where `TMPDIR` says.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
};

use urtext_types::{ErrorKind, Explain};

use crate::{
    Fault,
    compare::{Difference, Fingerprint, MAX_RECORD_BYTES, compare},
};

/// Parts that a data set is divided into at once, by six bits of its keys' hashes.
const PARTS: usize = 64;
const PART_BITS: u32 = 6;
/// Of each file that is written: 64 of them are 2 MiB.
const BUFFER_BYTES: usize = 32 * 1024;
/// What both sides of a part may have together to be compared in memory, where they need about three times as
/// much. A larger one is divided again.
const MEMORY_BYTES: u64 = 16 << 20;
/// 128 bits of a hash are used up after this many divisions; a part that is still too large then holds the same
/// key over and over.
const MOST_DIVISIONS: u32 = u128::BITS / PART_BITS;

/// The fingerprints of one side.
pub(super) struct Spill {
    parts: Vec<Part>,
    record: Vec<u8>,
    keys: u64,
    /// By how many divisions above this one the keys are alike.
    depth: u32,
}

/// One file. Most data sets are small: it comes to be with its first byte.
#[derive(Default)]
struct Part {
    file: Option<BufWriter<File>>,
    bytes: u64,
}

impl Spill {
    pub(super) fn new() -> Self {
        Self::at_depth(0)
    }

    fn at_depth(depth: u32) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            record: Vec::with_capacity(MAX_RECORD_BYTES),
            keys: 0,
            depth,
        }
    }

    /// Keys so far.
    pub(super) fn keys(&self) -> u64 {
        self.keys
    }

    pub(super) fn add(&mut self, fingerprint: &Fingerprint) -> io::Result<()> {
        let index = (fingerprint.key >> (PART_BITS * self.depth)) as usize % PARTS;
        self.record.clear();
        fingerprint.encode(&mut self.record);
        let part = &mut self.parts[index];
        if part.file.is_none() {
            part.file = Some(BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile()?));
        }
        if let Some(file) = &mut part.file {
            file.write_all(&self.record)?;
        }
        part.bytes += self.record.len() as u64;
        self.keys += 1;
        Ok(())
    }
}

/// Why two sides could not be compared.
pub(super) enum SpillError {
    Io(io::Error),
    /// One side cannot be loaded by any server: the first one if `true`.
    Side(crate::compare::SameKeyTwice, bool),
}

impl From<io::Error> for SpillError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Tells `differ` every difference; gives the number of keys that are the same.
pub(super) fn compare_spilled(
    first: Spill,
    second: Spill,
    differ: &mut dyn FnMut(Difference<'_>),
) -> Result<u64, SpillError> {
    let mut same = 0;
    let depth = first.depth + 1;
    for (ours, theirs) in first.parts.into_iter().zip(second.parts) {
        let fits = ours.bytes + theirs.bytes <= MEMORY_BYTES;
        same += if fits || depth >= MOST_DIVISIONS {
            // What does not fit and cannot be divided is one key over and over: two of them show it.
            let most = if fits { usize::MAX } else { 2 };
            let (ours, theirs) = (ours.load(most)?, theirs.load(most)?);
            compare(&ours, &theirs, differ).map_err(|(twice, first)| SpillError::Side(twice, first))?
        } else {
            compare_spilled(ours.divide(depth)?, theirs.divide(depth)?, differ)?
        };
    }
    Ok(same)
}

impl Part {
    /// The first `most` of them.
    fn load(self, most: usize) -> io::Result<Vec<Fingerprint>> {
        let mut all = Vec::new();
        self.read(|one| {
            if all.len() < most {
                all.push(one);
            }
            Ok(())
        })?;
        Ok(all)
    }

    fn divide(self, depth: u32) -> io::Result<Spill> {
        let mut spill = Spill::at_depth(depth);
        self.read(|one| spill.add(&one))?;
        Ok(spill)
    }

    fn read(self, mut each: impl FnMut(Fingerprint) -> io::Result<()>) -> io::Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        let mut file = file.into_inner().map_err(|error| error.into_error())?;
        file.seek(SeekFrom::Start(0))?;
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut window = Vec::new();
        loop {
            let read = (&mut file).take(BUFFER_BYTES as u64).read_to_end(&mut window)?;
            let mut rest = window.as_slice();
            while let Some(one) = Fingerprint::decode(&mut rest) {
                each(one)?;
            }
            let done = window.len() - rest.len();
            window.drain(..done);
            if read == 0 {
                let is_whole = window.is_empty();
                return if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }
}

/// What the disk says, with the place that it is about.
pub(super) fn spill_fault(error: &io::Error) -> Fault {
    let place = std::env::temp_dir();
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    let fault = Fault::new(kind, format!("keep fingerprints in {}: {error}", place.display()));
    debug_assert!(fault.hint().is_none());
    fault.with_hint("set TMPDIR to a directory with about a hundred bytes of room for each key of both sides")
}

#[cfg(test)]
mod tests {
    use urtext_rdb::LogicalType;

    use super::*;
    use crate::compare::Change;

    fn one(number: u128, alike: bool) -> Fingerprint {
        // Alike: in the same part for the first two divisions.
        let key = if alike {
            number << (2 * PART_BITS)
        } else {
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        };
        Fingerprint {
            key,
            value: 1,
            expires_at: None,
            database: 0,
            logical: LogicalType::String,
            name_bytes: 200,
            name: vec![b'x'; 200],
        }
    }

    #[track_caller]
    fn check(keys: u128, alike: bool) {
        let [mut first, mut second] = [Spill::new(), Spill::new()];
        for number in 0..keys {
            if number != 7 {
                first.add(&one(number, alike)).expect("written");
            }
            if number != 11 {
                second.add(&one(number, alike)).expect("written");
            }
        }
        let mut found = Vec::new();
        let same = compare_spilled(first, second, &mut |d| found.push((d.change, d.key.key)));
        let Ok(same) = same else { panic!("compared") };
        assert_eq!(u128::from(same), keys - 2);
        found.sort_unstable();
        assert_eq!(found, [(Change::Added, one(7, alike).key), (Change::Removed, one(11, alike).key)]);
    }

    #[test]
    fn parts_are_compared_one_by_one() {
        check(10_000, false);
    }

    #[test]
    fn the_same_key_over_and_over_is_an_error_within_memory() {
        let mut first = Spill::new();
        let count = MEMORY_BYTES / 200;
        for _ in 0..count {
            first.add(&one(7, false)).expect("written");
        }
        let compared = compare_spilled(first, Spill::new(), &mut |_| ());
        assert!(matches!(compared, Err(SpillError::Side(_, true))));
    }

    #[test]
    fn a_part_that_is_too_large_is_divided_again() {
        // 2 × 40,000 × 256 bytes in one part.
        assert!(2 * 40_000 * MAX_RECORD_BYTES as u64 > MEMORY_BYTES);
        check(40_000, true);
    }
}
