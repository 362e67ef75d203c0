//! Proof that bytes are a complete and sound RDB, and what is in it.

use std::collections::{BTreeMap, BTreeSet};

use urtext_types::Position;

use crate::{
    AuxFields, Checksum, ContentDigest, Depth, DigestBuilder, Event, Key, KeyEnd, Limits, ModuleId, Parser, RdbError,
    RdbHeader, ValueType, value_type::VALUE_TYPES,
};

/// What bytes behind the end of the RDB mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrailingBytes {
    /// An error: whatever they are, they are not part of a snapshot.
    #[default]
    Refuse,
    /// Counted: an append-only file with an RDB at its head; servers ignore them in `dump.rdb`.
    Allow,
}

/// How to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub limits: Limits,
    pub trailing: TrailingBytes,
    /// Make the content digest in the same pass. Costs more than all the rest.
    pub digest: bool,
}

/// What a sound RDB holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub header: RdbHeader,
    pub aux: AuxFields,
    /// Databases that hold a key.
    pub databases: BTreeMap<u32, DatabaseSummary>,
    /// Keys by the layout of their value, those of dropped keys included.
    pub types: BTreeMap<ValueType, u64>,
    /// Function libraries.
    pub functions: u64,
    /// Modules that wrote a value or data of their own: the target needs them to load the file.
    pub modules: BTreeSet<ModuleId>,
    /// Collections without elements. Servers drop them when they load the file; they are not among
    /// the keys of [`DatabaseSummary`].
    pub empty_keys: u64,
    /// Length of the RDB, checksum included, without trailing bytes.
    pub bytes: u64,
    /// Bytes behind the RDB.
    pub trailing_bytes: u64,
    pub checksum: Checksum,
    /// If it was asked for by [`Options::digest`].
    pub digest: Option<ContentDigest>,
}

impl Summary {
    /// See [`AuxFields::position`].
    pub fn position(&self) -> Option<Position> {
        self.aux.position()
    }

    /// Keys of all databases.
    pub fn keys(&self) -> u64 {
        self.databases.values().map(|database| database.keys).sum()
    }
}

/// Keys of one database, including those whose time has come: servers drop them when they load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatabaseSummary {
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
}

/// Verifies an RDB that is fed to it: every encoding, every count, the checksum.
///
/// What it cannot see in constant memory, a duplicate member of a large set for instance, it leaves to
/// the server.
///
/// ```
/// let mut verifier = urtext_rdb::Verifier::new(urtext_rdb::Options::default());
/// verifier.feed(b"REDIS0003")?;
/// verifier.feed(&[0xff])?;
/// assert_eq!(verifier.finish()?.keys(), 0);
/// # Ok::<(), urtext_rdb::RdbError>(())
/// ```
#[derive(Debug)]
pub struct Verifier {
    parser: Parser,
    counts: Counts,
    digest: Option<DigestBuilder>,
    trailing: TrailingBytes,
}

/// Distinct modules that are told apart; a file that names more is hostile, and the rest are left out.
const MAX_MODULES: usize = 256;

impl Verifier {
    pub fn new(options: Options) -> Self {
        let (depth, digest) =
            if options.digest { (Depth::Values, Some(DigestBuilder::new())) } else { (Depth::Verify, None) };
        Self {
            parser: Parser::new(depth, options.limits),
            counts: Counts::default(),
            digest,
            trailing: options.trailing,
        }
    }

    /// Takes the next bytes. After an error every call gives the same error.
    pub fn feed(&mut self, input: &[u8]) -> Result<(), RdbError> {
        let counts = &mut self.counts;
        match &mut self.digest {
            None => self.parser.feed(input, &mut |event: Event<'_>| counts.event(&event))?,
            Some(digest) => self.parser.feed(input, &mut |event: Event<'_>| {
                counts.event(&event);
                digest.event(&event);
            })?,
        }
        let trailing = self.parser.trailing_bytes();
        match self.trailing {
            TrailingBytes::Refuse if trailing > 0 => {
                Err(RdbError::TrailingBytes { offset: self.parser.bytes_fed() - trailing })
            }
            TrailingBytes::Refuse | TrailingBytes::Allow => Ok(()),
        }
    }

    /// Whether the end mark and its checksum have been read.
    pub fn is_complete(&self) -> bool {
        self.parser.is_complete()
    }

    /// Ends the input. An RDB that is cut off is an error.
    pub fn finish(self) -> Result<Summary, RdbError> {
        let (fed, trailing_bytes) = (self.parser.bytes_fed(), self.parser.trailing_bytes());
        let checksum = self.parser.finish()?;
        if self.trailing == TrailingBytes::Refuse && trailing_bytes > 0 {
            return Err(RdbError::TrailingBytes { offset: fed - trailing_bytes });
        }
        let mut counts = self.counts;
        counts.leave_database();
        let types = ValueType::ALL.iter().copied().zip(counts.types).filter(|(_, count)| *count > 0).collect();
        Ok(Summary {
            header: counts.header.expect("an RDB that is complete has a header"),
            aux: counts.aux,
            databases: counts.databases,
            types,
            functions: counts.functions,
            modules: counts.modules,
            empty_keys: counts.empty_keys,
            bytes: fed - trailing_bytes,
            trailing_bytes,
            checksum,
            digest: self.digest.map(DigestBuilder::finish),
        })
    }
}

#[derive(Debug, Default)]
struct Counts {
    header: Option<RdbHeader>,
    aux: AuxFields,
    database: u32,
    /// Of the current database: moved into `databases` when another is selected.
    current: DatabaseSummary,
    databases: BTreeMap<u32, DatabaseSummary>,
    types: [u64; VALUE_TYPES],
    functions: u64,
    modules: BTreeSet<ModuleId>,
    empty_keys: u64,
    has_expiry: bool,
}

impl Counts {
    #[inline]
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Key(Key { value_type, expires_at, module, .. }) => {
                self.types[*value_type as usize] += 1;
                self.has_expiry = expires_at.is_some();
                if let Some(module) = module {
                    self.module(*module);
                }
            }
            Event::KeyEnd(KeyEnd { empty: false, .. }) => {
                self.current.keys += 1;
                self.current.expires += u64::from(self.has_expiry);
            }
            Event::KeyEnd(KeyEnd { empty: true, .. }) => self.empty_keys += 1,
            Event::Header(header) => self.header = Some(*header),
            Event::Aux { key, value } => self.aux.add(key, value),
            Event::Database(number) => {
                self.leave_database();
                self.database = *number;
            }
            Event::Function { .. } => self.functions += 1,
            Event::ModuleAux { module } => self.module(*module),
            Event::ModuleAuxEnd
            | Event::HashTemplate { .. }
            | Event::SizeHint { .. }
            | Event::SlotInfo { .. }
            | Event::SlotImport { .. }
            | Event::Raw(_)
            | Event::Item(_)
            | Event::End(_) => {}
        }
    }

    fn module(&mut self, module: ModuleId) {
        if self.modules.len() < MAX_MODULES {
            self.modules.insert(module);
        }
    }

    fn leave_database(&mut self) {
        let DatabaseSummary { keys, expires } = std::mem::take(&mut self.current);
        if keys > 0 {
            let database = self.databases.entry(self.database).or_default();
            database.keys += keys;
            database.expires += expires;
        }
    }
}
