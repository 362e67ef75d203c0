//! What can go wrong with keys, certificates and their files.

use std::{io, path::PathBuf};

use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Timestamp};

use crate::InvalidPeer;

/// A key, a certificate or its file that cannot be used.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("{} is larger than the {limit} bytes that a key or a certificate can need", path.display())]
    FileTooLarge { path: PathBuf, limit: u64 },
    /// `what` says which of the inputs it is: "the CA certificate", "the private key".
    #[error("{what} is not valid PEM of that kind: {problem}")]
    Pem { what: &'static str, problem: String },
    #[error("the private key does not belong to {certificate}")]
    KeyMismatch { certificate: &'static str },
    #[error("the CA certificate expired at {at}")]
    AuthorityExpired { at: Timestamp },
    #[error("the certificate request is not usable: {problem}")]
    Request { problem: String },
    #[error("{name:?} is neither a host name nor an IP address")]
    ServerName { name: String },
    #[error("the certificate's lifetime ends beyond what a certificate can say: {at}")]
    Lifetime { at: Timestamp },
    #[error("make a certificate: {problem}")]
    Issue { problem: String },
    #[error("build the TLS configuration")]
    Tls {
        #[source]
        source: rustls::Error,
    },
    #[error("build the check of certificates: {problem}")]
    Verifier { problem: String },
    #[error("the certificate names no peer")]
    Peer(#[from] InvalidPeer),
}

impl Explain for IdentityError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => io_kind(source),
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::FileTooLarge { .. } | Self::Pem { .. } | Self::KeyMismatch { .. } | Self::Tls { .. } => {
                ErrorKind::Integrity
            }
            Self::Verifier { .. } => ErrorKind::Integrity,
            Self::AuthorityExpired { .. } | Self::Peer(_) => ErrorKind::Denied,
            Self::Request { .. } | Self::ServerName { .. } | Self::Lifetime { .. } => ErrorKind::Usage,
            Self::Issue { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the directory: `urtext init` makes the coordinator's, `urtext-agent join` an agent's"
            }
            Self::Read { source, .. } | Self::Write { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                "private keys belong to one user: run this as the owner of the file"
            }
            Self::Exists { .. } => "nothing was overwritten; choose another directory, or move the old one aside",
            Self::Pem { .. } | Self::FileTooLarge { .. } | Self::KeyMismatch { .. } => {
                "put the file back from where it was issued; a key and its certificate change together"
            }
            Self::AuthorityExpired { .. } => {
                "check the coordinator's clock; a new authority means enrolling every agent again"
            }
            Self::Peer(error) => return error.hint(),
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Request { .. }
            | Self::ServerName { .. }
            | Self::Lifetime { .. }
            | Self::Issue { .. }
            | Self::Tls { .. }
            | Self::Verifier { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        _ => ErrorKind::Unavailable,
    }
}
