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

/// What follows. Even, where texts begin with an odd byte.
mod tag {
    pub(super) const SCORE: u8 = 2;
    pub(super) const FIELD_EXPIRY: u8 = 4;
    pub(super) const ARRAY_INDEX: u8 = 6;
    pub(super) const ENTRY: u8 = 8;
    pub(super) const LAST_ID: u8 = 10;
    pub(super) const GROUP: u8 = 12;
    pub(super) const PENDING: u8 = 14;
    pub(super) const CONSUMER: u8 = 16;
    pub(super) const HELD: u8 = 18;
    pub(super) const NACKED: u8 = 20;
    pub(super) const SIGNED: u8 = 22;
    pub(super) const UNSIGNED: u8 = 24;
    pub(super) const FLOAT: u8 = 26;
    pub(super) const DOUBLE: u8 = 28;
    /// The hash of an element that is long.
    pub(super) const LONG: u8 = 30;
    pub(super) const SORTED: u8 = 32;
    pub(super) const SUMMED: u8 = 34;
}

/// Seven bits a byte, least significant first; a set high bit says that more follow.
#[inline]
fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// One piece of a text. Pieces are always cut at the same places, so that their lengths are a property
/// of the text.
#[inline]
fn put_text(out: &mut Vec<u8>, bytes: &[u8], last: bool) {
    put_varint(out, (bytes.len() as u64) << 2 | u64::from(last) << 1 | 1);
    out.extend_from_slice(bytes);
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
            let mut elements = std::mem::take(&mut self.elements);
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
    /// The complete elements in `bytes`.
    complete: Vec<Element>,
    /// Where the element at hand begins in `bytes`, if there is one.
    current: Option<usize>,
    /// Of the element at hand, once it is long.
    long: Option<Sha256>,
    /// Of all complete elements, once there are too many to sort.
    summed: Option<Box<Multiset>>,
}

/// Where an element is, and eight bytes of it, which nearly always decide its order.
#[derive(Debug, Clone, Copy)]
struct Element {
    prefix: u64,
    start: u32,
    end: u32,
}

impl Elements {
    fn clear(&mut self) {
        self.bytes.clear();
        self.complete.clear();
        self.current = None;
        self.long = None;
        self.summed = None;
    }

    #[inline]
    fn text(&mut self, bytes: &[u8], last: bool) {
        let start = *self.current.get_or_insert(self.bytes.len());
        put_text(&mut self.bytes, bytes, last);
        self.bound(start);
    }

    #[inline]
    fn put(&mut self, tag: u8, parts: &[&[u8]]) {
        let start = *self.current.get_or_insert(self.bytes.len());
        self.bytes.push(tag);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bound(start);
    }

    #[inline]
    fn bound(&mut self, start: usize) {
        if self.bytes.len() - start > LONG_ELEMENT {
            self.long.get_or_insert_default().update(&self.bytes[start..]);
            self.bytes.truncate(start);
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
        let element = &self.bytes[start..];
        // Behind the first byte, which is a length and would rarely decide.
        let prefix = match element.get(1..9) {
            Some(bytes) => u64::from_be_bytes(bytes.try_into().expect("eight bytes")),
            None => element.iter().skip(1).fold(0, |prefix, byte| prefix << 8 | u64::from(*byte)),
        };
        self.complete.push(Element { prefix, start: start as u32, end: self.bytes.len() as u32 });
        if self.bytes.len() > SORTED_LIMIT {
            let mut summed = Box::<Multiset>::default();
            for element in &self.complete {
                summed.add(&Sha256::digest(element.of(&self.bytes)).into());
            }
            self.summed = Some(summed);
            self.bytes.clear();
            self.complete.clear();
        }
        true
    }

    fn hash_into(&mut self, key: &mut KeyHasher) {
        if let Some(summed) = &self.summed {
            key.gathered.push(tag::SUMMED);
            key.gathered.extend_from_slice(&summed.digest());
            return;
        }
        let bytes = &self.bytes;
        self.complete.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| a.of(bytes).cmp(b.of(bytes))));
        key.gathered.push(tag::SORTED);
        for element in &self.complete {
            // Elements tell their own end: each text in them carries its length.
            key.gathered.extend_from_slice(element.of(bytes));
        }
    }
}

impl Element {
    #[inline]
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}
