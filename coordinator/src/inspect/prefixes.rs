//! Counts by key prefix, in bounded memory however many prefixes there are.

use std::collections::HashMap;

/// What is counted.
pub trait Counts: Default + Clone {
    fn add(&mut self, other: &Self);
    /// By which the important ones are told from the others.
    fn weight(&self) -> u64;
}

/// The part of a key that it shares with its kind: up to and with the first separator. `None` without one,
/// or if there is none in the first `PREFIX_BYTES`.
pub fn prefix_of(key: &[u8], separator: u8) -> Option<&[u8]> {
    let end = key.iter().take(PREFIX_BYTES).position(|byte| *byte == separator)?;
    Some(&key[..=end])
}

/// The longest prefix that is looked for.
const PREFIX_BYTES: usize = 64;

/// Prefixes that are told apart at once: a few MiB.
const MOST: usize = 16 * 1024;

/// Database and prefix.
type Place = (u32, Option<Box<[u8]>>);

/// Counts by database and prefix.
///
/// When there are too many, the lighter half moves into [`PrefixTable::others`], and begins anew if it is seen
/// again. So every key is counted exactly once, prefixes that weigh much stay, and what is said of a prefix is
/// too low by at most [`PrefixTable::missed`].
#[derive(Debug)]
pub struct PrefixTable<C> {
    rows: HashMap<Place, C>,
    others: C,
    missed: u64,
    most: usize,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<C> {
    pub database: u32,
    /// `None`: keys without a separator.
    pub prefix: Option<Vec<u8>>,
    pub counts: C,
}

impl<C: Counts> Default for PrefixTable<C> {
    fn default() -> Self {
        Self::with_room_for(MOST)
    }
}

impl<C: Counts> PrefixTable<C> {
    fn with_room_for(most: usize) -> Self {
        Self { rows: HashMap::new(), others: C::default(), missed: 0, most }
    }

    pub fn add(&mut self, database: u32, prefix: Option<&[u8]>, counts: &C) {
        self.rows.entry((database, prefix.map(Into::into))).or_default().add(counts);
        if self.rows.len() > self.most {
            self.make_room();
        }
    }

    /// What belongs to prefixes that are not told apart.
    pub fn others(&self) -> &C {
        &self.others
    }

    /// By how much the weight of any one prefix may be too low: not 0 only if there were too many of them.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The heaviest `most` rows, the heaviest first, and the sum of all the rest with the number of its rows.
    pub fn top(&self, most: usize) -> (Vec<Row<C>>, usize, C) {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|a, b| b.1.weight().cmp(&a.1.weight()).then_with(|| a.0.cmp(b.0)));
        let mut rest = self.others.clone();
        let cut = rows.split_off(most.min(rows.len()));
        cut.iter().for_each(|(_, counts)| rest.add(counts));
        let row = |(key, counts): (&Place, &C)| Row {
            database: key.0,
            prefix: key.1.as_deref().map(<[u8]>::to_vec),
            counts: counts.clone(),
        };
        (rows.into_iter().map(row).collect(), cut.len(), rest)
    }

    fn make_room(&mut self) {
        let mut weights: Vec<u64> = self.rows.values().map(Counts::weight).collect();
        let half = weights.len() / 2;
        let (_, &mut middle, _) = weights.select_nth_unstable(half);
        // Of equal weight, enough to have room again.
        let mut to_go = self.rows.len() - half;
        self.rows.retain(|_, counts| {
            if to_go == 0 || counts.weight() > middle {
                return true;
            }
            to_go -= 1;
            self.others.add(counts);
            false
        });
        self.missed += middle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Amount;

    #[test]
    fn a_prefix_ends_at_the_first_separator() {
        let check = |key: &[u8], expect: Option<&[u8]>| assert_eq!(prefix_of(key, b':'), expect);
        check(b"user:1:name", Some(b"user:"));
        check(b":x", Some(b":"));
        check(b"counter", None);
        check(&[b'x'; 1000], None);
    }

    #[test]
    fn heavy_prefixes_stay_however_many_light_ones_there_are() {
        let one = Amount { keys: 1, bytes: 10 };
        let mut table = PrefixTable::with_room_for(100);
        for n in 0..100_000_u32 {
            table.add(0, Some(n.to_string().as_bytes()), &one);
            if n > 1000 && n % 4 == 0 {
                table.add(0, Some(b"heavy:"), &one);
            }
        }
        let (top, _, rest) = table.top(1);
        assert_eq!(top[0].prefix.as_deref(), Some(&b"heavy:"[..]));
        let found = top[0].counts.bytes;
        let truth = 10 * 24_749;
        assert!(found <= truth && found + table.missed() >= truth, "{found} of {truth}, missed {}", table.missed());
        assert_eq!(top[0].counts.keys + rest.keys, 100_000 + 24_749, "every key is counted once");
        assert!(table.rows.len() <= 100);
    }

    #[test]
    fn few_prefixes_are_exact() {
        let mut table = PrefixTable::default();
        for (database, prefix, bytes) in
            [(0, Some(&b"a:"[..]), 5), (1, Some(b"a:"), 7), (0, None, 1), (0, Some(b"a:"), 5)]
        {
            table.add(database, prefix, &Amount { keys: 1, bytes });
        }
        let (top, cut, rest) = table.top(2);
        let row = |database, prefix: &[u8], keys, bytes| Row {
            database,
            prefix: Some(prefix.to_vec()),
            counts: Amount { keys, bytes },
        };
        assert_eq!(top, vec![row(0, b"a:", 2, 10), row(1, b"a:", 1, 7)]);
        assert_eq!((cut, rest, table.missed()), (1, Amount { keys: 1, bytes: 1 }, 0));
    }
}
