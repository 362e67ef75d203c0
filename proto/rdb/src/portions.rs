//! An RDB cut into small ones, each to be read on a thread of its own.

use crate::{Checksum, Depth, Event, Limits, Parser, RdbError, RdbHeader, opcode, writer};

/// Cuts the records of an RDB that is fed to it into RDBs that stand alone.
///
/// Every record is in one of them, with the same bytes; functions are in the portion of the record behind them; the
/// templates of hashes are in each. Auxiliary fields, and what modules keep beside the keys, are in none. So the digests of
/// all, merged, are the digest of the whole: see [`crate::ContentDigest::merge`].
///
/// The checksum is that of the whole, and checked here; what is inside values is left to whoever reads a portion. Bytes
/// behind the file are passed over.
/// Memory: one portion, and so at least the largest record.
#[derive(Debug)]
pub struct Portions {
    parser: Parser,
    cut: Cut,
}

#[derive(Debug)]
struct Cut {
    /// A portion is handed out when it has this many bytes.
    size: usize,
    header: Option<RdbHeader>,
    /// The templates so far, as opcodes.
    templates: Vec<u8>,
    portion: Vec<u8>,
    /// What the portion's records are in now.
    database: Option<u32>,
}

impl Portions {
    /// `size`: bytes of a portion, about; it ends with the record that reaches them.
    pub fn new(limits: Limits, size: usize) -> Self {
        let cut = Cut { size, header: None, templates: Vec::new(), portion: Vec::new(), database: None };
        Self { parser: Parser::new(Depth::Frame, limits), cut }
    }

    /// Takes the next bytes; gives `sink` what is complete. After an error every call gives the same error.
    pub fn feed<F: FnMut(Vec<u8>)>(&mut self, input: &[u8], sink: &mut F) -> Result<(), RdbError> {
        let cut = &mut self.cut;
        self.parser.feed(input, &mut |event| {
            if let Some(portion) = cut.event(&event) {
                sink(portion);
            }
        })
    }

    /// Ends the input; gives the last portion, if there is one.
    pub fn finish(mut self) -> Result<(Option<Vec<u8>>, Checksum), RdbError> {
        let checksum = self.parser.finish()?;
        Ok((self.cut.end(), checksum))
    }
}

impl Cut {
    fn event(&mut self, event: &Event<'_>) -> Option<Vec<u8>> {
        match event {
            Event::Header(header) => self.header = Some(*header),
            Event::HashTemplate { id, fields } => {
                let from = self.templates.len();
                self.templates.push(opcode::HASH_TEMPLATE);
                writer::put_length(&mut self.templates, *id);
                writer::put_length(&mut self.templates, fields.len() as u64);
                fields.iter().for_each(|field| writer::put_string(&mut self.templates, field));
                if !self.portion.is_empty() {
                    self.portion.extend_from_slice(&self.templates[from..]);
                }
            }
            Event::Function { source } => {
                self.begin();
                self.portion.push(opcode::FUNCTION2);
                writer::put_string(&mut self.portion, source);
            }
            Event::Key(key) => {
                self.begin();
                if self.database != Some(key.database) {
                    self.database = Some(key.database);
                    self.portion.push(opcode::SELECTDB);
                    writer::put_length(&mut self.portion, key.database.into());
                }
            }
            Event::Raw(bytes) => self.portion.extend_from_slice(bytes),
            // All of them together are at most about twice the file, whatever it says.
            Event::KeyEnd(_) if self.portion.len() >= self.size.max(2 * self.templates.len()) => return self.end(),
            _ => {}
        }
        None
    }

    fn begin(&mut self) {
        if self.portion.is_empty() {
            let header = self.header.expect("the header comes before everything else");
            self.portion.extend_from_slice(&header.to_bytes());
            self.portion.extend_from_slice(&self.templates);
        }
    }

    fn end(&mut self) -> Option<Vec<u8>> {
        self.database = None;
        let mut portion = std::mem::take(&mut self.portion);
        let header = self.header.filter(|_| !portion.is_empty())?;
        portion.push(opcode::EOF);
        if header.has_checksum() {
            // None: the whole was checked.
            portion.extend_from_slice(&[0; 8]);
        }
        Some(portion)
    }
}
