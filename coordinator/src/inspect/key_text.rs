//! Keys are bytes; terminals and JSON want text.

use std::fmt::Write;

/// A key in double quotes, as a person can read it and a terminal cannot be harmed by it: what is not
/// printable is escaped, `\xNN` stands for a byte that is no text. `bytes` is the length of the whole key: one that was cut off ends in `…`.
pub fn key_text(key: &[u8], bytes: u64) -> String {
    let mut text = String::with_capacity(key.len() + 2);
    text.push('"');
    for chunk in key.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' => text.push(c),
                _ => text.extend(c.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    if bytes > key.len() as u64 {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_readable_and_harmless() {
        let check = |key: &[u8], expect: &str| assert_eq!(key_text(key, key.len() as u64), expect);
        check(b"user:1", r#""user:1""#);
        check("ключ'".as_bytes(), r#""ключ'""#);
        check(b"a\"b\\c\n", r#""a\"b\\c\n""#);
        check(b"\x1b[31m\xff\x00", r#""\u{1b}[31m\xff\0""#);
        check("\u{202e}evil".as_bytes(), r#""\u{202e}evil""#);
        assert_eq!(key_text(b"begin", 900), "\"begin\"…");
    }
}
