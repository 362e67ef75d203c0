//! Where the RDB ends: a known length, or a mark of forty bytes. Without I/O.

use bytes::{Bytes, BytesMut};

use crate::command::parse_number;

const MARK: usize = 40;

/// How a server delimits the RDB that it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// `$<length>`: a file that was saved first.
    Length(u64),
    /// `$EOF:<mark>`: sent while it is made; the same forty bytes follow the last one.
    Mark([u8; MARK]),
}

impl Framing {
    /// Reads the line before the RDB, without its line end.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"$")?;
        match rest.strip_prefix(b"EOF:") {
            Some(mark) => mark.try_into().ok().map(Self::Mark),
            // Servers count in a signed number.
            None => parse_number(rest).filter(|&length| i64::try_from(length).is_ok()).map(Self::Length),
        }
    }
}

/// What there is to take.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// The next bytes of the RDB, never empty.
    Piece(Bytes),
    /// More bytes are needed.
    More,
    /// All bytes were taken, and the RDB ended as it should.
    End,
}

/// Cuts the RDB out of what the connection brings.
#[derive(Debug)]
pub struct Payload {
    framing: Framing,
    taken: u64,
    ended: bool,
}

impl Payload {
    pub fn new(framing: Framing) -> Self {
        Self { ended: framing == Framing::Length(0), framing, taken: 0 }
    }

    /// The length of the RDB, if the server knew it beforehand.
    pub fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(length) => Some(length),
            Framing::Mark(_) => None,
        }
    }

    /// How many bytes of the RDB have been taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the bytes of the RDB off the front of `input`, once there are `at_least` or the RDB ends.
    /// Bytes that are not the RDB's stay there.
    ///
    /// Call it after every read, however little the read brought. A mark ends the RDB only if it is the
    /// last that has arrived, as in `replication.c:readSyncBulkPayload`: nothing follows it, and a
    /// server has one mark for all its life, so that a value in the data may hold it too.
    pub fn take(&mut self, input: &mut BytesMut, at_least: usize) -> Taken {
        if self.ended {
            return Taken::End;
        }
        let available = match &self.framing {
            Framing::Length(length) => {
                let left = length - self.taken;
                let available = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                self.ended = available as u64 == left;
                available
            }
            Framing::Mark(mark) => {
                self.ended = input.ends_with(mark);
                input.len().saturating_sub(MARK)
            }
        };
        if available == 0 && self.ended {
            return Taken::End;
        }
        if available == 0 || (available < at_least && !self.ended) {
            return Taken::More;
        }
        self.taken += available as u64;
        Taken::Piece(input.split_to(available).freeze())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARK_BYTES: &[u8; MARK] = b"c3a6b2f00d0e1c2b3a4958677685940312fedcba";

    #[test]
    fn the_line_before_the_rdb_is_read_or_refused() {
        #[track_caller]
        fn check(line: &[u8], expected: Option<Framing>) {
            assert_eq!(Framing::parse(line), expected);
        }
        check(b"$0", Some(Framing::Length(0)));
        check(b"$123", Some(Framing::Length(123)));
        check(b"$9223372036854775807", Some(Framing::Length(i64::MAX as u64)));
        check(b"$9223372036854775808", None);
        check(b"$99999999999999999999999999", None);
        check(b"$-1", None);
        check(b"$+1", None);
        check(b"$", None);
        check(b"$12 ", None);
        check(b"123", None);
        check(b"$EOF:", None);
        check(b"$EOF:tooshort", None);
        check(&[b"$EOF:", &MARK_BYTES[..]].concat(), Some(Framing::Mark(*MARK_BYTES)));
        check(&[b"$EOF:", &MARK_BYTES[..], b"x"].concat(), None);
        check(b"$ENDOFF:1 2 3 4", None);
    }

    /// Feeds `wire` in pieces of the given sizes; gives the RDB, or `None` if it did not end.
    fn read(framing: Framing, wire: &[u8], sizes: &[usize], at_least: usize) -> (Option<Vec<u8>>, BytesMut) {
        let mut payload = Payload::new(framing);
        let mut input = BytesMut::new();
        let mut rdb = Vec::new();
        let mut wire = wire;
        let mut sizes = sizes.iter().cycle();
        loop {
            match payload.take(&mut input, at_least) {
                Taken::Piece(bytes) => {
                    assert!(!bytes.is_empty());
                    rdb.extend_from_slice(&bytes);
                }
                Taken::End => {
                    assert_eq!(payload.taken(), rdb.len() as u64);
                    return (Some(rdb), input);
                }
                Taken::More if wire.is_empty() => return (None, input),
                Taken::More => {
                    let size = (*sizes.next().expect("cycles")).clamp(1, wire.len());
                    input.extend_from_slice(&wire[..size]);
                    wire = &wire[size..];
                }
            }
        }
    }

    #[test]
    fn a_mark_inside_the_data_does_not_end_it() {
        let wire = [&b"before"[..], MARK_BYTES, b"after", MARK_BYTES].concat();
        let (rdb, _) = read(Framing::Mark(*MARK_BYTES), &wire, &[50, 1], 1);
        assert_eq!(rdb.as_deref(), Some(&wire[..wire.len() - MARK]));
    }

    #[test]
    fn what_follows_a_known_length_is_left_alone() {
        let (rdb, rest) = read(Framing::Length(3), b"RDB\nmore", &[8], 1);
        assert_eq!(rdb.as_deref(), Some(&b"RDB"[..]));
        assert_eq!(&rest[..], b"\nmore");
    }

    proptest! {
        #[test]
        fn the_end_is_found_whatever_the_split(
            rdb in prop::collection::vec(any::<u8>(), 0..400),
            sizes in prop::collection::vec(1_usize..90, 1..20),
            at_least in 1_usize..200,
        ) {
            let length = Framing::Length(rdb.len() as u64);
            prop_assert_eq!(read(length, &rdb, &sizes, at_least).0, Some(rdb.clone()));
            let wire = [&rdb[..], MARK_BYTES].concat();
            prop_assert_eq!(read(Framing::Mark(*MARK_BYTES), &wire, &sizes, at_least).0, Some(rdb.clone()));
        }

        #[test]
        fn parts_of_a_mark_are_data(
            parts in prop::collection::vec(1_usize..MARK, 0..20),
            sizes in prop::collection::vec(1_usize..90, 1..20),
        ) {
            // Beginnings of the mark, each followed by a byte that it does not hold.
            let rdb: Vec<u8> = parts.iter().flat_map(|&part| [&MARK_BYTES[..part], b"!"].concat()).collect();
            let wire = [&rdb[..], MARK_BYTES].concat();
            prop_assert_eq!(read(Framing::Mark(*MARK_BYTES), &wire, &sizes, 1).0, Some(rdb.clone()));
        }

        #[test]
        fn a_cut_is_never_taken_for_the_end(
            rdb in prop::collection::vec(any::<u8>(), 1..200),
            cut in 1_usize..41,
            sizes in prop::collection::vec(1_usize..90, 1..20),
        ) {
            let cut = cut.min(rdb.len());
            let length = Framing::Length(rdb.len() as u64);
            prop_assert_eq!(read(length, &rdb[..rdb.len() - cut], &sizes, 1).0, None);
            let wire = [&rdb[..], MARK_BYTES].concat();
            prop_assert_eq!(read(Framing::Mark(*MARK_BYTES), &wire[..wire.len() - cut], &sizes, 1).0, None);
        }
    }
}
