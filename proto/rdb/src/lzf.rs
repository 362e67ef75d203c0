//! LZF, the compression of single strings (`lzf_d.c`): literals, and matches at most 8 KiB back.

/// A compressed string that does not decode to what it claims.
pub(crate) const DAMAGED: &str = "a compressed string does not decode to its length";

/// Matches reach at most this far back.
const WINDOW: usize = 1 << 13;

/// Literals come at most this many at a time, and matches are copied in halves of it.
const STRIDE: usize = 32;
/// What one instruction may write: its longest match, rounded up to whole copies.
const INSTRUCTION: usize = 264 + STRIDE;

/// Decodes `input` into `output`, which ends up with exactly `len` bytes.
///
/// Copies are of fixed sizes, which are single moves, and may go beyond what an instruction gives: the next
/// one writes over it. `output` grows with what has been decoded, never ahead of it by what `len` claims.
pub(crate) fn decode(input: &[u8], len: usize, output: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut done = 0_usize;
    let mut rest = input;
    while let [control, after @ ..] = rest {
        if output.len() - done < INSTRUCTION {
            output.resize((2 * done).max(4096).min(len) + 2 * INSTRUCTION, 0);
        }
        let control = usize::from(*control);
        let count = if control < 32 {
            let count = control + 1;
            match (after.first_chunk::<STRIDE>(), output[done..].first_chunk_mut::<STRIDE>()) {
                (Some(from), Some(to)) => *to = *from,
                _ => output[done..done + count].copy_from_slice(after.get(..count).ok_or(DAMAGED)?),
            }
            rest = &after[count..];
            count
        } else {
            let (count, distance, used) = reference(control, after).ok_or(DAMAGED)?;
            let from = done.checked_sub(distance).ok_or(DAMAGED)?;
            copy_within(output, from, done, count);
            rest = &after[used..];
            count
        };
        done += count;
        if done > len {
            return Err(DAMAGED);
        }
    }
    output.truncate(done);
    if done == len { Ok(()) } else { Err(DAMAGED) }
}

/// Copies `count` bytes from `from` to `to`, where the two may overlap; there is room for [`INSTRUCTION`].
#[inline]
fn copy_within(output: &mut [u8], from: usize, to: usize, count: usize) {
    const HALF: usize = STRIDE / 2;
    let distance = to - from;
    if distance >= HALF {
        let mut at = 0;
        loop {
            let piece: [u8; HALF] = output[from + at..from + at + HALF].try_into().expect("as long as said");
            output[to + at..to + at + HALF].copy_from_slice(&piece);
            at += HALF;
            if at >= count {
                break;
            }
        }
    } else if distance == 1 {
        let byte = output[from];
        output[to..to + count].fill(byte);
    } else {
        for i in 0..count {
            output[to + i] = output[from + i];
        }
    }
}

/// Checks that `input` would decode to exactly `len` bytes, without doing it.
pub(crate) fn check(input: &[u8], len: usize) -> Result<(), &'static str> {
    let mut done = 0_usize;
    let mut rest = input;
    while let [control, after @ ..] = rest {
        let control = usize::from(*control);
        if control < 32 {
            done += control + 1;
            rest = after.get(control + 1..).ok_or(DAMAGED)?;
        } else {
            let (count, distance, used) = reference(control, after).ok_or(DAMAGED)?;
            if distance > done {
                return Err(DAMAGED);
            }
            done += count;
            rest = &after[used..];
        }
    }
    if done == len { Ok(()) } else { Err(DAMAGED) }
}

/// The length and distance of a match, and how many bytes behind the control byte say so.
#[inline]
fn reference(control: usize, after: &[u8]) -> Option<(usize, usize, usize)> {
    let high = (control & 31) << 8;
    match (control >> 5, after) {
        (7, [more, low, ..]) => Some((usize::from(*more) + 9, (high | usize::from(*low)) + 1, 2)),
        (7, _) => None,
        (n, [low, ..]) => Some((n + 2, (high | usize::from(*low)) + 1, 1)),
        (_, []) => None,
    }
}

/// Appends `count` bytes from `distance` back; the two may overlap.
#[inline]
fn copy_back(output: &mut Vec<u8>, distance: usize, count: usize) {
    let from = output.len() - distance;
    if distance >= count {
        output.extend_from_within(from..from + count);
    } else if distance == 1 {
        let byte = output[from];
        output.resize(output.len() + count, byte);
    } else {
        for i in from..from + count {
            output.push(output[i]);
        }
    }
}

/// A long compressed string that arrives in pieces: checked, and on request decoded, with a window
/// of what was decoded last and nothing else in memory.
#[derive(Debug)]
pub(crate) struct Stream {
    compressed_left: u64,
    len_left: u64,
    /// Bytes decoded so far; matches may not reach beyond the start.
    done: u64,
    /// An instruction that the last piece cut in two: at most three bytes.
    partial: Vec<u8>,
    /// Literals that are still to come.
    literals: usize,
    /// Decoded bytes, of which the first `emitted` have been handed out. Unused when checking.
    output: Vec<u8>,
    emitted: usize,
    decode: bool,
}

impl Stream {
    pub(crate) fn new(compressed: u64, len: u64, decode: bool) -> Self {
        Self {
            compressed_left: compressed,
            len_left: len,
            done: 0,
            partial: Vec::new(),
            literals: 0,
            output: Vec::new(),
            emitted: 0,
            decode,
        }
    }

    /// How many compressed bytes are still wanted.
    pub(crate) fn wanted(&self) -> u64 {
        self.compressed_left
    }

    /// Goes on with `input`, at most [`Stream::wanted`] bytes; hands out decoded bytes in pieces of
    /// exactly `piece` bytes, and the rest at the end.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        piece: usize,
        mut emit: impl FnMut(&[u8], bool),
    ) -> Result<(), &'static str> {
        self.compressed_left -= input.len() as u64;
        let mut rest = input;
        loop {
            if self.literals > 0 {
                let n = self.literals.min(rest.len());
                self.append(n)?;
                if self.decode {
                    self.output.extend_from_slice(&rest[..n]);
                }
                self.literals -= n;
                rest = &rest[n..];
            }
            self.hand_out(piece, &mut emit);
            if rest.is_empty() {
                break;
            }
            // An instruction is one to three bytes: read it from what was left over and what is new.
            let old = self.partial.len();
            self.partial.extend_from_slice(&rest[..rest.len().min(3 - old)]);
            let control = usize::from(self.partial[0]);
            let used = if control < 32 {
                self.literals = control + 1;
                1
            } else if let Some((count, distance, used)) = reference(control, &self.partial[1..]) {
                if distance as u64 > self.done {
                    return Err(DAMAGED);
                }
                self.append(count)?;
                if self.decode {
                    copy_back(&mut self.output, distance, count);
                }
                1 + used
            } else {
                break; // all of `rest` is in `partial` now
            };
            rest = &rest[used - old..];
            self.partial.clear();
        }
        if self.compressed_left > 0 {
            return Ok(());
        }
        if self.len_left > 0 || self.literals > 0 || !self.partial.is_empty() {
            return Err(DAMAGED);
        }
        if self.decode {
            emit(&self.output[self.emitted..], true);
        }
        Ok(())
    }

    fn append(&mut self, n: usize) -> Result<(), &'static str> {
        self.len_left = self.len_left.checked_sub(n as u64).ok_or(DAMAGED)?;
        self.done += n as u64;
        Ok(())
    }

    fn hand_out(&mut self, piece: usize, emit: &mut impl FnMut(&[u8], bool)) {
        // The last piece, even a full one, is handed out at the end and says so.
        while self.output.len() - self.emitted > piece {
            emit(&self.output[self.emitted..self.emitted + piece], false);
            self.emitted += piece;
        }
        if self.emitted > 4 * piece.max(WINDOW) {
            let keep_from = self.emitted.min(self.output.len() - WINDOW);
            self.output.drain(..keep_from);
            self.emitted -= keep_from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ab`, then a match of ten bytes two back, then `c`.
    const ENCODED: &[u8] = &[1, b'a', b'b', 7 << 5, 1, 1, 0, b'c'];
    const DECODED: &[u8] = b"ababababababc";

    #[test]
    fn matches_may_overlap() {
        let mut output = Vec::new();
        assert_eq!(decode(ENCODED, DECODED.len(), &mut output), Ok(()));
        assert_eq!(output, DECODED);
        assert_eq!(check(ENCODED, DECODED.len()), Ok(()));
    }

    #[test]
    fn a_wrong_length_or_distance_is_damage() {
        let mut output = Vec::new();
        for wrong in [0, DECODED.len() - 1, DECODED.len() + 1] {
            assert_eq!(decode(ENCODED, wrong, &mut output), Err(DAMAGED));
            assert_eq!(check(ENCODED, wrong), Err(DAMAGED));
        }
        for bytes in [&[32, 5][..], &[0, b'a', 32, 1], &[7 << 5], &[3, b'a']] {
            assert_eq!(decode(bytes, 4, &mut output), Err(DAMAGED));
            assert_eq!(check(bytes, 4), Err(DAMAGED));
        }
    }

    #[test]
    fn a_stream_decodes_the_same_at_every_split() {
        for size in 1..=ENCODED.len() {
            for piece in 1..=DECODED.len() + 1 {
                let mut stream = Stream::new(ENCODED.len() as u64, DECODED.len() as u64, true);
                let mut output = Vec::new();
                let mut pieces = Vec::new();
                for part in ENCODED.chunks(size) {
                    stream
                        .feed(part, piece, |bytes, last| {
                            output.extend_from_slice(bytes);
                            pieces.push((bytes.len(), last));
                        })
                        .expect("valid");
                }
                assert_eq!(output, DECODED);
                let (last, full) = pieces.split_last().expect("one piece at least");
                assert!(last.1 && last.0 <= piece);
                assert!(full.iter().all(|p| *p == (piece, false)));
            }
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_damage() {
        for cut in 1..ENCODED.len() {
            let mut stream = Stream::new(cut as u64, DECODED.len() as u64, false);
            assert_eq!(stream.feed(&ENCODED[..cut], 64, |_, _| ()), Err(DAMAGED), "cut at {cut}");
        }
    }

    #[test]
    fn a_long_stream_keeps_only_its_window() {
        // One literal and 4,000 matches of 264 bytes, each one byte back: a megabyte of `x`.
        let mut encoded = vec![0, b'x'];
        for _ in 0..4000 {
            encoded.extend_from_slice(&[7 << 5, 255, 0]);
        }
        let len = 1 + 4000 * 264;
        let mut stream = Stream::new(encoded.len() as u64, len, true);
        let mut seen = 0;
        for part in encoded.chunks(100) {
            stream
                .feed(part, 1024, |bytes, _| {
                    assert!(bytes.iter().all(|b| *b == b'x'));
                    seen += bytes.len() as u64;
                })
                .expect("valid");
            assert!(stream.output.capacity() < 128 * 1024);
        }
        assert_eq!(seen, len);
    }
}
