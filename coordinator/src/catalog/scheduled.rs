//! What is remembered of scheduled work, so that a restart neither repeats nor loses a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::Row;
use urtext_types::{BackupId, NodeName, SiteName, TaskId, Timestamp};

use super::{Catalog, CatalogError, TaskWork, json, lineage::shard, optional_millis, parsed, to_json};
use crate::shard::ShardKey;

/// What a schedule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    Snapshot,
}

impl Job {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
        }
    }
}

/// What is remembered of one job of one shard.
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
    pub async fn put_memory(&self, job: Job, shard: &ShardKey, memory: &StoredMemory) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO scheduled (job, deployment, shard, memory) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (job, deployment, shard) DO UPDATE SET memory = excluded.memory",
        )
        .bind(job.as_str())
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(to_json(memory))
        .execute(&self.pool)
        .await
        .map_err(self.failed("remember a scheduled run"))?;
        Ok(())
    }

    pub async fn memories(&self, job: Job) -> Result<BTreeMap<ShardKey, StoredMemory>, CatalogError> {
        let failed = self.failed("recall the scheduled runs");
        let rows = sqlx::query("SELECT * FROM scheduled WHERE job = $1")
            .bind(job.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        let memories = rows.iter().map(|row| Ok((shard(row)?, json(row, "memory")?)));
        memories.collect::<Result<_, _>>().map_err(&failed)
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
