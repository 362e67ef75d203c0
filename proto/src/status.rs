//! Error kinds to gRPC status codes and back, in one place.

use std::error::Error;

use thiserror::Error;
use tonic::{Code, Status, metadata::MetadataValue};
use urtext_types::{Chain, ErrorKind, Explain};

use crate::pb;

const KIND: &str = "urtext-kind";
/// Binary metadata, since a hint may hold any character.
const HINT: &str = "urtext-hint-bin";

/// What the other side answered when it failed: its sentence, its kind, its hint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct RpcError {
    pub message: String,
    kind: ErrorKind,
    hint: Option<String>,
}

impl RpcError {
    pub fn new(kind: ErrorKind, message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), kind, hint }
    }
}

impl Explain for RpcError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// The status that carries `error` with its causes, its kind and its hint.
pub fn to_status<E: Explain + 'static>(error: &E) -> Status {
    status(error.kind(), Chain(error).to_string(), error.hint())
}

/// A status from its three parts.
pub fn status(kind: ErrorKind, message: String, hint: Option<String>) -> Status {
    let mut status = Status::new(code(kind), message);
    status.metadata_mut().insert(KIND, MetadataValue::from_static(kind_name(kind)));
    if let Some(hint) = hint {
        status.metadata_mut().insert_bin(HINT, MetadataValue::from_bytes(hint.as_bytes()));
    }
    status
}

/// What a status says. A status that is not ours (a proxy, the HTTP/2 layer) has a kind by its code.
impl From<Status> for RpcError {
    fn from(status: Status) -> Self {
        let named = status.metadata().get(KIND).and_then(|value| value.to_str().ok()).and_then(kind_from_name);
        let hint = status
            .metadata()
            .get_bin(HINT)
            .and_then(|value| value.to_bytes().ok())
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let mut message = status.message().to_owned();
        if named.is_none()
            && let Some(cause) = status.source()
        {
            message = format!("{message}: {}", Chain(cause));
        }
        Self { message, kind: named.unwrap_or_else(|| kind(status.code())), hint }
    }
}

impl From<pb::Failure> for RpcError {
    fn from(failure: pb::Failure) -> Self {
        let kind = kind_from_name(&failure.kind).unwrap_or(ErrorKind::Internal);
        Self { message: failure.message, kind, hint: failure.hint }
    }
}

/// The same as a message, for failures that are reported rather than returned.
pub fn to_failure<E: Explain + 'static>(error: &E) -> pb::Failure {
    pb::Failure { message: Chain(error).to_string(), hint: error.hint(), kind: kind_name(error.kind()).to_owned() }
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Internal => Code::Internal,
        ErrorKind::Usage => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Ambiguous | ErrorKind::Refused => Code::FailedPrecondition,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Integrity => Code::DataLoss,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::Exhausted => Code::ResourceExhausted,
    }
}

fn kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::Usage,
        Code::NotFound => ErrorKind::NotFound,
        Code::FailedPrecondition => ErrorKind::Refused,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::Integrity,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
        Code::AlreadyExists => ErrorKind::Conflict,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        // tonic reports a connection that broke in the middle of a call as Unknown.
        Code::Unknown => ErrorKind::Unavailable,
        Code::Ok | Code::Unimplemented | Code::Internal => ErrorKind::Internal,
    }
}

/// The kind's name on the wire.
pub fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Internal => "internal",
        ErrorKind::Usage => "usage",
        ErrorKind::NotFound => "not-found",
        ErrorKind::Ambiguous => "ambiguous",
        ErrorKind::Refused => "refused",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Integrity => "integrity",
        ErrorKind::Denied => "denied",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Exhausted => "exhausted",
    }
}

fn kind_from_name(name: &str) -> Option<ErrorKind> {
    const ALL: [ErrorKind; 10] = [
        ErrorKind::Internal,
        ErrorKind::Usage,
        ErrorKind::NotFound,
        ErrorKind::Ambiguous,
        ErrorKind::Refused,
        ErrorKind::Unavailable,
        ErrorKind::Integrity,
        ErrorKind::Denied,
        ErrorKind::Conflict,
        ErrorKind::Exhausted,
    ];
    ALL.into_iter().find(|&kind| kind_name(kind) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_as_it_was_sent() {
        let sent =
            RpcError::new(ErrorKind::Ambiguous, "the histories forked", Some("accept one – deliberately".into()));
        assert_eq!(RpcError::from(to_status(&sent)), sent);
        assert_eq!(RpcError::from(to_failure(&sent)), sent);
    }

    #[test]
    fn a_foreign_status_has_the_kind_of_its_code() {
        assert_eq!(RpcError::from(Status::unauthenticated("who")).kind(), ErrorKind::Denied);
        assert_eq!(RpcError::from(Status::deadline_exceeded("late")).kind(), ErrorKind::Unavailable);
    }
}
