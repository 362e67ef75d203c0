//! The stored format: layout, sealing, manifests, stores.
//!
//! `FORMAT.md` beside this package describes what is stored, well enough to restore without this code.
//! A repository is append-only and needs no lock: objects are created once ([`Store::put_new`]), a
//! backup exists from the moment its manifest does ([`Written::commit`]), and what no manifest names is
//! garbage. Everything that is read back is checked against a signed manifest ([`BackupReader`]).
//!
//! This package knows nothing of Redis: to it an RDB is bytes, and what they mean arrives as values of
//! `urtext-types`. It never overwrites. Only [`PrunePlan`] and [`repair`] delete, through a [`SweepStore`], which no
//! agent has.

mod blocking;
mod buffers;
mod check;
mod digest;
mod export;
mod identity_file;
mod import;
mod keyring;
mod keys;
mod layout;
mod locking;
mod manifest;
mod prune;
mod reader;
mod record;
mod repair;
mod repository;
mod seal;
mod signed;
mod store;
mod sync;
mod transfer;
mod writer;

#[cfg(test)]
mod tests;

pub use check::{Checked, Damage, Loss, Sample, check_backup};
pub use digest::{InvalidDigest, Sha256Digest, Sha256Hasher};
pub use export::{Exported, export};
pub use identity_file::{IdentityFile, IdentityFileError, MAX_PASSPHRASE_WORK, SealedIdentities, seal_with_passphrase};
pub use import::{Imported, ImportedBackup, import};
pub use keyring::{Handover, KeyChange, Keyring, KeysError, OperatorVerifier};
pub use keys::{Identity, InvalidKey, MAX_RECIPIENTS, Recipient, Recipients};
pub use layout::{BackupKey, InvalidObjectName, Location, MAX_PARTS, ObjectName, ObjectPrefix};
pub use locking::{lock_backup, lock_common};
pub use manifest::{
    CaptureMethod, ContentSummary, FORMAT_VERSION, Manifest, MissingSettings, ModuleSummary, RdbChecksum, RdbSummary,
    SettingsSummary, Stale, StoredObject, Timings,
};
pub use prune::{FolderSeen, PruneFailure, PruneOutcome, PrunePlan, PruneRequest, Waiting};
pub use reader::{BackupReader, RdbReader, ReadError, StoredProof};
pub use record::{Proof, Record, RecordBody, RecordError, RecordKind};
pub use repair::{Repaired, repair};
pub use repository::{BackupsByShard, Repository, RepositoryError, RepositoryHeader};
pub use seal::{
    CompressionLevel, MAX_SECRET_BYTES, OpenError, PART_BYTES, SealError, SealedObject, open, open_bytes, seal,
    seal_bytes,
};
pub use signed::{
    ManifestError, ManifestSigner, ManifestVerifier, SIGNATURE_ALGORITHM, SignatureError, SignedManifest,
};
#[cfg(any(test, feature = "testing"))]
pub use store::testing;
pub use store::{
    BucketAddress, BucketOptions, BucketStore, DirectoryStore, FirstVersions, InvalidAddress, Lock, LockMode,
    LockStore, MAX_OBJECT_BYTES, ObjectInfo, Pace, PacedStore, PutOutcome, SLOWEST_UPLOAD, Service, Store,
    StoreAddress, StoreCause, StoreError, StoreOperation, SweepStore, Unfinished,
};
pub use sync::{BackupToCopy, SyncPlan, SyncStep, Synced};
pub use transfer::TransferError;
pub use writer::{BackupWriter, MAX_SETTINGS_BYTES, WriteError, WriteProgress, WriterOptions, Written};
