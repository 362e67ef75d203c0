//! The hash of one key: its name, expiry, type and logical value.

use sha2::{Digest as _, Sha256};

use crate::{
    Item, Key, LogicalType, ModuleItem, Part, StreamItem,
    digest::{
        elements::Elements,
        encoding::{put_text, tag},
    },
};

/// What is hashed is gathered up to this size first: hashing many small pieces is slow.
const GATHER: usize = 64 << 10;

/// Hashes one key after another; the buffers are kept.
///
/// # What is hashed
///
/// `type, expiry, key, value`, every part with its length, so that no two contents give the same
/// bytes. Lists and streams are hashed in their order. The elements of sets, sorted sets, hashes and
/// arrays have none in the file: see [`Elements`].
#[derive(Debug, Default)]
pub(super) struct KeyHasher {
    /// Bytes that `hasher` has not seen.
    gathered: Vec<u8>,
    hasher: Option<Sha256>,
    elements: Elements,
    unordered: bool,
    /// The last text had more pieces to come.
    in_text: bool,
    /// Leave out fields whose time has come.
    as_of: Option<i64>,
    /// A hash had fields, and all of them were left out.
    left_out: u64,
    /// Whether anything of the value remained.
    any: bool,
}

fn type_byte(logical: LogicalType) -> u8 {
    match logical {
        LogicalType::String => 1,
        LogicalType::List => 2,
        LogicalType::Set => 3,
        LogicalType::Zset => 4,
        LogicalType::Hash => 5,
        LogicalType::Stream => 6,
        LogicalType::Array => 7,
        LogicalType::Module => 8,
    }
}

impl KeyHasher {
    /// Begins a key. `as_of`: leave out fields whose time has come by then.
    pub(super) fn begin(&mut self, key: &Key<'_>, as_of: Option<i64>) {
        let logical = key.value_type.logical();
        self.gathered.clear();
        self.hasher = None;
        self.in_text = false;
        self.as_of = as_of;
        self.left_out = 0;
        self.any = false;
        self.unordered =
            matches!(logical, LogicalType::Set | LogicalType::Zset | LogicalType::Hash | LogicalType::Array);
        if self.unordered {
            self.elements.clear();
        }
        self.gathered.push(type_byte(logical) << 1 | u8::from(key.expires_at.is_some()));
        if let Some(time) = key.expires_at {
            self.gathered.extend_from_slice(&time.to_le_bytes());
        }
        put_text(&mut self.gathered, key.key, true);
        if let Some(module) = key.module {
            self.gathered.extend_from_slice(&module.0.to_le_bytes());
        }
    }

    #[inline]
    pub(super) fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::Text { part, bytes, last } => {
                let begins_element = matches!(part, Part::Member | Part::Field) && !self.in_text;
                self.in_text = !last;
                if begins_element {
                    self.end_element();
                }
                if self.unordered {
                    self.elements.text(bytes, *last);
                } else {
                    put_text(&mut self.gathered, bytes, *last);
                    self.spill();
                }
            }
            // -0 and 0 are one score: Redis from 7.0 on and Valkey keep the sign in a skiplist and lose it in a
            // listpack (seen on servers of five versions), so a reload may change it. The sum is 0 for both.
            Item::Score(score) => self.put(tag::SCORE, &[&(score + 0.0).to_le_bytes()]),
            Item::FieldExpiry(time) => {
                self.put(tag::FIELD_EXPIRY, &[&time.to_le_bytes()]);
                if self.as_of.is_some_and(|now| *time <= now) {
                    self.elements.drop_current();
                    self.left_out += 1;
                }
            }
            Item::ArrayIndex(index) => {
                self.end_element();
                self.put(tag::ARRAY_INDEX, &[&index.to_le_bytes()]);
            }
            Item::Module(ModuleItem::Signed(n)) => self.put(tag::SIGNED, &[&n.to_le_bytes()]),
            Item::Module(ModuleItem::Unsigned(n)) => self.put(tag::UNSIGNED, &[&n.to_le_bytes()]),
            Item::Module(ModuleItem::Float(n)) => self.put(tag::FLOAT, &[&n.to_le_bytes()]),
            Item::Module(ModuleItem::Double(n)) => self.put(tag::DOUBLE, &[&n.to_le_bytes()]),
            Item::Stream(item) => self.stream(item),
        }
    }

    /// What clients wrote and what groups owe them. Not what versions of the server count differently or
    /// not at all: entries ever added, entries read, when a consumer was last seen, idempotence.
    fn stream(&mut self, item: &StreamItem<'_>) {
        let mut put = |tag, parts: &[&[u8]]| self.put(tag, parts);
        let id = |id: &crate::StreamId| (u128::from(id.millis) << 64 | u128::from(id.sequence)).to_le_bytes();
        let length = |name: &[u8]| (name.len() as u64).to_le_bytes();
        match item {
            StreamItem::Entry(entry) => put(tag::ENTRY, &[&id(entry)]),
            StreamItem::Tail { last_id, .. } => put(tag::LAST_ID, &[&id(last_id)]),
            StreamItem::Group { name, last_id, .. } => put(tag::GROUP, &[&length(name), name, &id(last_id)]),
            StreamItem::Pending { id: pending, delivered_at, deliveries } => {
                put(tag::PENDING, &[&id(pending), &delivered_at.to_le_bytes(), &deliveries.to_le_bytes()]);
            }
            StreamItem::Consumer { name, .. } => put(tag::CONSUMER, &[&length(name), name]),
            StreamItem::ConsumerPending(held) => put(tag::HELD, &[&id(held)]),
            StreamItem::Nacked(nacked) => put(tag::NACKED, &[&id(nacked)]),
            StreamItem::Idempotence { .. }
            | StreamItem::Producer { .. }
            | StreamItem::Produced { .. }
            | StreamItem::IdempotenceCounts { .. } => {}
        }
    }

    /// Ends the key; `None` if nothing of it is left.
    pub(super) fn end(&mut self) -> Option<[u8; 32]> {
        if self.unordered {
            self.end_element();
            if self.left_out > 0 && !self.any {
                return None;
            }
            self.elements.gather(&mut self.gathered);
        }
        Some(match self.hasher.take() {
            None => Sha256::digest(&self.gathered).into(),
            Some(hasher) => hasher.chain_update(&self.gathered).finalize().into(),
        })
    }

    #[inline]
    fn put(&mut self, tag: u8, parts: &[&[u8]]) {
        if self.unordered {
            self.elements.put(tag, parts);
            return;
        }
        self.gathered.push(tag);
        for part in parts {
            self.gathered.extend_from_slice(part);
        }
        self.spill();
    }

    #[inline]
    fn spill(&mut self) {
        if self.gathered.len() > GATHER {
            self.hasher.get_or_insert_default().update(&self.gathered);
            self.gathered.clear();
        }
    }

    fn end_element(&mut self) {
        self.any |= self.elements.end_current();
    }
}
