//! The manifest in its signed envelope: `manifest.json`.
//!
//! The signature covers the bytes of the manifest exactly as they are stored, not what they mean, so
//! that a reader that knows fewer fields, or more, can still verify it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use urtext_types::{ErrorKind, Explain};

use crate::{BackupKey, FORMAT_VERSION, MAX_OBJECT_BYTES, MAX_PARTS, MAX_SETTINGS_BYTES, Manifest, PART_BYTES, layout};

/// The only signature algorithm: ECDSA over P-256 and SHA-256, the signature as ASN.1 DER.
pub const SIGNATURE_ALGORITHM: &str = "ecdsa-p256-sha256";

/// What a signer or verifier says when it cannot or will not.
pub type SignatureError = Box<dyn std::error::Error + Send + Sync>;

/// Signs manifests with the key of an agent's certificate.
pub trait ManifestSigner: Send + Sync {
    /// The signature of `bytes`: see [`SIGNATURE_ALGORITHM`].
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignatureError>;
    /// The certificate of the key, PEM.
    fn certificate_pem(&self) -> &str;
}

/// Decides whether a signature is that of the agent of the node that the manifest names.
pub trait ManifestVerifier: Send + Sync {
    /// # Errors
    /// The certificate is not of this installation; it names another deployment or node than the
    /// manifest; or the signature is not that of `bytes`.
    fn verify(
        &self,
        certificate_pem: &str,
        bytes: &[u8],
        signature: &[u8],
        manifest: &Manifest,
    ) -> Result<(), SignatureError>;
}

/// Why a manifest is not to be believed, or not to be made.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("the manifest of {backup} is not the JSON that it must be")]
    Malformed {
        backup: BackupKey,
        #[source]
        source: serde_json::Error,
    },
    #[error("the manifest of {backup} has format version {found}, and this Urtext reads version {FORMAT_VERSION}")]
    Version { backup: BackupKey, found: u32 },
    #[error("the manifest in {backup} says that it is {claimed}")]
    Misplaced { backup: BackupKey, claimed: Box<BackupKey> },
    #[error("the manifest of {backup} contradicts itself: {what}")]
    Inconsistent { backup: BackupKey, what: String },
    #[error("the manifest of {backup} is signed with {algorithm:?}, not with {SIGNATURE_ALGORITHM}")]
    Algorithm { backup: BackupKey, algorithm: String },
    #[error("the manifest of {backup} was changed after it was signed, or its signature is not that of its node")]
    Signature {
        backup: BackupKey,
        #[source]
        source: SignatureError,
    },
    #[error("the manifest of {backup} cannot be signed")]
    Sign {
        backup: BackupKey,
        #[source]
        source: SignatureError,
    },
}

impl Explain for ManifestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. }
            | Self::Misplaced { .. }
            | Self::Inconsistent { .. }
            | Self::Algorithm { .. }
            | Self::Signature { .. } => ErrorKind::Integrity,
            Self::Version { .. } => ErrorKind::Usage,
            Self::Sign { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => Some("read it with the version of Urtext that wrote it, or a later one".to_owned()),
            Self::Malformed { .. } | Self::Misplaced { .. } | Self::Signature { .. } => {
                Some("do not restore from it before you know who changed it; take another backup".to_owned())
            }
            Self::Inconsistent { .. } | Self::Algorithm { .. } | Self::Sign { .. } => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    manifest: Box<RawValue>,
    signature: Signature,
}

/// A signature as it is stored, beside what it signs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) algorithm: String,
    pub(crate) certificate: String,
    pub(crate) value: String,
}

impl Signature {
    /// Signs the bytes exactly as they will be stored.
    pub(crate) fn make(bytes: &[u8], signer: &dyn ManifestSigner) -> Result<Self, SignatureError> {
        Ok(Self {
            algorithm: SIGNATURE_ALGORITHM.to_owned(),
            certificate: signer.certificate_pem().to_owned(),
            value: BASE64_STANDARD.encode(signer.sign(bytes)?),
        })
    }

    /// The bytes of the signature.
    pub(crate) fn decoded(&self) -> Result<Vec<u8>, SignatureError> {
        BASE64_STANDARD.decode(&self.value).map_err(Into::into)
    }
}

/// A manifest as stored. It says nothing before it is verified: the only way to its content is
/// [`SignedManifest::verify`].
#[derive(Debug, Clone)]
pub struct SignedManifest {
    backup: BackupKey,
    manifest: Box<RawValue>,
    signature: Signature,
}

impl SignedManifest {
    /// Signs a manifest.
    pub fn seal(manifest: &Manifest, signer: &dyn ManifestSigner) -> Result<Self, ManifestError> {
        let backup = manifest.key();
        check(&backup, manifest)?;
        let raw = serde_json::value::to_raw_value(manifest)
            .map_err(|source| ManifestError::Malformed { backup: backup.clone(), source })?;
        let signature = Signature::make(raw.get().as_bytes(), signer)
            .map_err(|source| ManifestError::Sign { backup: backup.clone(), source })?;
        Ok(Self { backup, manifest: raw, signature })
    }

    /// The bytes of `manifest.json`.
    pub fn to_bytes(&self) -> Result<Bytes, ManifestError> {
        let envelope = Envelope { manifest: self.manifest.clone(), signature: self.signature.clone() };
        let malformed = |source| ManifestError::Malformed { backup: self.backup.clone(), source };
        let mut bytes = serde_json::to_vec(&envelope).map_err(malformed)?;
        bytes.push(b'\n');
        if bytes.len() > MAX_OBJECT_BYTES {
            let what =
                format!("it has {} bytes, more than the {MAX_OBJECT_BYTES} that an object may have", bytes.len());
            return Err(ManifestError::Inconsistent { backup: self.backup.clone(), what });
        }
        Ok(bytes.into())
    }

    /// Takes the envelope apart. `backup` is the folder in which the bytes were found.
    pub fn parse(backup: &BackupKey, bytes: &[u8]) -> Result<Self, ManifestError> {
        let envelope: Envelope = serde_json::from_slice(bytes)
            .map_err(|source| ManifestError::Malformed { backup: backup.clone(), source })?;
        Ok(Self { backup: backup.clone(), manifest: envelope.manifest, signature: envelope.signature })
    }

    /// Whether both hold the same manifest, under certificates of the same key's owner.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        self.manifest.get() == other.manifest.get() && self.signature.certificate == other.signature.certificate
    }

    /// The manifest, once everything about it has been found to be as it must be.
    pub fn verify(&self, verifier: &dyn ManifestVerifier) -> Result<Manifest, ManifestError> {
        let backup = || self.backup.clone();
        let malformed = |source| ManifestError::Malformed { backup: backup(), source };
        if self.signature.algorithm != SIGNATURE_ALGORITHM {
            return Err(ManifestError::Algorithm { backup: backup(), algorithm: self.signature.algorithm.clone() });
        }
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        // A later version may have other fields than the ones that would be missed here.
        let Version { format_version: found } = serde_json::from_str(self.manifest.get()).map_err(malformed)?;
        if found != FORMAT_VERSION {
            return Err(ManifestError::Version { backup: backup(), found });
        }
        let manifest: Manifest = serde_json::from_str(self.manifest.get()).map_err(malformed)?;
        let signature =
            self.signature.decoded().map_err(|source| ManifestError::Signature { backup: backup(), source })?;
        verifier
            .verify(&self.signature.certificate, self.manifest.get().as_bytes(), &signature, &manifest)
            .map_err(|source| ManifestError::Signature { backup: backup(), source })?;
        if manifest.key() != self.backup {
            return Err(ManifestError::Misplaced { backup: backup(), claimed: Box::new(manifest.key()) });
        }
        check(&self.backup, &manifest)?;
        Ok(manifest)
    }
}

/// What must hold between the fields. Checked before signing and after verifying: a signature makes
/// nothing true.
fn check(backup: &BackupKey, manifest: &Manifest) -> Result<(), ManifestError> {
    let wrong = |what: String| Err(ManifestError::Inconsistent { backup: backup.clone(), what });
    if manifest.parts.is_empty() || manifest.parts.len() > MAX_PARTS as usize {
        return wrong(format!("it has {} parts", manifest.parts.len()));
    }
    for (index, part) in (0_u32..).zip(&manifest.parts) {
        if part.name != layout::part_file_name(index) {
            return wrong(format!("part {index} is called {:?}", part.name));
        }
        let is_last = index as usize + 1 == manifest.parts.len();
        let fits = if is_last { 1..=PART_BYTES as u64 } else { PART_BYTES as u64..=PART_BYTES as u64 };
        if !fits.contains(&part.plaintext_bytes) {
            return wrong(format!("part {index} has {} bytes of plaintext", part.plaintext_bytes));
        }
    }
    // Cannot overflow: at most MAX_PARTS times PART_BYTES.
    let sum: u64 = manifest.parts.iter().map(|part| part.plaintext_bytes).sum();
    if sum != manifest.rdb.bytes {
        return wrong(format!("its parts hold {sum} bytes and its RDB has {}", manifest.rdb.bytes));
    }
    if let Some(settings) = &manifest.settings.object
        && (settings.name != layout::SETTINGS_FILE_NAME || settings.plaintext_bytes > MAX_SETTINGS_BYTES as u64)
    {
        return wrong(format!("its settings are {} bytes in {:?}", settings.plaintext_bytes, settings.name));
    }
    Ok(())
}
