//! `urtext verify` of what is stored, `urtext repository sync` and `urtext import`.

use serde::Serialize;
use urtext_proto::pb;
use urtext_types::ByteCount;

#[derive(Debug, Serialize)]
pub struct CheckedCopies {
    pub copies: Vec<CheckedCopy>,
}

/// One backup in one repository.
#[derive(Debug, Serialize)]
pub struct CheckedCopy {
    pub deployment: String,
    pub shard: String,
    pub id: String,
    pub repository: String,
    pub objects_read: u64,
    pub objects: u64,
    pub bytes_read: u64,
    /// Before a repair.
    pub damaged: Vec<DamagedObject>,
    /// Why it is damaged now, and what that costs.
    pub reason: Option<String>,
    /// Why nothing was found out.
    pub unreadable: Option<String>,
    pub mended: Vec<String>,
    pub also_in: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct DamagedObject {
    pub object: String,
    pub problem: String,
    pub unrestorable: String,
}

impl From<pb::CheckedCopy> for CheckedCopy {
    fn from(copy: pb::CheckedCopy) -> Self {
        let pb::CheckedCopy {
            key,
            repository,
            objects_read,
            objects,
            bytes_read,
            damaged,
            reason,
            unreadable,
            mended,
            also_in,
        } = copy;
        let pb::BackupKey { deployment, shard, id } = key.unwrap_or_default();
        let damaged = damaged.into_iter().map(|pb::DamagedObject { object, problem, unrestorable }| DamagedObject {
            object,
            problem,
            unrestorable,
        });
        Self {
            deployment,
            shard,
            id,
            repository,
            objects_read,
            objects,
            bytes_read,
            damaged: damaged.collect(),
            reason,
            unreadable,
            mended,
            also_in,
        }
    }
}

impl CheckedCopy {
    /// What people read.
    pub fn lines(&self) -> Vec<String> {
        let what = format!("{} in {}", self.id, self.repository);
        let mut lines = vec![match (&self.unreadable, &self.reason, self.mended.is_empty()) {
            (Some(reason), _, _) => format!("unknown  {what}: {reason}"),
            (None, Some(_), _) => format!("damaged  {what}"),
            (None, None, false) => format!("repaired {what}"),
            (None, None, true) => {
                let (read, bytes) = (self.objects_read, ByteCount::new(self.bytes_read));
                format!("good     {what}: {read} of {} objects read, {bytes}", self.objects)
            }
        }];
        for DamagedObject { problem, unrestorable, .. } in &self.damaged {
            lines.push(format!("           {problem}"));
            lines.push(format!("           {unrestorable}"));
        }
        lines.extend(self.mended.iter().map(|object| format!("           put right: {object}")));
        if self.reason.is_some() && self.also_in.is_empty() {
            lines.push("           no other repository has it".to_owned());
        }
        lines
    }
}

#[derive(Debug, Default, Serialize)]
pub struct Sync {
    pub planned: Option<SyncPlanned>,
    /// Absent after --dry-run.
    pub done: Option<SyncDone>,
}

#[derive(Debug, Serialize)]
pub struct SyncPlanned {
    /// Ids.
    pub backups: Vec<String>,
    pub objects: u64,
    pub bytes: u64,
    pub others: u64,
    pub present: u64,
    pub differing: Vec<String>,
}

impl From<pb::SyncPlanned> for SyncPlanned {
    fn from(planned: pb::SyncPlanned) -> Self {
        let pb::SyncPlanned { backups, objects, bytes, others, present, differing } = planned;
        Self { backups: backups.into_iter().map(|key| key.id).collect(), objects, bytes, others, present, differing }
    }
}

#[derive(Debug, Serialize)]
pub struct SyncDone {
    pub backups: u64,
    pub others: u64,
    pub objects: u64,
    pub bytes: u64,
    pub sealed_to_others: Vec<String>,
    pub failed: Vec<SyncFailure>,
}

#[derive(Debug, Serialize)]
pub struct SyncFailure {
    pub what: String,
    pub reason: String,
}

impl From<pb::SyncDone> for SyncDone {
    fn from(done: pb::SyncDone) -> Self {
        let pb::SyncDone { backups, others, objects, bytes, sealed_to_others, failed } = done;
        let failed = failed.into_iter().map(|pb::SyncFailure { what, reason }| SyncFailure { what, reason });
        Self { backups, others, objects, bytes, sealed_to_others, failed: failed.collect() }
    }
}

#[derive(Debug, Serialize)]
pub struct Imported {
    pub backups: Vec<ImportedBackup>,
    pub others: u64,
    pub bytes: u64,
    /// The id of the repository that the stream was made from.
    pub origin: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ImportedBackup {
    pub deployment: String,
    pub shard: String,
    pub id: String,
    pub was_there: bool,
    pub sealed_to_others: bool,
}

impl From<pb::ImportResponse> for Imported {
    fn from(response: pb::ImportResponse) -> Self {
        let pb::ImportResponse { backups, others, bytes, origin } = response;
        let backups = backups.into_iter().map(|pb::ImportedBackup { key, was_there, sealed_to_others }| {
            let pb::BackupKey { deployment, shard, id } = key.unwrap_or_default();
            ImportedBackup { deployment, shard, id, was_there, sealed_to_others }
        });
        Self { backups: backups.collect(), others, bytes, origin }
    }
}

/// `urtext rehearse`
#[derive(Debug, Serialize)]
pub struct Rehearsed {
    pub id: String,
    /// Whose copy that was.
    pub repository: String,
    pub server: String,
    pub keys: u64,
    /// Of what had not expired when the server had loaded it.
    pub content_digest: String,
    pub fetch_seconds: f64,
    pub load_seconds: f64,
}
