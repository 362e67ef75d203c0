//! Every type byte and every opcode of both engines is read, or refused by name with its place and version.

use urtext_rdb::{Depth, Limits, Parser, RdbError, ValueType};
use urtext_types::Engine;

use crate::support::{
    samples::{self, file, file_of, opcodes, record},
    verify,
};

/// The newest version of each engine, which knows all bytes.
const NEWEST: [(Engine, &[u8; 9]); 2] = [(Engine::Redis, b"REDIS0015"), (Engine::Valkey, b"VALKEY081")];

/// What has no layout that can be known, or that no released server writes.
const REFUSED: &[(Engine, u8, &str)] = &[
    (Engine::Redis, 6, "a module value from before Redis 4.0's release"),
    (Engine::Valkey, 6, "a module value from before Redis 4.0's release"),
    (Engine::Valkey, 23, "a value of type PATH_HASH"),
    (Engine::Redis, 33, "a value of type GCRA"),
    (Engine::Valkey, 242, "a command inside a forkless synchronization"),
    (Engine::Redis, 246, "a function from before Redis 7.0's release"),
    (Engine::Valkey, 246, "a function from before Redis 7.0's release"),
];

/// The layout that the engine means by the byte.
fn layout(engine: Engine, byte: u8) -> Option<ValueType> {
    let fits = |value_type: &&ValueType| match engine {
        Engine::Redis => value_type.since() < 80,
        Engine::Valkey => value_type.byte() <= 21 || value_type.since() >= 80,
    };
    ValueType::ALL.iter().filter(fits).find(|value_type| value_type.byte() == byte).copied()
}

#[test]
fn every_byte_is_read_or_refused_by_name() {
    let opcodes = opcodes();
    let (mut read, mut named, mut unknown) = (0, 0, 0);
    for (engine, header) in NEWEST {
        let version = std::str::from_utf8(header).expect("ASCII");
        for byte in 0..=u8::MAX {
            let sound = layout(engine, byte).map(file_of).or_else(|| {
                let opcode = opcodes.iter().find(|(of, opcode, _)| (*of, *opcode) == (engine, byte));
                opcode.map(|(_, opcode, payload)| match opcode {
                    255 => [&header[..], &[255], payload].concat(),
                    _ => file(header, &[&[*opcode], payload]),
                })
            });
            if let Some(sound) = sound {
                assert!(verify(&sound).is_ok(), "{byte} of {engine}: {:?}", verify(&sound));
                read += 1;
                continue;
            }
            let refused = file(header, &[&record(byte, &[&[0; 20]])]);
            let error = verify(&refused).expect_err("no layout is known");
            let place = format!("at offset 9 of a {version} file");
            let expect = match REFUSED.iter().find(|(of, refused, _)| (*of, *refused) == (engine, byte)) {
                Some((.., what)) => {
                    named += 1;
                    format!("{what} (byte {byte} {place}) cannot be read")
                }
                None => {
                    unknown += 1;
                    let kind = if byte < 242 { "value type" } else { "opcode" };
                    format!("unknown {kind} {byte} {place}")
                }
            };
            assert_eq!(error.to_string(), expect);
            for depth in [Depth::Frame, Depth::Values] {
                let mut parser = Parser::new(depth, Limits::default());
                assert_eq!(parser.feed(&refused, &mut |_| ()), Err(error.clone()));
            }
        }
    }
    // 0 to 33 without 6, 8 and 33 in Redis; 0 to 22 without 6 and 8 in Valkey; and the opcodes.
    assert_eq!((read, named, unknown), (31 + 13 + 21 + 11, REFUSED.len(), 512 - 76 - REFUSED.len()));
}

#[test]
fn every_layout_has_a_sample_and_an_engine() {
    for value_type in ValueType::ALL {
        let engine = if value_type.since() >= 80 { Engine::Valkey } else { Engine::Redis };
        assert_eq!(layout(engine, value_type.byte()), Some(*value_type));
        let summary = verify(&samples::file_of(*value_type)).expect("a sound file");
        assert_eq!(summary.types.keys().copied().collect::<Vec<_>>(), [*value_type]);
    }
}

#[test]
fn a_compressed_envelope_is_refused_by_name() {
    // Valkey 9.2 with `rdbcompression lz4`: `VCS`, version, codec, flags, kind, then an LZ4 frame.
    let error = verify(b"VCS\x01\x01\0\x01\x04\x22\x4d\x18rest").expect_err("not an RDB");
    assert_eq!(error, RdbError::Compressed { codec: 1 });
    let text = "a compressed RDB envelope (codec LZ4), which only Valkey 9.2 and newer read";
    assert_eq!(error.to_string(), text);
}
