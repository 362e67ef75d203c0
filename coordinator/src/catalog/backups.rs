//! The index of committed backups.

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use urtext_planner::Verified;
use urtext_rdb::RdbHeader;
use urtext_repository::{BackupKey, CaptureMethod};
use urtext_types::{BackupId, DataDigest, DeploymentName, Engine, NodeName, Position, ShardName, SiteName, Timestamp};

use super::{Catalog, CatalogError, Copies, CopyState, json, to_json};

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
    /// Stands for the data; absent from manifests of earlier versions.
    #[serde(default)]
    pub content_digest: Option<DataDigest>,
    /// Who can read it.
    pub recipients: Vec<String>,
    /// Where it is: in one repository at least.
    #[serde(skip)]
    pub copies: Copies,
}

impl BackupEntry {
    /// Why it cannot be restored from any repository now, as a clause. A copy whose repository is down counts
    /// as what it was when that was last asked.
    pub fn trouble(&self) -> Option<String> {
        if self.copies.values().any(|copy| copy.trouble().is_none()) {
            return None;
        }
        let troubles = self.copies.iter().filter_map(|(name, copy)| Some((name, copy.trouble()?)));
        match troubles.collect::<Vec<_>>().as_slice() {
            [] => None,
            [(_, trouble)] => Some(trouble.clone()),
            several => {
                let each: Vec<String> = several.iter().map(|(name, trouble)| format!("in {name}: {trouble}")).collect();
                Some(each.join("; "))
            }
        }
    }

    /// Why it is beyond restoring: no copy of it is good, and none is merely out of sight.
    pub fn damaged(&self) -> Option<String> {
        self.trouble().filter(|_| self.unreadable().is_none())
    }

    /// Why it cannot be read now, though it may well be good.
    pub fn unreadable(&self) -> Option<String> {
        self.trouble()?;
        let may_be_good = |copy: &&CopyState| copy.damaged.is_none() && copy.broken.is_none();
        self.copies.values().filter(may_be_good).find_map(|copy| copy.unreadable.clone())
    }

    /// What has been proved of its best copy.
    pub fn verified(&self) -> Verified {
        let proved = |copy: &CopyState| match copy {
            CopyState { rehearsed_at: Some(_), .. } => Verified::Rehearsed,
            CopyState { verified_at: Some(_), .. } => Verified::Stored,
            _ => Verified::Never,
        };
        let good = self.copies.values().filter(|copy| copy.trouble().is_none());
        good.map(proved).max().unwrap_or(Verified::Never)
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
    /// Adds or replaces the entry of one backup, and of the copies that it names.
    pub async fn put_backup(&self, entry: &BackupEntry) -> Result<(), CatalogError> {
        let failed = self.failed("index a backup");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        Self::insert_backup(&mut transaction, entry).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
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
        .execute(&mut *connection)
        .await?;
        let key = entry.key();
        for (repository, state) in &entry.copies {
            Self::insert_copy(connection, &key, repository, state).await?;
        }
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
        let mut copies = self.copies(deployment, None).await?;
        let mut entry = |row| {
            let mut entry: BackupEntry = json(row, "summary")?;
            entry.copies = copies.remove(&entry.key()).unwrap_or_default();
            Ok(entry)
        };
        rows.map_err(&failed)?.iter().map(&mut entry).collect::<Result<_, _>>().map_err(&failed)
    }

    async fn with_copies(&self, entry: Option<BackupEntry>) -> Result<Option<BackupEntry>, CatalogError> {
        let Some(mut entry) = entry else { return Ok(None) };
        let key = entry.key();
        entry.copies = self.copies(None, Some(&key)).await?.remove(&key).unwrap_or_default();
        Ok(Some(entry))
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
        self.with_copies(row.map(|row| json(&row, "summary")).transpose().map_err(&failed)?).await
    }

    /// The backup of that id, of whatever deployment.
    pub async fn backup(&self, id: BackupId) -> Result<Option<BackupEntry>, CatalogError> {
        let failed = self.failed("look up a backup");
        let row = sqlx::query("SELECT summary FROM backups WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(&failed)?;
        self.with_copies(row.map(|row| json(&row, "summary")).transpose().map_err(&failed)?).await
    }
}
