//! Commands as RESP arrays of bulk strings: written as a replica, read as a master.

use bytes::{Buf, Bytes, BytesMut};

use crate::{Quoted, ReplicationError};

/// The longest command of a handshake has seven words; `REPLCONF` takes any number of pairs.
const MAX_WORDS: usize = 64;
/// All of a command. A replica's longest is an `AUTH` with a long password.
const MAX_COMMAND: usize = 64 * 1024;
/// `*`, `$`, digits and `\r\n`.
const MAX_HEADER: usize = 16;

/// The bytes of one command.
pub fn encode(words: &[&str]) -> Vec<u8> {
    // Room for everything from the start: growing would leave copies of a password behind.
    let mut bytes =
        Vec::with_capacity(words.iter().map(|word| word.len() + 2 * MAX_HEADER).sum::<usize>() + MAX_HEADER);
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What a replica sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A bare line end: "I am alive", while it loads (`replication.c:replicationSendNewlineToMaster`).
    Newline,
    Command(Vec<Bytes>),
}

/// Takes one item off the front of a buffer; `None` if more bytes are needed.
///
/// Never lets the buffer grow beyond the bound of one command before it says yes or no.
pub fn decode(input: &mut BytesMut) -> Result<Option<Incoming>, ReplicationError> {
    match input.first() {
        None => Ok(None),
        Some(b'\n') => {
            input.advance(1);
            Ok(Some(Incoming::Newline))
        }
        Some(b'*') => match measure(input)? {
            None if input.len() > MAX_COMMAND => {
                Err(ReplicationError::BadCommand { what: format!("more than {MAX_COMMAND} bytes") })
            }
            None => Ok(None),
            Some((words, end)) => {
                let command = input.split_to(end).freeze();
                Ok(Some(Incoming::Command(words.into_iter().map(|word| command.slice(word)).collect())))
            }
        },
        Some(_) => Err(ReplicationError::BadCommand { what: Quoted::new(&input[..input.len().min(32)]).to_string() }),
    }
}

type Measured = (Vec<std::ops::Range<usize>>, usize);

/// Where the words of a command lie and where it ends, once all of it is there.
fn measure(input: &[u8]) -> Result<Option<Measured>, ReplicationError> {
    let Some((count, mut at)) = header(input, 0, b'*', MAX_WORDS)? else { return Ok(None) };
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((length, start)) = header(input, at, b'$', MAX_COMMAND)? else { return Ok(None) };
        let end = start + length;
        match input.get(end..end + 2) {
            None => return Ok(None),
            Some(b"\r\n") => words.push(start..end),
            Some(other) => return Err(ReplicationError::BadCommand { what: Quoted::new(other).to_string() }),
        }
        at = end + 2;
    }
    Ok(Some((words, at)))
}

/// A number between `kind` and a line end, at most `most`, and where what follows it starts.
fn header(input: &[u8], at: usize, kind: u8, most: usize) -> Result<Option<(usize, usize)>, ReplicationError> {
    let line = &input[at..input.len().min(at + MAX_HEADER)];
    let bad = || ReplicationError::BadCommand { what: Quoted::new(line).to_string() };
    let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
        let plausible = line.len() < MAX_HEADER && line.first().is_none_or(|&byte| byte == kind);
        return if plausible { Ok(None) } else { Err(bad()) };
    };
    let digits = line[..end].strip_prefix(&[kind]).and_then(|rest| rest.strip_suffix(b"\r")).ok_or_else(bad)?;
    let number = parse_number(digits).and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|&number| number <= most).ok_or_else(bad)?;
    Ok(Some((number, at + end + 1)))
}

/// Decimal digits and nothing else: no sign, no space.
pub(crate) fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(bytes: &[u8], split: impl Fn(usize) -> bool) -> Result<Vec<Incoming>, ReplicationError> {
        let mut input = BytesMut::new();
        let mut items = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            input.extend_from_slice(&[*byte]);
            if split(at) {
                while let Some(item) = decode(&mut input)? {
                    items.push(item);
                }
            }
        }
        while let Some(item) = decode(&mut input)? {
            items.push(item);
        }
        Ok(items)
    }

    #[test]
    fn what_is_no_command_is_refused_at_once() {
        #[track_caller]
        fn check(bytes: &[u8]) {
            let result = decode(&mut BytesMut::from(bytes));
            assert!(matches!(result, Err(ReplicationError::BadCommand { .. })), "{result:?}");
        }
        check(b"PING\r\n");
        check(b"GET / HTTP/1.1\r\n");
        check(b"\x16\x03\x01");
        check(b"*65\r\n");
        check(b"*-1\r\n");
        check(b"*18446744073709551617\r\n");
        check(b"*1111111111111111111111");
        check(b"*1\r\n$65537\r\n");
        check(b"*1\r\n$-5\r\n");
        check(b"*1\r\n:4\r\n");
        check(b"*1\n$4\r\n");
        check(b"*1\r\n$4\r\nPINGxx");
    }

    #[test]
    fn a_command_that_never_ends_is_refused() {
        let mut input = BytesMut::from(&b"*64\r\n"[..]);
        while input.len() <= MAX_COMMAND {
            input.extend_from_slice(b"$2000\r\n");
            input.extend_from_slice(&[b'x'; 2000]);
            input.extend_from_slice(b"\r\n");
        }
        assert!(matches!(decode(&mut input), Err(ReplicationError::BadCommand { .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_whatever_the_split(
            commands in prop::collection::vec(prop::collection::vec("[\\PC\r\n]{0,40}", 0..8), 0..6),
            newlines in 0_usize..3,
            splits in prop::collection::vec(any::<bool>(), 1..64),
        ) {
            let mut bytes = vec![b'\n'; newlines];
            let mut expected = vec![Incoming::Newline; newlines];
            for words in &commands {
                bytes.extend(encode(&words.iter().map(String::as_str).collect::<Vec<_>>()));
                expected.push(Incoming::Command(words.iter().map(|word| Bytes::from(word.clone())).collect()));
            }
            let items = decode_all(&bytes, |at| splits[at % splits.len()]).expect("well formed");
            prop_assert_eq!(items, expected);
        }

        #[test]
        fn garbage_is_an_error_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            // Reaching the end without a panic is the assertion.
            let _ = decode_all(&bytes, |_| true);
        }
    }
}
