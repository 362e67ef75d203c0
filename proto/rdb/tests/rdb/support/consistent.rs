//! What must hold of every input, sound or not.

use urtext_rdb::{Depth, Event, Limits, Options, Parser, RdbError, Summary, Verifier};

/// Reads `bytes` at every depth and with the digest, whole and split, and gives the one verdict.
///
/// The same verdict, offset of the error included, at the depths *verify* and *values* and with the digest;
/// whatever they accept has frames with the same keys; and no split changes anything.
#[track_caller]
pub(crate) fn read_consistently(bytes: &[u8]) -> Result<Summary, RdbError> {
    let whole = verified(bytes, bytes.len().max(1), false);
    let digested = verified(bytes, bytes.len().max(1), true);
    let frames = framed(bytes, bytes.len().max(1));
    for size in [1, 7] {
        assert_same(&verified(bytes, size, false), &whole, "split");
        assert_same(&verified(bytes, size, true), &digested, "split, with the digest");
        assert_eq!(framed(bytes, size), frames, "split frames");
    }
    let without = digested.clone().map(|summary| Summary { digest: None, ..summary });
    assert_same(&without, &whole, "values against verify");
    if let (Ok(whole), (keys, result)) = (&whole, &frames) {
        assert_eq!(*result, Ok(()), "frames of what is sound");
        assert_eq!(*keys, whole.keys() + whole.empty_keys, "keys of frames");
    }
    digested
}

/// Where trailing bytes are noticed depends on the feed that brings them; where they begin does not.
#[track_caller]
fn assert_same(a: &Result<Summary, RdbError>, b: &Result<Summary, RdbError>, what: &str) {
    assert_eq!(a, b, "{what}");
}

fn verified(bytes: &[u8], size: usize, digest: bool) -> Result<Summary, RdbError> {
    let mut verifier = Verifier::new(Options { digest, ..Options::default() });
    bytes.chunks(size).try_for_each(|piece| verifier.feed(piece))?;
    verifier.finish()
}

/// How many records begin, and how it ends.
fn framed(bytes: &[u8], size: usize) -> (u64, Result<(), RdbError>) {
    let mut parser = Parser::new(Depth::Frame, Limits::default());
    let mut keys = 0;
    let mut sink = |event: Event<'_>| keys += u64::from(matches!(event, Event::KeyEnd(_)));
    let fed = bytes.chunks(size).try_for_each(|piece| parser.feed(piece, &mut sink));
    let result = fed.and_then(|()| parser.finish()).map(drop);
    (keys, result)
}
