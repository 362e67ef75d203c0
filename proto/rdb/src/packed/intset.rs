//! Intset (`intset.c`): `u32` width of one number, `u32` count, numbers in ascending order.

use super::Damage;

const HEADER: usize = 8;

/// Checks a whole intset and gives the number of its members.
pub(crate) fn walk(blob: &[u8], each: impl FnMut(i64)) -> Result<u64, Damage> {
    let (header, numbers) = blob.split_first_chunk::<HEADER>().ok_or("an intset is shorter than its header")?;
    let width = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let count = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    match width {
        2 => members::<2>(numbers, count, |b| i64::from(i16::from_le_bytes(b)), each),
        4 => members::<4>(numbers, count, |b| i64::from(i32::from_le_bytes(b)), each),
        8 => members::<8>(numbers, count, i64::from_le_bytes, each),
        _ => Err("an intset's numbers are not 2, 4 or 8 bytes wide"),
    }
}

fn members<const WIDTH: usize>(
    numbers: &[u8],
    count: u32,
    number: impl Fn([u8; WIDTH]) -> i64,
    mut each: impl FnMut(i64),
) -> Result<u64, Damage> {
    let (numbers, rest) = numbers.as_chunks::<WIDTH>();
    if !rest.is_empty() || numbers.len() != count as usize {
        return Err("an intset's count is not that of its numbers");
    }
    // All pairs, so that several are compared at once.
    let pairs = numbers.iter().zip(numbers.iter().skip(1));
    if !pairs.fold(true, |ascending, (a, b)| ascending & (number(*a) < number(*b))) {
        return Err("an intset is not in ascending order");
    }
    numbers.iter().for_each(|bytes| each(number(*bytes)));
    Ok(u64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_is_read() {
        for (blob, expect) in [
            (&[2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 1, 0][..], vec![-1, 1]),
            (&[4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0], vec![65536]),
            (&[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80], vec![i64::MIN]),
        ] {
            let mut seen = Vec::new();
            assert_eq!(walk(blob, |n| seen.push(n)), Ok(expect.len() as u64));
            assert_eq!(seen, expect);
        }
    }

    #[test]
    fn a_wrong_count_width_or_order_is_damage() {
        for blob in [
            &[][..],
            &[2, 0, 0, 0, 1, 0, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0],
            &[2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 7],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0],
        ] {
            assert!(walk(blob, |_| ()).is_err(), "{blob:?}");
        }
    }
}
