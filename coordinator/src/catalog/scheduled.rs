//! What is remembered of scheduled work, so that a restart neither repeats nor loses a run.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sqlx::Row;
use urtext_types::{BackupId, DeploymentName, NodeName, ShardName, SiteName, TaskId, Timestamp};

use super::{Catalog, CatalogError, TaskWork, json, optional_millis, parsed, to_json};
use crate::shard::ShardKey;

/// What a schedule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    /// Of each shard.
    Snapshot,
    /// Of a deployment.
    Verify,
    /// Of a deployment.
    Prune,
    /// Of a deployment: into the repositories that pull.
    Sync,
    /// Of a deployment: the canonical backup of each shard.
    Rehearse,
    /// Of a deployment: what stays in the repositories that lock.
    Lock,
}

impl Job {
    pub const ALL: [Self; 6] = [Self::Snapshot, Self::Verify, Self::Prune, Self::Sync, Self::Rehearse, Self::Lock];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Verify => "verify",
            Self::Prune => "prune",
            Self::Sync => "sync",
            Self::Rehearse => "rehearse",
            Self::Lock => "lock",
        }
    }
}

/// One thing that happens by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    pub deployment: DeploymentName,
    pub job: Job,
    /// `None`: of all shards at once.
    pub shard: Option<ShardName>,
}

impl JobKey {
    pub fn snapshot(shard: &ShardKey) -> Self {
        Self { deployment: shard.deployment.clone(), job: Job::Snapshot, shard: Some(shard.shard.clone()) }
    }
}

impl fmt::Display for JobKey {
    /// What its shift is made from: it must not change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shard {
            Some(shard) => write!(f, "{}/{shard} {}", self.deployment, self.job.as_str()),
            None => write!(f, "{} {}", self.deployment, self.job.as_str()),
        }
    }
}

/// What is remembered of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMemory {
    /// Expression and time zone: with another schedule everything begins anew.
    pub schedule: String,
    pub since: Timestamp,
    pub run: Option<StoredRun>,
    /// When the last good run had ended.
    pub last_good: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRun {
    pub slot: Timestamp,
    pub attempts: u32,
    pub begun_at: Timestamp,
    /// `None` while it runs.
    pub ended_at: Option<Timestamp>,
    /// Why the last attempt that came to its end failed, if it did.
    pub failure: Option<String>,
    /// What the last good run came to, where there is something to say.
    #[serde(default)]
    pub outcome: Option<String>,
}

/// One snapshot that was asked for by a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCapture {
    pub task: TaskId,
    pub node: NodeName,
    pub site: SiteName,
    pub backup: BackupId,
    pub ended_at: Option<Timestamp>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

impl RunCapture {
    pub fn is_committed(&self) -> bool {
        self.ended_at.is_some() && self.failure.is_none()
    }
}

/// A failure as [`super::tasks`] keeps it.
#[derive(Deserialize)]
struct Failure {
    message: String,
}

impl Catalog {
    pub async fn put_memory(&self, key: &JobKey, memory: &StoredMemory) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO scheduled (job, deployment, shard, memory) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (job, deployment, shard) DO UPDATE SET memory = excluded.memory",
        )
        .bind(key.job.as_str())
        .bind(key.deployment.to_string())
        .bind(key.shard.as_ref().map_or(String::new(), ToString::to_string))
        .bind(to_json(memory))
        .execute(&self.pool)
        .await
        .map_err(self.failed("remember a scheduled run"))?;
        Ok(())
    }

    pub async fn memories(&self) -> Result<BTreeMap<JobKey, StoredMemory>, CatalogError> {
        let failed = self.failed("recall the scheduled runs");
        let rows = sqlx::query("SELECT * FROM scheduled").fetch_all(&self.pool).await.map_err(&failed)?;
        let mut memories = BTreeMap::new();
        for row in &rows {
            // A job that a newer version knows is none of ours.
            if let Some(key) = job_key(row).map_err(&failed)? {
                memories.insert(key, json(row, "memory").map_err(&failed)?);
            }
        }
        Ok(memories)
    }

    /// The snapshots of one run, oldest first. `since` is when the run began first.
    pub async fn run_captures(
        &self,
        key: &ShardKey,
        slot: Timestamp,
        since: Timestamp,
    ) -> Result<Vec<RunCapture>, CatalogError> {
        let failed = self.failed("look up the snapshots of a scheduled run");
        let rows = sqlx::query(
            "SELECT * FROM tasks WHERE deployment = $1 AND shard = $2 AND given_ms >= $3 ORDER BY given_ms, id",
        )
        .bind(key.deployment.to_string())
        .bind(key.shard.to_string())
        .bind(since.as_millis())
        .fetch_all(&self.pool)
        .await
        .map_err(&failed)?;
        let mut captures = Vec::new();
        for row in &rows {
            let TaskWork::Capture { backup, slot: Some(own), .. } = json(row, "work").map_err(&failed)? else {
                continue;
            };
            if own == slot {
                captures.push(capture(row, backup).map_err(&failed)?);
            }
        }
        Ok(captures)
    }
}

fn job_key(row: &sqlx::any::AnyRow) -> Result<Option<JobKey>, sqlx::Error> {
    let (job, shard): (String, String) = (row.try_get("job")?, row.try_get("shard")?);
    let Some(job) = Job::ALL.into_iter().find(|known| known.as_str() == job) else { return Ok(None) };
    let shard = if shard.is_empty() { None } else { Some(parsed(row, "shard")?) };
    Ok(Some(JobKey { deployment: parsed(row, "deployment")?, job, shard }))
}

fn capture(row: &sqlx::any::AnyRow, backup: BackupId) -> Result<RunCapture, sqlx::Error> {
    let failure: Option<String> = row.try_get("failure")?;
    Ok(RunCapture {
        task: parsed(row, "id")?,
        node: parsed(row, "node")?,
        site: parsed(row, "site")?,
        backup,
        ended_at: optional_millis(row, "ended_ms")?,
        failure: match failure {
            Some(_) => Some(json::<Failure>(row, "failure")?.message),
            None => None,
        },
    })
}
