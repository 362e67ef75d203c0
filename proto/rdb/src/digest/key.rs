//! The hash of one key: its name, expiry, type and logical value.

use sha2::{Digest as _, Sha256};

use crate::{Item, Key, LogicalType, ModuleItem, Part, StreamItem, digest::multiset::Multiset};

/// What is hashed is gathered up to this size first: hashing many small pieces is slow.
const GATHER: usize = 64 << 10;
/// An element of a set longer than this is represented by its hash.
const LONG_ELEMENT: usize = 1 << 10;
/// A set whose elements need more than this is hashed as a [`Multiset`] instead of in sorted order.
const SORTED_LIMIT: usize = 64 << 10;

/// Hashes one key after another; the buffers are kept.
///
/// # What is hashed
///
/// `type, expiry, key, value`, every part with its length, so that no two contents give the same
/// bytes. Lists and streams are hashed in their order. The elements of sets, sorted sets, hashes and
/// arrays have none in the file: small collections are hashed sorted, large ones (a property of the
/// content, not of the layout) as a [`Multiset`] of their elements' hashes.
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

mod tag {
    pub(super) const SCORE: u8 = 1;
    pub(super) const FIELD_EXPIRY: u8 = 2;
    pub(super) const ARRAY_INDEX: u8 = 3;
    pub(super) const ENTRY: u8 = 4;
    pub(super) const LAST_ID: u8 = 5;
    pub(super) const GROUP: u8 = 6;
    pub(super) const PENDING: u8 = 7;
    pub(super) const CONSUMER: u8 = 8;
    pub(super) const HELD: u8 = 9;
    pub(super) const NACKED: u8 = 10;
    pub(super) const SIGNED: u8 = 11;
    pub(super) const UNSIGNED: u8 = 12;
    pub(super) const FLOAT: u8 = 13;
    pub(super) const DOUBLE: u8 = 14;
    pub(super) const TEXT: u8 = 15;
    pub(super) const SORTED: u8 = 16;
    pub(super) const SUMMED: u8 = 17;
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
        self.gathered.push(type_byte(logical));
        self.gathered.push(u8::from(key.expires_at.is_some()));
        self.gathered.extend_from_slice(&key.expires_at.unwrap_or(0).to_le_bytes());
        self.gathered.extend_from_slice(&(key.key.len() as u64).to_le_bytes());
        self.gathered.extend_from_slice(key.key);
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
                // Pieces are always cut at the same places, so their lengths are a property of the text.
                let length = (bytes.len() as u32) << 1 | u32::from(*last);
                self.put(tag::TEXT, &[&length.to_le_bytes(), bytes]);
            }
            Item::Score(score) => self.put(tag::SCORE, &[&score.to_le_bytes()]),
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
            let elements = std::mem::take(&mut self.elements);
            elements.hash_into(self);
            self.elements = elements;
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

/// The elements of a collection without order.
#[derive(Debug, Default)]
struct Elements {
    /// Short elements, and the hashes of long ones, one behind the other.
    bytes: Vec<u8>,
    /// Where each complete element ends in `bytes`.
    ends: Vec<u32>,
    /// Where the element at hand begins in `bytes`, if there is one.
    current: Option<usize>,
    /// Of the element at hand, once it is long.
    long: Option<Sha256>,
    /// Of all complete elements, once there are too many to sort.
    summed: Option<Box<Multiset>>,
}

/// What represents an element: its bytes, or their hash.
const SHORT: u8 = 0;
const LONG: u8 = 1;

impl Elements {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.current = None;
        self.long = None;
        self.summed = None;
    }

    #[inline]
    fn put(&mut self, tag: u8, parts: &[&[u8]]) {
        let start = *self.current.get_or_insert_with(|| {
            let start = self.bytes.len();
            self.bytes.push(SHORT);
            start
        });
        self.bytes.push(tag);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        if self.bytes.len() - start > LONG_ELEMENT {
            self.long.get_or_insert_default().update(&self.bytes[start + 1..]);
            self.bytes.truncate(start + 1);
        }
    }

    fn drop_current(&mut self) {
        if let Some(start) = self.current.take() {
            self.bytes.truncate(start);
            self.long = None;
        }
    }

    /// Completes the element at hand; tells whether there was one.
    #[inline]
    fn end_current(&mut self) -> bool {
        let Some(start) = self.current.take() else { return false };
        if let Some(long) = self.long.take() {
            let hash = long.chain_update(&self.bytes[start + 1..]).finalize();
            self.bytes.truncate(start);
            self.bytes.push(LONG);
            self.bytes.extend_from_slice(&hash);
        }
        if let Some(summed) = &mut self.summed {
            summed.add(&Sha256::digest(&self.bytes[start..]).into());
            self.bytes.truncate(start);
            return true;
        }
        self.ends.push(self.bytes.len() as u32);
        if self.bytes.len() > SORTED_LIMIT {
            let mut summed = Box::<Multiset>::default();
            for element in self.complete() {
                summed.add(&Sha256::digest(element).into());
            }
            self.summed = Some(summed);
            self.bytes.clear();
            self.ends.clear();
        }
        true
    }

    fn complete(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }

    fn hash_into(&self, key: &mut KeyHasher) {
        match &self.summed {
            Some(summed) => {
                key.gathered.push(tag::SUMMED);
                key.gathered.extend_from_slice(&summed.digest());
            }
            None => {
                key.gathered.push(tag::SORTED);
                let mut sorted: Vec<&[u8]> = self.complete().collect();
                sorted.sort_unstable();
                for element in sorted {
                    // Elements tell their own end: each text in them carries its length.
                    key.gathered.extend_from_slice(element);
                }
            }
        }
    }
}
