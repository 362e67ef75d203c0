//! LZF, the compression of single strings (`lzf_d.c`): literals, and matches at most 8 KiB back.
//!
//! Copies are of fixed sizes, which are single moves, and may go beyond what an instruction gives: the next
//! one writes over it. Both readers look at [`LOOKAHEAD`] bytes at once, which are always there: the end of
//! the input is read from a copy with zeros behind.

/// A compressed string that does not decode to what it claims.
pub(crate) const DAMAGED: &str = "a compressed string does not decode to its length";

/// Matches reach at most this far back.
const REACH: usize = 1 << 13;
/// From here on literals end and matches begin; from the second on, a byte of more length follows.
const MATCH: usize = 32;
const LONG_MATCH: usize = 224;
/// The longest literals and a match behind them: 33 + 3 bytes, rounded up.
const LOOKAHEAD: usize = 40;
/// What these two write at most, rounded up to whole copies.
const ROOM: usize = 32 + 264 + 16;

/// What has been decoded last.
type Window = [u8; WINDOW];
const WINDOW: usize = 128 << 10;
/// What is next fits a window that is filled up to here.
const FULL: usize = WINDOW - ROOM;

fn new_window() -> Box<Window> {
    vec![0; WINDOW].try_into().expect("as long as a window")
}

/// How far a run over instructions came.
struct Run {
    /// Bytes of the input that were read.
    read: usize,
    /// Bytes decoded, those before the run included.
    done: usize,
    /// The next instruction reaches back beyond the beginning.
    damaged: bool,
}

/// Decodes into `window` from `done` on, until it is full or `input` has fewer than [`LOOKAHEAD`] bytes.
fn decode_run(input: &[u8], mut done: usize, window: &mut Window) -> Run {
    let mut rest = input;
    while let Some(ahead) = rest.first_chunk::<LOOKAHEAD>()
        && done < FULL
    {
        let mut control = usize::from(ahead[0]);
        let mut at = 0;
        if control < MATCH {
            copy::<16>(&ahead[1..], &mut window[done..]);
            if control >= 16 {
                copy::<16>(&ahead[17..], &mut window[done + 16..]);
            }
            done += control + 1;
            at = control + 2;
            // Nearly always a match: only the longest literals are followed by more of them.
            control = usize::from(ahead[at]);
            if control < MATCH {
                rest = &rest[at..];
                continue;
            }
        }
        let high = (control & 31) << 8;
        if control < LONG_MATCH {
            let distance = (high | usize::from(ahead[at + 1])) + 1;
            if distance > done {
                return Run { read: input.len() - rest.len() + at, done, damaged: true };
            }
            let count = (control >> 5) + 2;
            if distance < 8 {
                copy_near(window, done, distance, count);
            } else {
                copy_back::<8>(window, done, distance);
            }
            done += count;
            rest = &rest[at + 2..];
        } else {
            let distance = (high | usize::from(ahead[at + 2])) + 1;
            if distance > done {
                return Run { read: input.len() - rest.len() + at, done, damaged: true };
            }
            let count = usize::from(ahead[at + 1]) + 9;
            if distance < 16 {
                copy_near(window, done, distance, count);
            } else {
                copy_back::<16>(window, done, distance);
                for more in (16..count).step_by(16) {
                    copy_back::<16>(window, done + more, distance);
                }
            }
            done += count;
            rest = &rest[at + 3..];
        }
    }
    Run { read: input.len() - rest.len(), done, damaged: false }
}

#[inline(always)]
fn copy<const N: usize>(from: &[u8], to: &mut [u8]) {
    to[..N].copy_from_slice(&from[..N]);
}

#[inline(always)]
fn copy_back<const N: usize>(window: &mut Window, to: usize, distance: usize) {
    let piece: [u8; N] = window[to - distance..to - distance + N].try_into().expect("as long as said");
    window[to..to + N].copy_from_slice(&piece);
}

/// A match that overlaps itself: a repetition.
#[inline(never)]
fn copy_near(window: &mut Window, to: usize, distance: usize, count: usize) {
    let (before, after) = window.split_at_mut(to);
    let pattern = &before[to - distance..];
    match pattern {
        [byte] => after[..count].fill(*byte),
        _ => after[..count].chunks_mut(distance).for_each(|piece| piece.copy_from_slice(&pattern[..piece.len()])),
    }
}

/// As [`decode_run`], without decoding. `done` needs to be exact up to [`REACH`] only.
fn check_run(input: &[u8], mut done: usize) -> Run {
    let mut rest = input;
    while let Some(ahead) = rest.first_chunk::<LOOKAHEAD>() {
        let control = usize::from(ahead[0]);
        if control < MATCH {
            done += control + 1;
            rest = &rest[control + 2..];
            continue;
        }
        let long = control >= LONG_MATCH;
        let low = if long { ahead[2] } else { ahead[1] };
        let distance = ((control & 31) << 8 | usize::from(low)) + 1;
        if distance > done {
            return Run { read: input.len() - rest.len(), done, damaged: true };
        }
        if !long {
            done += (control >> 5) + 2;
            rest = &rest[2..];
        } else {
            done += usize::from(ahead[1]) + 9;
            rest = &rest[3..];
        }
    }
    Run { read: input.len() - rest.len(), done, damaged: false }
}

/// The last bytes of an input, fewer than [`LOOKAHEAD`], with zeros behind: a run over them ends exactly behind
/// their last instruction, or reads more than there were.
struct Tail {
    bytes: [u8; 2 * LOOKAHEAD],
    len: usize,
}

impl Tail {
    fn new(rest: &[u8]) -> Self {
        let mut bytes = [0; 2 * LOOKAHEAD];
        bytes[..rest.len()].copy_from_slice(rest);
        Self { bytes, len: rest.len() }
    }

    fn padded(&self) -> &[u8] {
        &self.bytes[..self.len + LOOKAHEAD - 1]
    }
}

/// Decodes whole strings, one after the other in the same memory.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    window: Option<Box<Window>>,
    /// What does not fit the window.
    long: Vec<u8>,
}

impl Decoder {
    /// Decodes `input` to exactly `len` bytes. What is held grows with what has been decoded, never ahead of
    /// it by what `len` claims.
    #[inline]
    pub(crate) fn decode(&mut self, input: &[u8], len: usize) -> Result<&[u8], &'static str> {
        if len > FULL {
            return self.decode_long(input, len);
        }
        let window = self.window.get_or_insert_with(new_window);
        let run = decode_run(input, 0, window);
        let rest = &input[run.read..];
        if run.damaged || rest.len() >= LOOKAHEAD {
            return Err(DAMAGED);
        }
        let tail = Tail::new(rest);
        let last = decode_run(tail.padded(), run.done, window);
        if last.damaged || last.read != rest.len() || last.done != len {
            return Err(DAMAGED);
        }
        Ok(&window[..len])
    }

    #[cold]
    fn decode_long(&mut self, input: &[u8], len: usize) -> Result<&[u8], &'static str> {
        let mut stream = Stream::new(input.len() as u64, len as u64, true);
        self.long.clear();
        stream.feed(input, WINDOW / 2, |bytes, _| self.long.extend_from_slice(bytes))?;
        Ok(&self.long)
    }
}

/// Checks that `input` would decode to exactly `len` bytes, without doing it.
#[inline]
pub(crate) fn check(input: &[u8], len: usize) -> Result<(), &'static str> {
    let run = check_run(input, 0);
    if run.damaged {
        return Err(DAMAGED);
    }
    let rest = &input[run.read..];
    let tail = Tail::new(rest);
    let last = check_run(tail.padded(), run.done);
    if last.damaged || last.read != rest.len() || last.done != len { Err(DAMAGED) } else { Ok(()) }
}

/// A long compressed string that arrives in pieces: checked, and on request decoded, with a window
/// of what was decoded last and nothing else in memory.
#[derive(Debug)]
pub(crate) struct Stream {
    compressed_left: u64,
    len: u64,
    /// Bytes decoded so far; matches may not reach beyond the start.
    done: u64,
    /// What the last pieces left over: fewer than [`LOOKAHEAD`] bytes.
    carry: Vec<u8>,
    output: Option<Output>,
}

/// Decoded bytes that are handed out in pieces.
#[derive(Debug)]
struct Output {
    window: Box<Window>,
    filled: usize,
    /// So many of `filled` have been handed out.
    emitted: usize,
    /// Not handed out yet, in all.
    left: u64,
}

impl Stream {
    pub(crate) fn new(compressed: u64, len: u64, decode: bool) -> Self {
        let output = decode.then(|| Output { window: new_window(), filled: 0, emitted: 0, left: len });
        Self { compressed_left: compressed, len, done: 0, carry: Vec::new(), output }
    }

    /// How many compressed bytes are still wanted.
    pub(crate) fn wanted(&self) -> u64 {
        self.compressed_left
    }

    /// Goes on with `input`, at most [`Stream::wanted`] bytes; hands out decoded bytes in pieces of
    /// exactly `piece` bytes, at most half a window, and the rest at the end.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        piece: usize,
        mut emit: impl FnMut(&[u8], bool),
    ) -> Result<(), &'static str> {
        self.compressed_left -= input.len() as u64;
        let mut rest = input;
        if !self.carry.is_empty() {
            // What begins in the carry ends in the first bytes of what is new, or all of it is too short.
            let mut both = std::mem::take(&mut self.carry);
            let old = both.len();
            both.extend_from_slice(&rest[..rest.len().min(LOOKAHEAD - 1)]);
            let read = self.run(&both, piece, &mut emit)?;
            match read.checked_sub(old) {
                Some(new) => rest = &rest[new..],
                None => {
                    both.drain(..read);
                    self.carry = both;
                    rest = &[];
                }
            }
        }
        let read = self.run(rest, piece, &mut emit)?;
        self.carry.extend_from_slice(&rest[read..]);
        if self.compressed_left > 0 {
            return Ok(());
        }
        let tail = Tail::new(&self.carry);
        let read = self.run(tail.padded(), piece, &mut emit)?;
        if read != tail.len || self.done != self.len {
            return Err(DAMAGED);
        }
        if let Some(output) = &self.output {
            emit(&output.window[output.emitted..output.filled], true);
        }
        Ok(())
    }

    /// Reads all of `input` but its last bytes, fewer than [`LOOKAHEAD`]; gives how much that is.
    fn run(&mut self, input: &[u8], piece: usize, emit: &mut impl FnMut(&[u8], bool)) -> Result<usize, &'static str> {
        let mut read = 0;
        while input.len() - read >= LOOKAHEAD {
            let damaged = match &mut self.output {
                None => {
                    let start = usize::try_from(self.done).unwrap_or(REACH);
                    let run = check_run(&input[read..], start);
                    self.done += (run.done - start) as u64;
                    read += run.read;
                    run.damaged
                }
                Some(output) => {
                    let run = decode_run(&input[read..], output.filled, &mut output.window);
                    self.done += (run.done - output.filled) as u64;
                    output.filled = run.done;
                    read += run.read;
                    // Before any error: what is handed out does not depend on the split.
                    output.hand_out(piece, emit);
                    run.damaged
                }
            };
            if damaged || self.done > self.len {
                return Err(DAMAGED);
            }
        }
        Ok(read)
    }
}

impl Output {
    /// Hands out whole pieces, and makes room in a window that is full.
    fn hand_out(&mut self, piece: usize, emit: &mut impl FnMut(&[u8], bool)) {
        // The last piece, even a full one, is handed out at the end and says so.
        while self.filled - self.emitted > piece && self.left > piece as u64 {
            emit(&self.window[self.emitted..self.emitted + piece], false);
            self.emitted += piece;
            self.left -= piece as u64;
        }
        if self.filled >= FULL {
            let kept = self.emitted.min(self.filled - REACH);
            self.window.copy_within(kept..self.filled, 0);
            self.emitted -= kept;
            self.filled -= kept;
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
        assert_eq!(Decoder::default().decode(ENCODED, DECODED.len()), Ok(DECODED));
        assert_eq!(check(ENCODED, DECODED.len()), Ok(()));
    }

    #[test]
    fn a_wrong_length_or_distance_is_damage() {
        let mut decoder = Decoder::default();
        for wrong in [0, DECODED.len() - 1, DECODED.len() + 1] {
            assert_eq!(decoder.decode(ENCODED, wrong), Err(DAMAGED));
            assert_eq!(check(ENCODED, wrong), Err(DAMAGED));
        }
        for bytes in [&[32, 5][..], &[0, b'a', 32, 1], &[7 << 5], &[3, b'a']] {
            assert_eq!(decoder.decode(bytes, 4), Err(DAMAGED));
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
            assert!(stream.carry.capacity() < 128);
        }
        assert_eq!(seen, len);
    }
}
