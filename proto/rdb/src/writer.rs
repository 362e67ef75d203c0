//! Writes an RDB from raw records: filtered, split by slot, merged; nothing is decoded.

use std::collections::BTreeMap;

use crc_fast::{CrcAlgorithm, Digest};
use thiserror::Error;
use urtext_types::{Engine, ErrorKind, Explain};

use crate::{Key, RdbHeader, opcode};

/// What an RDB of the chosen version cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unwritable {
    #[error("an RDB of version {header} cannot hold {what}")]
    NotInVersion { what: String, header: RdbHeader },
    #[error("two files give template {id} of their hashes different fields")]
    TemplateConflict { id: u64 },
}

impl Explain for Unwritable {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Refused
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotInVersion { .. } => Some("write the version that the records came from".to_owned()),
            Self::TemplateConflict { .. } => Some("write the files one by one".to_owned()),
        }
    }
}

/// Frames records into a valid RDB.
///
/// Records come as the parser tells them at the depth [`crate::Depth::Frame`]: [`Writer::begin_record`] with
/// each [`crate::Event::Key`], [`Writer::raw`] with each [`crate::Event::Raw`]. Take the bytes away with
/// [`Writer::take`] as they come to be; nothing else is held.
#[derive(Debug)]
pub struct Writer {
    header: RdbHeader,
    out: Vec<u8>,
    crc: Digest,
    /// What the records are in now; 0 where nothing was selected.
    database: Option<u32>,
    templates: BTreeMap<u64, Vec<Vec<u8>>>,
}

/// RDB versions of Redis that brought something (see the servers' rdb.h).
const FIRST_WITH_AUX: u32 = 7;
const FIRST_WITH_FUNCTIONS: u32 = 10;
const FIRST_WITH_KEY_METADATA: u32 = 13;
const FIRST_WITH_TEMPLATES: u32 = 15;

impl Writer {
    pub fn new(header: RdbHeader) -> Self {
        Self {
            header,
            out: header.to_bytes().to_vec(),
            crc: Digest::new(CrcAlgorithm::Crc64Redis),
            database: None,
            templates: BTreeMap::new(),
        }
    }

    /// One auxiliary field. Servers expect them before the first record.
    pub fn aux(&mut self, key: &[u8], value: &[u8]) -> Result<(), Unwritable> {
        self.require(FIRST_WITH_AUX, "auxiliary fields")?;
        self.out.push(opcode::AUX);
        put_string(&mut self.out, key);
        put_string(&mut self.out, value);
        Ok(())
    }

    /// One function library, as source text. Servers expect them before the first record.
    pub fn function(&mut self, source: &[u8]) -> Result<(), Unwritable> {
        self.require(FIRST_WITH_FUNCTIONS, "functions")?;
        self.out.push(opcode::FUNCTION2);
        put_string(&mut self.out, source);
        Ok(())
    }

    /// The fields that hashes refer to by `id`; given again, they must be the same.
    pub fn hash_template(&mut self, id: u64, fields: &[Vec<u8>]) -> Result<(), Unwritable> {
        self.require(FIRST_WITH_TEMPLATES, "hash templates")?;
        if self.header.engine != Engine::Redis {
            return Err(self.not_in_version("hash templates"));
        }
        match self.templates.get(&id) {
            Some(known) if known == fields => return Ok(()),
            Some(_) => return Err(Unwritable::TemplateConflict { id }),
            None => {}
        }
        self.out.push(opcode::HASH_TEMPLATE);
        put_length(&mut self.out, id);
        put_length(&mut self.out, fields.len() as u64);
        fields.iter().for_each(|field| put_string(&mut self.out, field));
        self.templates.insert(id, fields.to_vec());
        Ok(())
    }

    /// Begins a record: selects its database. Its bytes follow by [`Writer::raw`].
    pub fn begin_record(&mut self, key: &Key<'_>) -> Result<(), Unwritable> {
        if !key.value_type.fits(self.header) {
            return Err(self.not_in_version(&format!("values of type {}", key.value_type)));
        }
        let metadata_fits = self.header.engine == Engine::Redis && self.header.version >= FIRST_WITH_KEY_METADATA;
        if key.has_metadata && !metadata_fits {
            return Err(self.not_in_version("the metadata that modules attach to keys"));
        }
        if self.database != Some(key.database) {
            self.database = Some(key.database);
            self.out.push(opcode::SELECTDB);
            put_length(&mut self.out, u64::from(key.database));
        }
        Ok(())
    }

    /// The next bytes of the record.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// What has been written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.crc.update(&self.out);
        std::mem::take(&mut self.out)
    }

    /// Ends the file; gives what is left of it.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(opcode::EOF);
        let mut rest = self.take();
        if self.header.has_checksum() {
            rest.extend_from_slice(&self.crc.finalize().to_le_bytes());
        }
        rest
    }

    fn require(&self, version: u32, what: &str) -> Result<(), Unwritable> {
        if self.header.version >= version { Ok(()) } else { Err(self.not_in_version(what)) }
    }

    fn not_in_version(&self, what: &str) -> Unwritable {
        Unwritable::NotInVersion { what: what.to_owned(), header: self.header }
    }
}

pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// In the shortest form (`rdb.c:rdbSaveLen`).
pub(crate) fn put_length(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0x3f => out.push(n as u8),
        0x40..=0x3fff => out.extend_from_slice(&[(n >> 8) as u8 | 0x40, n as u8]),
        0x4000..=0xffff_ffff => {
            out.push(0x80);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}
