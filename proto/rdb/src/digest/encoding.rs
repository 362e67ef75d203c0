//! The bytes that are hashed: texts with their length, and marks for all else.

/// What follows. Even, where texts begin with an odd byte.
pub(super) mod tag {
    pub(crate) const SCORE: u8 = 2;
    pub(crate) const FIELD_EXPIRY: u8 = 4;
    pub(crate) const ARRAY_INDEX: u8 = 6;
    pub(crate) const ENTRY: u8 = 8;
    pub(crate) const LAST_ID: u8 = 10;
    pub(crate) const GROUP: u8 = 12;
    pub(crate) const PENDING: u8 = 14;
    pub(crate) const CONSUMER: u8 = 16;
    pub(crate) const HELD: u8 = 18;
    pub(crate) const NACKED: u8 = 20;
    pub(crate) const SIGNED: u8 = 22;
    pub(crate) const UNSIGNED: u8 = 24;
    pub(crate) const FLOAT: u8 = 26;
    pub(crate) const DOUBLE: u8 = 28;
    /// The hash of an element that is long.
    pub(crate) const LONG: u8 = 30;
    pub(crate) const SORTED: u8 = 32;
    pub(crate) const SUMMED: u8 = 34;
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
pub(super) fn put_text(out: &mut Vec<u8>, bytes: &[u8], last: bool) {
    put_varint(out, (bytes.len() as u64) << 2 | u64::from(last) << 1 | 1);
    out.extend_from_slice(bytes);
}
