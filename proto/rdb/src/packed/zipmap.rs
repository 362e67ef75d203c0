//! Zipmap (`zipmap.c`, up to Redis 2.4): a count, then length and field, length, free bytes and value, …, `FF`.

use super::Damage;

const TOO_SHORT: Damage = "a zipmap entry reaches beyond its zipmap";
/// The count does not fit its byte: only the walk tells.
const COUNT_UNKNOWN: u8 = 254;

/// Checks a whole zipmap and gives the number of its pairs; `each` gets field and value.
pub(crate) fn walk<'a>(blob: &'a [u8], mut each: impl FnMut(&'a [u8], &'a [u8])) -> Result<u64, Damage> {
    let (&count, mut rest) = blob.split_first().ok_or("a zipmap is empty")?;
    let mut seen = 0_u64;
    loop {
        if rest == [0xff] {
            break;
        }
        let field = text(&mut rest, false)?;
        let value = text(&mut rest, true)?;
        each(field, value);
        seen += 1;
    }
    if count < COUNT_UNKNOWN && u64::from(count) != seen {
        return Err("a zipmap's count is not that of its pairs");
    }
    Ok(seen)
}

/// One length-prefixed text; values carry a count of free bytes behind them.
fn text<'a>(rest: &mut &'a [u8], is_value: bool) -> Result<&'a [u8], Damage> {
    let (len, mut after) = match rest {
        [254, a, b, c, d, after @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, after),
        [254 | 255, ..] | [] => return Err(TOO_SHORT),
        [len, after @ ..] => (usize::from(*len), after),
    };
    let mut free = 0;
    if is_value {
        let (&n, behind) = after.split_first().ok_or(TOO_SHORT)?;
        (free, after) = (usize::from(n), behind);
    }
    let (text, behind) = after.split_at_checked(len).ok_or(TOO_SHORT)?;
    *rest = behind.get(free..).ok_or(TOO_SHORT)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_past_free_bytes() {
        let blob = [2, 1, b'a', 1, 2, b'1', 0, 0, 254, 1, 0, 0, 0, b'b', 0, 0, 0xff];
        let mut seen = Vec::new();
        assert_eq!(walk(&blob, |field, value| seen.push((field, value))), Ok(2));
        assert_eq!(seen, [(&b"a"[..], &b"1"[..]), (b"b", b"")]);
    }

    #[test]
    fn a_cut_or_a_wrong_count_is_damage() {
        let blob = [1, 1, b'a', 1, 0, b'1', 0xff];
        for cut in 0..blob.len() {
            assert!(walk(&blob[..cut], |_, _| ()).is_err());
        }
        assert!(walk(&[2, 1, b'a', 1, 0, b'1', 0xff], |_, _| ()).is_err());
    }
}
