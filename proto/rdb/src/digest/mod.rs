//! The content digest: equal for equal data, wherever and however it is stored.
//!
//! Independent of the order of keys and elements, of the layout, compression, engine and version of the
//! file. Numbers and their decimal text are the same; expiries count by absolute time. Left out is what
//! is no data: access times and frequencies, the server's own counters, what modules keep beside the
//! keys. Collections without elements, which servers drop, are left out too.

mod elements;
mod encoding;
mod key;
mod multiset;

use std::{collections::BTreeMap, fmt};

use sha2::{Digest as _, Sha256};
use urtext_types::Timestamp;

use crate::{Event, digest::key::KeyHasher, digest::multiset::Multiset, slot::key_slot};

/// Thirty-two bytes that stand for a content. Prints as hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The parts of the key space: [`ContentDigest`]s are compared part by part.
///
/// A part is 64 neighbouring cluster slots, so that shards and slots can be compared as well. Keys that
/// share a hash tag share a part.
pub const PARTS: usize = 256;

/// The part that a key belongs to.
pub fn part_of(key: &[u8]) -> u8 {
    (key_slot(key) >> 6) as u8
}

/// Builds a [`ContentDigest`] from the events of a parser at the depth [`crate::Depth::Values`].
#[derive(Debug, Default)]
pub struct DigestBuilder {
    as_of: Option<i64>,
    content: ContentDigest,
    hasher: KeyHasher,
    /// The record at hand: its database and part. `None` if its time has come.
    current: Option<(u32, u8)>,
    /// The parts of the database that records come from now, by number; those in `used` hold a key.
    parts: Vec<Multiset>,
    used: Vec<u8>,
    number: u32,
    /// Inside a module's data beside the keys.
    beside_keys: bool,
}

impl DigestBuilder {
    /// Of everything in the file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without the keys and fields whose time has come by `now`, as if the server had already dropped
    /// them: for comparing copies taken at one position but at different times. A hash that loses its
    /// last field goes with it.
    pub fn as_of(now: Timestamp) -> Self {
        Self { as_of: Some(now.as_millis()), ..Self::default() }
    }

    #[inline]
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Key(key) => {
                let expired = self.as_of.is_some_and(|now| key.expires_at.is_some_and(|time| time <= now));
                self.current = (!expired).then(|| (key.database, part_of(key.key)));
                self.hasher.begin(key, self.as_of);
            }
            Event::Item(item) if !self.beside_keys && self.current.is_some() => self.hasher.item(item),
            Event::KeyEnd(end) => {
                if let (Some((database, part)), false) = (self.current.take(), end.empty) {
                    if database != self.number {
                        self.leave_database();
                        self.number = database;
                    }
                    if let Some(hash) = self.hasher.end() {
                        if self.parts.is_empty() {
                            self.parts.resize(PARTS, Multiset::default());
                        }
                        let sum = &mut self.parts[usize::from(part)];
                        if sum.count() == 0 {
                            self.used.push(part);
                        }
                        sum.add(&hash);
                    }
                }
            }
            Event::Function { source } => self.content.functions.add(&Sha256::digest(source).into()),
            Event::ModuleAux { .. } => self.beside_keys = true,
            Event::ModuleAuxEnd => self.beside_keys = false,
            _ => {}
        }
    }

    /// The digest of everything that was complete.
    pub fn finish(mut self) -> ContentDigest {
        self.leave_database();
        self.content
    }

    fn leave_database(&mut self) {
        if self.used.is_empty() {
            return;
        }
        let database = self.content.databases.entry(self.number).or_default();
        for part in self.used.drain(..) {
            let sum = &mut self.parts[usize::from(part)];
            database.part(part).merge(sum);
            *sum = Multiset::default();
        }
    }
}

/// What a data set holds, in a form that can be compared part by part and merged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentDigest {
    functions: Multiset,
    databases: BTreeMap<u32, DatabaseDigest>,
}

impl ContentDigest {
    /// The digest of everything. [`urtext_types::DataDigest::current`] is its form for storing and reading back.
    pub fn root(&self) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(b"urtext content digest 1\0");
        hasher.update(self.functions.digest());
        for (number, database) in &self.databases {
            hasher.update(number.to_le_bytes());
            hasher.update(database.root().0);
        }
        Digest(hasher.finalize().into())
    }

    /// Databases that hold a key.
    pub fn databases(&self) -> impl Iterator<Item = (u32, &DatabaseDigest)> {
        self.databases.iter().map(|(number, database)| (*number, database))
    }

    /// Takes in the digest of other records: of another slot range, file or thread.
    pub fn merge(&mut self, other: &Self) {
        self.functions.merge(&other.functions);
        for (number, database) in &other.databases {
            self.databases.entry(*number).or_default().merge(database);
        }
    }

    /// The databases and parts in which the two differ. Empty, and the functions equal: the same content.
    pub fn differences(&self, other: &Self) -> Vec<(u32, u8)> {
        let none = DatabaseDigest::default();
        let numbers: std::collections::BTreeSet<_> = self.databases.keys().chain(other.databases.keys()).collect();
        let mut differences = Vec::new();
        for number in numbers {
            let (ours, theirs) =
                (self.databases.get(number).unwrap_or(&none), other.databases.get(number).unwrap_or(&none));
            let differing = (0..=u8::MAX).filter(|part| ours.get(*part) != theirs.get(*part));
            differences.extend(differing.map(|part| (*number, part)));
        }
        differences
    }

    /// Whether the function libraries are the same.
    pub fn same_functions(&self, other: &Self) -> bool {
        self.functions == other.functions
    }
}

/// The part of a [`ContentDigest`] that one database makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseDigest {
    /// Sorted; parts without keys are not there. A vector, since a hostile file has many databases of one key.
    parts: Vec<(u8, Multiset)>,
}

impl DatabaseDigest {
    /// The digest of the database.
    pub fn root(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (part, sum) in &self.parts {
            hasher.update([*part]);
            hasher.update(sum.digest());
        }
        Digest(hasher.finalize().into())
    }

    /// Parts that hold a key, each with its digest and number of keys.
    pub fn parts(&self) -> impl Iterator<Item = (u8, Digest, u64)> {
        self.parts.iter().map(|(part, sum)| (*part, Digest(sum.digest()), sum.count()))
    }

    /// Keys in the database.
    pub fn keys(&self) -> u64 {
        self.parts.iter().map(|(_, sum)| sum.count()).sum()
    }

    fn get(&self, part: u8) -> Option<&Multiset> {
        let found = self.parts.binary_search_by_key(&part, |(number, _)| *number);
        found.ok().map(|at| &self.parts[at].1)
    }

    fn part(&mut self, part: u8) -> &mut Multiset {
        let found = self.parts.binary_search_by_key(&part, |(number, _)| *number);
        let at = found.unwrap_or_else(|at| {
            if self.parts.is_empty() {
                self.parts.reserve_exact(1);
            }
            self.parts.insert(at, (part, Multiset::default()));
            at
        });
        &mut self.parts[at].1
    }

    fn merge(&mut self, other: &Self) {
        for (part, sum) in &other.parts {
            self.part(*part).merge(sum);
        }
    }
}
