//! The type byte of a value, decided together with the header.

use std::fmt;

use urtext_types::Engine;

use crate::{RdbHeader, cursor::FaultKind};

macro_rules! value_types {
    ($($variant:ident = $byte:literal, $name:literal, $logical:ident, $since:literal;)*) => {
        /// How a value is laid out in the file. Several layouts hold the same [`LogicalType`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ValueType {
            $(#[doc = concat!("`", $name, "`, byte ", stringify!($byte))] $variant,)*
        }

        impl ValueType {
            /// Every layout that can be read.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The byte in the file.
            pub fn byte(self) -> u8 {
                match self { $(Self::$variant => $byte),* }
            }

            /// The layout's name, unique among all.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What a client sees: the answer of TYPE.
            pub fn logical(self) -> LogicalType {
                match self { $(Self::$variant => LogicalType::$logical),* }
            }

            /// The first RDB version whose servers read it; 80 and above count Valkey's versions.
            pub fn since(self) -> u32 {
                match self { $(Self::$variant => $since),* }
            }
        }
    };
}

// Names follow the constants of the servers' rdb.h, without the prefix RDB_TYPE_.
value_types! {
    String = 0, "string", String, 1;
    List = 1, "list", List, 1;
    Set = 2, "set", Set, 1;
    Zset = 3, "zset", Zset, 1;
    Hash = 4, "hash", Hash, 1;
    Zset2 = 5, "zset-2", Zset, 8;
    Module2 = 7, "module-2", Module, 8;
    HashZipmap = 9, "hash-zipmap", Hash, 2;
    ListZiplist = 10, "list-ziplist", List, 2;
    SetIntset = 11, "set-intset", Set, 2;
    ZsetZiplist = 12, "zset-ziplist", Zset, 2;
    HashZiplist = 13, "hash-ziplist", Hash, 4;
    ListQuicklist = 14, "list-quicklist", List, 7;
    StreamListpacks = 15, "stream-listpacks", Stream, 9;
    HashListpack = 16, "hash-listpack", Hash, 10;
    ZsetListpack = 17, "zset-listpack", Zset, 10;
    ListQuicklist2 = 18, "list-quicklist-2", List, 10;
    StreamListpacks2 = 19, "stream-listpacks-2", Stream, 10;
    SetListpack = 20, "set-listpack", Set, 11;
    StreamListpacks3 = 21, "stream-listpacks-3", Stream, 11;
    ValkeyHash2 = 22, "hash-2", Hash, 80;
    HashMetadataPreGa = 22, "hash-metadata-pre-ga", Hash, 12;
    HashListpackExPreGa = 23, "hash-listpack-ex-pre-ga", Hash, 12;
    HashMetadata = 24, "hash-metadata", Hash, 12;
    HashListpackEx = 25, "hash-listpack-ex", Hash, 12;
    StreamListpacks4 = 26, "stream-listpacks-4", Stream, 13;
    StreamListpacks5 = 27, "stream-listpacks-5", Stream, 14;
    Array = 28, "array", Array, 14;
    HashTemplateListpackWhole = 29, "hash-tmpl-lp", Hash, 15;
    HashTemplateListpack = 30, "hash-tmpl-lp-ref", Hash, 15;
    HashTemplateArrayWhole = 31, "hash-tmpl-array", Hash, 15;
    HashTemplateArray = 32, "hash-tmpl-array-ref", Hash, 15;
}

/// Number of layouts, for tables indexed by [`ValueType`] as a number.
pub(crate) const VALUE_TYPES: usize = ValueType::ALL.len();

/// Versions from here on are Valkey's own; 12 to 79 are foreign to it (`rdb.h:RDB_FOREIGN_VERSION_MIN`).
pub(crate) const FIRST_OF_VALKEY: u32 = 80;

/// The newest type byte that both engines share.
const LAST_SHARED: u8 = 21;

impl ValueType {
    /// The layout that `byte` means in a file of this header.
    #[inline]
    pub(crate) fn from_byte(byte: u8, header: RdbHeader) -> Result<Self, FaultKind> {
        if byte <= LAST_SHARED && byte != 6 && byte != 8 {
            return Ok(SHARED[usize::from(byte)]);
        }
        Err(match (header.engine, byte) {
            (_, 6) => FaultKind::Unreadable("a module value from before Redis 4.0's release", byte),
            (Engine::Valkey, 22) => return Ok(Self::ValkeyHash2),
            (Engine::Valkey, 23) if header.version >= 81 => FaultKind::Unreadable("a value of type PATH_HASH", byte),
            (Engine::Redis, 33) => FaultKind::Unreadable("a value of type GCRA", byte),
            (Engine::Redis, _) => match Self::ALL.iter().find(|t| t.byte() == byte && t.since() < FIRST_OF_VALKEY) {
                Some(value_type) => return Ok(*value_type),
                None => FaultKind::UnknownType(byte),
            },
            (Engine::Valkey, _) => FaultKind::UnknownType(byte),
        })
    }
}

impl ValueType {
    /// Whether a file with this header may hold the layout.
    pub fn fits(self, header: RdbHeader) -> bool {
        match header.engine {
            Engine::Redis => self.since() < FIRST_OF_VALKEY && self.since() <= header.version,
            Engine::Valkey => self.byte() <= LAST_SHARED || self.since() >= FIRST_OF_VALKEY,
        }
    }
}

/// By type byte; 6 and 8 are filtered out before.
const SHARED: [ValueType; LAST_SHARED as usize + 1] = [
    ValueType::String,
    ValueType::List,
    ValueType::Set,
    ValueType::Zset,
    ValueType::Hash,
    ValueType::Zset2,
    ValueType::Module2,
    ValueType::Module2,
    ValueType::Module2,
    ValueType::HashZipmap,
    ValueType::ListZiplist,
    ValueType::SetIntset,
    ValueType::ZsetZiplist,
    ValueType::HashZiplist,
    ValueType::ListQuicklist,
    ValueType::StreamListpacks,
    ValueType::HashListpack,
    ValueType::ZsetListpack,
    ValueType::ListQuicklist2,
    ValueType::StreamListpacks2,
    ValueType::SetListpack,
    ValueType::StreamListpacks3,
];

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a client sees, whatever the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogicalType {
    String,
    List,
    Set,
    Zset,
    Hash,
    Stream,
    Array,
    Module,
}

impl fmt::Display for LogicalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
            Self::Array => "array",
            Self::Module => "module",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIS: RdbHeader = RdbHeader { engine: Engine::Redis, version: 12 };
    const VALKEY: RdbHeader = RdbHeader { engine: Engine::Valkey, version: 80 };

    #[test]
    fn every_byte_means_its_layout() {
        for value_type in ValueType::ALL {
            let header = if value_type.since() >= 80 { VALKEY } else { REDIS };
            assert_eq!(ValueType::from_byte(value_type.byte(), header), Ok(*value_type));
        }
    }

    #[test]
    fn the_engines_disagree_on_some_bytes() {
        assert_eq!(ValueType::from_byte(22, VALKEY), Ok(ValueType::ValkeyHash2));
        assert_eq!(ValueType::from_byte(22, REDIS), Ok(ValueType::HashMetadataPreGa));
        assert_eq!(ValueType::from_byte(25, VALKEY), Err(FaultKind::UnknownType(25)));
        assert_eq!(ValueType::from_byte(8, REDIS), Err(FaultKind::UnknownType(8)));
    }
}
