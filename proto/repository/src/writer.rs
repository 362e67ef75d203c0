//! Writing one backup: RDB in, parts out, the manifest last.
//!
//! ```text
//! write ─► batch (1 MiB) ─► zstd + age + SHA-256, on a blocking thread ─► at most 2 parts being put
//! ```
//!
//! **Memory**, whatever the size of the RDB and however incompressible: one part while it is sealed and
//! two while they are put, each at most 16.1 MiB and in buffers that are used again; two batches; zstd's
//! tables: below 64 MiB, measured 60. A store that copies what it puts adds its own. When the store is
//! slower than the server, `write` waits.
//!
//! **Crash**: everything before the manifest is garbage that nothing lists. Dropping the writer at any
//! point leaves no more than that.
//!
//! **Cut**: a part is put again, with the same bytes, until the store has been failing for
//! [`WriterOptions::patience`]; a put that happened but whose answer was lost counts.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};
use urtext_types::{ByteCount, ErrorKind, Explain};

use crate::{
    BackupKey, CompressionLevel, Location, MAX_PARTS, Manifest, ManifestError, ManifestSigner, ObjectName, PART_BYTES,
    Recipients, SealError, SealedObject, Sha256Digest, Sha256Hasher, SignedManifest, Store, StoreError, StoredObject,
    blocking::{blocking, joined},
    buffers::Buffers,
    layout,
    seal::{Sealer, seal, sealed_bound},
    store::with_patience,
};

/// Sealed parts being put at the same time: one travels while the other is synced at the far end.
const PUTS_IN_FLIGHT: usize = 2;

/// Plaintext handed to the blocking thread at once: some 3 ms of work, so that the hand-over costs
/// nothing and the server's next bytes are read meanwhile.
const BATCH_BYTES: usize = 1024 * 1024;

/// The most settings that a backup carries. Real ones have some KiB; thousands of ACL users, a MiB.
pub const MAX_SETTINGS_BYTES: usize = 4 * 1024 * 1024;

/// How a backup is written.
#[derive(Debug, Clone)]
pub struct WriterOptions {
    pub level: CompressionLevel,
    /// For how long a store may fail, in one piece, before the backup is given up.
    pub patience: Duration,
}

impl Default for WriterOptions {
    /// Level 1, one minute: a server's output buffer for the replica that we are to it fills meanwhile.
    fn default() -> Self {
        Self { level: CompressionLevel::default(), patience: Duration::from_secs(60) }
    }
}

/// Why a backup was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    #[error("store {object}")]
    Put {
        object: ObjectName,
        #[source]
        source: StoreError,
    },
    #[error("seal {object}")]
    Seal {
        object: ObjectName,
        #[source]
        source: SealError,
    },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{backup} has no bytes to store")]
    Empty { backup: BackupKey },
    #[error("{backup} is larger than {limit}, the most that one backup holds", limit = ByteCount::new(u64::from(MAX_PARTS) * PART_BYTES as u64))]
    TooLarge { backup: BackupKey },
    #[error("the settings for {backup} have {size}, more than {limit}", limit = ByteCount::new(MAX_SETTINGS_BYTES as u64))]
    SettingsTooLarge { backup: BackupKey, size: ByteCount },
    #[error("an earlier write to {backup} failed or was interrupted")]
    Broken { backup: BackupKey },
    #[error("the manifest does not describe what was written to {backup}: {what} differ")]
    NotWhatWasWritten { backup: BackupKey, what: &'static str },
}

impl Explain for WriteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Put { source, .. } => source.kind(),
            Self::Seal { source, .. } => source.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Empty { .. } => ErrorKind::Integrity,
            Self::TooLarge { .. } | Self::SettingsTooLarge { .. } => ErrorKind::Refused,
            Self::Broken { .. } | Self::NotWhatWasWritten { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Put { source, .. } => source.hint(),
            Self::Seal { source, .. } => source.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Empty { .. }
            | Self::TooLarge { .. }
            | Self::SettingsTooLarge { .. }
            | Self::Broken { .. }
            | Self::NotWhatWasWritten { .. } => None,
        }
    }
}

/// How far a backup has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteProgress {
    /// Bytes of the RDB that were given to [`BackupWriter::write`].
    pub plaintext_bytes: u64,
    /// Bytes that the store has confirmed.
    pub stored_bytes: u64,
}

/// Writes the objects of one backup. Make one for each attempt, with an id of its own: sealing the
/// same bytes twice gives different objects, so a second writer of the same id meets conflicts.
pub struct BackupWriter {
    target: Target,
    recipients: Recipients,
    level: CompressionLevel,
    /// Not yet handed to `sealing`; never crosses the end of a part.
    batch: Vec<u8>,
    /// Waits between two batches; `None` while a batch is being sealed.
    sealing: JoinSet<Result<Sealed, SealError>>,
    idle: Option<Sealing>,
    puts: JoinSet<Result<u64, WriteError>>,
    parts: Vec<StoredObject>,
    progress: WriteProgress,
    started: Option<Instant>,
    /// An operation began and did not end well, or is under way.
    broken: bool,
}

/// Where objects go.
#[derive(Clone)]
struct Target {
    store: Arc<dyn Store>,
    key: BackupKey,
    patience: Duration,
}

impl Target {
    async fn put(&self, object: ObjectName, bytes: bytes::Bytes) -> Result<(), WriteError> {
        match with_patience(self.patience, || self.store.put_new(&object, bytes.clone())).await {
            Ok(_) => Ok(()),
            Err(source) => Err(WriteError::Put { object, source }),
        }
    }
}

/// What travels to the blocking thread and back.
struct Sealing {
    whole: Sha256Hasher,
    part: Option<Sealer>,
    /// The buffer of the batch before, to be filled again.
    spare: Vec<u8>,
    /// For the sealed parts.
    buffers: Buffers,
}

/// What the blocking thread gives back.
struct Sealed {
    sealing: Sealing,
    part: Option<SealedObject>,
}

impl Sealing {
    /// Seals one batch; `ends` if it is the last of its part.
    fn take(
        mut self,
        batch: Vec<u8>,
        ends: bool,
        recipients: &Recipients,
        level: CompressionLevel,
    ) -> Result<Sealed, SealError> {
        self.whole.update(&batch);
        let mut sealer = match self.part.take() {
            Some(sealer) => sealer,
            None => {
                // A batch that begins and ends its part is all there is of it.
                let expected = if ends { batch.len() } else { PART_BYTES };
                Sealer::new(recipients, level, self.buffers.take(sealed_bound(expected)))?
            }
        };
        sealer.write(&batch)?;
        let part = if ends {
            Some(sealer.finish()?)
        } else {
            self.part = Some(sealer);
            None
        };
        self.spare = batch;
        self.spare.clear();
        Ok(Sealed { sealing: self, part })
    }
}

impl BackupWriter {
    /// A writer of the backup `key`. Nothing is stored before the first part is full.
    pub fn new(store: Arc<dyn Store>, key: BackupKey, recipients: Recipients, options: WriterOptions) -> Self {
        Self {
            target: Target { store, key, patience: options.patience },
            recipients,
            level: options.level,
            batch: Vec::with_capacity(BATCH_BYTES),
            sealing: JoinSet::new(),
            idle: Some(Sealing {
                whole: Sha256Hasher::default(),
                part: None,
                spare: Vec::with_capacity(BATCH_BYTES),
                // One being sealed, the others being put.
                buffers: Buffers::new(1 + PUTS_IN_FLIGHT),
            }),
            puts: JoinSet::new(),
            parts: Vec::new(),
            progress: WriteProgress::default(),
            started: None,
            broken: false,
        }
    }

    /// Which backup this is.
    pub fn key(&self) -> &BackupKey {
        &self.target.key
    }

    /// How far it has come.
    pub fn progress(&self) -> WriteProgress {
        self.progress
    }

    /// Takes the next bytes of the RDB; waits while the store is behind.
    ///
    /// # Cancel safety
    /// Not cancel safe: after a dropped `write` the writer refuses everything, because nobody knows
    /// which of the bytes it took.
    pub async fn write(&mut self, mut plaintext: &[u8]) -> Result<(), WriteError> {
        self.begin()?;
        self.started.get_or_insert_with(Instant::now);
        while !plaintext.is_empty() {
            let in_part = (self.progress.plaintext_bytes % PART_BYTES as u64) as usize;
            let room = (BATCH_BYTES - self.batch.len()).min(PART_BYTES - in_part);
            let (now, later) = plaintext.split_at(room.min(plaintext.len()));
            self.batch.extend_from_slice(now);
            self.progress.plaintext_bytes += now.len() as u64;
            plaintext = later;
            let ends = in_part + now.len() == PART_BYTES;
            if ends || self.batch.len() == BATCH_BYTES {
                self.seal_batch(ends).await?;
            }
        }
        self.broken = false;
        Ok(())
    }

    /// Seals and stores the server's settings: any text that a person or Urtext can read back.
    ///
    /// # Cancel safety
    /// Like [`BackupWriter::write`].
    pub async fn write_settings(&mut self, plaintext: Vec<u8>) -> Result<StoredObject, WriteError> {
        self.begin()?;
        if plaintext.len() > MAX_SETTINGS_BYTES {
            let size = ByteCount::new(plaintext.len() as u64);
            return Err(WriteError::SettingsTooLarge { backup: self.target.key.clone(), size });
        }
        let object = self.target.key.settings();
        let (recipients, level) = (self.recipients.clone(), self.level);
        let sealed = blocking(move || seal(&recipients, level, &plaintext))
            .await
            .map_err(|source| WriteError::Seal { object: object.clone(), source })?;
        let entry = entry_of(layout::SETTINGS_FILE_NAME.to_owned(), &sealed);
        self.target.put(object, sealed.stored.into()).await?;
        self.progress.stored_bytes += entry.stored_bytes;
        self.broken = false;
        Ok(entry)
    }

    /// Seals and stores what is left. The backup is not committed yet: see [`Written::commit`].
    pub async fn finish(mut self) -> Result<Written, WriteError> {
        self.begin()?;
        let Some(started) = self.started.filter(|_| self.progress.plaintext_bytes > 0) else {
            return Err(WriteError::Empty { backup: self.target.key });
        };
        if !self.progress.plaintext_bytes.is_multiple_of(PART_BYTES as u64) {
            self.seal_batch(true).await?;
        }
        let sealing = self.wait_until_sealed().await?;
        while let Some(put) = self.puts.join_next().await {
            self.account(put).await?;
        }
        Ok(Written {
            parts: self.parts,
            sha256: sealing.whole.finish(),
            bytes: self.progress.plaintext_bytes,
            ship: started.elapsed(),
            target: self.target,
        })
    }

    fn begin(&mut self) -> Result<(), WriteError> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(WriteError::Broken { backup: self.target.key.clone() });
        }
        Ok(())
    }

    /// Hands the batch to the blocking thread once that is free.
    async fn seal_batch(&mut self, ends: bool) -> Result<(), WriteError> {
        let mut sealing = self.wait_until_sealed().await?;
        if self.parts.len() == MAX_PARTS as usize {
            return Err(WriteError::TooLarge { backup: self.target.key.clone() });
        }
        let batch = std::mem::replace(&mut self.batch, std::mem::take(&mut sealing.spare));
        let (recipients, level) = (self.recipients.clone(), self.level);
        self.sealing.spawn_blocking(move || sealing.take(batch, ends, &recipients, level));
        Ok(())
    }

    /// Waits for the batch at the blocking thread; if it ended a part, begins to put it.
    async fn wait_until_sealed(&mut self) -> Result<Sealing, WriteError> {
        if let Some(idle) = self.idle.take() {
            return Ok(idle);
        }
        let index = self.parts.len() as u32;
        let object = Location::Part(self.target.key.clone(), index).name();
        let done = self.sealing.join_next().await.expect("a batch is sealed whenever `idle` is not here");
        let Sealed { sealing, part } =
            joined(done).await.map_err(|source| WriteError::Seal { object: object.clone(), source })?;
        if let Some(part) = part {
            while self.puts.len() >= PUTS_IN_FLIGHT {
                if let Some(put) = self.puts.join_next().await {
                    self.account(put).await?;
                }
            }
            self.parts.push(entry_of(layout::part_file_name(index), &part));
            let target = self.target.clone();
            let stored = sealing.buffers.lend(part.stored);
            self.puts.spawn(async move {
                let bytes = stored.len() as u64;
                target.put(object, stored).await.map(|()| bytes)
            });
        }
        Ok(sealing)
    }

    /// Counts a put that ended.
    async fn account(&mut self, put: Result<Result<u64, WriteError>, JoinError>) -> Result<(), WriteError> {
        self.progress.stored_bytes += joined(put).await?;
        Ok(())
    }
}

fn entry_of(name: String, sealed: &SealedObject) -> StoredObject {
    StoredObject {
        name,
        plaintext_bytes: sealed.plaintext_bytes,
        plaintext_sha256: sealed.plaintext_sha256,
        stored_bytes: sealed.stored.len() as u64,
        stored_sha256: sealed.stored_sha256,
    }
}

/// A backup whose parts are stored and whose manifest is not: still garbage.
pub struct Written {
    pub parts: Vec<StoredObject>,
    /// Of the whole RDB.
    pub sha256: Sha256Digest,
    /// Of the whole RDB.
    pub bytes: u64,
    /// From the first byte taken until the last part was stored.
    pub ship: Duration,
    target: Target,
}

impl Written {
    /// Stores the manifest: from here on it is a backup.
    ///
    /// If this fails for a transient reason, the manifest may have been stored all the same. Calling it
    /// again with the same manifest settles that.
    ///
    /// # Errors
    /// The manifest describes something else than what was written, cannot be signed, or cannot be
    /// stored.
    pub async fn commit(&self, manifest: &Manifest, signer: &dyn ManifestSigner) -> Result<(), WriteError> {
        let differ = |what| WriteError::NotWhatWasWritten { backup: self.target.key.clone(), what };
        if manifest.key() != self.target.key {
            return Err(differ("deployment, shard or id"));
        }
        if manifest.parts != self.parts {
            return Err(differ("the parts"));
        }
        if (manifest.rdb.bytes, manifest.rdb.sha256) != (self.bytes, self.sha256) {
            return Err(differ("size or digest of the RDB"));
        }
        let signed = SignedManifest::seal(manifest, signer)?;
        match self.target.put(self.target.key.manifest(), signed.to_bytes()?).await {
            // Signatures are not repeatable: an earlier call may have stored the same manifest.
            Err(WriteError::Put { source: StoreError::Conflict { .. }, .. }) if self.is_stored(&signed).await => Ok(()),
            result => result,
        }
    }

    async fn is_stored(&self, ours: &SignedManifest) -> bool {
        let stored = self.target.store.get(&self.target.key.manifest()).await;
        let stored = stored.ok().and_then(|bytes| SignedManifest::parse(&self.target.key, &bytes).ok());
        stored.is_some_and(|stored| stored.says_the_same_as(ours))
    }
}
