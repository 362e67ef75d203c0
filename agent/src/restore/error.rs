//! Why a restore ended, and in which state it left the target.

use std::{io, sync::Arc};

use thiserror::Error;
use urtext_proto::InvalidField;
use urtext_rdb::{NotLoadable, RdbError};
use urtext_replication::ReplicationError;
use urtext_repository::{InvalidKey, OpenError, ReadError};
use urtext_types::{ByteCount, ErrorKind, Explain, NodeAddress, Offset, Position};

use crate::server::{ServerAddress, ServerError};

/// What went wrong.
#[derive(Debug, Error)]
pub enum RestoreError {
    #[error(transparent)]
    Task(#[from] InvalidField),
    #[error("the repository's identity that came with the task cannot be opened with this agent's key")]
    Sealed(#[source] OpenError),
    #[error("what came with the task is not an identity")]
    Identity(#[from] InvalidKey),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the backup is not a sound RDB")]
    Rdb(#[from] RdbError),
    #[error("the manifest and the RDB of the backup do not say the same: {what} differ")]
    NotAsTheManifest { what: &'static str },
    #[error(transparent)]
    NotLoadable(#[from] NotLoadable),
    #[error("the version of {server}, {version:?}, is not known")]
    UnknownVersion { server: Arc<ServerAddress>, version: String },
    #[error("the backup holds data of modules, and {server} has not loaded {module}")]
    ModuleMissing { server: Arc<ServerAddress>, module: String },
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("{server} is a node of a Redis Cluster, which cannot be told to follow a master of ours")]
    Cluster { server: Arc<ServerAddress> },
    #[error("{server} follows masters over TLS only (tls-replication yes)")]
    TlsReplication { server: Arc<ServerAddress> },
    #[error("{server} is loading a data set, receiving one, or failing over")]
    InTransition { server: Arc<ServerAddress> },
    #[error("{server} is a replica of {master}, and its link is up")]
    LiveReplica { server: Arc<ServerAddress>, master: NodeAddress },
    #[error("{server} holds {keys} keys")]
    NotEmpty { server: Arc<ServerAddress>, keys: u64 },
    #[error("{server} holds {found} keys, more than the {planned} that were there when the restore was planned")]
    MoreKeys { server: Arc<ServerAddress>, found: u64, planned: u64 },
    #[error("{server} may use {limit} of memory (maxmemory), and the data needed {needed} where it was taken")]
    MaxMemory { server: Arc<ServerAddress>, limit: ByteCount, needed: ByteCount },
    #[error("listen for {server} on {address}")]
    Listen {
        server: Arc<ServerAddress>,
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("give the data to {server}")]
    Serve {
        server: Arc<ServerAddress>,
        #[source]
        source: ReplicationError,
    },
    #[error("{server} did not connect to {address} within {seconds} s of being told to")]
    NeverCame { server: Arc<ServerAddress>, address: String, seconds: u64 },
    #[error("{server} was at {expected} and is now at {found}")]
    Drifted { server: Arc<ServerAddress>, expected: Position, found: Position },
    #[error("{server} holds {found} keys in database {database} after the load, and the backup has {expected}")]
    KeysDiffer { server: Arc<ServerAddress>, database: u32, expected: u64, found: u64 },
    #[error("{server} was promoted, and does not name {expected} as the position from which it goes on")]
    LineageLost { server: Arc<ServerAddress>, expected: Position },
    #[error("the restore was cancelled")]
    Cancelled,
}

impl Explain for RestoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Task(error) => error.kind(),
            Self::Sealed(error) => error.kind(),
            Self::Identity(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Rdb(error) => error.kind(),
            Self::NotLoadable(error) => error.kind(),
            Self::Server(error) => error.kind(),
            Self::Serve { source, .. } => source.kind(),
            Self::NotAsTheManifest { .. }
            | Self::Drifted { .. }
            | Self::KeysDiffer { .. }
            | Self::LineageLost { .. } => ErrorKind::Integrity,
            Self::UnknownVersion { .. }
            | Self::ModuleMissing { .. }
            | Self::Cluster { .. }
            | Self::TlsReplication { .. }
            | Self::LiveReplica { .. }
            | Self::NotEmpty { .. }
            | Self::MoreKeys { .. }
            | Self::MaxMemory { .. } => ErrorKind::Refused,
            Self::InTransition { .. } | Self::Listen { .. } | Self::NeverCame { .. } | Self::Cancelled => {
                ErrorKind::Unavailable
            }
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Task(error) => return error.hint(),
            Self::Read(error) => return error.hint(),
            Self::Rdb(error) => return error.hint(),
            Self::NotLoadable(error) => return error.hint(),
            Self::Server(ServerError::NotPermitted { server, .. }) => {
                format!("on the target: ACL SETUSER {} {}", server.user(), crate::server::RESTORE_RIGHTS)
            }
            Self::Server(error) => return error.hint(),
            Self::Serve { source, .. } => return source.hint(),
            Self::Sealed(_) => "plan the restore again: the target's agent may have joined anew since".to_owned(),
            Self::Identity(_) => "give the identity file of the repository, as `urtext init` made it".to_owned(),
            Self::ModuleMissing { .. } => "load the same modules on the target first".to_owned(),
            Self::Cluster { .. } => "restore to plain files with --to-dir, and start the node on them".to_owned(),
            Self::TlsReplication { .. } => {
                "on the target: CONFIG SET tls-replication no for the time of the restore, or restore with --to-dir"
                    .to_owned()
            }
            Self::InTransition { .. } | Self::Cancelled => "try again when it is done".to_owned(),
            Self::LiveReplica { .. } => {
                "restore to the master, or detach the target first (REPLICAOF NO ONE)".to_owned()
            }
            Self::NotEmpty { .. } => "name an empty target, or replace its data with --overwrite".to_owned(),
            Self::MoreKeys { .. } => "somebody writes to the target: stop that, and plan the restore again".to_owned(),
            Self::MaxMemory { .. } => {
                "raise maxmemory on the target: it would evict keys, or refuse writes, once it is promoted".to_owned()
            }
            Self::NeverCame { .. } => {
                "the target's log says why; can it reach the agent's host? does a firewall stand between?".to_owned()
            }
            Self::KeysDiffer { .. } | Self::Drifted { .. } => {
                "does another program write to the target, or move it to another master? take Sentinel off it first"
                    .to_owned()
            }
            Self::NotAsTheManifest { .. }
            | Self::UnknownVersion { .. }
            | Self::Listen { .. }
            | Self::LineageLost { .. } => return None,
        })
    }
}

/// In which state a failed restore left the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// Nothing was done to it.
    Untouched,
    /// It was told to follow the agent and is a master of its own again, with this many keys.
    MasterAgain { keys: u64 },
    /// It was told to follow the agent, and could not be told to stop.
    StillFollowing,
    /// It has all the data and is a master at this offset of the restored history.
    Restored { offset: Offset },
}

/// A restore that failed: why, and what that means for the target.
#[derive(Debug, Error)]
#[error("{}", state_in_words(*state))]
pub struct RestoreFailed {
    pub state: TargetState,
    #[source]
    pub error: RestoreError,
}

fn state_in_words(state: TargetState) -> String {
    match state {
        TargetState::Untouched => "nothing was restored; the target is as it was".to_owned(),
        TargetState::MasterAgain { keys } => {
            format!("the restore failed half-way; the target is a master of its own and holds {keys} keys")
        }
        TargetState::StillFollowing => {
            "the restore failed half-way, and the target could not be told to stop following the agent".to_owned()
        }
        TargetState::Restored { offset } => {
            format!("the target holds the restored data and is a master, at offset {offset}; one proof failed")
        }
    }
}

impl Explain for RestoreFailed {
    fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    fn hint(&self) -> Option<String> {
        match self.state {
            TargetState::StillFollowing => Some("on the target: REPLICAOF NO ONE".to_owned()),
            TargetState::Untouched | TargetState::MasterAgain { .. } | TargetState::Restored { .. } => {
                self.error.hint()
            }
        }
    }
}
