//! The largest keys, in memory for as many as are asked for.

use std::{cmp::Reverse, collections::BinaryHeap};

use urtext_rdb::ValueType;

/// One large key. The largest orders last; of equal ones, the first by database and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeKey {
    /// As serialized in the file.
    pub bytes: u64,
    pub database: u32,
    /// The beginning of its name.
    pub key: Vec<u8>,
    /// The length of its name.
    pub key_bytes: u64,
    pub value_type: ValueType,
}

impl LargeKey {
    fn rank(&self) -> (u64, Reverse<(u32, &[u8])>) {
        (self.bytes, Reverse((self.database, &self.key)))
    }
}

impl PartialOrd for LargeKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LargeKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

#[derive(Debug)]
pub struct Largest {
    most: usize,
    /// The smallest of them on top.
    kept: BinaryHeap<Reverse<LargeKey>>,
}

impl Largest {
    pub fn new(most: usize) -> Self {
        Self { most, kept: BinaryHeap::new() }
    }

    /// Keeps the key if it is among the largest so far.
    pub fn add(&mut self, bytes: u64, key: impl FnOnce() -> LargeKey) {
        if self.kept.len() < self.most {
            self.kept.push(Reverse(key()));
        } else if let Some(mut least) = self.kept.peek_mut()
            && least.0.bytes <= bytes
        {
            let key = key();
            if key > least.0 {
                least.0 = key;
            }
        }
    }

    /// The largest first.
    pub fn into_sorted(self) -> Vec<LargeKey> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_kept_whatever_their_order() {
        let key = |bytes: u64, name: &[u8]| LargeKey {
            bytes,
            database: 0,
            key: name.to_vec(),
            key_bytes: 1,
            value_type: ValueType::String,
        };
        let of = |sizes: &[(u64, &[u8])]| {
            let mut largest = Largest::new(2);
            sizes.iter().for_each(|&(bytes, name)| largest.add(bytes, || key(bytes, name)));
            largest.into_sorted()
        };
        let expect = vec![key(9, b"d"), key(5, b"a")];
        assert_eq!(of(&[(1, b"x"), (5, b"a"), (9, b"d"), (5, b"c")]), expect);
        assert_eq!(of(&[(5, b"c"), (9, b"d"), (5, b"a"), (1, b"x")]), expect);
        assert!(Largest::new(0).into_sorted().is_empty());
    }
}
