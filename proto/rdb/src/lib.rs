//! The RDB format of Redis and Valkey: read everything, prove everything, fast.
//!
//! - [`Verifier`] proves that bytes are a complete and sound RDB, and counts what is in it.
//! - [`Parser`] is the push parser below it: feed bytes in any split, get [`Event`]s at one of
//!   three [`Depth`]s.
//! - [`DigestBuilder`] makes the [`ContentDigest`], equal for equal data however it is stored, and
//!   [`Collector`] whole values, both from the parser's events.
//! - [`Portions`] cuts a file into small ones, which several threads digest at once.
//! - [`Writer`] frames raw records into a new RDB.
//! - [`loadable_by`] tells whether a server could load the file, before it is asked to.
//!
//! # What is read
//!
//! RDB versions 1 to 15 under Redis' magic and 80 to 81 under Valkey's, whole: every type and opcode that a released
//! server writes. [`ValueType`] lists the types. What is refused, by name and with its place:
//!
//! | byte | in | what it is | who writes it |
//! | --- | --- | --- | --- |
//! | type 6 | both | a module's value without its own opcodes, whose end only the module knows | release candidates of Redis 4.0 |
//! | type 33 | Redis | GCRA, a rate limiter | builds with `ENABLE_GCRA` only; it was held out of the release |
//! | type 23 | Valkey | PATH_HASH, paths with fields and values | version 81 on, for keys that PHSET made: the release candidates of Valkey 9.2 |
//! | opcode 246 | both | a function library in its first form | release candidates of Redis 7.0 |
//! | opcode 242 | Valkey | UPDATE, a command among the records | Valkey 9.2, to a replica in a forkless synchronization, never into a file |
//! | `VCS` for the magic | | a compressed envelope around a whole file | Valkey 9.2 with `rdbcompression lz4` or `zstd` |
//!
//! Types 22 and 23 of Redis, from release candidates of 7.4, are read. Any other byte is an unknown one.
//!
//! # What it holds
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
mod portions;
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
pub use portions::Portions;
pub use slot::{SLOTS, key_slot};
pub use text::PIECE;
pub use value::{Collector, HashField, ModulePart, Record, Stream, StreamEntry, StreamGroup, Value};
pub use value_type::{LogicalType, ValueType};
pub use verify::{DatabaseSummary, Options, Summary, TrailingBytes, Verifier};
pub use walk::Limits;
pub use writer::{Unwritable, Writer};
