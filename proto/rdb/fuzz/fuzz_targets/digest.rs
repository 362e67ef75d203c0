//! Digests of any bytes: the same for every split, and the sum of the digests of the records taken apart.
#![no_main]

use libfuzzer_sys::fuzz_target;
use urtext_rdb::{ContentDigest, Depth, DigestBuilder, Event, Limits, Options, Parser, Portions, Verifier};
use urtext_types::Timestamp;

/// The digest of the records whose number modulo `of` is `number`; of functions, in the first.
fn digest(input: &[u8], size: usize, number: u64, of: u64) -> (ContentDigest, bool) {
    let mut parser = Parser::new(Depth::Values, Limits::default());
    let (mut digest, mut record, mut in_record) = (DigestBuilder::new(), 0, false);
    let mut sink = |event: Event<'_>| {
        in_record |= matches!(event, Event::Key(_));
        if (if in_record { record % of } else { 0 }) == number {
            digest.event(&event);
        }
        if matches!(event, Event::KeyEnd(_)) {
            in_record = false;
            record += 1;
        }
    };
    let sound = input.chunks(size).try_for_each(|piece| parser.feed(piece, &mut sink)).is_ok();
    let sound = sound && parser.finish().is_ok();
    (digest.finish(), sound)
}

fuzz_target!(|input: &[u8]| {
    let (whole, sound) = digest(input, input.len().max(1), 0, 1);
    let size = usize::from(input.last().copied().unwrap_or(0) % 16) + 1;
    let mut sum = ContentDigest::default();
    for number in 0..3 {
        sum.merge(&digest(input, size, number, 3).0);
    }
    assert_eq!(sum, whole);
    assert_eq!(sum.root(), whole.root());
    assert!(sum.differences(&whole).is_empty());

    let mut verifier = Verifier::new(Options { digest: true, ..Options::default() });
    let verified = verifier.feed(input).and_then(|()| verifier.finish());
    assert!(sound || verified.is_err());
    if let Ok(summary) = verified {
        assert_eq!(summary.digest.as_ref(), Some(&whole));
        assert_eq!(whole.databases().map(|(_, database)| database.keys()).sum::<u64>(), summary.keys());
    }

    if sound {
        let (mut portions, mut sum) = (Portions::new(Limits::default(), size * 16), ContentDigest::default());
        let mut take = |portion: Vec<u8>| {
            let (of_portion, sound) = digest(&portion, portion.len(), 0, 1);
            assert!(sound);
            sum.merge(&of_portion);
        };
        portions.feed(input, &mut take).expect("the whole is sound");
        let (last, _) = portions.finish().expect("the whole is sound");
        last.map(take);
        assert_eq!(sum, whole);
    }

    let mut parser = Parser::new(Depth::Values, Limits::default());
    let mut later = DigestBuilder::as_of(Timestamp::from_millis(1_700_000_000_000));
    let fed = parser.feed(input, &mut |event: Event<'_>| later.event(&event));
    let _ = (fed, later.finish());
});
