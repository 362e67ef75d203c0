//! Two sets of fingerprints side by side.

use std::collections::BTreeMap;

use thiserror::Error;
use urtext_types::{ErrorKind, Explain};

use super::Fingerprint;
use crate::inspect::{Counts, key_text};

/// How one key differs, seen from the first side to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Only the second side has it.
    Added,
    /// Only the first side has it.
    Removed,
    /// Another type or value; the expiry may differ as well.
    Changed,
    /// The same value, and another expiry.
    Expiry,
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference<'a> {
    pub change: Change,
    /// Of the second side, unless only the first has it.
    pub key: &'a Fingerprint,
}

/// How many keys differ in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    pub expiry: u64,
}

impl Tally {
    pub fn of(change: Change) -> Self {
        let mut tally = Self::default();
        match change {
            Change::Added => tally.added = 1,
            Change::Removed => tally.removed = 1,
            Change::Changed => tally.changed = 1,
            Change::Expiry => tally.expiry = 1,
        }
        tally
    }
}

impl Counts for Tally {
    fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.removed += other.removed;
        self.changed += other.changed;
        self.expiry += other.expiry;
    }
    fn weight(&self) -> u64 {
        self.added + self.removed + self.changed + self.expiry
    }
}

/// No server writes a key twice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the key {} is there twice, in database {database}", key_text(name, *name_bytes))]
pub struct SameKeyTwice {
    pub database: u32,
    pub name: Vec<u8>,
    pub name_bytes: u64,
}

impl Explain for SameKeyTwice {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Integrity
    }
    fn hint(&self) -> Option<String> {
        Some("no server loads such a file: use another copy".to_owned())
    }
}

/// Tells `differ` every difference between the two sides of one part of the key space, and gives the number of
/// keys that are the same.
///
/// # Errors
/// One side has a key twice: the first side if `Err(.., true)`.
pub fn compare(
    first: &[Fingerprint],
    second: &[Fingerprint],
    differ: &mut dyn FnMut(Difference<'_>),
) -> Result<u64, (SameKeyTwice, bool)> {
    let mut rest = by_key(second).map_err(|twice| (twice, false))?;
    let mut same = 0;
    for (hash, ours) in by_key(first).map_err(|twice| (twice, true))? {
        match rest.remove(&hash) {
            None => differ(Difference { change: Change::Removed, key: ours }),
            Some(theirs) if (ours.value, ours.logical) != (theirs.value, theirs.logical) => {
                differ(Difference { change: Change::Changed, key: theirs });
            }
            Some(theirs) if ours.expires_at != theirs.expires_at => {
                differ(Difference { change: Change::Expiry, key: theirs });
            }
            Some(_) => same += 1,
        }
    }
    rest.into_values().for_each(|key| differ(Difference { change: Change::Added, key }));
    Ok(same)
}

fn by_key(side: &[Fingerprint]) -> Result<BTreeMap<u128, &Fingerprint>, SameKeyTwice> {
    let mut map = BTreeMap::new();
    for one in side {
        if map.insert(one.key, one).is_some() {
            let Fingerprint { database, name, name_bytes, .. } = one.clone();
            return Err(SameKeyTwice { database, name, name_bytes });
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use urtext_rdb::LogicalType;

    use super::*;

    fn one(key: u8, value: u128, expires_at: Option<i64>) -> Fingerprint {
        Fingerprint {
            key: key.into(),
            value,
            expires_at,
            database: 0,
            logical: LogicalType::String,
            name_bytes: 1,
            name: vec![key],
        }
    }

    #[test]
    fn every_difference_is_told_once() {
        let first = [one(1, 10, None), one(2, 20, None), one(3, 30, None), one(4, 40, Some(7)), one(5, 50, Some(7))];
        let second = [one(5, 51, Some(8)), one(4, 40, None), one(6, 60, None), one(3, 31, None), one(1, 10, None)];
        let mut found = Vec::new();
        let same = compare(&first, &second, &mut |d| found.push((d.key.name[0], d.change)));
        assert_eq!(same, Ok(1));
        found.sort_unstable();
        let expect =
            [(2, Change::Removed), (3, Change::Changed), (4, Change::Expiry), (5, Change::Changed), (6, Change::Added)];
        assert_eq!(found, expect);
    }

    #[test]
    fn another_type_with_the_same_hash_is_a_change() {
        let list = Fingerprint { logical: LogicalType::List, ..one(1, 10, None) };
        let mut found = 0;
        assert_eq!(compare(&[one(1, 10, None)], &[list], &mut |_| found += 1), Ok(0));
        assert_eq!(found, 1);
    }

    #[test]
    fn a_key_that_is_there_twice_is_an_error() {
        let twice = [one(1, 10, None), one(1, 10, None)];
        assert!(matches!(compare(&twice, &[], &mut |_| ()), Err((_, true))));
        assert!(matches!(compare(&[], &twice, &mut |_| ()), Err((_, false))));
    }
}
