//! Listpack (`listpack.c`): `u32` total bytes, `u16` count, entries with their length behind them, `FF`.

use super::{Damage, Entry};

const HEADER: usize = 6;
const END: u8 = 0xff;
/// The count does not fit its field: only the walk tells.
const COUNT_UNKNOWN: u16 = u16::MAX;

const TOO_SHORT: Damage = "a listpack entry reaches beyond its listpack";

const ENDS_EARLY: Damage = "a listpack ends before its last entry";

/// Sizes of entries by their first byte, where it alone tells them; else 0.
const SHORT_SIZE: [u8; 256] = {
    let mut sizes = [0; 256];
    let mut first = 0;
    while first < 256 {
        sizes[first] = match first {
            0..=0x7f => 1,
            0x80..=0xbf => 1 + (first as u8 & 0x3f),
            0xc0..=0xdf => 2,
            0xf1..=0xf3 => (first - 0xf1) as u8 + 3,
            0xf4 => 9,
            _ => 0,
        };
        first += 1;
    }
    sizes
};

/// The entries of a listpack, each checked as it is read.
#[derive(Debug)]
pub(crate) struct Listpack<'a> {
    /// From the next entry to the end mark, inclusive.
    rest: &'a [u8],
    count: u16,
    seen: u64,
}

impl<'a> Listpack<'a> {
    pub(crate) fn new(blob: &'a [u8]) -> Result<Self, Damage> {
        let (header, rest) = blob.split_first_chunk::<HEADER>().ok_or("a listpack is shorter than its header")?;
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if total as usize != blob.len() {
            return Err("a listpack's length is not that of its string");
        }
        if rest.last() != Some(&END) {
            return Err("a listpack has no end mark");
        }
        Ok(Self { rest, count: u16::from_le_bytes([header[4], header[5]]), seen: 0 })
    }

    /// The next entry, or `None` at the end mark, where the count is checked.
    #[inline]
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry<'a>>, Damage> {
        let rest = self.rest;
        let first = *rest.first().ok_or(TOO_SHORT)?;
        // The header of an entry may need up to nine bytes; reading it must not run over the end.
        let (entry, size) = match first {
            0..=0x7f => (Entry::Integer(i64::from(first)), 1),
            0x80..=0xbf => bytes(rest, 1, usize::from(first & 0x3f))?,
            0xc0..=0xdf => {
                let low = *rest.get(1).ok_or(TOO_SHORT)?;
                let unsigned = i64::from(first & 0x1f) << 8 | i64::from(low);
                (Entry::Integer(if unsigned >= 1 << 12 { unsigned - (1 << 13) } else { unsigned }), 2)
            }
            0xe0..=0xef => {
                let low = *rest.get(1).ok_or(TOO_SHORT)?;
                bytes(rest, 2, usize::from(first & 0x0f) << 8 | usize::from(low))?
            }
            0xf0 => bytes(rest, 5, u32::from_le_bytes(array(rest)?) as usize)?,
            0xf1 => (Entry::Integer(i64::from(i16::from_le_bytes(array(rest)?))), 3),
            0xf2 => {
                let [a, b, c] = array(rest)?;
                (Entry::Integer(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)), 4)
            }
            0xf3 => (Entry::Integer(i64::from(i32::from_le_bytes(array(rest)?))), 5),
            0xf4 => (Entry::Integer(i64::from_le_bytes(array(rest)?)), 9),
            END if rest.len() == 1 => {
                if self.count != COUNT_UNKNOWN && u64::from(self.count) != self.seen {
                    return Err("a listpack's count is not that of its entries");
                }
                return Ok(None);
            }
            0xf5..=0xff => return Err("this byte begins no listpack entry"),
        };
        let back = check_back_length(&rest[size..], size)?;
        self.rest = &rest[size + back..];
        self.seen += 1;
        Ok(Some(entry))
    }

    /// Checks the next entry as [`Listpack::next_entry`] does, without reading it; whether there was one.
    #[inline]
    pub(crate) fn skip_entry(&mut self) -> Result<bool, Damage> {
        if let Some((_, size)) = self.short() {
            self.rest = &self.rest[size + 1..];
            self.seen += 1;
            return Ok(true);
        }
        Ok(self.next_entry()?.is_some())
    }

    /// As [`Listpack::skip_entry`], where there must be an entry.
    #[inline]
    pub(crate) fn skip_required(&mut self) -> Result<(), Damage> {
        if self.skip_entry()? { Ok(()) } else { Err(ENDS_EARLY) }
    }

    /// First byte and size of the next entry if the byte alone tells the size, and the back length is right.
    #[inline]
    fn short(&self) -> Option<(u8, usize)> {
        let first = *self.rest.first()?;
        let size = SHORT_SIZE[usize::from(first)];
        (size > 0 && self.rest.get(usize::from(size)) == Some(&size)).then_some((first, usize::from(size)))
    }

    /// The next entry, which must be there and be a number.
    #[inline]
    pub(crate) fn next_integer(&mut self) -> Result<i64, Damage> {
        if let Some((first @ ..0x80, _)) = self.short() {
            self.rest = &self.rest[2..];
            self.seen += 1;
            return Ok(i64::from(first));
        }
        self.next_required()?.integer().ok_or("a listpack entry is not the number that it must be")
    }

    /// The next entry, which must be there.
    pub(crate) fn next_required(&mut self) -> Result<Entry<'a>, Damage> {
        self.next_entry()?.ok_or(ENDS_EARLY)
    }
}

#[inline]
fn bytes(rest: &[u8], header: usize, len: usize) -> Result<(Entry<'_>, usize), Damage> {
    let text = rest.get(header..).and_then(|after| after.get(..len)).ok_or(TOO_SHORT)?;
    Ok((Entry::Bytes(text), header + len))
}

#[inline]
fn array<const N: usize>(rest: &[u8]) -> Result<[u8; N], Damage> {
    rest.get(1..).and_then(|after| after.first_chunk()).copied().ok_or(TOO_SHORT)
}

/// Behind each entry stands its size, seven bits a byte, to be read backwards; the first byte of the
/// field (the last one read) has no continuation bit. Gives the field's size.
///
/// Where seven bits run out, servers disagree (`listpack.c:lpEncodeBacklen`): a size of exactly 16383 takes
/// three bytes in Redis and in Valkey up to 8.1, two in Valkey 9.1; the same one and two bytes on.
#[inline]
fn check_back_length(after: &[u8], size: usize) -> Result<usize, Damage> {
    if size < 128 {
        return if after.first() == Some(&(size as u8)) { Ok(1) } else { Err(WRONG_BACK_LENGTH) };
    }
    let field = match size {
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    };
    if back_length_is(after, size, field) {
        Ok(field)
    } else if matches!(size, 16_383 | 2_097_151 | 268_435_455) && back_length_is(after, size, field - 1) {
        Ok(field - 1)
    } else {
        Err(WRONG_BACK_LENGTH)
    }
}

const WRONG_BACK_LENGTH: Damage = "a listpack entry's back length is not its size";

#[inline]
fn back_length_is(after: &[u8], size: usize, field: usize) -> bool {
    let Some(stored) = after.get(..field) else { return false };
    let mut rest = size;
    for (i, byte) in stored.iter().enumerate().rev() {
        let continues = if i > 0 { 0x80 } else { 0 };
        if *byte != (rest & 0x7f) as u8 | continues {
            return false;
        }
        rest >>= 7;
    }
    rest == 0
}

/// Checks a whole listpack and gives the number of its entries.
#[inline]
pub(crate) fn walk<'a>(
    blob: &'a [u8],
    mut each: impl FnMut(u64, Entry<'a>) -> Result<(), Damage>,
) -> Result<u64, Damage> {
    let mut listpack = Listpack::new(blob)?;
    while let Some(entry) = listpack.next_entry()? {
        each(listpack.seen - 1, entry)?;
    }
    Ok(listpack.seen)
}

/// As [`walk`], for those who do not read the entries.
#[inline]
pub(crate) fn count(blob: &[u8]) -> Result<u64, Damage> {
    let mut listpack = Listpack::new(blob)?;
    while listpack.skip_entry()? {}
    Ok(listpack.seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listpack(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        for entry in entries {
            body.extend_from_slice(entry);
            let size = entry.len();
            match size {
                ..128 => body.push(size as u8),
                _ => body.extend_from_slice(&[(size >> 7) as u8, (size & 0x7f) as u8 | 0x80]),
            }
        }
        let mut blob = ((body.len() + 7) as u32).to_le_bytes().to_vec();
        blob.extend_from_slice(&(entries.len() as u16).to_le_bytes());
        blob.extend_from_slice(&body);
        blob.push(END);
        blob
    }

    #[track_caller]
    fn check(encoded: &[u8], expect: Entry<'_>) {
        let blob = listpack(&[encoded]);
        let mut seen = Vec::new();
        let count = walk(&blob, |_, entry| {
            seen.push(format!("{entry:?}"));
            Ok(())
        });
        assert_eq!((count, seen), (Ok(1), vec![format!("{expect:?}")]));
        assert_eq!(super::count(&blob), Ok(1));
    }

    #[test]
    fn every_entry_encoding_is_read() {
        check(&[0x7f], Entry::Integer(127));
        check(&[0x83, b'a', b'b', b'c'], Entry::Bytes(b"abc"));
        check(&[0xdf, 0xff], Entry::Integer(-1));
        check(&[0xc1, 0x00], Entry::Integer(256));
        check(&[0xf1, 0x00, 0x80], Entry::Integer(-32768));
        check(&[0xf2, 0xff, 0xff, 0xff], Entry::Integer(-1));
        check(&[0xf2, 0x01, 0x00, 0x00], Entry::Integer(1));
        check(&[0xf3, 0, 0, 0, 0x80], Entry::Integer(i64::from(i32::MIN)));
        check(&[0xf4, 0, 0, 0, 0, 0, 0, 0, 0x80], Entry::Integer(i64::MIN));
        let text = [b'x'; 300];
        let medium: Vec<u8> = [0xe1, 0x2c].into_iter().chain(text).collect();
        check(&medium, Entry::Bytes(&text));
        let long: Vec<u8> = [0xf0, 0x2c, 0x01, 0, 0].into_iter().chain(text).collect();
        check(&long, Entry::Bytes(&text));
    }

    #[test]
    fn both_forms_of_a_back_length_are_read_where_servers_disagree() {
        for (size, fields) in [
            (16_382, &[&[0x7f, 0xfe][..]][..]),
            (16_383, &[&[0x7f, 0xff], &[0x00, 0xff, 0xff]]),
            (16_384, &[&[0x01, 0x80, 0x80]]),
            (2_097_151, &[&[0x7f, 0xff, 0xff], &[0x00, 0xff, 0xff, 0xff]]),
        ] {
            for field in fields {
                assert_eq!(check_back_length(field, size), Ok(field.len()), "{size}");
                assert!(check_back_length(field, size - 1).is_err());
            }
        }
        assert!(check_back_length(&[0x00, 0xff, 0xfe], 16_382).is_err());
    }

    #[test]
    fn no_flipped_bit_is_a_panic_and_no_cut_is_valid() {
        let blob = listpack(&[&[5], &[0x82, b'h', b'i'], &[0xf1, 1, 2], &[0xe0, 3, b'a', b'b', b'c']]);
        for cut in 0..blob.len() {
            assert!(walk(&blob[..cut], |_, _| Ok(())).is_err());
            assert!(count(&blob[..cut]).is_err());
        }
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // A flip inside an entry's payload gives another valid listpack of as many entries.
            let walked = walk(&flipped, |_, _| Ok(()));
            assert!(matches!(walked, Ok(4) | Err(_)));
            assert_eq!(count(&flipped), walked);
        }
    }
}
