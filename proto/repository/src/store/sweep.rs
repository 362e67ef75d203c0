//! Deleting: what only the coordinator can do, and only [`crate::PrunePlan`] does.

use async_trait::async_trait;
use urtext_types::Timestamp;

use super::{Store, StoreError};
use crate::ObjectName;

/// A store in which objects can be deleted.
#[async_trait]
pub trait SweepStore: Store {
    /// Deletes an object. One that is not there is a success, so that a deletion whose answer was lost can simply
    /// be made again.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if the store itself keeps it for a while yet.
    ///
    /// # Cancel safety
    /// A dropped deletion may or may not have happened; making it again is safe.
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// What is left of puts that did not end. It is no object, and no listing shows it. Stores that put in
    /// one step have none.
    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        Ok(Vec::new())
    }

    /// Removes what is left of a put, if it is still as it was seen. Says whether it is gone.
    async fn discard(&self, _unfinished: &Unfinished) -> Result<bool, StoreError> {
        Ok(true)
    }
}

/// What is left of a put that did not end: in a directory, a file beside the object's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unfinished {
    /// Which object was being put.
    pub object: ObjectName,
    /// Which attempt.
    pub attempt: u64,
    pub size: u64,
    /// When it last grew, by the store's clock.
    pub modified: Timestamp,
}
