//! The index of committed backups.

use serde::{Deserialize, Serialize};
use urtext_repository::{BackupKey, CaptureMethod};
use urtext_types::{BackupId, DataDigest, DeploymentName, Engine, NodeName, Position, ShardName, SiteName, Timestamp};

use super::{Catalog, CatalogError, json, to_json};

/// What the catalog keeps of a manifest: enough for lists and for choosing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupEntry {
    pub deployment: DeploymentName,
    pub shard: ShardName,
    pub id: BackupId,
    pub site: SiteName,
    pub node: NodeName,
    pub position: Option<Position>,
    /// The agent's clock.
    pub taken_at: Timestamp,
    /// The coordinator's clock.
    pub received_at: Timestamp,
    pub keys: u64,
    pub rdb_bytes: u64,
    pub stored_bytes: u64,
    pub method: CaptureMethod,
    pub engine: Engine,
    pub server_version: String,
    /// The number in the RDB's header.
    pub rdb_version: u32,
    pub run_id: String,
    /// Why the copy was already known to be old when it was taken.
    pub stale: Option<String>,
    /// Why it cannot be restored, found out since it was committed.
    pub damaged: Option<String>,
    /// Stands for the data; absent from manifests of earlier versions.
    #[serde(default)]
    pub content_digest: Option<DataDigest>,
    /// Who can read it.
    pub recipients: Vec<String>,
}

impl BackupEntry {
    pub fn key(&self) -> BackupKey {
        BackupKey { deployment: self.deployment.clone(), shard: self.shard.clone(), id: self.id }
    }
}

impl Catalog {
    /// Adds or replaces the entry of one backup.
    pub async fn put_backup(&self, entry: &BackupEntry) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO backups (deployment, shard, id, summary) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (deployment, shard, id) DO UPDATE SET summary = $4",
        )
        .bind(entry.deployment.to_string())
        .bind(entry.shard.to_string())
        .bind(entry.id.to_string())
        .bind(to_json(entry))
        .execute(&self.pool)
        .await
        .map_err(self.failed("index a backup"))?;
        Ok(())
    }

    /// Forgets a backup that is no longer in the repository.
    pub async fn remove_backup(&self, key: &BackupKey) -> Result<(), CatalogError> {
        sqlx::query("DELETE FROM backups WHERE deployment = $1 AND shard = $2 AND id = $3")
            .bind(key.deployment.to_string())
            .bind(key.shard.to_string())
            .bind(key.id.to_string())
            .execute(&self.pool)
            .await
            .map_err(self.failed("remove a backup from the index"))?;
        Ok(())
    }

    /// All backups, or those of one deployment, newest first.
    pub async fn backups(&self, deployment: Option<&DeploymentName>) -> Result<Vec<BackupEntry>, CatalogError> {
        let failed = self.failed("list backups");
        let rows = match deployment {
            Some(deployment) => {
                sqlx::query("SELECT summary FROM backups WHERE deployment = $1 ORDER BY id DESC")
                    .bind(deployment.to_string())
                    .fetch_all(&self.pool)
                    .await
            }
            None => sqlx::query("SELECT summary FROM backups ORDER BY id DESC").fetch_all(&self.pool).await,
        };
        rows.map_err(&failed)?.iter().map(|row| json(row, "summary")).collect::<Result<_, _>>().map_err(&failed)
    }

    /// The backup in that place.
    pub async fn backup_at(&self, key: &BackupKey) -> Result<Option<BackupEntry>, CatalogError> {
        let failed = self.failed("look up a backup");
        let row = sqlx::query("SELECT summary FROM backups WHERE deployment = $1 AND shard = $2 AND id = $3")
            .bind(key.deployment.to_string())
            .bind(key.shard.to_string())
            .bind(key.id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        row.map(|row| json(&row, "summary")).transpose().map_err(&failed)
    }

    /// The backup of that id, of whatever deployment.
    pub async fn backup(&self, id: BackupId) -> Result<Option<BackupEntry>, CatalogError> {
        let failed = self.failed("look up a backup");
        let row = sqlx::query("SELECT summary FROM backups WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        row.map(|row| json(&row, "summary")).transpose().map_err(&failed)
    }
}
