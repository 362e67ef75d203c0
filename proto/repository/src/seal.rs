//! Sealing one object: zstd inside age, and back.
//!
//! Every sealed object is one zstd frame inside one age file, both complete in themselves:
//! `age -d -i KEY OBJECT | zstd -d` opens it. Nothing here does I/O; it is all work for a processor, so
//! callers run it on a blocking thread.

use std::io::{Read, Write};

use thiserror::Error;
use urtext_types::{ByteCount, ErrorKind, Explain, Secret};
use zeroize::Zeroizing;

use crate::{Identity, Recipient, Recipients, Sha256Digest, Sha256Hasher};

/// How much plaintext one part holds; only the last part of a backup holds less.
pub const PART_BYTES: usize = 16 * 1024 * 1024;

/// The largest secret that [`seal_bytes`] and [`open_bytes`] handle: keys, not data.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// zstd's level: speed against size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionLevel {
    /// Level 1: the one that keeps up with a server that sends its RDB.
    #[default]
    Fast,
    /// Level 3: some 5 % smaller, a quarter slower.
    Small,
}

impl CompressionLevel {
    fn zstd(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Small => 3,
        }
    }
}

/// Sealing failed: zstd or age refused, which neither does for bytes in memory.
#[derive(Debug, Error)]
#[error("cannot seal an object")]
pub struct SealError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl SealError {
    pub(crate) fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl Explain for SealError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Why a sealed object does not open.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("none of the given identities opens it")]
    WrongKey,
    #[error("it is not a whole, unchanged age file")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it holds more than {limit}")]
    TooLarge { limit: ByteCount },
}

impl Explain for OpenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongKey => ErrorKind::Denied,
            Self::Damaged(_) | Self::TooLarge { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::WrongKey => Some("give the identity whose public key is among the recipients".to_owned()),
            Self::Damaged(_) | Self::TooLarge { .. } => None,
        }
    }
}

/// One object, sealed, with everything that its entry in a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedObject {
    pub stored: Vec<u8>,
    pub stored_sha256: Sha256Digest,
    pub plaintext_bytes: u64,
    pub plaintext_sha256: Sha256Digest,
}

/// Seals one object while its plaintext arrives. Holds the sealed bytes and a compressor of a few MiB,
/// never the plaintext.
pub(crate) struct Sealer {
    zstd: zstd::stream::write::Encoder<'static, age::stream::StreamWriter<Vec<u8>>>,
    plaintext: Sha256Hasher,
    plaintext_bytes: u64,
}

impl Sealer {
    /// A sealer into an empty buffer. One with room for [`sealed_bound`] does not grow.
    pub(crate) fn new(recipients: &Recipients, level: CompressionLevel, stored: Vec<u8>) -> Result<Self, SealError> {
        let age = age::Encryptor::with_recipients(recipients.iter().map(Recipient::as_age))
            .map_err(SealError::new)?
            .wrap_output(stored)
            .map_err(SealError::new)?;
        let zstd = zstd::stream::write::Encoder::new(age, level.zstd()).map_err(SealError::new)?;
        Ok(Self { zstd, plaintext: Sha256Hasher::default(), plaintext_bytes: 0 })
    }

    /// Takes the next bytes of the plaintext.
    pub(crate) fn write(&mut self, plaintext: &[u8]) -> Result<(), SealError> {
        self.plaintext.update(plaintext);
        self.plaintext_bytes += plaintext.len() as u64;
        self.zstd.write_all(plaintext).map_err(SealError::new)
    }

    /// Ends the object.
    pub(crate) fn finish(self) -> Result<SealedObject, SealError> {
        let stored = self.zstd.finish().and_then(|age| age.finish()).map_err(SealError::new)?;
        Ok(SealedObject {
            stored_sha256: Sha256Digest::of(&stored),
            stored,
            plaintext_bytes: self.plaintext_bytes,
            plaintext_sha256: self.plaintext.finish(),
        })
    }
}

/// What `plaintext` bytes can grow to: zstd adds less than 1 in 256 to incompressible blocks, age 16
/// bytes for each 64 KiB and a header of at most a few KiB.
pub(crate) fn sealed_bound(plaintext: usize) -> usize {
    plaintext + plaintext / 256 + plaintext / 4096 + 8 * 1024
}

/// Seals one object that is in memory.
pub fn seal(recipients: &Recipients, level: CompressionLevel, plaintext: &[u8]) -> Result<SealedObject, SealError> {
    let mut sealer = Sealer::new(recipients, level, Vec::with_capacity(sealed_bound(plaintext.len())))?;
    sealer.write(plaintext)?;
    sealer.finish()
}

/// The largest window that a frame may ask of us, as a power of two: one whole part. Ours ask for less.
const MAX_WINDOW_LOG: u32 = PART_BYTES.ilog2();

/// Opens one object, into at most `limit` bytes.
pub fn open(identities: &[Identity], stored: &[u8], limit: usize) -> Result<Vec<u8>, OpenError> {
    // One byte more than allowed, so that nothing grows to find out that there is no more.
    let mut plaintext = Vec::with_capacity(limit.min(PART_BYTES) + 1);
    open_into(identities, stored, limit, &mut plaintext)?;
    Ok(plaintext)
}

/// Opens one object into an empty buffer, which grows to at most `limit` bytes and one.
pub(crate) fn open_into(
    identities: &[Identity],
    stored: &[u8],
    limit: usize,
    plaintext: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let age = decrypt(identities, stored)?;
    let mut zstd = zstd::stream::read::Decoder::new(age).map_err(damaged)?;
    zstd.window_log_max(MAX_WINDOW_LOG).map_err(damaged)?;
    read_at_most(zstd, limit, plaintext)
}

/// Seals a small secret, such as an identity on its way to the one agent that may use it. An age file
/// without compression.
pub fn seal_bytes(recipients: &Recipients, secret: &[u8]) -> Result<Vec<u8>, SealError> {
    if secret.len() > MAX_SECRET_BYTES {
        return Err(SealError::new(format!("{} is no small secret", ByteCount::new(secret.len() as u64))));
    }
    let mut age = age::Encryptor::with_recipients(recipients.iter().map(Recipient::as_age))
        .map_err(SealError::new)?
        .wrap_output(Vec::with_capacity(sealed_bound(secret.len())))
        .map_err(SealError::new)?;
    age.write_all(secret).map_err(SealError::new)?;
    age.finish().map_err(SealError::new)
}

/// Opens what [`seal_bytes`] sealed.
pub fn open_bytes(identities: &[Identity], sealed: &[u8]) -> Result<Secret<Vec<u8>>, OpenError> {
    // Reserved at once: a vector that grows leaves copies behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    read_at_most(decrypt(identities, sealed)?, MAX_SECRET_BYTES, &mut secret)?;
    Ok(Secret::new(std::mem::take(&mut *secret)))
}

fn decrypt<'a>(identities: &[Identity], stored: &'a [u8]) -> Result<age::stream::StreamReader<&'a [u8]>, OpenError> {
    let decryptor = age::Decryptor::new_buffered(stored).map_err(damaged)?;
    decryptor.decrypt(identities.iter().map(Identity::as_age)).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => OpenError::WrongKey,
        other => damaged(other),
    })
}

fn read_at_most(source: impl Read, limit: usize, into: &mut Vec<u8>) -> Result<(), OpenError> {
    // One byte more than allowed tells too long from just long enough.
    source.take(limit as u64 + 1).read_to_end(into).map_err(damaged)?;
    if into.len() > limit { Err(OpenError::TooLarge { limit: ByteCount::new(limit as u64) }) } else { Ok(()) }
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> OpenError {
    OpenError::Damaged(cause.into())
}
