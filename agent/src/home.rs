//! The agent's directory: what is in it, and that it belongs to one agent.
//!
//! ```text
//! agent.toml       settings
//! ca.pem           the authority of the coordinator
//! identity.pem     this agent's private key and certificate
//! recipient.key    the age identity to which restore tasks are sealed
//! redis-password   the server's password, if `join` was given one
//! tasks/           what became of tasks, until the coordinator knows it too
//! lock             held while an agent runs
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use thiserror::Error;
use urtext_identity::{AgentIdentity, AgentSigner, Credentials, IdentityError, create_private, read_text};
use urtext_repository::{Identity, InvalidKey};
use urtext_types::{ErrorKind, Explain, Secret};

/// The age identity's file.
const RECIPIENT_FILE: &str = "recipient.key";
/// The server's password, where `join` stores it.
pub const PASSWORD_FILE: &str = "redis-password";
const TASKS_DIR: &str = "tasks";
const LOCK_FILE: &str = "lock";

/// Why the directory cannot be used.
#[derive(Debug, Error)]
pub enum HomeError {
    #[error("use directory {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another agent runs in {}", path.display())]
    Busy { path: PathBuf },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the certificate in {} is that of {found}, not of an agent", path.display())]
    NotAnAgent { path: PathBuf, found: String },
    #[error("{} holds no age identity", path.display())]
    Recipient {
        path: PathBuf,
        #[source]
        source: InvalidKey,
    },
}

impl Explain for HomeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Directory { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::StorageFull => ErrorKind::Exhausted,
                _ => ErrorKind::Unavailable,
            },
            Self::Busy { .. } => ErrorKind::Conflict,
            Self::Identity(error) => error.kind(),
            Self::NotAnAgent { .. } | Self::Recipient { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("make it with `urtext-agent join`".to_owned())
            }
            Self::Directory { .. } => None,
            Self::Busy { .. } => Some("each agent has a directory of its own; stop the other one first".to_owned()),
            Self::Identity(error) => error.hint(),
            Self::NotAnAgent { .. } => Some("give the directory that `urtext-agent join` made".to_owned()),
            Self::Recipient { .. } => Some("put the file back, or join again with a new token".to_owned()),
        }
    }
}

/// One agent's directory.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory, for its owner alone, if it is not there.
    pub fn create(&self) -> Result<(), HomeError> {
        let failed = |source| HomeError::Directory { path: self.0.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(failed)
    }

    /// Holds the directory until the returned file is dropped, or the process ends in any way.
    pub fn lock(&self) -> Result<File, HomeError> {
        let path = self.0.join(LOCK_FILE);
        let failed = |source| HomeError::Directory { path: self.0.clone(), source };
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(HomeError::Busy { path: self.0.clone() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where results of tasks are kept.
    pub fn tasks(&self) -> Result<PathBuf, HomeError> {
        let path = self.0.join(TASKS_DIR);
        fs::create_dir_all(&path).map_err(|source| HomeError::Directory { path: path.clone(), source })?;
        Ok(path)
    }

    /// The certificate, and the node that it names.
    pub fn credentials(&self) -> Result<(Credentials, AgentIdentity), HomeError> {
        let credentials = Credentials::load(&self.0)?;
        let peer = credentials.certificate()?.peer;
        match peer.agent() {
            Some(identity) => Ok((credentials, identity.clone())),
            None => Err(HomeError::NotAnAgent { path: self.0.clone(), found: peer.to_string() }),
        }
    }

    /// What signs manifests.
    pub fn signer(credentials: &Credentials) -> Result<AgentSigner, HomeError> {
        Ok(AgentSigner::new(&credentials.key_pem, &credentials.certificate_pem)?)
    }

    /// The age identity to which restore tasks are sealed.
    pub fn recipient_key(&self) -> Result<Identity, HomeError> {
        let path = self.0.join(RECIPIENT_FILE);
        let text = Secret::new(read_text(&path)?);
        text.expose().parse().map_err(|source| HomeError::Recipient { path, source })
    }

    /// The same; made anew if there is none yet.
    pub fn recipient_key_or_new(&self) -> Result<Identity, HomeError> {
        if self.0.join(RECIPIENT_FILE).exists() {
            return self.recipient_key();
        }
        let identity = Identity::generate();
        create_private(&self.0.join(RECIPIENT_FILE), identity.to_secret().expose())?;
        Ok(identity)
    }
}
