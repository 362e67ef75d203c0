//! Ziplist (`ziplist.c`, up to Redis 6.2): `u32` total bytes, `u32` offset of the last entry, `u16` count,
//! entries with the length of the one before in front of them, `FF`.

use super::{Damage, Entry};

const HEADER: usize = 10;
const END: u8 = 0xff;
const COUNT_UNKNOWN: u16 = u16::MAX;
const TOO_SHORT: Damage = "a ziplist entry reaches beyond its ziplist";

/// Checks a whole ziplist and gives the number of its entries.
#[inline]
pub(crate) fn walk<'a>(
    blob: &'a [u8],
    mut each: impl FnMut(u64, Entry<'a>) -> Result<(), Damage>,
) -> Result<u64, Damage> {
    let header = blob.first_chunk::<HEADER>().ok_or("a ziplist is shorter than its header")?;
    let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let tail = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    let count = u16::from_le_bytes([header[8], header[9]]);
    if total != blob.len() {
        return Err("a ziplist's length is not that of its string");
    }
    if blob.len() == HEADER || blob.last() != Some(&END) {
        return Err("a ziplist has no end mark");
    }
    let end = blob.len() - 1;
    let (mut at, mut last, mut seen) = (HEADER, HEADER, 0);
    let mut previous = 0;
    while at < end {
        let rest = &blob[at..end];
        let (stored_previous, head) = match rest {
            [0xfe, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 5),
            [0xfe | 0xff, ..] | [] => return Err("a ziplist entry has no valid previous length"),
            [short, ..] => (usize::from(*short), 1),
        };
        if stored_previous != previous {
            return Err("a ziplist entry's previous length is not that of the entry before");
        }
        let (entry, size) = entry(&rest[head..])?;
        each(seen, entry)?;
        last = at;
        previous = head + size;
        at += previous;
        seen += 1;
    }
    if tail != last {
        return Err("a ziplist's tail offset is not that of its last entry");
    }
    if count != COUNT_UNKNOWN && u64::from(count) != seen {
        return Err("a ziplist's count is not that of its entries");
    }
    Ok(seen)
}

/// One entry behind its previous length, and its size.
#[inline]
fn entry(rest: &[u8]) -> Result<(Entry<'_>, usize), Damage> {
    let first = *rest.first().ok_or(TOO_SHORT)?;
    Ok(match first {
        0..=0x3f => bytes(rest, 1, usize::from(first))?,
        0x40..=0x7f => {
            let low = *rest.get(1).ok_or(TOO_SHORT)?;
            bytes(rest, 2, usize::from(first & 0x3f) << 8 | usize::from(low))?
        }
        0x80 => bytes(rest, 5, u32::from_be_bytes(array(rest)?) as usize)?,
        0xc0 => (Entry::Integer(i64::from(i16::from_le_bytes(array(rest)?))), 3),
        0xd0 => (Entry::Integer(i64::from(i32::from_le_bytes(array(rest)?))), 5),
        0xe0 => (Entry::Integer(i64::from_le_bytes(array(rest)?)), 9),
        0xf0 => {
            let [a, b, c] = array(rest)?;
            (Entry::Integer(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)), 4)
        }
        0xfe => (Entry::Integer(i64::from(array::<1>(rest)?[0] as i8)), 2),
        0xf1..=0xfd => (Entry::Integer(i64::from(first & 0x0f) - 1), 1),
        _ => return Err("this byte begins no ziplist entry"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        let (mut last, mut previous) = (HEADER, 0);
        for entry in entries {
            last = HEADER + body.len();
            body.push(previous);
            body.extend_from_slice(entry);
            previous = entry.len() as u8 + 1;
        }
        let mut blob = ((HEADER + body.len() + 1) as u32).to_le_bytes().to_vec();
        blob.extend_from_slice(&(last as u32).to_le_bytes());
        blob.extend_from_slice(&(entries.len() as u16).to_le_bytes());
        blob.extend_from_slice(&body);
        blob.push(END);
        blob
    }

    #[track_caller]
    fn check(encoded: &[u8], expect: Entry<'_>) {
        let blob = ziplist(&[encoded, &[0xf1]]);
        let mut seen = Vec::new();
        let count = walk(&blob, |_, entry| {
            seen.push(format!("{entry:?}"));
            Ok(())
        });
        assert_eq!((count, &seen[0]), (Ok(2), &format!("{expect:?}")));
    }

    #[test]
    fn every_entry_encoding_is_read() {
        check(&[0x02, b'h', b'i'], Entry::Bytes(b"hi"));
        check(&[0x40, 0x01, b'x'], Entry::Bytes(b"x"));
        check(&[0x80, 0, 0, 0, 1, b'y'], Entry::Bytes(b"y"));
        check(&[0xc0, 0xff, 0xff], Entry::Integer(-1));
        check(&[0xd0, 1, 0, 0, 0], Entry::Integer(1));
        check(&[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80], Entry::Integer(i64::MIN));
        check(&[0xf0, 0xfe, 0xff, 0xff], Entry::Integer(-2));
        check(&[0xfe, 0x80], Entry::Integer(-128));
        check(&[0xf1], Entry::Integer(0));
        check(&[0xfd], Entry::Integer(12));
    }

    #[test]
    fn no_flipped_bit_is_a_panic_and_no_cut_is_valid() {
        let blob = ziplist(&[&[0x02, b'h', b'i'], &[0xfe, 7], &[0xc0, 1, 2]]);
        for cut in 0..blob.len() {
            assert!(walk(&blob[..cut], |_, _| Ok(())).is_err());
        }
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(walk(&flipped, |_, _| Ok(())), Ok(3) | Err(_)));
        }
    }
}
