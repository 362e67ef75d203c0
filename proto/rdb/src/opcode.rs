//! The bytes that begin what stands between the values (`rdb.h`, RDB_OPCODE_*).

pub(crate) const HASH_TEMPLATE: u8 = 242;
pub(crate) const KEY_META_OR_SLOT_IMPORT: u8 = 243;
pub(crate) const SLOT_INFO: u8 = 244;
pub(crate) const FUNCTION2: u8 = 245;
pub(crate) const FUNCTION_PRE_GA: u8 = 246;
pub(crate) const MODULE_AUX: u8 = 247;
pub(crate) const IDLE: u8 = 248;
pub(crate) const FREQ: u8 = 249;
pub(crate) const AUX: u8 = 250;
pub(crate) const RESIZEDB: u8 = 251;
pub(crate) const EXPIRETIME_MS: u8 = 252;
pub(crate) const EXPIRETIME: u8 = 253;
pub(crate) const SELECTDB: u8 = 254;
pub(crate) const EOF: u8 = 255;
/// Everything up to here is the type of a value, or nothing.
pub(crate) const LAST_TYPE: u8 = HASH_TEMPLATE - 1;
