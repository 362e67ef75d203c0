//! What is in an RDB, told while its bytes pass by. Pure: no I/O, and memory that does not grow with the data.

mod expiries;
mod key_text;
mod largest;
mod loaders;
mod prefixes;

use std::collections::BTreeMap;

use urtext_rdb::{Depth, Event, Limits, Options, Parser, RdbError, Summary, TrailingBytes, ValueType, Verifier};
use urtext_types::{DataDigest, Timestamp};

pub use self::{
    expiries::{Expiries, Span},
    key_text::key_text,
    largest::{LargeKey, Largest},
    loaders::loaders,
    prefixes::{Counts, PrefixTable, Row, prefix_of},
};

/// How much of a key's name is kept to be shown.
pub const NAME_BYTES: usize = 256;

/// What to tell, and how much of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A key's prefix ends at the first of these.
    pub separator: u8,
    /// How many of the largest keys.
    pub largest: usize,
    /// The moment from which expiries are counted, unless the file says when it was written.
    pub now: Timestamp,
}

/// Keys and their size in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    pub keys: u64,
    /// As serialized in the file, key and expiry included.
    pub bytes: u64,
}

impl Counts for Amount {
    fn add(&mut self, other: &Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
    fn weight(&self) -> u64 {
        self.bytes
    }
}

/// All that is told of one RDB.
#[derive(Debug)]
pub struct Report {
    /// What was proved.
    pub summary: Summary,
    pub digest: DataDigest,
    pub types: BTreeMap<ValueType, Amount>,
    pub databases: BTreeMap<u32, Amount>,
    pub prefixes: PrefixTable<Amount>,
    pub expiries: Expiries,
    /// The largest first.
    pub largest: Vec<LargeKey>,
}

/// The record that was being read when something was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub database: u32,
    /// The beginning of its name.
    pub key: Vec<u8>,
    /// Where the record begins in the file.
    pub offset: u64,
}

/// Reads an RDB that is fed to it: proves it, digests it, and counts.
#[derive(Debug)]
pub struct Inspector {
    verifier: Verifier,
    /// Finds the records, and what each of them weighs.
    frames: Parser,
    counting: Counting,
    damaged: Option<Place>,
}

#[derive(Debug)]
struct Counting {
    settings: Settings,
    types: BTreeMap<ValueType, Amount>,
    databases: BTreeMap<u32, Amount>,
    prefixes: PrefixTable<Amount>,
    expiries: Expiries,
    largest: Largest,
    current: Option<Current>,
}

/// The record at hand.
#[derive(Debug)]
struct Current {
    place: Place,
    value_type: ValueType,
    key_bytes: u64,
    expires_at: Option<i64>,
}

impl Inspector {
    pub fn new(settings: Settings) -> Self {
        let limits = Limits::default();
        let options = Options { limits, trailing: TrailingBytes::Allow, digest: true };
        Self {
            verifier: Verifier::new(options),
            frames: Parser::new(Depth::Frame, limits),
            counting: Counting {
                types: BTreeMap::new(),
                databases: BTreeMap::new(),
                prefixes: PrefixTable::default(),
                expiries: Expiries::new(settings.now),
                largest: Largest::new(settings.largest),
                current: None,
                settings,
            },
            damaged: None,
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, input: &[u8]) -> Result<(), RdbError> {
        let counting = &mut self.counting;
        match self.verifier.feed(input) {
            Ok(()) => self.frames.feed(input, &mut |event| counting.event(&event)),
            Err(error) => {
                self.damaged = offset_of(&error).and_then(|at| {
                    let mut found = counting.current.take().map(|current| current.place);
                    // How far the frames can be followed does not matter.
                    let _ = self.frames.feed(input, &mut |event| follow(&mut found, at, &event));
                    found
                });
                Err(error)
            }
        }
    }

    /// The record in which `feed` found something wrong, if it was inside one.
    pub fn damaged(&self) -> Option<&Place> {
        self.damaged.as_ref()
    }

    /// Ends the input. What follows the RDB is counted in the summary: servers ignore it, unless it is an
    /// append-only log.
    pub fn finish(self) -> Result<Report, RdbError> {
        let summary = self.verifier.finish()?;
        let digest = summary.digest.as_ref().expect("the verifier was asked for a digest").root();
        let Counting { types, databases, prefixes, expiries, largest, .. } = self.counting;
        let largest = largest.into_sorted();
        Ok(Report { summary, digest: DataDigest::current(digest.0), types, databases, prefixes, expiries, largest })
    }
}

fn offset_of(error: &RdbError) -> Option<u64> {
    match error {
        RdbError::UnknownType { offset, .. }
        | RdbError::UnknownOpcode { offset, .. }
        | RdbError::Unreadable { offset, .. }
        | RdbError::Damaged { offset, .. }
        | RdbError::TooLarge { offset, .. } => Some(*offset),
        _ => None,
    }
}

/// Keeps in `found` the record that the byte at `at` belongs to.
fn follow(found: &mut Option<Place>, at: u64, event: &Event<'_>) {
    match event {
        Event::Key(key) if key.offset <= at => {
            let name = key.key[..key.key.len().min(NAME_BYTES)].to_vec();
            *found = Some(Place { database: key.database, key: name, offset: key.offset });
        }
        Event::KeyEnd(end) if found.as_ref().is_some_and(|place| place.offset + end.bytes <= at) => *found = None,
        _ => {}
    }
}

impl Counting {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Key(key) => {
                let name = key.key[..key.key.len().min(NAME_BYTES)].to_vec();
                self.current = Some(Current {
                    place: Place { database: key.database, key: name, offset: key.offset },
                    value_type: key.value_type,
                    key_bytes: key.key.len() as u64,
                    expires_at: key.expires_at,
                });
            }
            Event::KeyEnd(end) => {
                if let Some(current) = self.current.take() {
                    self.count(current, end.bytes);
                }
            }
            // The file says when it was written: an expiry is told from then on.
            Event::Aux { key: b"ctime", value } => {
                let seconds = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
                if let Some(millis) = seconds.and_then(|seconds| seconds.checked_mul(1000)) {
                    self.expiries = Expiries::new(Timestamp::from_millis(millis));
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, current: Current, bytes: u64) {
        let Current { place: Place { database, key, .. }, value_type, key_bytes, expires_at } = current;
        let one = Amount { keys: 1, bytes };
        self.types.entry(value_type).or_default().add(&one);
        self.databases.entry(database).or_default().add(&one);
        self.prefixes.add(database, prefix_of(&key, self.settings.separator), &one);
        self.expiries.add(expires_at);
        self.largest.add(bytes, || LargeKey { bytes, database, key, key_bytes, value_type });
    }
}

#[cfg(test)]
mod tests;
