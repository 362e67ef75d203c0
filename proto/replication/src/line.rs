//! Lines out of a byte stream, never longer than a bound.

use bytes::{Bytes, BytesMut};

use crate::ReplicationError;

/// No reply of any server comes near; a peer that sends more without a line end is not one.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// Cuts lines off the front of a buffer, remembering how far it has looked.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    scanned: usize,
}

impl Lines {
    /// The next line without its end (`\n` or `\r\n`), or `None` if more bytes are needed.
    ///
    /// What follows the line stays in `input`. A bare `\n`, which servers send to show that they are
    /// alive, is an empty line.
    pub(crate) fn next(
        &mut self,
        input: &mut BytesMut,
        awaiting: &'static str,
    ) -> Result<Option<Bytes>, ReplicationError> {
        let end = input[self.scanned..].iter().position(|&byte| byte == b'\n').map(|at| self.scanned + at);
        if end.unwrap_or(input.len()) > MAX_LINE {
            return Err(ReplicationError::LineTooLong { awaiting, limit: MAX_LINE });
        }
        let Some(end) = end else {
            self.scanned = input.len();
            return Ok(None);
        };
        self.scanned = 0;
        let mut line = input.split_to(end + 1);
        line.truncate(end);
        if line.ends_with(b"\r") {
            line.truncate(end - 1);
        }
        Ok(Some(line.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_whatever_the_split() {
        let mut lines = Lines::default();
        let mut input = BytesMut::new();
        let mut found = Vec::new();
        for byte in b"\n\n+OK\r\n\r\nlast\nrest" {
            input.extend_from_slice(&[*byte]);
            found.extend(lines.next(&mut input, "a test").expect("short lines"));
        }
        assert_eq!(found, ["", "", "+OK", "", "last"]);
        assert_eq!(&input[..], b"rest");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::default();
        let mut input = BytesMut::from(&vec![b'x'; MAX_LINE][..]);
        assert!(matches!(lines.next(&mut input, "a test"), Ok(None)));
        input.extend_from_slice(b"x");
        assert!(matches!(lines.next(&mut input, "a test"), Err(ReplicationError::LineTooLong { .. })));
    }
}
