//! One short fingerprint of many things in any order.

use chacha20::{
    ChaCha8,
    cipher::{KeyIvInit, StreamCipher},
};
use sha2::{Digest as _, Sha256};

/// A sum of hashed elements.
///
/// Each element's SHA-256 is stretched to 2048 bits (four blocks of ChaCha8 under that key: eight rounds have
/// withstood all analysis, and the input is already a hash that nobody chooses), and the results are added
/// modulo 2^2048: the AdHash of Bellare and Micciancio, "A New Paradigm for Collision-Free Hashing:
/// Incrementality at Reduced Cost" (1997).
///
/// # Why two different sets do not collide
///
/// Addition commutes, so the order does not matter and parts can be summed apart. Two different sets with one
/// sum give a non-trivial combination of hash values, with coefficients of the size of the elements'
/// multiplicities, that is zero modulo 2^2048. Modelling the stretched hash as a random function, that is the
/// weighted knapsack problem of the paper. The best attacks known: Wagner's generalized birthday with 2^d lists
/// costs 2^d · 2^(2048/(d+1)), which is above 2^105 for sets of 2^24 chosen elements and above 2^94 for 2^32;
/// lattice reduction has to find a vector of coefficients -1, 0, 1 in a lattice of determinant 2^2048, far
/// beyond block size 400. A sum modulo 2^256 would fall to Wagner in a day, and XOR to Gaussian elimination at
/// once. Two elements with one SHA-256 would collide too: 2^128.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Multiset {
    sum: [u64; LIMBS],
    count: u64,
}

/// 32 × 64 = 2048 bits, least significant first.
const LIMBS: usize = 32;

impl Default for Multiset {
    fn default() -> Self {
        Self { sum: [0; LIMBS], count: 0 }
    }
}

impl Multiset {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn add(&mut self, element: &[u8; 32]) {
        self.add_limbs(&stretch(element));
        self.count = self.count.wrapping_add(1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.add_limbs(&other.sum);
        self.count = self.count.wrapping_add(other.count);
    }

    /// The sum and the count in 32 bytes.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.count.to_le_bytes());
        for limb in &self.sum {
            hasher.update(limb.to_le_bytes());
        }
        hasher.finalize().into()
    }

    #[inline]
    fn add_limbs(&mut self, other: &[u64; LIMBS]) {
        let mut carry = false;
        for (limb, more) in self.sum.iter_mut().zip(other) {
            (*limb, carry) = limb.carrying_add(*more, carry);
        }
    }
}

/// A hash as 2048 bits that look independent of those of every other hash.
#[inline]
fn stretch(element: &[u8; 32]) -> [u64; LIMBS] {
    let mut bytes = [0_u8; LIMBS * 8];
    ChaCha8::new(element.into(), &[0; 12].into()).apply_keystream(&mut bytes);
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(words[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elements: impl IntoIterator<Item = u8>) -> Multiset {
        let mut set = Multiset::default();
        elements.into_iter().for_each(|n| set.add(&[n; 32]));
        set
    }

    #[test]
    fn order_does_not_matter_and_content_does() {
        assert_eq!(of(0..100), of((0..100).rev()));
        assert_ne!(of(0..100).digest(), of(1..101).digest());
        assert_ne!(of([1, 1]).digest(), of([1]).digest());
        assert_ne!(of([1, 1]).digest(), of([2, 2]).digest());
        assert_ne!(of([]).digest(), of([0]).digest());
    }

    #[test]
    fn parts_add_up() {
        let mut sum = of(0..50);
        sum.merge(&of(50..100));
        assert_eq!(sum, of(0..100));
    }

    #[test]
    fn the_stretched_hash_never_changes() {
        // A digest is stored and compared for years. ChaCha8 with an all-zero key and nonce begins so.
        assert_eq!(stretch(&[0; 32])[0].to_le_bytes(), [0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6]);
    }
}
