//! Backups that an operator has said to be right.

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use urtext_types::{BackupId, RecordId, Timestamp};

use super::{Catalog, CatalogError, json, to_json};
use crate::shard::ShardKey;

/// An operator has looked: the backup is right although it holds far less than those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouch {
    pub record: RecordId,
    pub backup: BackupId,
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

impl Catalog {
    pub async fn put_vouch(&self, shard: &ShardKey, vouch: &Vouch) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(self.failed("keep what an operator vouches for"))?;
        Self::insert_vouch(&mut connection, shard, vouch)
            .await
            .map_err(self.failed("keep what an operator vouches for"))
    }

    pub(super) async fn insert_vouch(
        connection: &mut AnyConnection,
        shard: &ShardKey,
        vouch: &Vouch,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO vouches (deployment, shard, record_id, vouch) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (deployment, shard, record_id) DO NOTHING",
        )
        .bind(shard.deployment.to_string())
        .bind(shard.shard.to_string())
        .bind(vouch.record.to_string())
        .bind(to_json(vouch))
        .execute(connection)
        .await
        .map(|_| ())
    }

    /// Those of one shard, oldest first.
    pub async fn vouches(&self, shard: &ShardKey) -> Result<Vec<Vouch>, CatalogError> {
        let failed = self.failed("read what operators vouch for");
        let rows = sqlx::query("SELECT vouch FROM vouches WHERE deployment = $1 AND shard = $2 ORDER BY record_id")
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string())
            .fetch_all(&self.pool)
            .await
            .map_err(&failed)?;
        rows.iter().map(|row| json(row, "vouch")).collect::<Result<_, _>>().map_err(&failed)
    }
}
