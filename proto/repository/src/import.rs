//! Bringing an exported stream back into a repository.
//!
//! The stream is hostile until proven otherwise: names are ours or refused, sizes are bounded before anything is
//! read, each part is compared with the signed manifest before it is put, and the manifest goes last. Small
//! objects that no signature covers wait until the digests at the end of the stream have been compared.
//!
//! **Memory**: two objects of at most [`crate::MAX_OBJECT_BYTES`], what waits for the digests, at most
//! [`MAX_WAITING_BYTES`], and at most [`MAX_ENTRIES`] digests.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

use bytes::Bytes;
use tar::{Archive, EntryType, PaxExtensions};
use tokio::sync::mpsc;
use urtext_types::ByteCount;

use crate::{
    BackupKey, Location, MAX_OBJECT_BYTES, Manifest, ManifestVerifier, ObjectName, PutOutcome, Repository,
    RepositoryHeader, Sha256Digest, SignedManifest, StoredObject, TransferError,
    blocking::joined,
    export::{README, SUMS},
    reader::data_objects,
    transfer::{check_plain, put},
};

/// The most that waits for the digests at the end: some 100,000 records.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// The most files of one stream: four of the largest backups.
const MAX_ENTRIES: usize = 300_000;

/// The most that a longer name, or another remark of a tar about the next file, may have.
const MAX_REMARK_BYTES: u64 = 64 * 1024;

/// What was brought in.
#[derive(Debug, Default)]
pub struct Imported {
    /// Whole and committed now, in the order of the stream.
    pub backups: Vec<ImportedBackup>,
    /// Records and the like that were put or are there already.
    pub others: usize,
    pub bytes: u64,
    /// The repository that the stream was made from.
    pub origin: Option<RepositoryHeader>,
}

#[derive(Debug)]
pub struct ImportedBackup {
    pub manifest: Manifest,
    /// It was there already, whole.
    pub was_there: bool,
}

/// Reads a stream into a repository. `progress` is told of the bytes of each file.
///
/// # Errors
/// The stream is not what it must be, or a store fails. Backups that were whole by then are committed; nothing
/// else is listed.
pub async fn import(
    repository: &Repository,
    verifier: &dyn ManifestVerifier,
    input: impl Read + Send + 'static,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Imported, TransferError> {
    // One file waits while another is put.
    let (sender, mut files) = mpsc::channel(1);
    let reading = tokio::task::spawn_blocking(move || read_tar(input, &sender));
    let mut importing = Importing::new(repository, verifier);
    while let Some((name, bytes)) = files.recv().await {
        let size = bytes.len() as u64;
        importing.file(name, bytes).await?;
        importing.imported.bytes += size;
        progress(size);
    }
    joined(reading.await).await?;
    importing.finish().await
}

/// A backup whose objects are arriving.
struct Arriving {
    key: BackupKey,
    manifest: Manifest,
    raw: Bytes,
    missing: BTreeMap<ObjectName, StoredObject>,
}

struct Importing<'a> {
    repository: &'a Repository,
    verifier: &'a dyn ManifestVerifier,
    arriving: Option<Arriving>,
    waiting: Vec<(ObjectName, Bytes)>,
    waiting_bytes: usize,
    seen: BTreeMap<String, Sha256Digest>,
    sums: Option<Bytes>,
    imported: Imported,
}

impl<'a> Importing<'a> {
    fn new(repository: &'a Repository, verifier: &'a dyn ManifestVerifier) -> Self {
        Self {
            repository,
            verifier,
            arriving: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            seen: BTreeMap::new(),
            sums: None,
            imported: Imported::default(),
        }
    }

    async fn file(&mut self, name: String, bytes: Bytes) -> Result<(), TransferError> {
        if name == SUMS {
            self.sums = Some(bytes);
            return Ok(());
        }
        let digest = Sha256Digest::of(&bytes);
        if self.seen.len() >= MAX_ENTRIES {
            return Err(stream_error(format!("it has more than {MAX_ENTRIES} files")));
        }
        if self.seen.insert(name.clone(), digest).is_some() {
            return Err(stream_error(format!("{name} is in it twice")));
        }
        if name == README {
            return Ok(());
        }
        let ours = name.parse().ok().and_then(|name: ObjectName| Location::parse(&name).map(|at| (name, at)));
        let Some((object, location)) = ours else {
            return Err(stream_error(format!("{name:?} is not an object of a repository")));
        };
        match location {
            Location::Repository => {
                let header = serde_json::from_slice(&bytes)
                    .map_err(|error| stream_error(format!("its urtext.json cannot be read: {error}")))?;
                self.imported.origin = Some(header);
                Ok(())
            }
            Location::Manifest(key) => self.begin(key, bytes).await,
            Location::Part(key, _) | Location::Settings(key) => self.data(&key, object, bytes, digest).await,
            Location::Record { .. } => self.wait(object, bytes),
            // Whose signatures count is decided here, not by whoever made the stream.
            Location::Authority(_) => Ok(()),
            Location::Keys(_) | Location::HandedOn(_) => {
                Err(stream_error(format!("{object} belongs to the repository that it was taken from")))
            }
        }
    }

    async fn begin(&mut self, key: BackupKey, raw: Bytes) -> Result<(), TransferError> {
        self.complete()?;
        let manifest = SignedManifest::parse(&key, &raw)
            .and_then(|signed| signed.verify(self.verifier))
            .map_err(crate::ReadError::from)?;
        let missing = data_objects(&manifest).into_iter().collect();
        self.arriving = Some(Arriving { key, manifest, raw, missing });
        Ok(())
    }

    async fn data(
        &mut self,
        key: &BackupKey,
        object: ObjectName,
        bytes: Bytes,
        found: Sha256Digest,
    ) -> Result<(), TransferError> {
        let Some(arriving) = self.arriving.as_mut().filter(|arriving| arriving.key == *key) else {
            return Err(stream_error(format!("{object} comes before the manifest of its backup")));
        };
        let Some(entry) = arriving.missing.get(&object) else {
            return Err(stream_error(format!("the manifest of its backup does not name {object}")));
        };
        let size = bytes.len() as u64;
        if size != entry.stored_bytes {
            let expected = entry.stored_bytes;
            return Err(crate::ReadError::StoredSize { object, found: size, expected }.into());
        }
        if found != entry.stored_sha256 {
            let expected = entry.stored_sha256;
            return Err(crate::ReadError::StoredDigest { object, found, expected }.into());
        }
        put(self.repository.store().as_ref(), &object, &bytes).await?;
        arriving.missing.remove(&object);
        if arriving.missing.is_empty() {
            self.commit().await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), TransferError> {
        if let Some(Arriving { key, manifest, raw, .. }) = self.arriving.take() {
            let outcome = put(self.repository.store().as_ref(), &key.manifest(), &raw).await?;
            let was_there = outcome == PutOutcome::AlreadyIdentical;
            self.imported.backups.push(ImportedBackup { manifest, was_there });
        }
        Ok(())
    }

    /// Nothing is half here.
    fn complete(&self) -> Result<(), TransferError> {
        match &self.arriving {
            None => Ok(()),
            Some(arriving) => {
                let of = arriving.manifest.parts.len() + usize::from(arriving.manifest.settings.object.is_some());
                let missing = arriving.missing.len();
                Err(TransferError::Truncated { missing: format!("{missing} of {of} objects of {} ", arriving.key) })
            }
        }
    }

    fn wait(&mut self, object: ObjectName, bytes: Bytes) -> Result<(), TransferError> {
        self.waiting_bytes += bytes.len();
        if self.waiting_bytes > MAX_WAITING_BYTES {
            let limit = ByteCount::new(MAX_WAITING_BYTES as u64);
            return Err(stream_error(format!("its records have more than {limit}")));
        }
        check_plain(&object, &bytes)?;
        self.waiting.push((object, bytes));
        Ok(())
    }

    async fn finish(mut self) -> Result<Imported, TransferError> {
        self.complete()?;
        let sums = self.sums.take().ok_or_else(|| TransferError::Truncated { missing: SUMS.to_owned() })?;
        let sums = std::str::from_utf8(&sums).map_err(|_| stream_error(format!("its {SUMS} is not text")))?;
        let mut listed = BTreeSet::new();
        for line in sums.lines() {
            let parsed = line.split_once("  ").and_then(|(digest, name)| Some((digest.parse().ok()?, name)));
            let Some((digest, name)): Option<(Sha256Digest, &str)> = parsed else {
                return Err(stream_error(format!("its {SUMS} has a line that names no file and its SHA-256")));
            };
            match self.seen.get(name) {
                Some(found) if *found == digest => listed.insert(name),
                Some(_) => {
                    let object = name.parse().map_err(|_| stream_error(format!("{name} was changed")))?;
                    return Err(TransferError::Sum { object });
                }
                None => return Err(TransferError::Truncated { missing: name.chars().take(200).collect() }),
            };
        }
        if let Some(name) = self.seen.keys().find(|name| !listed.contains(name.as_str())) {
            return Err(stream_error(format!("{name} is in it and not in its {SUMS}")));
        }
        for (object, bytes) in std::mem::take(&mut self.waiting) {
            put(self.repository.store().as_ref(), &object, &bytes).await?;
            self.imported.others += 1;
        }
        Ok(self.imported)
    }
}

fn stream_error(problem: String) -> TransferError {
    TransferError::Stream { problem }
}

/// Reads the files of a tar, each whole, and gives them on in their order. Ends early if nobody listens.
fn read_tar(input: impl Read, files: &mpsc::Sender<(String, Bytes)>) -> Result<(), TransferError> {
    let mut archive = Archive::new(input);
    // Raw: otherwise the library itself reads whatever length a longer name claims to have.
    let entries = archive.entries().map_err(input_error)?.raw(true);
    let mut long_name: Option<String> = None;
    for entry in entries {
        let mut entry = entry.map_err(input_error)?;
        let (kind, size) = (entry.header().entry_type(), entry.header().entry_size().map_err(input_error)?);
        match kind {
            EntryType::Regular => {
                let name = match long_name.take() {
                    Some(name) => name,
                    None => text(&entry.path_bytes())?,
                };
                let limit = if name == SUMS { MAX_WAITING_BYTES } else { MAX_OBJECT_BYTES };
                if size > limit as u64 {
                    let size = ByteCount::new(size);
                    return Err(stream_error(format!("{name} has {size}, more than an object may have")));
                }
                // As other tars write the names of a folder's files.
                let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
                let bytes = read(&mut entry, size)?;
                if files.blocking_send((name, bytes)).is_err() {
                    return Ok(());
                }
            }
            EntryType::Directory => long_name = None,
            EntryType::GNULongName => long_name = Some(text(trimmed(&remark(&mut entry, size)?))?),
            EntryType::XHeader => {
                let remark = remark(&mut entry, size)?;
                for extension in PaxExtensions::new(&remark) {
                    let extension = extension.map_err(input_error)?;
                    match extension.key_bytes() {
                        b"path" => long_name = Some(text(extension.value_bytes())?),
                        b"size" => return Err(stream_error("a file is too large".to_owned())),
                        _ => {}
                    }
                }
            }
            EntryType::XGlobalHeader => drop(remark(&mut entry, size)?),
            other => return Err(stream_error(format!("it holds something else than files: {other:?}"))),
        }
    }
    Ok(())
}

fn input_error(error: io::Error) -> TransferError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TransferError::Truncated { missing: "the rest of a file".to_owned() },
        // What the library says of a header that is none.
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            stream_error(error.to_string())
        }
        _ => TransferError::Input(error),
    }
}

fn remark(entry: &mut impl Read, size: u64) -> Result<Bytes, TransferError> {
    if size > MAX_REMARK_BYTES {
        return Err(stream_error(format!("a name has {}", ByteCount::new(size))));
    }
    read(entry, size)
}

fn read(entry: &mut impl Read, size: u64) -> Result<Bytes, TransferError> {
    // The size is bounded by now, and grows with what really comes.
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(input_error)?;
    if bytes.len() as u64 != size {
        return Err(TransferError::Truncated { missing: "the rest of a file".to_owned() });
    }
    Ok(bytes.into())
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

fn text(bytes: &[u8]) -> Result<String, TransferError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| stream_error("a name is not text".to_owned()))
}
