//! Why there is no backup.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use thiserror::Error;
use urtext_rdb::RdbError;
use urtext_replication::ReplicationError;
use urtext_repository::WriteError;
use urtext_types::{ByteCount, CaptureRefusal, ErrorKind, Explain, Position, ReplicationId};

use super::NoMethod;
use crate::server::{ServerAddress, ServerError};

/// Why a capture ended without a backup. Nothing of it is listed anywhere.
#[derive(Debug, Error)]
pub enum CaptureError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Refused(#[from] CaptureRefusal),
    #[error(transparent)]
    NoMethod(#[from] NoMethod),
    #[error("the host has {available} of memory left, too little to fork a server that uses {used}")]
    NoMemory { used: ByteCount, available: ByteCount },
    #[error("{} has {free} left, and the save may need {needed}", path.display())]
    NoRoom { path: PathBuf, needed: ByteCount, free: ByteCount },
    #[error("the server was busy with another save or rewrite for {} s", limit.as_secs())]
    Busy { limit: Duration },
    #[error("the server could not save its data set")]
    SaveFailed,
    #[error("the server says that it has saved, and {} is not a new file", path.display())]
    NoNewFile { path: PathBuf },
    #[error("read {}", path.display())]
    ReadFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("capture from {server} by replication")]
    Replication {
        server: Arc<ServerAddress>,
        #[source]
        source: ReplicationError,
    },
    #[error("what the server gave is not a sound RDB")]
    Rdb(#[from] RdbError),
    #[error("{given} bytes were announced, and {received} came")]
    Short { given: u64, received: u64 },
    #[error("the server said that it gives its data at {announced}, and the RDB says {written}")]
    PositionMismatch { announced: Position, written: Position },
    #[error("the server's history changed during the capture, from {before} to {after}")]
    HistoryChanged { before: ReplicationId, after: ReplicationId },
    #[error("the server was started anew during the capture")]
    Restarted,
    #[error("the repository took nothing for {} s", limit.as_secs())]
    Stalled { limit: Duration },
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Explain for CaptureError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Server(error) => error.kind(),
            Self::Refused(refusal) => refusal.kind(),
            Self::NoMethod(error) => error.kind(),
            Self::Replication { source, .. } => source.kind(),
            Self::Rdb(error) => error.kind(),
            Self::Write(error) => error.kind(),
            Self::NoMemory { .. } => ErrorKind::Refused,
            Self::NoRoom { .. } => ErrorKind::Exhausted,
            Self::Busy { .. }
            | Self::SaveFailed
            | Self::HistoryChanged { .. }
            | Self::Restarted
            | Self::Stalled { .. } => ErrorKind::Unavailable,
            Self::NoNewFile { .. } | Self::ReadFile { .. } => ErrorKind::Refused,
            Self::Short { .. } | Self::PositionMismatch { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Server(error) => return error.hint(),
            Self::Refused(refusal) => return refusal.hint(),
            Self::NoMethod(error) => return error.hint(),
            Self::Replication { source, .. } => return source.hint(),
            Self::Rdb(error) => return error.hint(),
            Self::Write(error) => return error.hint(),
            Self::NoMemory { .. } => "take the snapshot from another node, or give this host more memory".to_owned(),
            Self::NoRoom { .. } => {
                "make room: a save that fails makes the server refuse writes (stop-writes-on-bgsave-error)".to_owned()
            }
            Self::SaveFailed => "the server's log says why: often no memory to fork, or no disk space".to_owned(),
            Self::NoNewFile { .. } => {
                "is that the file of this server? if not, name the right one as rdb_file in agent.toml".to_owned()
            }
            Self::ReadFile { .. } => "run the agent as a user who may read the server's files".to_owned(),
            Self::Busy { .. } | Self::HistoryChanged { .. } | Self::Restarted => {
                "try again when the server is quiet".to_owned()
            }
            Self::Stalled { .. } => {
                "the server was let go, so that it holds nothing back for us; see whether the coordinator and its disk \
                 are well"
                    .to_owned()
            }
            Self::Short { .. } | Self::PositionMismatch { .. } => return None,
        })
    }
}
