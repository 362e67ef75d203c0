//! Strings of any size on their way through: skipped, checked, or handed out in pieces.

use std::io::Write as _;

use crate::{
    Depth, Event, Item, Part,
    cursor::{Cursor, FaultKind, Stop, StringHead},
    lzf,
    packed::Entry,
    walk::Scratch,
};

/// Texts up to this size are handed out whole; longer ones in pieces of this size.
pub const PIECE: usize = 64 << 10;

/// A string whose head has been read.
#[derive(Debug)]
pub(crate) enum Passing {
    Plain {
        left: u64,
        part: Part,
    },
    /// Compressed bytes that nobody looks at.
    Skipped {
        left: u64,
    },
    /// `read` counts from the first byte of the string's head.
    Compressed {
        stream: Box<lzf::Stream>,
        part: Part,
        read: u64,
    },
}

/// Reads a string at the cursor. Gives it back as [`Passing`] if it does not fit the window; then the
/// caller commits and lets [`Passing::go_on`] finish it.
#[inline]
pub(crate) fn begin<F: FnMut(Event<'_>)>(
    cursor: &mut Cursor<'_>,
    depth: Depth,
    part: Part,
    scratch: &mut Scratch,
    sink: &mut F,
) -> Result<Option<Passing>, Stop> {
    if let Some(bytes) = cursor.plain() {
        if depth == Depth::Values {
            sink(Event::Item(Item::Text { part, bytes, last: true }));
        }
        return Ok(None);
    }
    let at = cursor.position();
    if let Some((bytes, len)) = cursor.compressed() {
        whole(bytes, len, at, depth, part, scratch, sink)?;
        return Ok(None);
    }
    match cursor.string_head()? {
        StringHead::Plain(len)
            if len <= PIECE as u64 || (len <= cursor.remaining() as u64 && depth != Depth::Values) =>
        {
            // Short enough to wait for, or here already: one piece.
            let bytes = cursor.take(len as usize)?;
            if depth == Depth::Values {
                sink(Event::Item(Item::Text { part, bytes, last: true }));
            }
        }
        StringHead::Plain(len) => return Ok(Some(Passing::Plain { left: len, part })),
        StringHead::Integer(n) => {
            if depth == Depth::Values {
                integer(i64::from(n), |bytes| sink(Event::Item(Item::Text { part, bytes, last: true })));
            }
        }
        StringHead::Compressed { compressed, len } => {
            if compressed > cursor.remaining() as u64 && compressed > PIECE as u64 || len > PIECE as u64 {
                return Ok(Some(match depth {
                    Depth::Frame => Passing::Skipped { left: compressed },
                    Depth::Verify | Depth::Values => {
                        let stream = lzf::Stream::new(compressed, len, depth == Depth::Values);
                        Passing::Compressed { stream: Box::new(stream), part, read: (cursor.position() - at) as u64 }
                    }
                }));
            }
            let bytes = cursor.take(compressed as usize)?;
            whole(bytes, len as usize, at, depth, part, scratch, sink)?;
        }
    }
    Ok(None)
}

/// A whole compressed string of at most [`PIECE`] bytes, whose head is at `at`.
#[inline]
fn whole<F: FnMut(Event<'_>)>(
    bytes: &[u8],
    len: usize,
    at: usize,
    depth: Depth,
    part: Part,
    scratch: &mut Scratch,
    sink: &mut F,
) -> Result<(), Stop> {
    let damaged = |what| Cursor::fault_at(at, FaultKind::Damaged(what));
    match depth {
        Depth::Frame => Ok(()),
        Depth::Verify => lzf::check(bytes, len).map_err(damaged),
        Depth::Values => {
            let bytes = scratch.lzf.decode(bytes, len).map_err(damaged)?;
            sink(Event::Item(Item::Text { part, bytes, last: true }));
            Ok(())
        }
    }
}

impl Passing {
    /// Takes what the window holds of the string; `Ok` when it is complete.
    pub(crate) fn go_on<F: FnMut(Event<'_>)>(
        &mut self,
        cursor: &mut Cursor<'_>,
        depth: Depth,
        sink: &mut F,
    ) -> Result<(), Stop> {
        match self {
            Self::Plain { left, part } if depth == Depth::Values => loop {
                let size = (*left).min(PIECE as u64);
                let bytes = cursor.take(size as usize)?;
                cursor.commit();
                *left -= size;
                let last = *left == 0;
                sink(Event::Item(Item::Text { part: *part, bytes, last }));
                if last {
                    return Ok(());
                }
            },
            Self::Plain { left, .. } | Self::Skipped { left } => {
                *left -= cursor.take_up_to(*left).len() as u64;
                cursor.commit();
                if *left == 0 { Ok(()) } else { Err(Stop::More(1)) }
            }
            Self::Compressed { stream, part, read } => {
                let bytes = cursor.take_up_to(stream.wanted());
                *read += bytes.len() as u64;
                cursor.commit();
                stream
                    .feed(bytes, PIECE, |bytes, last| sink(Event::Item(Item::Text { part: *part, bytes, last })))
                    .map_err(|what| cursor.fault_behind(*read, FaultKind::Damaged(what)))?;
                if stream.wanted() == 0 { Ok(()) } else { Err(Stop::More(1)) }
            }
        }
    }
}

/// Hands out an entry of a packed structure as text.
#[inline]
pub(crate) fn entry<F: FnMut(Event<'_>)>(part: Part, entry: Entry<'_>, sink: &mut F) {
    match entry {
        Entry::Bytes(bytes) => pieces(part, bytes, sink),
        Entry::Integer(n) => integer(n, |bytes| sink(Event::Item(Item::Text { part, bytes, last: true }))),
    }
}

/// Hands out a whole text in pieces.
#[inline]
pub(crate) fn pieces<F: FnMut(Event<'_>)>(part: Part, bytes: &[u8], sink: &mut F) {
    let mut rest = bytes;
    while rest.len() > PIECE {
        let (now, later) = rest.split_at(PIECE);
        sink(Event::Item(Item::Text { part, bytes: now, last: false }));
        rest = later;
    }
    sink(Event::Item(Item::Text { part, bytes: rest, last: true }));
}

/// A number as its decimal text: a value is the same whether a server stored it as number or text.
#[inline]
pub(crate) fn integer(n: i64, with: impl FnOnce(&[u8])) {
    // The longest is `-9223372036854775808`.
    let mut buffer = [0_u8; 20];
    let mut at = buffer.len();
    let mut rest = n.unsigned_abs();
    while rest >= 100 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    let [tens, ones] = PAIRS[rest as usize];
    at -= 1;
    buffer[at] = ones;
    if rest >= 10 {
        at -= 1;
        buffer[at] = tens;
    }
    if n < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    with(&buffer[at..]);
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut i = 0;
    while i < 100 {
        pairs[i] = [b'0' + i as u8 / 10, b'0' + i as u8 % 10];
        i += 1;
    }
    pairs
};

/// The decimal text of a number that is kept.
pub(crate) fn integer_text(n: i64) -> Vec<u8> {
    let mut text = Vec::new();
    write!(text, "{n}").expect("writing to memory does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_servers_write_them() {
        for n in [0, 7, -1, 9, 10, 99, 100, 101, -1000, 12_345, i64::MIN, i64::MAX, 1_000_000_007] {
            integer(n, |text| assert_eq!(text, n.to_string().as_bytes()));
            assert_eq!(integer_text(n), n.to_string().as_bytes());
        }
    }
}
