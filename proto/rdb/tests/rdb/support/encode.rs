//! The smallest writer of RDB values: enough layouts to say the same thing in several ways.

/// A file of Valkey 9 with these records, without a checksum.
pub(crate) fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"VALKEY080".to_vec();
    records.iter().for_each(|record| file.extend_from_slice(record));
    file.push(0xff);
    file.extend_from_slice(&[0; 8]);
    file
}

pub(crate) fn length(n: usize) -> Vec<u8> {
    match n {
        0..64 => vec![n as u8],
        64..16384 => vec![0x40 | (n >> 8) as u8, n as u8],
        _ => [&[0x80][..], &(n as u32).to_be_bytes()].concat(),
    }
}

pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    [&length(bytes.len())[..], bytes].concat()
}

/// Compressed, as literals only: longer than before, and valid.
fn lzf_text(bytes: &[u8]) -> Vec<u8> {
    let literals: Vec<u8> = bytes.chunks(32).flat_map(|run| [&[run.len() as u8 - 1][..], run].concat()).collect();
    [&[0xc3][..], &length(literals.len()), &length(bytes.len()), &literals].concat()
}

fn record(kind: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[kind][..], &text(key), value].concat()
}

pub(crate) fn string(key: &[u8], value: &[u8]) -> Vec<u8> {
    record(0, key, &text(value))
}

pub(crate) fn expiring(at: i64, record: &[u8]) -> Vec<u8> {
    [&[0xfc][..], &at.to_le_bytes(), record].concat()
}

/// A list (1) or set (2) of plain strings.
pub(crate) fn strings(kind: u8, key: &[u8], texts: &[Vec<u8>]) -> Vec<u8> {
    let elements: Vec<u8> = texts.iter().flat_map(|t| text(t)).collect();
    record(kind, key, &[length(texts.len()), elements].concat())
}

/// The same, each string compressed if it is not empty.
pub(crate) fn lzf_strings(kind: u8, key: &[u8], texts: &[Vec<u8>]) -> Vec<u8> {
    let elements: Vec<u8> = texts.iter().flat_map(|t| if t.is_empty() { text(t) } else { lzf_text(t) }).collect();
    record(kind, key, &[length(texts.len()), elements].concat())
}

/// One listpack as a value: a set (20), a hash (16).
pub(crate) fn packed(kind: u8, key: &[u8], texts: &[Vec<u8>]) -> Vec<u8> {
    record(kind, key, &text(&listpack(texts)))
}

/// A list in nodes of `node` elements; nodes of one element are plain.
pub(crate) fn quicklist2(key: &[u8], texts: &[Vec<u8>], node: usize) -> Vec<u8> {
    let nodes: Vec<u8> = texts
        .chunks(node)
        .flat_map(|part| match part {
            [one] => [&[1][..], &text(one)].concat(),
            many => [&[2][..], &text(&listpack(many))].concat(),
        })
        .collect();
    record(18, key, &[length(texts.len().div_ceil(node)), nodes].concat())
}

/// Fields with values and expiries, -1 for none.
pub(crate) fn valkey_hash(key: &[u8], fields: &[(&[u8], &[u8], i64)]) -> Vec<u8> {
    let pairs: Vec<u8> = fields
        .iter()
        .flat_map(|(field, value, expiry)| [text(field), text(value), expiry.to_le_bytes().to_vec()].concat())
        .collect();
    record(22, key, &[length(fields.len()), pairs].concat())
}

/// Numbers as numbers, as servers do.
pub(crate) fn listpack(texts: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for text in texts {
        let number = std::str::from_utf8(text).ok().and_then(|t| t.parse::<i64>().ok().filter(|n| n.to_string() == t));
        let entry = match (number, text.len()) {
            (Some(n @ 0..=127), _) => vec![n as u8],
            (Some(n @ -4096..4096), _) => vec![0xc0 | (n >> 8) as u8 & 0x1f, n as u8],
            (Some(n), _) => [&[0xf4][..], &n.to_le_bytes()].concat(),
            (None, len @ 0..64) => [&[0x80 | len as u8][..], text].concat(),
            (None, len @ 64..4096) => [&[0xe0 | (len >> 8) as u8, len as u8][..], text].concat(),
            (None, len) => [&[0xf0][..], &(len as u32).to_le_bytes(), text].concat(),
        };
        body.extend_from_slice(&entry);
        match entry.len() {
            size @ 0..=127 => body.push(size as u8),
            size @ 128..16383 => body.extend_from_slice(&[(size >> 7) as u8, size as u8 & 127 | 128]),
            size => {
                body.extend_from_slice(&[(size >> 14) as u8, (size >> 7) as u8 & 127 | 128, size as u8 & 127 | 128]);
            }
        }
    }
    let total = (body.len() + 7) as u32;
    let count = texts.len().min(65535) as u16;
    [&total.to_le_bytes()[..], &count.to_le_bytes(), &body, &[0xff]].concat()
}

pub(crate) fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// All entries as strings of less than 64 bytes, but small numbers as such.
pub(crate) fn ziplist(texts: &[Vec<u8>]) -> Vec<u8> {
    let (mut body, mut last, mut previous) = (Vec::new(), 10, 0);
    for text in texts {
        last = 10 + body.len();
        let entry = match text.as_slice() {
            [digit @ b'0'..=b'9'] => vec![0xf1 + (digit - b'0')],
            _ => [&[text.len() as u8][..], text].concat(),
        };
        body.push(previous);
        body.extend_from_slice(&entry);
        previous = entry.len() as u8 + 1;
    }
    let (total, count) = (body.len() as u32 + 11, texts.len() as u16);
    [&total.to_le_bytes()[..], &(last as u32).to_le_bytes(), &count.to_le_bytes(), &body, &[0xff]].concat()
}

/// Short texts, with a free byte behind each value.
pub(crate) fn zipmap(texts: &[Vec<u8>]) -> Vec<u8> {
    let pairs: Vec<u8> = texts
        .chunks(2)
        .flat_map(|pair| {
            let (field, value) = (&pair[0], &pair[1]);
            [&[field.len() as u8][..], field, &[value.len() as u8, 1], value, &[0]].concat()
        })
        .collect();
    [&[texts.len() as u8 / 2][..], &pairs, &[0xff]].concat()
}
