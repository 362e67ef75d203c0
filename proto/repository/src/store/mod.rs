//! One interface to every place that keeps objects.
//!
//! Objects are small ([`MAX_OBJECT_BYTES`]), immutable and created exactly once. That is all that the
//! format needs, and all that a directory, a bucket and a coordinator's gRPC have in common.

mod address;
mod bucket;
mod directory;
mod lock;
mod pace;
mod retry;
mod sweep;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::{collections::BTreeSet, error::Error as StdError, fmt};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{TryStreamExt, stream::BoxStream};
use thiserror::Error;
use urtext_types::{ByteCount, ErrorKind, Explain, Timestamp};

pub(crate) use self::retry::with_patience;
pub use self::{
    address::{BucketAddress, BucketOptions, InvalidAddress, Service, StoreAddress},
    bucket::{BucketStore, FirstVersions},
    directory::DirectoryStore,
    lock::{Lock, LockMode, LockStore},
    pace::{Pace, PacedStore, SLOWEST_UPLOAD},
    sweep::{SweepStore, Unfinished},
};
use crate::{ObjectName, ObjectPrefix};

/// The largest object. A sealed part of incompressible data stays below it: 16 MiB of plaintext, 64 KiB
/// of zstd's and 4 KiB of age's framing, and a header of a few KiB for the recipients.
pub const MAX_OBJECT_BYTES: usize = 17 * 1024 * 1024;

/// A place that keeps objects.
///
/// An object appears whole or not at all, also across a crash, and once [`Store::put_new`] has said so
/// it stays. Every call ends by itself: a peer that falls silent becomes [`StoreError::Unavailable`].
#[async_trait]
pub trait Store: Send + Sync {
    /// Creates an object. The same bytes under the same name are a success however often they are put,
    /// so that a put whose answer was lost can simply be made again.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the name is taken by other bytes, which stay as they are.
    ///
    /// # Cancel safety
    /// A dropped put may or may not have happened; making it again is safe.
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError>;

    /// Reads a whole object, at most [`MAX_OBJECT_BYTES`].
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError>;

    /// All objects below `prefix`, in no particular order. What was put before the call is in it; what
    /// is put meanwhile may be. A prefix that holds nothing gives nothing.
    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>>;

    /// The names of the folders right below `prefix`, ascending, each once; perhaps also some that are empty. A store
    /// that knows of folders is not asked for all that is in them.
    async fn folders(&self, prefix: &ObjectPrefix) -> Result<Vec<String>, StoreError> {
        let mut folders = BTreeSet::new();
        let mut listed = self.list(prefix);
        while let Some(object) = listed.try_next().await? {
            folders.extend(prefix.folder_of(&object.name).map(str::to_owned));
        }
        Ok(folders.into_iter().collect())
    }
}

/// How a successful put came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object did not exist.
    Created,
    /// The same bytes were there already.
    AlreadyIdentical,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    pub name: ObjectName,
    /// Bytes as stored.
    pub size: u64,
    /// When it was put, by the store's own clock, where the store says so.
    pub modified: Option<Timestamp>,
}

/// What was asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreOperation {
    Put,
    Get,
    List,
    Delete,
    Lock,
}

impl fmt::Display for StoreOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Put => "write",
            Self::Get => "read",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Lock => "lock",
        })
    }
}

/// The cause of a store's failure, as its driver put it.
pub type StoreCause = Box<dyn StdError + Send + Sync>;

/// Why a store did not do what it was asked. `object` is the name or prefix that was asked for,
/// `place` says which store: a path, a URL.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("there is no object {object} in {place}")]
    NotFound { object: String, place: String },
    #[error("object {object} exists in {place} with other content")]
    Conflict { object: String, place: String },
    #[error("no room for {needed} in {place} to {operation} object {object}")]
    Exhausted {
        operation: StoreOperation,
        object: String,
        needed: ByteCount,
        place: String,
        #[source]
        source: Option<StoreCause>,
    },
    #[error("not allowed to {operation} {object} in {place}")]
    Denied {
        operation: StoreOperation,
        object: String,
        place: String,
        #[source]
        source: Option<StoreCause>,
    },
    #[error("cannot {operation} {object}: {place} does not answer as it should")]
    Unavailable {
        operation: StoreOperation,
        object: String,
        place: String,
        #[source]
        source: Option<StoreCause>,
    },
    /// It cannot even be asked: what is said of it does not fit together.
    #[error("cannot reach {place}")]
    Refused {
        place: String,
        #[source]
        source: StoreCause,
    },
    /// It is there, and the store does not let it go yet: object lock, a retention policy, a legal hold.
    #[error("object {object} is locked in {place}: the store does not let it go yet")]
    Locked {
        object: String,
        place: String,
        #[source]
        source: Option<StoreCause>,
    },
    #[error("{place} has no object lock")]
    NoLocks {
        place: String,
        #[source]
        source: Option<StoreCause>,
    },
    #[error("object {object} in {place} has {size}, more than the {limit} that an object may have", limit = ByteCount::new(MAX_OBJECT_BYTES as u64))]
    TooLarge { object: String, size: ByteCount, place: String },
}

impl Explain for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Exhausted { .. } => ErrorKind::Exhausted,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Refused { .. } | Self::NoLocks { .. } => ErrorKind::Usage,
            Self::Locked { .. } => ErrorKind::Refused,
            Self::TooLarge { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Exhausted { place, .. } => {
                Some(format!("make room in {place} or raise its quota; nothing that is committed was touched"))
            }
            Self::Denied { operation: StoreOperation::Delete, place, .. } if place.contains("://") => {
                Some(format!("check whether the credentials for {place} may delete; only the coordinator's need to"))
            }
            Self::Denied { operation: StoreOperation::Lock, place, .. } => Some(format!(
                "check whether the credentials for {place} may lock (s3:PutObjectRetention, s3:GetObjectRetention, \
                 s3:GetBucketObjectLockConfiguration); only the coordinator's need to"
            )),
            Self::Denied { place, .. } if place.contains("://") => {
                Some(format!("check the credentials for {place}, and what they may do there: put, get and list"))
            }
            Self::Denied { place, .. } => Some(format!("check owner and mode of {place}")),
            Self::Refused { .. } => Some("check the address of the repository and its options".to_owned()),
            Self::Conflict { .. } => {
                Some("objects are never overwritten; two writers may have been given the same id".to_owned())
            }
            Self::Unavailable { operation: StoreOperation::Put | StoreOperation::List, place, .. }
                if place.contains("://") =>
            {
                Some(format!("is the bucket of {place} there, and can this machine reach it?"))
            }
            Self::Locked { .. } => Some("it goes when the store's own retention of it ends".to_owned()),
            Self::NoLocks { .. } => Some(
                "it is switched on when a bucket is made; make another bucket, or leave `lock` out of the address"
                    .to_owned(),
            ),
            Self::NotFound { .. } | Self::Unavailable { .. } | Self::TooLarge { .. } => None,
        }
    }
}
