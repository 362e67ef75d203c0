//! A cheap hash for replication ids, which are twenty random bytes already.

use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type IdHasher = BuildHasherDefault<IdHash>;

/// Mixes every byte of an id, so that made-up ids that share some of them still spread.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct IdHash(u64);

/// An odd number without pattern: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl IdHash {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(SPREAD).rotate_left(29);
    }
}

impl Hasher for IdHash {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let mut rest = [0; 8];
        rest[..words.remainder().len()].copy_from_slice(words.remainder());
        self.mix(u64::from_le_bytes(rest));
    }

    /// The length of an id says nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
