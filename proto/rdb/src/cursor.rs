//! A window on the bytes at hand, and the primitive encodings.
//!
//! A read either completes, or says how many bytes it would have needed, and then nothing has
//! happened: the walk goes on from the last [`Cursor::commit`] when more has arrived. So there is
//! one straight-line reader for whole and for split input, and a contiguous window costs nothing.

/// Why a read stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The window must hold at least this many bytes, counted from the last commit.
    More(usize),
    /// These bytes can never become valid. In a box, so that what most reads give is small.
    Fault(Box<Fault>),
}

impl Stop {
    #[cold]
    fn new(at: i64, kind: FaultKind) -> Self {
        Self::Fault(Box::new(Fault { at, kind }))
    }
}

/// What is wrong, and at which position of the window; negative for what began before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: i64,
    pub(crate) kind: FaultKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FaultKind {
    Damaged(&'static str),
    UnknownType(u8),
    UnknownOpcode(u8),
    Unreadable(&'static str, u8),
    TooLarge { what: &'static str, bytes: u64, limit: u64 },
    Header(crate::RdbError),
}

/// The head of a string: what its body is, before any byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StringHead {
    Plain(u64),
    Integer(i32),
    Compressed { compressed: u64, len: u64 },
}

/// A whole string in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawString<'a> {
    Plain(&'a [u8]),
    Integer(i32),
    Compressed { bytes: &'a [u8], len: usize },
}

/// A length, or the mark of a special encoding in its place.
enum Length {
    Plain(u64),
    Special(u8),
}

/// The first byte of a compressed string.
const COMPRESSED: u8 = 0xc3;
/// A compressed byte decodes to at most so many: the longest match is 264 bytes out of 3.
const MOST_OF_ONE: usize = 88;

/// A length of 14 bits.
#[inline]
fn long(high: u8, low: u8) -> usize {
    usize::from(high & 0x3f) << 8 | usize::from(low)
}

#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
    mark: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0, mark: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.pos
    }

    /// Everything before this has been dealt with.
    pub(crate) fn mark(&self) -> usize {
        self.mark
    }

    /// What has been read so far will not be read again.
    #[inline]
    pub(crate) fn commit(&mut self) {
        self.mark = self.pos;
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// Bytes of the window by position.
    pub(crate) fn range(&self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[from..to]
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Stop> {
        match self.bytes[self.pos..].get(..n) {
            Some(bytes) => {
                self.pos += n;
                Ok(bytes)
            }
            None => Err(Stop::More((self.pos - self.mark).saturating_add(n))),
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take gives as many bytes as asked for"))
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn i64_le(&mut self) -> Result<i64, Stop> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// As many bytes as there are, at most `n`; never asks for more.
    pub(crate) fn take_up_to(&mut self, n: u64) -> &'a [u8] {
        let n = usize::try_from(n).unwrap_or(usize::MAX).min(self.remaining());
        let bytes = &self.bytes[self.pos..self.pos + n];
        self.pos += n;
        bytes
    }

    #[inline]
    fn length_or_special(&mut self) -> Result<Length, Stop> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(low)),
            1 => Length::Plain(u64::from(low) << 8 | u64::from(self.byte()?)),
            3 => Length::Special(low),
            _ => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(self.damaged("this byte begins no length")),
            },
        })
    }

    /// A plain string that is short and whole in the window, as nearly all are. If it is not, nothing has
    /// happened, and the slower reads tell what it is.
    #[inline]
    pub(crate) fn plain(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.pos..];
        let (head, len) = match rest {
            [len @ ..0x40, ..] => (1, usize::from(*len)),
            [high @ 0x40..0x80, low, ..] => (2, long(*high, *low)),
            _ => return None,
        };
        let bytes = rest.get(head..head + len)?;
        self.pos += head + len;
        Some(bytes)
    }

    /// A compressed string that is short and whole in the window, with the length of what it decodes to. As
    /// [`Cursor::plain`]: if it is not one, nothing has happened.
    #[inline]
    pub(crate) fn compressed(&mut self) -> Option<(&'a [u8], usize)> {
        let (head, stored, len) = match &self.bytes[self.pos..] {
            [COMPRESSED, stored @ ..0x40, len @ ..0x40, ..] => (3, usize::from(*stored), usize::from(*len)),
            [COMPRESSED, stored @ ..0x40, high @ 0x40..0x80, low, ..] => (4, usize::from(*stored), long(*high, *low)),
            [COMPRESSED, high @ 0x40..0x80, low, len @ 0x40..0x80, len_low, ..] => {
                (5, long(*high, *low), long(*len, *len_low))
            }
            _ => return None,
        };
        if len > stored * MOST_OF_ONE {
            return None;
        }
        let bytes = self.bytes[self.pos + head..].get(..stored)?;
        self.pos += head + stored;
        Some((bytes, len))
    }

    /// A length or a count.
    #[inline]
    pub(crate) fn length(&mut self) -> Result<u64, Stop> {
        match self.length_or_special()? {
            Length::Plain(n) => Ok(n),
            Length::Special(_) => Err(self.damaged("a string encoding where a length belongs")),
        }
    }

    #[inline]
    pub(crate) fn string_head(&mut self) -> Result<StringHead, Stop> {
        Ok(match self.length_or_special()? {
            Length::Plain(n) => StringHead::Plain(n),
            Length::Special(0) => StringHead::Integer(i32::from(self.byte()? as i8)),
            Length::Special(1) => StringHead::Integer(i32::from(i16::from_le_bytes(self.array()?))),
            Length::Special(2) => StringHead::Integer(i32::from_le_bytes(self.array()?)),
            Length::Special(3) => {
                let (compressed, len) = (self.length()?, self.length()?);
                if len > compressed.saturating_mul(MOST_OF_ONE as u64) {
                    return Err(self.damaged("a compressed string claims more than its bytes can give"));
                }
                StringHead::Compressed { compressed, len }
            }
            Length::Special(_) => return Err(self.damaged("this byte begins no string")),
        })
    }

    /// A whole string of at most `limit` bytes, stored and decoded.
    #[inline]
    pub(crate) fn string(&mut self, what: &'static str, limit: u64) -> Result<RawString<'a>, Stop> {
        let at = self.pos as i64;
        let too_large = |bytes| Stop::new(at, FaultKind::TooLarge { what, bytes, limit });
        let fits = |n: u64| if n <= limit { usize::try_from(n).map_err(|_| too_large(n)) } else { Err(too_large(n)) };
        if let Some(bytes) = self.plain() {
            fits(bytes.len() as u64)?;
            return Ok(RawString::Plain(bytes));
        }
        if let Some((bytes, len)) = self.compressed() {
            fits(bytes.len() as u64)?;
            fits(len as u64)?;
            return Ok(RawString::Compressed { bytes, len });
        }
        let head = self.string_head()?;
        Ok(match head {
            StringHead::Plain(n) => RawString::Plain(self.take(fits(n)?)?),
            StringHead::Integer(n) => RawString::Integer(n),
            StringHead::Compressed { compressed, len } => {
                let (compressed, len) = (fits(compressed)?, fits(len)?);
                RawString::Compressed { bytes: self.take(compressed)?, len }
            }
        })
    }

    /// Refuses to let what is read between two commits grow beyond `limit`.
    pub(crate) fn bound_unit(&self, limit: u64) -> Result<(), Stop> {
        let bytes = (self.pos - self.mark) as u64;
        if bytes <= limit {
            return Ok(());
        }
        Err(Self::fault_at(self.mark, FaultKind::TooLarge { what: "a list that belongs to one opcode", bytes, limit }))
    }

    pub(crate) fn damaged(&self, what: &'static str) -> Stop {
        self.fault(FaultKind::Damaged(what))
    }

    /// A fault at the current position; for a byte just read, that is one behind it.
    pub(crate) fn fault(&self, kind: FaultKind) -> Stop {
        Stop::new(self.pos as i64, kind)
    }

    pub(crate) fn fault_at(at: usize, kind: FaultKind) -> Stop {
        Stop::new(at as i64, kind)
    }

    /// A fault in something that began `bytes` before the current position, maybe in an earlier window.
    pub(crate) fn fault_behind(&self, bytes: u64, kind: FaultKind) -> Stop {
        Stop::new((self.pos as i64).saturating_sub_unsigned(bytes), kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expect: StringHead) {
        assert_eq!(Cursor::new(bytes).string_head(), Ok(expect));
        for cut in 0..bytes.len() {
            assert!(matches!(Cursor::new(&bytes[..cut]).string_head(), Err(Stop::More(n)) if n > cut));
        }
    }

    #[test]
    fn every_string_head_is_read() {
        check(&[0x05], StringHead::Plain(5));
        check(&[0x41, 0x02], StringHead::Plain(258));
        check(&[0x80, 0, 1, 0, 0], StringHead::Plain(65536));
        check(&[0x81, 0, 0, 0, 1, 0, 0, 0, 0], StringHead::Plain(1 << 32));
        check(&[0xc0, 0xff], StringHead::Integer(-1));
        check(&[0xc1, 0x00, 0x80], StringHead::Integer(-32768));
        check(&[0xc2, 1, 0, 0, 0], StringHead::Integer(1));
        check(&[0xc3, 10, 0x40, 100], StringHead::Compressed { compressed: 10, len: 100 });
    }

    #[test]
    fn short_compressed_strings_are_read_as_long_ones_are() {
        for lengths in
            [&[4, 10][..], &[4, 0x41, 0x02], &[0x40, 70, 0x41, 0x02], &[0x40, 4, 10], &[0x80, 0, 0, 0, 4, 10]]
        {
            let mut bytes = [&[COMPRESSED], lengths].concat();
            let head = Cursor::new(&bytes).string_head();
            let Ok(StringHead::Compressed { compressed, len }) = head else { panic!("{head:?}") };
            bytes.resize(bytes.len() + compressed as usize, b'x');
            let mut cursor = Cursor::new(&bytes);
            let expect = RawString::Compressed { bytes: &bytes[1 + lengths.len()..], len: len as usize };
            assert_eq!(cursor.string("text", 1000), Ok(expect));
            assert_eq!(cursor.remaining(), 0);
            let cut = Cursor::new(&bytes[..bytes.len() - 1]).string("text", 1000);
            assert_eq!(cut, Err(Stop::More(bytes.len())));
            assert!(matches!(Cursor::new(&bytes).string("text", 9), Err(Stop::Fault(_))));
        }
        // More than the bytes can give.
        assert!(matches!(Cursor::new(&[COMPRESSED, 1, 0x40, 89, 0]).string("text", 1000), Err(Stop::Fault(_))));
    }

    #[test]
    fn a_length_that_is_none_is_damage() {
        assert!(matches!(Cursor::new(&[0x82, 0, 0]).length(), Err(Stop::Fault(_))));
        assert!(matches!(Cursor::new(&[0xc0, 0]).length(), Err(Stop::Fault(_))));
        assert!(matches!(Cursor::new(&[0xc4, 0]).string_head(), Err(Stop::Fault(_))));
        assert!(matches!(Cursor::new(&[0xc3, 1, 0x40, 100]).string_head(), Err(Stop::Fault(_))));
    }
}
