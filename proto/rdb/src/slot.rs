//! Which cluster slot a key belongs to.

/// Slots of a Redis or Valkey cluster.
pub const SLOTS: u16 = 16384;

/// CRC16 of the key, or of what stands between its first `{` and the next `}` if that is not empty
/// (`cluster.c:keyHashSlot`).
pub fn key_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let after = &key[open + 1..];
        let close = after.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &after[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_server() {
        // CLUSTER KEYSLOT.
        for (key, slot) in [("123456789", 12739), ("foo", 12182), ("{foo}bar", 12182), ("", 0), ("foo{}{bar}", 8363)] {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(key_slot(b"a{foo}b{x}"), key_slot(b"foo"));
        assert_ne!(key_slot(b"{foo"), key_slot(b"foo"));
    }
}
