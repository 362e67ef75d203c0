//! One small value of every layout, and one of everything that stands between values.

use urtext_rdb::ValueType;
use urtext_types::Engine;

use super::encode::{length, listpack, text, texts, ziplist, zipmap};

/// A file without a checksum that holds these parts.
pub(crate) fn file(header: &[u8; 9], parts: &[&[u8]]) -> Vec<u8> {
    [&header[..], &parts.concat(), &[0xff], &[0; 8]].concat()
}

pub(crate) fn record(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[kind][..], &text(b"key"), &parts.concat()].concat()
}

/// The newest file of the engine that has the layout.
pub(crate) fn header_of(value_type: ValueType) -> &'static [u8; 9] {
    if value_type.since() >= 80 { b"VALKEY081" } else { b"REDIS0015" }
}

/// The template that [`value`]s of hashes by template refer to.
pub(crate) fn template() -> Vec<u8> {
    [&[242, 7, 2][..], &text(b"a"), &text(b"b")].concat()
}

/// A file with one value of this layout.
pub(crate) fn file_of(value_type: ValueType) -> Vec<u8> {
    let record = record(value_type.byte(), &[&value(value_type)]);
    match value_type {
        ValueType::HashTemplateListpack | ValueType::HashTemplateArray => {
            file(header_of(value_type), &[&template(), &record])
        }
        _ => file(header_of(value_type), &[&record]),
    }
}

/// Hashes hold `a` = 1 and `b` = x, lists 1, x, 300; sets 1, x or numbers; sorted sets 1 at 1.5 and x at 2.
pub(crate) fn value(value_type: ValueType) -> Vec<u8> {
    use ValueType as T;
    let pair = texts(&["a", "1", "b", "x"]);
    let elements = texts(&["1", "x", "300"]);
    let scored = texts(&["1", "1.5", "x", "2"]);
    let strings = |strings: &[Vec<u8>]| strings.iter().flat_map(|s| text(s)).collect::<Vec<u8>>();
    match value_type {
        T::String => text(b"value"),
        T::List => [length(3), strings(&elements)].concat(),
        T::Set => [length(3), strings(&elements)].concat(),
        T::Zset => [&length(2)[..], &text(b"1"), b"\x031.5", &text(b"x"), b"\x012"].concat(),
        T::Hash => [length(2), strings(&pair)].concat(),
        T::Zset2 => [&length(2)[..], &text(b"1"), &1.5_f64.to_le_bytes(), &text(b"x"), &2_f64.to_le_bytes()].concat(),
        T::Module2 => [&[0x81][..], &module_id().to_be_bytes(), &module_opcodes()].concat(),
        T::HashZipmap => text(&zipmap(&pair)),
        T::ListZiplist => text(&ziplist(&elements)),
        T::SetIntset => text(&[&2_u32.to_le_bytes()[..], &2_u32.to_le_bytes(), &[1, 0, 0x2c, 1]].concat()),
        T::ZsetZiplist => text(&ziplist(&scored)),
        T::HashZiplist => text(&ziplist(&pair)),
        T::ListQuicklist => [length(2), text(&ziplist(&elements[..2])), text(&ziplist(&elements[2..]))].concat(),
        T::HashListpack => text(&listpack(&pair)),
        T::ZsetListpack => text(&listpack(&scored)),
        T::ListQuicklist2 => [length(2), vec![2], text(&listpack(&elements[..2])), vec![1], text(b"300")].concat(),
        T::SetListpack => text(&listpack(&elements)),
        T::ValkeyHash2 => {
            let (later, never) = (5000_i64.to_le_bytes(), (-1_i64).to_le_bytes());
            [&length(2)[..], &text(b"a"), &text(b"1"), &later, &text(b"b"), &text(b"x"), &never].concat()
        }
        T::HashMetadata => {
            [&5000_i64.to_le_bytes()[..], &length(2), &[1], &strings(&pair[..2]), &[0], &strings(&pair[2..])].concat()
        }
        T::HashMetadataPreGa => {
            [&length(2)[..], &length(5000), &strings(&pair[..2]), &[0], &strings(&pair[2..])].concat()
        }
        T::HashListpackEx => {
            [&5000_i64.to_le_bytes()[..], &text(&listpack(&texts(&["a", "1", "5000", "b", "x", "0"])))].concat()
        }
        T::HashListpackExPreGa => text(&listpack(&texts(&["a", "1", "5000", "b", "x", "0"]))),
        T::StreamListpacks => stream(1),
        T::StreamListpacks2 => stream(2),
        T::StreamListpacks3 => stream(3),
        T::StreamListpacks4 => stream(4),
        T::StreamListpacks5 => stream(5),
        T::Array => {
            let tagged = [&[0, 0][..], &text(b"zero"), &[5, 1], &(-7_i64).to_le_bytes(), &[9, 2]].concat();
            [&[3, 1, 10][..], &tagged, &2.5_f64.to_le_bytes()].concat()
        }
        T::HashTemplateListpack => text(&listpack(&texts(&["7", "1", "x"]))),
        T::HashTemplateArray => [&[7][..], &text(b"1"), &text(b"x")].concat(),
        T::HashTemplateListpackWhole => {
            [&[0][..], &text(&listpack(&texts(&["a", "b"]))), &text(&listpack(&texts(&["0", "1", "x"])))].concat()
        }
        T::HashTemplateArrayWhole => [&[1, 2][..], &strings(&texts(&["a", "b", "1", "x"]))].concat(),
    }
}

/// A stream of one entry `1-1 a=1`, one group with one pending entry held by one consumer.
pub(crate) fn stream(version: u8) -> Vec<u8> {
    let id = [&1_u64.to_be_bytes()[..], &1_u64.to_be_bytes()].concat();
    let node = texts(&["1", "0", "1", "a", "0", "2", "0", "0", "1", "4"]);
    let mut value = [&[1][..], &text(&id), &text(&listpack(&node)), &[1, 1, 1]].concat();
    if version >= 2 {
        value.extend_from_slice(&[1, 1, 0, 0, 1]);
    }
    value.extend_from_slice(&[&[1][..], &text(b"g"), &[1, 1]].concat());
    if version >= 2 {
        value.push(1);
    }
    value.extend_from_slice(&[&[1][..], &id, &5_i64.to_le_bytes(), &[3]].concat());
    value.extend_from_slice(&[&[1][..], &text(b"c"), &6_i64.to_le_bytes()].concat());
    if version >= 3 {
        value.extend_from_slice(&7_i64.to_le_bytes());
    }
    value.extend_from_slice(&[&[1][..], &id].concat());
    if version >= 5 {
        value.extend_from_slice(&[&[1][..], &id].concat());
    }
    if version >= 4 {
        value.extend_from_slice(&[&[10, 60, 1][..], &text(b"p"), &[1], &text(b"iid"), &[1, 1], &[1, 0]].concat());
    }
    value
}

/// `ReJSON-RL` version 3 (module.c:moduleTypeEncodeId).
pub(crate) fn module_id() -> u64 {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = |c| alphabet.iter().position(|a| a == c).expect("in the alphabet") as u64;
    b"ReJSON-RL".iter().fold(0, |id, c| id << 6 | place(c)) << 10 | 3
}

pub(crate) fn module_opcodes() -> Vec<u8> {
    [&[1, 5, 2, 6, 3][..], &1_f32.to_le_bytes(), &[4], &2_f64.to_le_bytes(), &[5], &text(b"{}"), &[0]].concat()
}

/// Each opcode with a payload, by engine. Those that modify a record stand in front of one.
pub(crate) fn opcodes() -> Vec<(Engine, u8, Vec<u8>)> {
    let string = record(0, &[&text(b"v")]);
    let metadata = [&[1, 1, 2, 3, 4][..], &[2, 7, 5], &text(b"meta"), &[0]].concat();
    let module = [&[0x81][..], &module_id().to_be_bytes(), &[2, 1], &module_opcodes()].concat();
    let mut all = vec![
        (Engine::Redis, 242, template()[1..].to_vec()),
        (Engine::Redis, 243, [metadata, string.clone()].concat()),
        (Engine::Valkey, 243, [&text(b"job")[..], &[1, 0, 5]].concat()),
        (Engine::Redis, 244, vec![5, 1, 0]),
    ];
    for engine in [Engine::Redis, Engine::Valkey] {
        all.extend([
            (engine, 245, text(b"#!lua name=l")),
            (engine, 247, module.clone()),
            (engine, 248, [&[9][..], &string].concat()),
            (engine, 249, [&[9][..], &string].concat()),
            (engine, 250, [text(b"field"), text(b"text")].concat()),
            (engine, 251, vec![1, 0]),
            (engine, 252, [&5000_i64.to_le_bytes()[..], &string].concat()),
            (engine, 253, [&5_i32.to_le_bytes()[..], &string].concat()),
            (engine, 254, vec![3]),
            (engine, 255, vec![0; 8]),
        ]);
    }
    all
}

/// Every layout and every opcode, each in a file of its own.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let values = ValueType::ALL.iter().map(|value_type| (value_type.to_string(), file_of(*value_type)));
    let opcodes = opcodes().into_iter().map(|(engine, opcode, payload)| {
        let header = if engine == Engine::Redis { b"REDIS0015" } else { b"VALKEY081" };
        let whole = [&header[..], &[opcode], &payload].concat();
        let end: &[u8] = if opcode == 255 { &[] } else { &[0xff, 0, 0, 0, 0, 0, 0, 0, 0] };
        (format!("opcode {opcode} of {engine}"), [&whole, end].concat())
    });
    values.chain(opcodes).collect()
}
