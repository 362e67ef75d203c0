//! What the parser tells, in the order of the file.

use std::fmt;

use crate::{RdbHeader, ValueType};

/// How deep to read. Each depth pays only for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// Record boundaries, keys, expiries, and the raw bytes of each record ([`Event::Raw`]).
    Frame,
    /// Every inner encoding checked; keys and counts.
    Verify,
    /// Everything that *verify* checks, and the logical content of every value ([`Event::Item`]).
    Values,
}

/// One thing in the file. Borrowed bytes live until the handler returns.
///
/// The same input gives the same events however it is split, with one exception: [`Event::Raw`]
/// comes in as many pieces as the input.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    Header(RdbHeader),
    /// May come between records too: Valkey writes `slot-info` there.
    Aux {
        key: &'a [u8],
        value: &'a [u8],
    },
    /// One function library, as source text.
    Function {
        source: &'a [u8],
    },
    /// What a module keeps beside the keys. Its content follows as [`Item::Module`]s at the depth
    /// *values*, then comes [`Event::ModuleAuxEnd`].
    ModuleAux {
        module: ModuleId,
    },
    ModuleAuxEnd,
    /// The fields that hashes of Redis 8.10 refer to by `id`.
    HashTemplate {
        id: u64,
        fields: &'a [Vec<u8>],
    },
    /// The records that follow are in this database. A database may be selected more than once.
    Database(u32),
    /// How many keys, and keys with an expiry, the writer expected in this database.
    SizeHint {
        keys: u64,
        expires: u64,
    },
    /// Redis in cluster mode: what follows is in this slot.
    SlotInfo {
        slot: u64,
        keys: u64,
        expires: u64,
    },
    /// Valkey: a slot import that was under way.
    SlotImport {
        job: &'a [u8],
    },
    /// A record begins.
    Key(Key<'a>),
    /// Depth *frame*: the next bytes of the record, from its first modifier to its last byte.
    Raw(&'a [u8]),
    /// Depth *values*: the next part of the value.
    Item(Item<'a>),
    /// The record is complete. Only now are its items known to be sound.
    KeyEnd(KeyEnd),
    /// The end mark, and the checksum behind it, which was right.
    End(Checksum),
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Of the record's first byte in the file, modifiers included.
    pub offset: u64,
    pub database: u32,
    pub key: &'a [u8],
    pub value_type: ValueType,
    /// Milliseconds since 1970.
    pub expires_at: Option<i64>,
    /// Seconds since the last access, on servers that evict by age.
    pub idle_seconds: Option<u64>,
    /// The logarithmic access counter, on servers that evict by frequency.
    pub frequency: Option<u8>,
    /// Modules attached metadata to the key (Redis 8.6); it is in the raw bytes only.
    pub has_metadata: bool,
    /// The value of a module type names its module.
    pub module: Option<ModuleId>,
}

/// The end of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEnd {
    /// Length of the record in the file, modifiers included.
    pub bytes: u64,
    /// A collection without elements, which servers drop when they load it (`rdb.c:RDB_LOAD_ERR_EMPTY_KEY`).
    /// Never set at the depth *frame*, which does not look.
    pub empty: bool,
}

/// Which text an [`Item::Text`] is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The value of a string.
    String,
    /// The next element of a list.
    Element,
    /// The next member of a set, or of a sorted set, where an [`Item::Score`] follows.
    Member,
    /// The next field of a hash; its [`Part::FieldValue`] follows.
    Field,
    /// In a hash; an [`Item::FieldExpiry`] may follow.
    FieldValue,
    /// The next field of the stream entry that an [`StreamItem::Entry`] began.
    EntryField,
    EntryValue,
    /// An element of an array; its [`Item::ArrayIndex`] came before.
    ArrayElement,
    /// A string among a module's own encoding.
    Module,
}

/// One part of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Item<'a> {
    /// Texts of up to [`crate::PIECE`] bytes come whole; longer ones in pieces of exactly that size, the
    /// rest with the mark `last`.
    Text {
        part: Part,
        bytes: &'a [u8],
        last: bool,
    },
    /// Of the member before. Never NaN.
    Score(f64),
    /// Of the field before, milliseconds since 1970.
    FieldExpiry(i64),
    ArrayIndex(u64),
    Stream(StreamItem<'a>),
    Module(ModuleItem),
}

/// `milliseconds-sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    pub millis: u64,
    pub sequence: u64,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// A part of a stream, in the order of the file: entries, the stream's own numbers, groups with
/// what they have delivered and to whom, producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamItem<'a> {
    /// An entry begins; its fields follow as [`Part::EntryField`] and [`Part::EntryValue`].
    Entry(StreamId),
    /// `length` and `last_id`; the rest from Redis 7.0 on.
    Tail {
        length: u64,
        last_id: StreamId,
        since_7_0: Option<StreamTail>,
    },
    Group {
        name: &'a [u8],
        last_id: StreamId,
        entries_read: Option<u64>,
    },
    /// Delivered by the group before and not acknowledged.
    Pending {
        id: StreamId,
        delivered_at: i64,
        deliveries: u64,
    },
    Consumer {
        name: &'a [u8],
        seen_at: i64,
        active_at: Option<i64>,
    },
    /// The consumer before holds this pending entry.
    ConsumerPending(StreamId),
    /// Pending in the group, held by nobody (Redis 8.8).
    Nacked(StreamId),
    /// Idempotent producing (Redis 8.6).
    Idempotence {
        duration: u64,
        max_entries: u64,
    },
    Producer {
        name: &'a [u8],
    },
    /// A message of the producer before, and the entry that it became.
    Produced {
        message: &'a [u8],
        id: StreamId,
    },
    IdempotenceCounts {
        added: u64,
        duplicates: u64,
    },
}

/// What streams tell of themselves from Redis 7.0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTail {
    pub first_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
}

/// A module's own encoding, opcode by opcode; its strings come as [`Part::Module`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ModuleItem {
    Signed(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
}

/// A module type's 64-bit id: nine characters and an encoding version (`module.c:moduleTypeEncodeId`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub u64);

impl ModuleId {
    /// The nine characters.
    pub fn name(self) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..9).map(|i| char::from(ALPHABET[(self.0 >> (58 - 6 * i)) as usize & 63])).collect()
    }

    /// The version of the module's encoding, 0 to 1023.
    pub fn encoding_version(self) -> u16 {
        (self.0 & 0x3ff) as u16
    }
}

impl fmt::Display for ModuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name(), self.encoding_version())
    }
}

/// What the eight bytes behind the end mark said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// The CRC64 of all bytes up to the end mark; it was computed here and is the same.
    Verified(u64),
    /// The server wrote none: `rdbchecksum no`, or an RDB version below 5.
    NotComputed,
}
