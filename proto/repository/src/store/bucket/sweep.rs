//! Deleting in a bucket.
//!
//! A bucket may keep objects against everybody for a while (object lock, a retention policy, a legal hold). Its
//! refusal is told apart from a missing right by what it says, since services answer both with the same
//! status. In a bucket that keeps versions, a deletion hides the object; its bytes go by the bucket's own
//! lifecycle rules.

use async_trait::async_trait;
use object_store::ObjectStoreExt;

use super::{BucketStore, StoreError, StoreOperation};
use crate::{ObjectName, SweepStore};

/// What services call it when they keep an object: Amazon and those that speak S3; Google; Azure.
const LOCKED: [&str; 9] = [
    "object lock",
    "objectlock",
    "object is locked",
    "worm protected",
    "retentionpolicynotmet",
    "retention policy",
    "blobimmutable",
    "blob is immutable",
    "legal hold",
];

#[async_trait]
impl SweepStore for BucketStore {
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        match self.driver.delete(&self.path(name.as_str())).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) if is_locked(&error.to_string()) => Err(StoreError::Locked {
                object: name.to_string(),
                place: self.place.clone(),
                source: Some(error.to_string().into()),
            }),
            Err(error) => Err(self.failed(StoreOperation::Delete, name.as_str(), 0, error)),
        }
    }
}

fn is_locked(answer: &str) -> bool {
    let answer = answer.to_lowercase();
    LOCKED.iter().any(|words| answer.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_from_a_missing_right() {
        for locked in [
            "403 Forbidden: <Code>AccessDenied</Code><Message>Access Denied because object protected by object lock.</Message>",
            "<Code>InvalidRequest</Code><Message>Object is WORM protected and cannot be overwritten</Message>",
            "retentionPolicyNotMet: Object 'b/o' is subject to bucket's retention policy and cannot be deleted",
            "409 Conflict: BlobImmutableDueToPolicy",
            "This operation is not permitted as the blob is immutable due to a policy. (code: 409)",
        ] {
            assert!(is_locked(locked), "{locked}");
        }
        for denied in ["<Code>AccessDenied</Code><Message>Access Denied</Message>", "503 Slow Down", "InvalidRequest"] {
            assert!(!is_locked(denied), "{denied}");
        }
    }
}
