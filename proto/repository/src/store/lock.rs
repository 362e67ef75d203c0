//! Locks that a store keeps against everybody, whoever holds our credentials included.

use std::{fmt, str::FromStr, time::Duration};

use async_trait::async_trait;
use urtext_types::Timestamp;

use super::{Store, StoreError};
use crate::ObjectName;

/// How objects are locked, as the address of a repository says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// For how long at least, from whenever it was last looked at.
    pub period: Duration,
    pub mode: LockMode,
}

/// Who may still undo a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Whoever has been given the right to (`s3:BypassGovernanceRetention`).
    #[default]
    Governance,
    /// Nobody, the owner of the account included.
    Compliance,
}

impl LockMode {
    /// As an address spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LockMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.as_str() == text).ok_or(())
    }
}

/// A store in which objects can be locked.
#[async_trait]
pub trait LockStore: Store {
    /// Keeps an object until then at least. One that is locked for longer stays so.
    ///
    /// # Errors
    /// [`StoreError::NoLocks`] if the store has none.
    ///
    /// # Cancel safety
    /// A dropped lock may or may not hold; making it again is safe.
    async fn lock(&self, name: &ObjectName, until: Timestamp) -> Result<(), StoreError>;

    /// Until when an object is locked, if it is.
    async fn locked_until(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError>;

    /// Whether objects can be locked there at all.
    ///
    /// # Errors
    /// [`StoreError::NoLocks`] if they cannot.
    async fn check_locks(&self) -> Result<(), StoreError>;
}
