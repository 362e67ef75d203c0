//! Frames of any bytes: raw records are the bytes of the input, and what is written from them reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use urtext_rdb::{Depth, Event, Limits, Parser, Writer};

fuzz_target!(|input: &[u8]| {
    let mut parser = Parser::new(Depth::Frame, Limits::default());
    let (mut writer, mut start, mut raw, mut writable) = (None, 0, Vec::new(), true);
    let mut sink = |event: Event<'_>| match event {
        Event::Header(header) => writer = Some(Writer::new(header)),
        Event::Key(key) => {
            start = key.offset as usize;
            raw.clear();
            writable &= writer.as_mut().is_some_and(|writer| writer.begin_record(&key).is_ok());
        }
        Event::HashTemplate { id, fields } => {
            writable &= writer.as_mut().is_some_and(|writer| writer.hash_template(id, fields).is_ok());
        }
        Event::Raw(bytes) => raw.extend_from_slice(bytes),
        Event::KeyEnd(end) => {
            assert_eq!(end.bytes, raw.len() as u64);
            assert_eq!(raw[..], input[start..start + raw.len()]);
            if let Some(writer) = &mut writer {
                writer.raw(&raw);
            }
        }
        _ => {}
    };
    let fed = input.chunks(13).try_for_each(|piece| parser.feed(piece, &mut sink));
    if let (Ok(()), Ok(_), Some(writer), true) = (fed, parser.finish(), writer, writable) {
        let copy = writer.finish();
        let mut again = Parser::new(Depth::Frame, Limits::default());
        again.feed(&copy, &mut |_| ()).expect("what was written from frames has frames");
        again.finish().expect("and an end");
    }
});
