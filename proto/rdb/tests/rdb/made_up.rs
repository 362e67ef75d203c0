//! Layouts that no server at hand writes, made up from their descriptions.

use urtext_rdb::{
    Depth, Event, Item, Limits, ModuleId, Options, Parser, RdbError, Record, StreamItem, Value, ValueType, Verifier,
};

use crate::{
    content::{digest, events, records},
    support::{
        encode::{length, listpack, text},
        samples::{file, module_id, module_opcodes, record, stream},
        verify, verify_split,
    },
};

/// Reads it whole and byte by byte, and gives its records.
#[track_caller]
fn read(bytes: &[u8]) -> Vec<Record> {
    let whole = verify(bytes);
    assert!(whole.is_ok(), "{whole:?}");
    assert_eq!(verify_split(bytes, 1), whole);
    for cut in 0..bytes.len() {
        assert!(verify(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    records(bytes)
}

fn hash(record: &Record) -> Vec<(String, String)> {
    let Value::Hash(fields) = &record.value else { panic!("a hash, not {record:?}") };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|field| (text(&field.field), text(&field.value))).collect()
}

#[test]
fn hashes_by_template_are_hashes() {
    let template = [&[242, 7, 2][..], &text(b"a"), &text(b"b")].concat();
    let packed = record(30, &[&text(&listpack(&[b"7".to_vec(), b"1".to_vec(), b"x".to_vec()]))]);
    let array = record(32, &[&[7], &text(b"1"), &text(b"x")]);
    let plain = record(4, &[&[2], &text(b"b"), &text(b"x"), &text(b"a"), &text(b"1")]);
    let expect = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x".to_owned())];
    for value in [&packed, &array] {
        let file = file(b"REDIS0015", &[&template, value]);
        let read = read(&file);
        assert_eq!(hash(&read[0]), expect);
        assert_eq!(digest(&file), digest(&self::file(b"REDIS0015", &[&plain])));
    }
    for broken in [&packed, &array] {
        assert!(matches!(verify(&file(b"REDIS0015", &[broken])), Err(RdbError::Damaged { .. })), "no template");
    }
    let short = record(30, &[&text(&listpack(&[b"7".to_vec(), b"1".to_vec()]))]);
    assert!(matches!(verify(&file(b"REDIS0015", &[&template, &short])), Err(RdbError::Damaged { .. })));
}

#[test]
fn arrays_are_read() {
    let elements =
        [&[0, 0][..], &text(b"zero"), &[5, 1], &(-7_i64).to_le_bytes(), &[9, 2], &2.5_f64.to_le_bytes()].concat();
    for insert in [&[0][..], &[1, 10]] {
        let file = file(b"REDIS0014", &[&record(28, &[&[3], insert, &elements])]);
        let expect = vec![(0, b"zero".to_vec()), (5, b"-7".to_vec()), (9, b"2.5".to_vec())];
        assert_eq!(read(&file)[0].value, Value::Array(expect));
    }
}

#[test]
fn streams_of_every_layout_are_the_same_stream() {
    let kinds = [(15, 1), (19, 2), (21, 3), (26, 4)];
    let files = kinds.map(|(kind, version)| file(b"REDIS0015", &[&record(kind, &[&stream(version)])]));
    let first = read(&files[0]);
    let Value::Stream(read_first) = &first[0].value else { panic!("a stream") };
    assert_eq!(read_first.entries[0].fields, [(b"a".to_vec(), b"1".to_vec())]);
    assert_eq!(read_first.groups[0].pending.len(), 1);
    for file in &files[1..] {
        assert_eq!(read(file), first);
        assert_eq!(digest(file), digest(&files[0]));
    }
    let nacked = file(b"REDIS0015", &[&record(27, &[&stream(5)])]);
    read(&nacked);
    let mut seen = 0;
    events(&nacked, &mut |event| seen += u32::from(matches!(event, Event::Item(Item::Stream(StreamItem::Nacked(_))))))
        .expect("a sound file");
    assert_eq!(seen, 1);
}

#[test]
fn a_consumer_that_holds_what_was_not_delivered_is_damage() {
    let mut value = stream(1);
    *value.last_mut().expect("an id") ^= 1;
    assert!(matches!(verify(&file(b"REDIS0009", &[&record(15, &[&value])])), Err(RdbError::Damaged { .. })));
}

#[test]
fn modules_are_read_opcode_by_opcode() {
    let (id, opcodes) = (module_id(), module_opcodes());
    let id_bytes = [&[0x81][..], &id.to_be_bytes()].concat();
    let aux = [&[247][..], &id_bytes, &[2, 1], &opcodes].concat();
    let file = file(b"REDIS0012", &[&aux, &record(7, &[&id_bytes, &opcodes])]);
    assert_eq!(ModuleId(id).to_string(), "ReJSON-RL v3");
    let records = read(&file);
    assert!(matches!(&records[0].value, Value::Module(ModuleId(module), parts) if *module == id && parts.len() == 5));
    let summary = verify(&file).expect("a sound file");
    assert_eq!(summary.modules.iter().map(|id| id.name()).collect::<Vec<_>>(), ["ReJSON-RL"]);
}

#[test]
fn key_metadata_belongs_to_the_record() {
    let metadata = [&[243, 1][..], &[1, 2, 3, 4], &[2, 7, 5], &text(b"meta"), &[0]].concat();
    let plain = record(0, &[&text(b"v")]);
    let with = [&metadata[..], &plain].concat();
    let whole = file(b"REDIS0013", &[&with]);
    read(&whole);
    let mut parser = Parser::new(Depth::Frame, Limits::default());
    let (mut raw, mut marked) = (Vec::new(), false);
    let mut sink = |event: Event<'_>| match event {
        Event::Raw(bytes) => raw.extend_from_slice(bytes),
        Event::Key(key) => marked = key.has_metadata,
        _ => {}
    };
    whole.chunks(3).try_for_each(|piece| parser.feed(piece, &mut sink)).expect("a sound file");
    assert_eq!((raw, marked), (with, true));
}

#[test]
fn opcodes_of_both_engines_are_told_apart() {
    let slots = [&[243][..], &text(b"job"), &[1, 0, 5]].concat();
    read(&file(b"VALKEY080", &[&slots, &record(0, &[&text(b"v")])]));
    let slot_info = [244, 5, 1, 0];
    read(&file(b"REDIS0012", &[&slot_info, &record(0, &[&text(b"v")])]));
}

#[test]
fn old_scores_are_read() {
    let score = |bytes: &[u8]| {
        let file = file(b"REDIS0006", &[&record(3, &[&[1], &text(b"m"), bytes])]);
        verify(&file).map(|_| match &records(&file)[0].value {
            Value::Zset(members) => members[0].1,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(score(b"\x041.25"), Ok(1.25));
    assert_eq!(score(&[254]), Ok(f64::INFINITY));
    assert_eq!(score(&[255]), Ok(f64::NEG_INFINITY));
    assert!(matches!(score(&[253]), Err(RdbError::Damaged { .. })));
    assert!(matches!(score(b"\x03abc"), Err(RdbError::Damaged { .. })));
}

#[test]
fn expiries_in_seconds_are_expiries() {
    let file = file(b"REDIS0002", &[&[253], &1_000_i32.to_le_bytes(), &record(0, &[&text(b"v")])]);
    let mut bytes = file;
    bytes.truncate(bytes.len() - 8); // no checksum below version 5
    assert_eq!(read(&bytes)[0].expires_at, Some(1_000_000));
}

#[test]
fn a_wrong_checksum_is_told_from_a_missing_one() {
    let mut bytes = file(b"REDIS0011", &[&record(0, &[&text(b"v")])]);
    assert!(verify(&bytes).is_ok());
    *bytes.last_mut().expect("a checksum") = 1;
    assert!(matches!(verify(&bytes), Err(RdbError::WrongChecksum { stored: 0x0100_0000_0000_0000, .. })));
}

#[test]
fn after_an_error_every_call_gives_the_same_error() {
    let mut verifier = Verifier::new(Options::default());
    let error = verifier.feed(b"not an RDB file").expect_err("not an RDB");
    assert_eq!(verifier.feed(b"REDIS0011"), Err(error.clone()));
    assert_eq!(verifier.finish(), Err(error));
}

#[test]
fn long_strings_come_in_pieces_and_are_whole() {
    let long = vec![b'x'; 200_000];
    let bytes = file(b"REDIS0011", &[&record(0, &[&text(&long)]), &record(1, &[&length(1), &text(&long)])]);
    let records = records(&bytes);
    assert_eq!(records[0].value, Value::String(long.clone()));
    assert_eq!(records[1].value, Value::List(vec![long]));
    assert_eq!(verify(&bytes).expect("a sound file").types.get(&ValueType::List), Some(&1));
}

#[test]
fn damage_in_a_long_compressed_string_is_where_the_string_begins() {
    // One literal, then matches one byte back that give more than is claimed.
    let matches = [7 << 5, 255, 0].repeat(30_000);
    let compressed = (matches.len() as u32 + 2).to_be_bytes();
    let lengths = [&[0xc3, 0x80][..], &compressed, &[0x80], &100_000_u32.to_be_bytes(), &[0, b'x']].concat();
    let bytes = file(b"REDIS0011", &[&record(0, &[&lengths, &matches])]);
    // Header, type, key.
    let expect = RdbError::Damaged { offset: 9 + 1 + 4, what: "a compressed string does not decode to its length" };
    for size in [bytes.len(), 1000, 7] {
        assert_eq!(verify_split(&bytes, size), Err(expect.clone()), "in pieces of {size}");
    }
}

#[test]
fn a_template_of_many_fields_is_read_in_a_few_tries() {
    // Its size is known only when its last field is there. Read again after each field, it would take minutes.
    let fields = 300_000_u32;
    let head = [&[242, 7, 0x80][..], &fields.to_be_bytes()].concat();
    let bytes = file(b"REDIS0015", &[&head, &[1, b'f'].repeat(fields as usize), &record(0, &[&text(b"v")])]);
    for size in [64 << 10, bytes.len()] {
        assert_eq!(verify_split(&bytes, size).expect("a sound file").keys(), 1, "in pieces of {size}");
    }
}
