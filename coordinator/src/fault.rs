//! Why a request was not carried out: a sentence, its cause, whose move it is, and what the move could be.

use std::{error::Error, fmt};

use tonic::Status;
use urtext_types::{ErrorKind, Explain};

/// The answer to a request that failed. Nobody branches on it but by its kind: it goes to a person, as a
/// gRPC status and then as `error: …` and `hint: …`.
#[derive(Debug)]
pub struct Fault {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What was attempted when `error` happened; kind and hint stay its own.
    pub fn while_doing<E: Explain + Send + Sync + 'static>(attempt: impl Into<String>) -> impl FnOnce(E) -> Self {
        let message = attempt.into();
        move |error| Self { kind: error.kind(), message, hint: error.hint(), source: Some(Box::new(error)) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Explain for Fault {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        urtext_proto::status::to_status(&fault)
    }
}

impl From<Fault> for urtext_proto::pb::Failure {
    fn from(fault: Fault) -> Self {
        urtext_proto::status::to_failure(&fault)
    }
}

impl From<urtext_proto::InvalidField> for Fault {
    fn from(field: urtext_proto::InvalidField) -> Self {
        Self { kind: field.kind(), message: field.to_string(), hint: field.hint(), source: None }
    }
}
