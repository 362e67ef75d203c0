//! Reading one backup: every byte is checked against the signed manifest before anyone sees it.
//!
//! **Memory**: the part that the caller holds, and the next one, stored and opened: below 56 MiB.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, Stream},
};
use thiserror::Error;
use tokio::task::JoinSet;
use urtext_types::{ErrorKind, Explain};

use crate::{
    BackupKey, Identity, MAX_SETTINGS_BYTES, Manifest, ManifestError, ManifestVerifier, ObjectName, OpenError,
    PART_BYTES, Recipients, Sha256Digest, Sha256Hasher, SignedManifest, Store, StoreError, StoredObject,
    blocking::{blocking, joined},
    buffers::Buffers,
    seal::open_into,
    store::with_patience,
};

/// For how long a store may fail, in one piece, before a read is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Objects read at the same time where order does not matter.
const READS_IN_FLIGHT: usize = 2;

/// Why a backup cannot be read. Every variant names the backup or the object, which begins with it.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("{backup} is not in the repository, or was never committed")]
    NotCommitted { backup: BackupKey },
    #[error("read {object}")]
    Store {
        object: ObjectName,
        #[source]
        source: StoreError,
    },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{object} is missing, and the manifest of its backup names it")]
    Missing { object: ObjectName },
    #[error("{object} has {found} bytes as stored and the manifest says {expected}")]
    StoredSize { object: ObjectName, found: u64, expected: u64 },
    #[error("{object} was changed after it was stored: its SHA-256 is {found} and the manifest says {expected}")]
    StoredDigest { object: ObjectName, found: Sha256Digest, expected: Sha256Digest },
    #[error("open {object}")]
    Open {
        object: ObjectName,
        #[source]
        source: OpenError,
    },
    #[error("{object} opens to something else than the manifest of its backup says")]
    Plaintext { object: ObjectName },
    #[error("the parts of {backup} are each as they were stored, and together are not the RDB that was captured")]
    WholeDigest { backup: BackupKey },
    #[error("none of the given identities opens {backup}: it is sealed to {recipients}")]
    WrongKey { backup: BackupKey, recipients: Recipients },
}

impl Explain for ReadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotCommitted { .. } => ErrorKind::NotFound,
            Self::Store { source, .. } => source.kind(),
            Self::Manifest(error) => error.kind(),
            Self::Open { source, .. } => source.kind(),
            Self::WrongKey { .. } => ErrorKind::Denied,
            Self::Missing { .. }
            | Self::StoredSize { .. }
            | Self::StoredDigest { .. }
            | Self::Plaintext { .. }
            | Self::WholeDigest { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store { source, .. } => source.hint(),
            Self::Manifest(error) => error.hint(),
            Self::Open { source, .. } => source.hint(),
            Self::WrongKey { .. } => Some("give the identity whose public key is among these".to_owned()),
            Self::Missing { .. } | Self::StoredSize { .. } | Self::StoredDigest { .. } => {
                Some("this copy is damaged; choose another backup, or a mirror of this repository".to_owned())
            }
            Self::NotCommitted { .. } | Self::Plaintext { .. } | Self::WholeDigest { .. } => None,
        }
    }
}

/// One committed backup, its manifest verified.
#[derive(Clone)]
pub struct BackupReader {
    store: Arc<dyn Store>,
    key: BackupKey,
    manifest: Arc<Manifest>,
}

/// What [`BackupReader::verify_stored`] read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredProof {
    pub objects: usize,
    pub bytes: u64,
}

impl BackupReader {
    /// Reads and verifies the manifest; nothing else is read yet.
    pub async fn open(
        store: Arc<dyn Store>,
        key: BackupKey,
        verifier: &dyn ManifestVerifier,
    ) -> Result<Self, ReadError> {
        let (manifest, _) = read_manifest(store.as_ref(), &key, verifier).await?;
        Ok(Self { store, key, manifest: Arc::new(manifest) })
    }

    pub fn key(&self) -> &BackupKey {
        &self.key
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads every object again and compares size and SHA-256 of what is stored. Needs no identity.
    ///
    /// # Errors
    /// The first object that is not as it was stored.
    pub async fn verify_stored(&self) -> Result<StoredProof, ReadError> {
        let reads = stream::iter(data_objects(&self.manifest))
            .map(|(object, entry)| async move {
                fetch(self.store.as_ref(), object, &entry).await.map(|_| entry.stored_bytes)
            })
            .buffer_unordered(READS_IN_FLIGHT);
        reads
            .try_fold(StoredProof { objects: 0, bytes: 0 }, |sum, bytes| async move {
                Ok(StoredProof { objects: sum.objects + 1, bytes: sum.bytes + bytes })
            })
            .await
    }

    /// The RDB, part by part.
    ///
    /// # Errors
    /// None of the identities is among the recipients: said before anything is downloaded.
    pub fn rdb(&self, identities: Vec<Identity>) -> Result<RdbReader, ReadError> {
        self.check_key(&identities)?;
        let mut reader = RdbReader {
            store: Arc::clone(&self.store),
            key: self.key.clone(),
            manifest: Arc::clone(&self.manifest),
            identities: identities.into(),
            // The caller's and the next one.
            buffers: Buffers::new(2),
            next: 0,
            ahead: JoinSet::new(),
        };
        reader.read_ahead(Sha256Hasher::default());
        Ok(reader)
    }

    /// The server's settings, if the backup has any.
    pub async fn settings(&self, identities: Vec<Identity>) -> Result<Option<Bytes>, ReadError> {
        let Some(entry) = &self.manifest.settings.object else { return Ok(None) };
        self.check_key(&identities)?;
        let object = self.key.settings();
        let stored = fetch(self.store.as_ref(), object.clone(), entry).await?;
        unseal(object, entry, stored, identities.into(), MAX_SETTINGS_BYTES, Buffers::new(0)).await.map(Some)
    }

    fn check_key(&self, identities: &[Identity]) -> Result<(), ReadError> {
        if self.manifest.recipients.can_be_opened_by(identities) {
            return Ok(());
        }
        Err(ReadError::WrongKey { backup: self.key.clone(), recipients: self.manifest.recipients.clone() })
    }
}

/// The bytes of one RDB in order, with one part read ahead.
pub struct RdbReader {
    store: Arc<dyn Store>,
    key: BackupKey,
    manifest: Arc<Manifest>,
    identities: Arc<[Identity]>,
    /// For the opened parts.
    buffers: Buffers,
    /// The part that `ahead` reads.
    next: usize,
    /// At most one task; none after the last part or after an error. Dropped with the reader.
    ahead: JoinSet<Result<(Bytes, Sha256Hasher), ReadError>>,
}

impl RdbReader {
    /// The next part of the plaintext; `None` after the last one. The digest of the whole RDB is
    /// compared before the last part is given out. After an error there is nothing more to read.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(done) = self.ahead.join_next().await else { return Ok(None) };
        let (part, whole) = joined(done).await?;
        self.next += 1;
        if self.next < self.manifest.parts.len() {
            self.read_ahead(whole);
        } else if whole.finish() != self.manifest.rdb.sha256 {
            return Err(ReadError::WholeDigest { backup: self.key.clone() });
        }
        Ok(Some(part))
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + 'static {
        stream::try_unfold(self, |mut reader| async move { Ok(reader.next().await?.map(|part| (part, reader))) })
    }

    /// Begins to read part `next`. `whole` has seen everything before it.
    fn read_ahead(&mut self, mut whole: Sha256Hasher) {
        let (store, object, identities) =
            (Arc::clone(&self.store), self.key.part(self.next as u32), Arc::clone(&self.identities));
        let (entry, buffers) = (self.manifest.parts[self.next].clone(), self.buffers.clone());
        self.ahead.spawn(async move {
            let stored = fetch(store.as_ref(), object.clone(), &entry).await?;
            let part = unseal(object, &entry, stored, identities, PART_BYTES, buffers).await?;
            Ok(blocking(move || {
                whole.update(&part);
                (part, whole)
            })
            .await)
        });
    }
}

/// Reads and verifies the manifest of a backup; beside it the bytes as they are stored.
pub(crate) async fn read_manifest(
    store: &dyn Store,
    key: &BackupKey,
    verifier: &dyn ManifestVerifier,
) -> Result<(Manifest, Bytes), ReadError> {
    let object = key.manifest();
    let bytes = match with_patience(PATIENCE, || store.get(&object)).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Err(ReadError::NotCommitted { backup: key.clone() }),
        Err(source) => return Err(ReadError::Store { object, source }),
    };
    Ok((SignedManifest::parse(key, &bytes)?.verify(verifier)?, bytes))
}

/// Every object that the manifest names: the parts in order, then the settings.
pub(crate) fn data_objects(manifest: &Manifest) -> Vec<(ObjectName, StoredObject)> {
    let key = manifest.key();
    let parts = (0_u32..).zip(&manifest.parts).map(|(index, entry)| (key.part(index), entry.clone()));
    let settings = manifest.settings.object.iter().map(|entry| (key.settings(), entry.clone()));
    parts.chain(settings).collect()
}

/// Reads one object and compares it with its entry.
pub(crate) async fn fetch(store: &dyn Store, object: ObjectName, entry: &StoredObject) -> Result<Bytes, ReadError> {
    let stored = match with_patience(PATIENCE, || store.get(&object)).await {
        Ok(stored) => stored,
        Err(StoreError::NotFound { .. }) => return Err(ReadError::Missing { object }),
        Err(source) => return Err(ReadError::Store { object, source }),
    };
    if stored.len() as u64 != entry.stored_bytes {
        return Err(ReadError::StoredSize { object, found: stored.len() as u64, expected: entry.stored_bytes });
    }
    let (stored, found) = blocking(move || {
        let found = Sha256Digest::of(&stored);
        (stored, found)
    })
    .await;
    if found != entry.stored_sha256 {
        return Err(ReadError::StoredDigest { object, found, expected: entry.stored_sha256 });
    }
    Ok(stored)
}

/// Opens one object, into at most `limit` bytes, and compares the plaintext with its entry.
async fn unseal(
    object: ObjectName,
    entry: &StoredObject,
    stored: Bytes,
    identities: Arc<[Identity]>,
    limit: usize,
    buffers: Buffers,
) -> Result<Bytes, ReadError> {
    // One byte more than there should be, so that nothing grows to find out that there is no more.
    let capacity = usize::try_from(entry.plaintext_bytes).map_or(limit, |bytes| bytes.min(limit)) + 1;
    let opened = blocking(move || {
        let mut plaintext = buffers.take(capacity);
        open_into(&identities, &stored, limit, &mut plaintext)?;
        Ok((Sha256Digest::of(&plaintext), buffers.lend(plaintext)))
    });
    match opened.await {
        Ok((digest, plaintext))
            if digest == entry.plaintext_sha256 && plaintext.len() as u64 == entry.plaintext_bytes =>
        {
            Ok(plaintext)
        }
        Ok(_) => Err(ReadError::Plaintext { object }),
        Err(source) => Err(ReadError::Open { object, source }),
    }
}
