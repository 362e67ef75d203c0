//! The RDB format of Redis and Valkey: read everything, prove everything, fast.
//!
//! - [`Verifier`] proves that bytes are a complete and sound RDB, and counts what is in it.
//! - [`Parser`] is the push parser below it: feed bytes in any split, get [`Event`]s at one of
//!   three [`Depth`]s.
//! - [`DigestBuilder`] makes the [`ContentDigest`], equal for equal data however it is stored, and
//!   [`Collector`] whole values, both from the parser's events.
//! - [`Writer`] frames raw records into a new RDB.
//! - [`loadable_by`] tells whether a server could load the file, before it is asked to.
//!
//! No I/O, no clock, no threads. Foreign bytes become an [`RdbError`] that names the offset: never
//! a panic, and never more memory than a small multiple of what was fed.

mod aux_fields;
mod collection;
mod compatibility;
mod cursor;
mod digest;
mod error;
mod event;
mod header;
mod lzf;
mod machine;
mod magic;
mod module;
mod opcode;
mod packed;
mod parser;
mod slot;
mod stream;
mod text;
mod value;
mod value_type;
mod verify;
mod walk;
mod writer;

pub use aux_fields::AuxFields;
pub use compatibility::{NotLoadable, ServerVersion, loadable_by};
pub use digest::{ContentDigest, DatabaseDigest, Digest, DigestBuilder, PARTS, part_of};
pub use error::RdbError;
pub use event::{
    Checksum, Depth, Event, Item, Key, KeyEnd, ModuleId, ModuleItem, Part, StreamId, StreamItem, StreamTail,
};
pub use header::{HEADER_BYTES, MAX_REDIS_VERSION, RdbHeader, VALKEY_VERSIONS};
pub use parser::Parser;
pub use slot::{SLOTS, key_slot};
pub use text::PIECE;
pub use value::{Collector, HashField, ModulePart, Record, Stream, StreamEntry, StreamGroup, Value};
pub use value_type::{LogicalType, ValueType};
pub use verify::{DatabaseSummary, Options, Summary, TrailingBytes, Verifier};
pub use walk::Limits;
pub use writer::{Unwritable, Writer};
