//! Values of any bytes: the same events for every split; whole values and the digest come of all of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use urtext_rdb::{Collector, Depth, Digest, DigestBuilder, Event, Limits, Parser, Record};

fn read(input: &[u8], size: usize) -> (Vec<Record>, Digest, bool) {
    let mut parser = Parser::new(Depth::Values, Limits::default());
    let (mut collector, mut records, mut digest) = (Collector::new(), Vec::new(), DigestBuilder::new());
    let mut sink = |event: Event<'_>| {
        digest.event(&event);
        records.extend(collector.event(&event));
    };
    let sound = input.chunks(size).try_for_each(|piece| parser.feed(piece, &mut sink)).is_ok();
    (records, digest.finish().root(), sound)
}

fuzz_target!(|input: &[u8]| {
    let (records, digest, sound) = read(input, input.len().max(1));
    let size = usize::from(input.last().copied().unwrap_or(0) % 16) + 1;
    let (again, digest_again, sound_again) = read(input, size);
    // As text: a module's numbers may be no numbers.
    assert_eq!(format!("{records:?}"), format!("{again:?}"));
    assert_eq!((digest, sound), (digest_again, sound_again));
});
