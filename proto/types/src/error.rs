//! What an error is *for*: its kind decides retries, status codes and exit codes, in one place each.

use std::{error::Error, fmt};

/// What the caller can do about a failure. Chosen by whose move it is, not by where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A fault of ours; no one but a developer can act on it.
    Internal,
    /// The request itself is wrong and will be wrong again.
    Usage,
    /// What was asked for does not exist.
    NotFound,
    /// The histories forked and nobody has decided: we refuse to guess.
    Ambiguous,
    /// A guard refused: doing it could lose data or endanger a server.
    Refused,
    /// Something that is needed does not answer now; trying again may help.
    Unavailable,
    /// Bytes are not what they must be.
    Integrity,
    /// The caller may not do this.
    Denied,
    /// It exists already, with other content or another owner.
    Conflict,
    /// No room left: disk, quota.
    Exhausted,
}

impl ErrorKind {
    /// The exit code of `urtext` and `urtext-agent`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Ambiguous => 4,
            Self::Refused | Self::Conflict => 5,
            Self::Unavailable | Self::Exhausted => 6,
            Self::Integrity => 7,
            Self::Denied => 8,
        }
    }

    /// Whether the same call, later, may succeed without anyone changing anything.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unavailable => true,
            Self::Internal
            | Self::Usage
            | Self::NotFound
            | Self::Ambiguous
            | Self::Refused
            | Self::Integrity
            | Self::Denied
            | Self::Conflict
            | Self::Exhausted => false,
        }
    }
}

/// An error that knows whose move it is and, if there is one, what that move could be.
pub trait Explain: Error {
    /// Decides retries, status codes and exit codes.
    fn kind(&self) -> ErrorKind;
    /// What a tired person can do about it: one sentence, no full stop, for a line `hint: …`.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Prints an error with its causes in one line: `ship part 3: put object x: disk is full`.
///
/// Our errors never repeat their source in their own text, so a chain reads as one sentence.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
