//! The elements of a collection without order, brought into one.

use sha2::{Digest as _, Sha256};

use crate::digest::{
    encoding::{put_text, tag},
    multiset::Multiset,
};

/// An element longer than this is represented by its hash.
const LONG_ELEMENT: usize = 1 << 10;
/// Collections that need more than this are hashed as a [`Multiset`] of their elements' hashes, others in
/// sorted order. A property of the content, not of the layout.
const SORTED_LIMIT: usize = 1 << 20;

/// Gathers one collection after another; the buffers are kept.
///
/// The order is that of [`order`], a few nanoseconds for an element where comparing texts with a common
/// beginning takes many; elements that it does not tell apart are in the order of their bytes. It need not be
/// hard to invert: whoever finds elements that collide makes sorting slower, and no digest equal.
#[derive(Debug, Default)]
pub(super) struct Elements {
    /// Short elements, and the hashes of long ones, one behind the other.
    bytes: Vec<u8>,
    /// Where each complete element ends in `bytes`.
    ends: Vec<u32>,
    /// For each complete element the upper bits of its [`order`], and below them its index in `ends`.
    sorted: Vec<u64>,
    /// Whether there is an element at hand: it begins behind the last complete one.
    current: bool,
    /// Of the element at hand, once it is long.
    long: Option<Sha256>,
    /// Of all complete elements, once there are too many to sort.
    summed: Option<Box<Multiset>>,
}

/// Bits for an index into elements of at least a byte.
const INDEX_BITS: u32 = SORTED_LIMIT.ilog2() + 1;
const INDEX: u64 = (1 << INDEX_BITS) - 1;

impl Elements {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.sorted.clear();
        self.current = false;
        self.long = None;
        self.summed = None;
    }

    #[inline]
    pub(super) fn text(&mut self, bytes: &[u8], last: bool) {
        self.current = true;
        put_text(&mut self.bytes, bytes, last);
        self.bound();
    }

    #[inline]
    pub(super) fn put(&mut self, tag: u8, parts: &[&[u8]]) {
        self.current = true;
        self.bytes.push(tag);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bound();
    }

    #[inline]
    fn start(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    #[inline]
    fn bound(&mut self) {
        let start = self.start();
        if self.bytes.len() - start > LONG_ELEMENT {
            self.long.get_or_insert_default().update(&self.bytes[start..]);
            self.bytes.truncate(start);
        }
    }

    pub(super) fn drop_current(&mut self) {
        if self.current {
            self.current = false;
            self.bytes.truncate(self.start());
            self.long = None;
        }
    }

    /// Completes the element at hand; tells whether there was one.
    #[inline]
    pub(super) fn end_current(&mut self) -> bool {
        if !self.current {
            return false;
        }
        self.current = false;
        let start = self.start();
        if let Some(long) = self.long.take() {
            let hash = long.chain_update(&self.bytes[start..]).finalize();
            self.bytes.truncate(start);
            self.bytes.push(tag::LONG);
            self.bytes.extend_from_slice(&hash);
        }
        if let Some(summed) = &mut self.summed {
            summed.add(&Sha256::digest(&self.bytes[start..]).into());
            self.bytes.truncate(start);
            return true;
        }
        self.sorted.push(order(&self.bytes[start..]) & !INDEX | self.ends.len() as u64);
        self.ends.push(self.bytes.len() as u32);
        if self.bytes.len() > SORTED_LIMIT {
            self.sum();
        }
        true
    }

    /// Goes over to the sum.
    #[cold]
    fn sum(&mut self) {
        let mut summed = Box::<Multiset>::default();
        let mut start = 0;
        for end in &self.ends {
            summed.add(&Sha256::digest(&self.bytes[start..*end as usize]).into());
            start = *end as usize;
        }
        self.clear();
        self.summed = Some(summed);
    }

    /// Appends all elements to `out`, or their sum.
    pub(super) fn gather(&mut self, out: &mut Vec<u8>) {
        if let Some(summed) = &self.summed {
            out.push(tag::SUMMED);
            out.extend_from_slice(&summed.digest());
            return;
        }
        self.sorted.sort_unstable();
        let (ends, bytes) = (&self.ends, &self.bytes);
        let element = |sorted: &u64| {
            let index = (sorted & INDEX) as usize;
            let start = index.checked_sub(1).map_or(0, |before| ends[before] as usize);
            &bytes[start..ends[index] as usize]
        };
        for alike in self.sorted.chunk_by_mut(|a, b| a & !INDEX == b & !INDEX) {
            if alike.len() > 1 {
                alike.sort_unstable_by(|a, b| element(a).cmp(element(b)));
            }
        }
        out.push(tag::SORTED);
        for sorted in &self.sorted {
            // Elements tell their own end: each text in them carries its length.
            out.extend_from_slice(element(sorted));
        }
    }
}

/// The place of an element among others, nearly always another for another element.
///
/// Eight bytes at a time, little-endian, are mixed in by a multiplication of which both halves are kept; the
/// last eight may overlap those before, and fewer than eight stand alone. Part of the digest's construction.
#[inline]
fn order(element: &[u8]) -> u64 {
    // The golden ratio, and an odd constant of splitmix64.
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    const FACTOR: u64 = 0xbf58_476d_1ce4_e5b9;
    let fold = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        product as u64 ^ (product >> 64) as u64
    };
    let (words, _) = element.as_chunks::<8>();
    let tail = match element.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => element.iter().rev().fold(0, |tail, byte| tail << 8 | u64::from(*byte)),
    };
    let state = words
        .iter()
        .fold(SEED.wrapping_mul(element.len() as u64), |state, word| fold(state, u64::from_le_bytes(*word)));
    fold(fold(state, tail), SEED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut all, mut out) = (Elements::default(), Vec::new());
        for element in elements {
            all.text(element, true);
            all.end_current();
        }
        all.gather(&mut out);
        out
    }

    #[test]
    fn the_order_is_that_of_the_elements_not_of_the_file() {
        let texts: Vec<Vec<u8>> = (0..3000_u32)
            .map(|n| vec![b'x'; n as usize % 40].iter().copied().chain(n.to_le_bytes()).collect())
            .collect();
        let forward = gathered(texts.iter().map(Vec::as_slice));
        assert_eq!(forward, gathered(texts.iter().rev().map(Vec::as_slice)));
        assert_ne!(forward, gathered(texts[1..].iter().map(Vec::as_slice)));
    }

    #[test]
    fn elements_of_one_place_are_in_the_order_of_their_bytes() {
        // The upper bits that are compared are those of both.
        let a = Elements {
            bytes: b"bbaa".to_vec(),
            ends: vec![2, 4],
            sorted: vec![7 << INDEX_BITS, 7 << INDEX_BITS | 1],
            ..Elements::default()
        };
        let b = Elements {
            bytes: b"aabb".to_vec(),
            ends: vec![2, 4],
            sorted: vec![7 << INDEX_BITS, 7 << INDEX_BITS | 1],
            ..Elements::default()
        };
        for mut elements in [a, b] {
            let mut out = Vec::new();
            elements.gather(&mut out);
            assert_eq!(out[1..], *b"aabb");
        }
    }

    #[test]
    fn the_order_never_changes() {
        // Digests are stored for years, and depend on it.
        let places = [&b""[..], b"a", b"sevenby", b"eightbyt", b"nine byte", b"a text of twenty-four by"].map(order);
        assert_eq!(
            places,
            [
                0xa035_e2cc_637f_5704,
                0x59e9_4eee_9c3e_7801,
                0xbadf_afd3_44b0_44c3,
                0x6f39_8b46_2f44_d356,
                0xe100_29c9_97a0_8a2f,
                0x33c5_71a3_9679_7302,
            ]
        );
    }
}
