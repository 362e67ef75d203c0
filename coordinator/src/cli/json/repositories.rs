//! `urtext repository list` and `check`, and the copies of a backup.

use serde::Serialize;
use urtext_proto::pb;
use urtext_types::Timestamp;

use super::time;

/// One backup in one repository.
#[derive(Debug, Serialize)]
pub struct StoredCopy {
    pub repository: String,
    /// Why it cannot be restored from there.
    pub trouble: Option<String>,
    pub verified_at: Option<Timestamp>,
    pub rehearsed_at: Option<Timestamp>,
    /// The store keeps it against everybody until then, as far as is known.
    pub locked_until: Option<Timestamp>,
}

impl From<pb::CopySummary> for StoredCopy {
    fn from(copy: pb::CopySummary) -> Self {
        let pb::CopySummary { repository, trouble, verified_at_ms, rehearsed_at_ms, locked_until_ms } = copy;
        Self {
            repository,
            trouble,
            verified_at: verified_at_ms.map(time),
            rehearsed_at: rehearsed_at_ms.map(time),
            locked_until: locked_until_ms.map(time),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Repositories {
    pub repositories: Vec<Repository>,
}

#[derive(Debug, Serialize)]
pub struct Repository {
    pub name: String,
    pub address: String,
    /// Whose agents put their backups there.
    pub sites: Vec<String>,
    /// Also those of every site that no repository names.
    pub takes_others: bool,
    /// Agents go there by themselves.
    pub direct: bool,
    /// What all agents together upload there.
    pub upload_bytes_per_second: Option<u64>,
    /// What is stored there is locked for so long at least.
    pub lock_seconds: Option<u64>,
    /// `governance` or `compliance`.
    pub lock_mode: Option<String>,
    pub id: Option<String>,
    pub recipients: Vec<String>,
    pub trouble: Option<String>,
    pub backups: u64,
    pub stored_bytes: u64,
    pub listed_at: Option<Timestamp>,
    pub newest: Option<Timestamp>,
}

impl From<pb::RepositorySummary> for Repository {
    fn from(summary: pb::RepositorySummary) -> Self {
        let pb::RepositorySummary {
            name,
            address,
            sites,
            id,
            recipients,
            trouble,
            backups,
            stored_bytes,
            listed_at_ms,
            newest_ms,
            takes_others,
            direct,
            upload_bytes_per_second,
            lock_seconds,
            lock_mode,
        } = summary;
        Self {
            name,
            address,
            sites,
            takes_others,
            direct,
            upload_bytes_per_second,
            lock_seconds,
            lock_mode,
            id,
            recipients,
            trouble,
            backups,
            stored_bytes,
            listed_at: listed_at_ms.map(time),
            newest: newest_ms.map(time),
        }
    }
}

/// `urtext repository add`
#[derive(Debug, Serialize)]
pub struct AddedRepository {
    pub name: String,
    pub address: String,
    pub sites: Vec<String>,
    pub recipients: Vec<String>,
}

/// `urtext repository lock`
#[derive(Debug, Serialize)]
pub struct Locked {
    pub repositories: Vec<LockedRepository>,
}

#[derive(Debug, Serialize)]
pub struct LockedRepository {
    pub name: String,
    /// Until when what was locked now is locked.
    pub until: Timestamp,
    /// Backups whose locks were extended.
    pub backups: u64,
    /// Objects: theirs, and those of no backup.
    pub objects: u64,
    /// Backups that were locked for long enough.
    pub unchanged: u64,
    pub failed: Vec<String>,
}

impl From<pb::LockedRepository> for LockedRepository {
    fn from(locked: pb::LockedRepository) -> Self {
        let pb::LockedRepository { repository: name, until_ms, backups, objects, unchanged, failed } = locked;
        Self { name, until: time(until_ms), backups, objects, unchanged, failed }
    }
}

/// `urtext repository rekey`
#[derive(Debug, Serialize)]
pub struct Rekeyed {
    pub repositories: Vec<RekeyedRepository>,
}

#[derive(Debug, Serialize)]
pub struct RekeyedRepository {
    pub name: String,
    /// The id of the object that says so.
    pub change: String,
    pub recipients: Vec<String>,
    pub dropped: Vec<String>,
    /// Whose identities the new recipients have now.
    pub handed_on: Vec<String>,
    /// What was sealed to these alone stays closed to the new recipients.
    pub left_behind: Vec<String>,
    pub backups_not_rewritten: u64,
    pub stored_bytes_not_rewritten: u64,
}
