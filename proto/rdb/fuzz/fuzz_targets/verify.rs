//! Verification of any bytes: the same verdict for every split, and for a file that is verified the deeper
//! reading succeeds too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use urtext_rdb::{Depth, Limits, Options, Parser, RdbError, Summary, Verifier};

fn verify(input: &[u8], size: usize) -> Result<Summary, RdbError> {
    let mut verifier = Verifier::new(Options::default());
    input.chunks(size).try_for_each(|piece| verifier.feed(piece))?;
    verifier.finish()
}

fuzz_target!(|input: &[u8]| {
    let whole = verify(input, input.len().max(1));
    let size = usize::from(input.last().copied().unwrap_or(0) % 16) + 1;
    let split = verify(input, size);
    match (&whole, &split) {
        // Where trailing bytes begin is told by the feed that holds them.
        (Err(RdbError::TrailingBytes { .. }), Err(RdbError::TrailingBytes { .. })) => {}
        _ => assert_eq!(whole, split),
    }
    if whole.is_ok() {
        let mut parser = Parser::new(Depth::Values, Limits::default());
        parser.feed(input, &mut |_| ()).expect("what is verified can be read");
    }
});
