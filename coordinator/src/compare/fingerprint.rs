//! One key, in a few dozen bytes.

use std::collections::BTreeSet;

use urtext_rdb::{Depth, Digest, DigestBuilder, Event, Key, Limits, LogicalType, Parser, RdbError};
use urtext_types::Timestamp;

use crate::inspect::NAME_BYTES;

/// What is kept of one key. Two values with the same hash are the same: both hashes are SHA-256, cut to 128
/// bits, so that among 2^40 keys nothing collides by accident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of database and name.
    pub key: u128,
    /// Of type and value, without the expiry of the key. Expiries of fields are part of it.
    pub value: u128,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
    pub database: u32,
    pub logical: LogicalType,
    /// Length of the name.
    pub name_bytes: u64,
    /// Its first [`NAME_BYTES`].
    pub name: Vec<u8>,
}

/// Bytes of a fingerprint that are always there: two hashes, expiry with its mark, database, type, two lengths.
const FIXED_BYTES: usize = 16 + 16 + 9 + 4 + 1 + 8 + 2;
/// The longest encoded fingerprint.
pub const MAX_RECORD_BYTES: usize = FIXED_BYTES + NAME_BYTES;

const TYPES: [LogicalType; 8] = [
    LogicalType::String,
    LogicalType::List,
    LogicalType::Set,
    LogicalType::Zset,
    LogicalType::Hash,
    LogicalType::Stream,
    LogicalType::Array,
    LogicalType::Module,
];

impl Fingerprint {
    /// Appends the fingerprint to `out`, at most [`MAX_RECORD_BYTES`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let logical = TYPES.iter().position(|logical| *logical == self.logical).expect("the table holds every type");
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.value.to_le_bytes());
        out.push(u8::from(self.expires_at.is_some()));
        out.extend_from_slice(&self.expires_at.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.database.to_le_bytes());
        out.push(logical as u8);
        out.extend_from_slice(&self.name_bytes.to_le_bytes());
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.name);
    }

    /// Takes the first fingerprint from `from`; `None` if it is not whole.
    pub fn decode(from: &mut &[u8]) -> Option<Self> {
        let mut rest = *from;
        let key = u128::from_le_bytes(take(&mut rest)?);
        let value = u128::from_le_bytes(take(&mut rest)?);
        let [expires] = take(&mut rest)?;
        let at = i64::from_le_bytes(take(&mut rest)?);
        let database = u32::from_le_bytes(take(&mut rest)?);
        let [logical] = take(&mut rest)?;
        let name_bytes = u64::from_le_bytes(take(&mut rest)?);
        let kept = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let (name, rest) = rest.split_at_checked(kept)?;
        *from = rest;
        let logical = *TYPES.get(usize::from(logical))?;
        let expires_at = (expires != 0).then_some(at);
        Some(Self { key, value, expires_at, database, logical, name_bytes, name: name.to_vec() })
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*taken)
}

/// The function libraries of one side: hashes of their source.
pub type Functions = BTreeSet<[u8; 32]>;

/// Libraries that are told apart; servers have a handful.
const MAX_FUNCTIONS: usize = 4096;

/// Reads an RDB that is fed to it, proves it on the way, and gives a fingerprint for each key.
#[derive(Debug)]
pub struct Fingerprinter {
    parser: Parser,
    keys: Keys,
}

#[derive(Debug)]
struct Keys {
    as_of: Option<Timestamp>,
    current: Option<(Fingerprint, DigestBuilder)>,
    /// Inside what a module keeps beside the keys.
    beside_keys: bool,
    functions: Functions,
}

impl Fingerprinter {
    /// `as_of`: without the keys and fields whose time has come by then.
    pub fn new(as_of: Option<Timestamp>) -> Self {
        Self {
            parser: Parser::new(Depth::Values, Limits::default()),
            keys: Keys { as_of, current: None, beside_keys: false, functions: Functions::new() },
        }
    }

    /// Takes the next bytes, and gives the fingerprints that they complete.
    pub fn feed(&mut self, input: &[u8], mut give: impl FnMut(Fingerprint)) -> Result<(), RdbError> {
        let keys = &mut self.keys;
        self.parser.feed(input, &mut |event| {
            if let Some(fingerprint) = keys.event(&event) {
                give(fingerprint);
            }
        })
    }

    /// Ends the input. Gives the function libraries, and the number of bytes behind the RDB.
    pub fn finish(self) -> Result<(Functions, u64), RdbError> {
        let trailing = self.parser.trailing_bytes();
        self.parser.finish()?;
        Ok((self.keys.functions, trailing))
    }
}

impl Keys {
    fn event(&mut self, event: &Event<'_>) -> Option<Fingerprint> {
        match event {
            Event::Key(key) => self.current = self.begin(key),
            Event::Item(_) if !self.beside_keys => {
                if let Some((_, value)) = &mut self.current {
                    value.event(event);
                }
            }
            Event::KeyEnd(_) => {
                let (mut fingerprint, mut value) = self.current.take()?;
                value.event(event);
                let value = value.finish();
                // A collection without elements, which servers drop, or a hash whose last field's time has come.
                value.databases().next()?;
                fingerprint.value = cut(value.root());
                return Some(fingerprint);
            }
            Event::Function { .. } if self.functions.len() < MAX_FUNCTIONS => {
                let mut one = DigestBuilder::new();
                one.event(event);
                self.functions.insert(one.finish().root().0);
            }
            Event::ModuleAux { .. } => self.beside_keys = true,
            Event::ModuleAuxEnd => self.beside_keys = false,
            _ => {}
        }
        None
    }

    fn begin(&self, key: &Key<'_>) -> Option<(Fingerprint, DigestBuilder)> {
        let is_gone = self.as_of.is_some_and(|now| key.expires_at.is_some_and(|time| time <= now.as_millis()));
        if is_gone {
            return None;
        }
        let builder = || self.as_of.map_or_else(DigestBuilder::new, DigestBuilder::as_of);
        let mut value = builder();
        // Of the value alone: the same whatever the key is called and whenever it expires.
        value.event(&Event::Key(Key { key: b"", database: 0, expires_at: None, ..*key }));
        Some((
            Fingerprint {
                key: hash_of(key),
                value: 0,
                expires_at: key.expires_at,
                database: key.database,
                logical: key.value_type.logical(),
                name_bytes: key.key.len() as u64,
                name: key.key[..key.key.len().min(NAME_BYTES)].to_vec(),
            },
            value,
        ))
    }
}

/// The hash of a database and a key's name.
fn hash_of(key: &Key<'_>) -> u128 {
    let mut hasher = urtext_repository::Sha256Hasher::default();
    hasher.update(&key.database.to_le_bytes());
    hasher.update(key.key);
    first_half(hasher.finish().as_bytes())
}

fn cut(digest: Digest) -> u128 {
    first_half(&digest.0)
}

fn first_half(hash: &[u8; 32]) -> u128 {
    let (half, _) = hash.split_first_chunk::<16>().expect("thirty-two bytes");
    u128::from_le_bytes(*half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprints(bytes: &[u8], as_of: Option<Timestamp>) -> Vec<Fingerprint> {
        let mut fingerprinter = Fingerprinter::new(as_of);
        let mut all = Vec::new();
        bytes.chunks(11).for_each(|piece| fingerprinter.feed(piece, |one| all.push(one)).expect("sound"));
        fingerprinter.finish().expect("whole");
        all.sort_by_key(|one| one.key);
        all
    }

    fn corpus(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/corpus");
        std::fs::read(format!("{folder}/{name}")).expect("a file of the corpus")
    }

    #[test]
    fn a_fingerprint_reads_back_as_written() {
        for name in ["server-redis-8.2.rdb", "rdbtools-keys_with_expiry.rdb", "server-valkey-9.1.rdb"] {
            let all = fingerprints(&corpus(name), None);
            assert!(!all.is_empty(), "{name}");
            let mut bytes = Vec::new();
            all.iter().for_each(|one| one.encode(&mut bytes));
            let mut rest = bytes.as_slice();
            let read: Vec<_> = std::iter::from_fn(|| Fingerprint::decode(&mut rest)).collect();
            assert_eq!((read, rest.len()), (all, 0), "{name}");
            assert_eq!(Fingerprint::decode(&mut &bytes[..20]), None);
        }
    }

    #[test]
    fn keys_whose_time_has_come_are_left_out_on_request() {
        let bytes = corpus("rdbtools-keys_with_expiry.rdb");
        let [one] = &fingerprints(&bytes, None)[..] else { panic!("one key") };
        let at = Timestamp::from_millis(one.expires_at.expect("it has an expiry"));
        assert_eq!(fingerprints(&bytes, Some(at)).len(), 0);
        assert_eq!(fingerprints(&bytes, Some(Timestamp::from_millis(at.as_millis() - 1))), vec![one.clone()]);
    }

    #[test]
    fn the_value_is_told_apart_from_name_and_expiry() {
        // "a" and "b" hold "v", "b" with an expiry; "c" holds "w".
        let bytes =
            b"REDIS0003\xfe\x00\x00\x01a\x01v\xfc\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01b\x01v\x00\x01c\x01w\xff";
        let mut all = fingerprints(bytes, None);
        all.sort_by(|x, y| x.name.cmp(&y.name));
        let [a, b, c] = &all[..] else { panic!("three keys") };
        assert_eq!(a.value, b.value);
        assert_ne!(a.value, c.value);
        assert_ne!(a.key, b.key);
        assert_eq!((a.expires_at, b.expires_at), (None, Some(1)));
    }
}
