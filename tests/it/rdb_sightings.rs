//! Which encodings a file really holds. Only the bounds of each record come from the library; what is inside is
//! looked at here, so that a test which reads "every encoding" cannot lose one without notice.

use std::collections::BTreeSet;

use urtext_rdb::{Depth, Event, ValueType};

use crate::rdb_contents::events;

/// Names of all encodings in the file: of values, strings, nodes, and of entries in packed structures, as far as
/// those are not compressed.
#[track_caller]
pub(crate) fn sightings(file: &[u8]) -> BTreeSet<String> {
    let (mut seen, mut raw, mut value_type) = (BTreeSet::new(), Vec::new(), ValueType::String);
    events(file, Depth::Frame, &mut |event| match event {
        Event::Key(key) => value_type = key.value_type,
        Event::Raw(bytes) => raw.extend_from_slice(bytes),
        Event::KeyEnd(_) => {
            Record { bytes: &raw, seen: &mut seen }.look(value_type);
            raw.clear();
        }
        Event::Function { .. } => {
            seen.insert("function".to_owned());
        }
        _ => {}
    });
    seen
}

struct Record<'a> {
    bytes: &'a [u8],
    seen: &'a mut BTreeSet<String>,
}

impl<'a> Record<'a> {
    fn look(&mut self, value_type: ValueType) {
        let byte = loop {
            match self.byte() {
                0xfc => {
                    self.take(8);
                }
                0xf8 => {
                    self.length();
                    self.see("idle time");
                }
                0xf9 => {
                    self.byte();
                    self.see("frequency");
                }
                byte => break byte,
            }
        };
        assert_eq!(byte, value_type.byte(), "the type byte of a record");
        self.see(&format!("{byte} {value_type}"));
        self.strings(&["key"]);
        match value_type {
            ValueType::String => self.strings(&["string"]),
            ValueType::Set => self.times(|record| record.strings(&["member"])),
            ValueType::Hash => self.times(|record| record.strings(&["field", "field value"])),
            ValueType::Zset2 => self.times(|record| {
                record.strings(&["member"]);
                record.take(8);
            }),
            ValueType::SetIntset => {
                if let Some(intset) = self.string("intset") {
                    self.see(&format!("intset of {} bits", u32_at(intset, 0) * 8));
                }
            }
            ValueType::ZsetZiplist | ValueType::HashZiplist => self.packed(Self::ziplist),
            ValueType::ListQuicklist => self.times(|record| record.packed(Self::ziplist)),
            ValueType::ListQuicklist2 => self.times(|record| match record.length() {
                Length::Of(1) => record.strings(&["list node"]),
                Length::Of(2) => record.packed(Self::listpack),
                _ => panic!("a list node of another kind"),
            }),
            ValueType::HashListpack | ValueType::ZsetListpack | ValueType::SetListpack => self.packed(Self::listpack),
            ValueType::HashListpackEx => {
                self.take(8);
                self.packed(Self::listpack);
            }
            ValueType::StreamListpacks | ValueType::StreamListpacks2 | ValueType::StreamListpacks3 => {
                self.times(|record| {
                    record.strings(&["entry id"]);
                    record.packed(Self::listpack);
                });
            }
            ValueType::HashMetadata | ValueType::ValkeyHash2 => {}
            other => panic!("no server of the suite writes {other}"),
        }
    }

    fn see(&mut self, what: &str) {
        if !self.seen.contains(what) {
            self.seen.insert(what.to_owned());
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn times(&mut self, mut look: impl FnMut(&mut Self)) {
        let Length::Of(count) = self.length() else { panic!("a count that is no number") };
        (0..count).for_each(|_| look(self));
    }

    fn length(&mut self) -> Length {
        let byte = self.byte();
        match byte >> 6 {
            0 => Length::Of(usize::from(byte)),
            1 => Length::Of(usize::from(byte & 0x3f) << 8 | usize::from(self.byte())),
            2 => Length::Of(u32::from_be_bytes(self.take(4).try_into().expect("four bytes")) as usize),
            _ => Length::Special(byte & 0x3f),
        }
    }

    /// Notes the form of a string; gives its bytes if they are there as they are.
    fn string(&mut self, what: &str) -> Option<&'a [u8]> {
        let long = self.bytes[0] >> 6;
        let (form, bytes) = match self.length() {
            Length::Of(length) => (["6-bit length", "14-bit length", "32-bit length"][usize::from(long)], Some(length)),
            Length::Special(width @ 0..=2) => {
                self.take(1 << width);
                (["8-bit integer", "16-bit integer", "32-bit integer"][usize::from(width)], None)
            }
            Length::Special(3) => {
                let (Length::Of(compressed), Length::Of(_)) = (self.length(), self.length()) else {
                    panic!("a compressed string without lengths")
                };
                self.take(compressed);
                ("compressed", None)
            }
            Length::Special(other) => panic!("a string of form {other}"),
        };
        self.see(&format!("{what}: {form}"));
        bytes.map(|length| self.take(length))
    }

    fn strings(&mut self, what: &[&str]) {
        for what in what {
            self.string(what);
        }
    }

    fn packed(&mut self, look: impl FnOnce(&mut Self, &[u8])) {
        if let Some(bytes) = self.string("packed") {
            look(self, bytes);
        }
    }

    fn listpack(&mut self, bytes: &[u8]) {
        let mut at = 6;
        while bytes[at] != 0xff {
            let byte = bytes[at];
            let (form, size) = match byte {
                0..=0x7f => ("uint7", 1),
                0x80..=0xbf => ("6-bit length", 1 + usize::from(byte & 0x3f)),
                0xc0..=0xdf => ("int13", 2),
                0xe0..=0xef => ("12-bit length", 2 + (usize::from(byte & 0xf) << 8 | usize::from(bytes[at + 1]))),
                0xf0 => ("32-bit length", 5 + u32_at(bytes, at + 1)),
                0xf1 => ("int16", 3),
                0xf2 => ("int24", 4),
                0xf3 => ("int32", 5),
                0xf4 => ("int64", 9),
                other => panic!("an entry of form {other}"),
            };
            self.see(&format!("listpack: {form}"));
            // The way back: seven bits a byte, the last of them without a mark is the first to be read from behind.
            let back = match size {
                0..=127 => 1,
                128..16_383 => 2,
                // Valkey 9.1 makes it two bytes, all others three.
                16_383 if bytes[at + size] == 0x7f && bytes[at + size + 1] == 0xff => {
                    self.see("listpack: entry of 16383 bytes, short way back");
                    2
                }
                16_383 => {
                    self.see("listpack: entry of 16383 bytes, long way back");
                    3
                }
                16_384..2_097_151 => 3,
                _ => panic!("an entry larger than any of the suite"),
            };
            at += size + back;
        }
        assert_eq!(at + 1, bytes.len(), "the end of a listpack");
    }

    fn ziplist(&mut self, bytes: &[u8]) {
        let mut at = 10;
        while bytes[at] != 0xff {
            let far = bytes[at] == 0xfe;
            if far {
                self.see("ziplist: far from the entry before");
            }
            at += if far { 5 } else { 1 };
            let byte = bytes[at];
            let (form, size) = match byte {
                0..=0x3f => ("6-bit length", 1 + usize::from(byte)),
                0x40..=0x7f => ("14-bit length", 2 + (usize::from(byte & 0x3f) << 8 | usize::from(bytes[at + 1]))),
                0x80 => ("32-bit length", 5 + (u32_at(bytes, at + 1) as u32).swap_bytes() as usize),
                0xc0 => ("int16", 3),
                0xd0 => ("int32", 5),
                0xe0 => ("int64", 9),
                0xf0 => ("int24", 4),
                0xfe => ("int8", 2),
                0xf1..=0xfd => ("0 to 12", 1),
                other => panic!("an entry of form {other}"),
            };
            self.see(&format!("ziplist: {form}"));
            at += size;
        }
        assert_eq!(at + 1, bytes.len(), "the end of a ziplist");
    }
}

enum Length {
    Of(usize),
    Special(u8),
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}
