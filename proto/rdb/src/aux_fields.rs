//! What the server wrote about itself and its position.

use urtext_types::{Offset, Position, ReplicationId, Timestamp};

/// The auxiliary fields at the head of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuxFields {
    /// `redis-ver` or `valkey-ver`.
    pub server_version: Option<String>,
    /// `ctime`: the server's clock when writing began.
    pub ctime: Option<Timestamp>,
    /// `used-mem`, bytes.
    pub used_mem: Option<u64>,
    /// `repl-id`.
    pub repl_id: Option<ReplicationId>,
    /// `repl-offset`.
    pub repl_offset: Option<Offset>,
    /// `repl-stream-db`: the database that the replication stream is in after this snapshot.
    pub repl_stream_db: Option<u32>,
    /// `aof-base`: the file is the base of an append-only file, which never carries a position.
    pub is_aof_base: bool,
    /// All fields in the order of the file, as far as they fit [`AuxFields::MAX_PAIRS`] and
    /// [`AuxFields::MAX_BYTES`]. Not the ones that may be many: `lua` and `slot-info`.
    pub pairs: Vec<(String, String)>,
    /// How many did not fit.
    pub omitted: u64,
}

impl AuxFields {
    /// Servers write about ten.
    pub const MAX_PAIRS: usize = 64;
    /// Longest name or value that is kept.
    pub const MAX_BYTES: usize = 1024;

    /// The position at which the snapshot was taken, exact to the byte: the server freezes both numbers
    /// when it forks (`rdb.c:rdbSaveInfoAuxFields`).
    ///
    /// A server that never had a replica writes none. One that was told to follow a master and never
    /// reached it writes its own id and offset 0.
    pub fn position(&self) -> Option<Position> {
        Some(Position::new(self.repl_id?, self.repl_offset?))
    }

    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        // One per cached script, and one per slot.
        if matches!(key, b"lua" | b"slot-info") {
            return;
        }
        if self.pairs.len() >= Self::MAX_PAIRS || key.len() > Self::MAX_BYTES || value.len() > Self::MAX_BYTES {
            self.omitted += 1;
            return;
        }
        let text = String::from_utf8_lossy(value).into_owned();
        match key {
            b"redis-ver" | b"valkey-ver" => self.server_version = Some(text.clone()),
            b"ctime" => {
                self.ctime = text.parse::<i64>().ok().and_then(|s| s.checked_mul(1000)).map(Timestamp::from_millis);
            }
            b"used-mem" => self.used_mem = text.parse().ok(),
            b"repl-id" => self.repl_id = text.parse().ok(),
            b"repl-offset" => self.repl_offset = text.parse().ok(),
            b"repl-stream-db" => self.repl_stream_db = text.parse().ok(),
            b"aof-base" | b"aof-preamble" => self.is_aof_base = text == "1",
            _ => {}
        }
        self.pairs.push((String::from_utf8_lossy(key).into_owned(), text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_needs_both_halves() {
        let mut aux = AuxFields::default();
        aux.add(b"repl-id", b"75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601");
        assert_eq!(aux.position(), None);
        aux.add(b"repl-offset", b"48211");
        let position = aux.position().expect("both halves are there");
        assert_eq!(position.to_string(), "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601:48211");
    }

    #[test]
    fn hostile_fields_are_bounded() {
        let mut aux = AuxFields::default();
        for i in 0..1000 {
            aux.add(format!("field-{i}").as_bytes(), b"x");
        }
        aux.add(b"long", &[b'x'; 5000]);
        aux.add(b"repl-offset", b"-1");
        assert_eq!((aux.pairs.len(), aux.omitted), (AuxFields::MAX_PAIRS, 1000 - 64 + 2));
        assert_eq!(aux.repl_offset, None);
    }
}
