//! Object lock of S3.
//!
//! A bucket that locks keeps versions, too: whoever deletes or overwrites a locked object only hides it, and
//! [`super::FirstVersions`] reads it all the same.

use async_trait::async_trait;
use object_store::path::Path as ObjectPath;
use quick_xml::de::from_reader;
use serde::Deserialize;
use urtext_types::{Chain, Timestamp};

use super::{BucketStore, StoreError, StoreOperation, s3::Answer};
use crate::{ObjectName, store::LockStore};

/// What S3 says of the lock of an object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retention {
    retain_until_date: Option<String>,
}

/// What S3 says of a bucket, or of an object in it, that was made without locks.
const NO_LOCKS: &str = "ObjectLockConfigurationNotFoundError";

/// The same of an object that is not locked, in a bucket with locks. Some servers say [`NO_LOCKS`] of it.
const NOT_LOCKED: &str = "NoSuchObjectLockConfiguration";

impl BucketStore {
    /// Asks what only S3 knows; of anything else there are no locks.
    async fn ask_about_lock(
        &self,
        method: &str,
        object: &ObjectPath,
        query: &str,
        body: String,
    ) -> Result<Answer, StoreError> {
        let Some(s3) = &self.s3 else { return Err(self.no_locks(None)) };
        let asked = s3.ask(method, object, &[(query, "")], body).await;
        asked.map_err(|error| self.failed_because(StoreOperation::Lock, object.as_ref(), 0, Chain(&*error).to_string()))
    }

    fn no_locks(&self, answer: Option<&Answer>) -> StoreError {
        StoreError::NoLocks { place: self.place.clone(), source: answer.map(|answer| answer.to_string().into()) }
    }

    fn not_locked(&self, name: &ObjectName, answer: &Answer) -> StoreError {
        if answer.is_error("NoSuchKey") {
            return StoreError::NotFound { object: name.to_string(), place: self.place.clone() };
        }
        self.failed_because(StoreOperation::Lock, name.as_str(), 0, answer.to_string())
    }
}

/// The same time or later: a part of a second is not kept.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis().saturating_add(999) / 1000 * 1000)
}

#[async_trait]
impl LockStore for BucketStore {
    async fn lock(&self, name: &ObjectName, until: Timestamp) -> Result<(), StoreError> {
        let until = whole_seconds(until);
        let mode = self.s3.as_ref().map(|s3| s3.lock_mode).unwrap_or_default().as_str().to_uppercase();
        let wanted = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
             <RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let answer = self.ask_about_lock("PUT", &self.path(name.as_str()), "retention", wanted).await?;
        if answer.is_success() {
            return Ok(());
        }
        // A lock is never made shorter: that is refused, with the same words as a missing right.
        if (400..500).contains(&answer.status)
            && let Ok(Some(there)) = self.locked_until(name).await
            && there >= until
        {
            return Ok(());
        }
        if answer.status == 400 {
            self.check_locks().await?;
        }
        Err(self.not_locked(name, &answer))
    }

    async fn locked_until(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        let answer = self.ask_about_lock("GET", &self.path(name.as_str()), "retention", String::new()).await?;
        if answer.is_error(NOT_LOCKED) || answer.is_error(NO_LOCKS) {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(self.not_locked(name, &answer));
        }
        let strange = |problem: String| self.failed_because(StoreOperation::Lock, name.as_str(), 0, problem);
        let retention: Retention = from_reader(&answer.body[..]).map_err(|error| strange(error.to_string()))?;
        let parsed = retention.retain_until_date.map(|date| date.parse::<Timestamp>()).transpose();
        parsed.map_err(|error| strange(error.to_string()))
    }

    async fn check_locks(&self) -> Result<(), StoreError> {
        let bucket = ObjectPath::from("");
        let answer = self.ask_about_lock("GET", &bucket, "object-lock", String::new()).await?;
        if answer.is_error(NO_LOCKS) {
            return Err(self.no_locks(Some(&answer)));
        }
        let is_enabled = String::from_utf8_lossy(&answer.body).contains("<ObjectLockEnabled>Enabled<");
        match answer.is_success() {
            true if is_enabled => Ok(()),
            true => Err(self.no_locks(Some(&answer))),
            false => Err(self.failed_because(StoreOperation::Lock, "its objects", 0, answer.to_string())),
        }
    }
}
