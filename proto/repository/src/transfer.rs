//! What sync, repair, export and import have in common: objects go from one place to another, and are compared
//! with a signed manifest on their way.

use std::io;

use bytes::Bytes;
use thiserror::Error;
use urtext_types::{ErrorKind, Explain};

use crate::{
    Location, ObjectName, PutOutcome, ReadError, Record, RecordError, Store, StoreError, store::with_patience,
};

/// For how long a store may fail, in one piece, before a transfer is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why something did not get from one place to another.
#[derive(Debug, Error)]
pub enum TransferError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("read {object}")]
    Get {
        object: ObjectName,
        #[source]
        source: StoreError,
    },
    #[error("store {object}")]
    Put {
        object: ObjectName,
        #[source]
        source: StoreError,
    },
    #[error("list what is in the repository")]
    List(#[source] StoreError),
    #[error("put {object} in place of the damaged one")]
    Replace {
        object: ObjectName,
        #[source]
        source: StoreError,
    },
    #[error("two different backups are stored as {backup}: their signed manifests are not the same")]
    Twins { backup: crate::BackupKey },
    #[error("{object} vanishes from the destination again and again")]
    Vanishes { object: ObjectName },
    #[error("write the stream")]
    Output(#[source] io::Error),
    #[error("read the stream")]
    Input(#[source] io::Error),
    #[error("this is not a stream that `urtext export` made: {problem}")]
    Stream { problem: String },
    #[error("the stream ends too early: {missing}")]
    Truncated { missing: String },
    #[error("{object} was changed in the stream: its SHA-256 is not the one in SHA256SUMS")]
    Sum { object: ObjectName },
}

impl Explain for TransferError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Record(error) => error.kind(),
            Self::Get { source, .. } | Self::Put { source, .. } | Self::Replace { source, .. } | Self::List(source) => {
                source.kind()
            }
            Self::Twins { .. } | Self::Vanishes { .. } => ErrorKind::Conflict,
            Self::Output(_) | Self::Input(_) => ErrorKind::Unavailable,
            Self::Stream { .. } | Self::Truncated { .. } | Self::Sum { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::Put { source: StoreError::Conflict { .. }, .. } => {
                Some("what is there under this name is damaged, or of somebody else: `urtext verify` tells".to_owned())
            }
            Self::Get { source, .. } | Self::Put { source, .. } | Self::Replace { source, .. } | Self::List(source) => {
                source.hint()
            }
            Self::Vanishes { .. } => Some("something prunes the destination; see that nothing else does".to_owned()),
            Self::Truncated { .. } => Some("what was verified is kept; import the whole stream again".to_owned()),
            Self::Sum { .. } => Some("import it from another copy of the stream, or export again".to_owned()),
            Self::Twins { .. } | Self::Output(_) | Self::Input(_) | Self::Stream { .. } => None,
        }
    }
}

/// Reads an object that no manifest vouches for. A record must be one.
pub(crate) async fn get_plain(store: &dyn Store, object: &ObjectName) -> Result<Bytes, TransferError> {
    let bytes = with_patience(PATIENCE, || store.get(object))
        .await
        .map_err(|source| TransferError::Get { object: object.clone(), source })?;
    check_plain(object, &bytes)?;
    Ok(bytes)
}

/// Objects are never overwritten: what is put broken stays broken.
pub(crate) fn check_plain(object: &ObjectName, bytes: &[u8]) -> Result<(), TransferError> {
    if let Some(Location::Record { .. }) = Location::parse(object) {
        Record::parse(object, bytes)?;
    }
    Ok(())
}

/// Puts an object, with patience.
pub(crate) async fn put(store: &dyn Store, object: &ObjectName, bytes: &Bytes) -> Result<PutOutcome, TransferError> {
    with_patience(PATIENCE, || store.put_new(object, bytes.clone()))
        .await
        .map_err(|source| TransferError::Put { object: object.clone(), source })
}
