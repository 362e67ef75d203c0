//! Messages as values: `TryFrom` in, `From` out.

mod ids;
mod observation;
mod position;

use thiserror::Error;
use urtext_types::{ErrorKind, Explain};

pub use ids::BackupAddress;
pub use position::{replication_id, timestamp};

/// A field of a message that is missing or is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("field {field} of the message is {problem}")]
pub struct InvalidField {
    pub field: &'static str,
    pub problem: String,
}

impl InvalidField {
    pub fn missing(field: &'static str) -> Self {
        Self { field, problem: "missing".to_owned() }
    }

    pub fn wrong(field: &'static str, problem: impl std::fmt::Display) -> Self {
        Self { field, problem: format!("wrong: {problem}") }
    }
}

impl Explain for InvalidField {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
    fn hint(&self) -> Option<String> {
        Some("the two sides may run different versions of Urtext; update the older one".to_owned())
    }
}

/// Names the field in which parsing failed.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, InvalidField>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| InvalidField::wrong(field, error))
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, InvalidField> {
    value.ok_or_else(|| InvalidField::missing(field))
}
