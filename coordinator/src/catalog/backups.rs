//! The index of committed backups.

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use urtext_rdb::RdbHeader;
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
    /// Why its manifest could not be read when it was last tried. It is tried again.
    #[serde(default)]
    pub unreadable: Option<String>,
    /// Stands for the data; absent from manifests of earlier versions.
    #[serde(default)]
    pub content_digest: Option<DataDigest>,
    /// Who can read it.
    pub recipients: Vec<String>,
}

impl BackupEntry {
    /// Why it cannot be restored now, as a clause.
    pub fn trouble(&self) -> Option<String> {
        self.damaged.clone().or_else(|| {
            let reason = self.unreadable.as_ref()?;
            Some(format!("its manifest cannot be read now, and is tried again: {reason}"))
        })
    }

    /// What decides which server can load it. Valkey's own numbers begin at 80; until then it writes those of
    /// Redis, under the name of Redis.
    pub fn header(&self) -> RdbHeader {
        let engine = if self.rdb_version >= 80 { Engine::Valkey } else { Engine::Redis };
        RdbHeader { engine, version: self.rdb_version }
    }

    pub fn key(&self) -> BackupKey {
        BackupKey { deployment: self.deployment.clone(), shard: self.shard.clone(), id: self.id }
    }
}

impl Catalog {
    /// Adds or replaces the entry of one backup.
    pub async fn put_backup(&self, entry: &BackupEntry) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(self.failed("index a backup"))?;
        Self::insert_backup(&mut connection, entry).await.map_err(self.failed("index a backup"))
    }

    pub(super) async fn insert_backup(connection: &mut AnyConnection, entry: &BackupEntry) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO backups (deployment, shard, id, summary) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (deployment, shard, id) DO UPDATE SET summary = $4",
        )
        .bind(entry.deployment.to_string())
        .bind(entry.shard.to_string())
        .bind(entry.id.to_string())
        .bind(to_json(entry))
        .execute(connection)
        .await
        .map(|_| ())
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
