//! Everything that the repositories can give back, replaced at once.

use super::{BackupEntry, Catalog, CatalogError, Decision, KnownEdge, Vouch};
use crate::shard::ShardKey;

/// What was read from the repositories.
#[derive(Debug, Default)]
pub struct Index {
    pub backups: Vec<BackupEntry>,
    /// In the order in which they were learned; all of them have their records.
    pub edges: Vec<(ShardKey, KnownEdge)>,
    pub decisions: Vec<(ShardKey, Decision)>,
    pub vouches: Vec<(ShardKey, Vouch)>,
}

impl Catalog {
    /// Puts `index` in the place of all that the catalog knew of the repositories, in one transaction: whoever
    /// asks meanwhile sees the old or the new. Findings go, and come back with what they were found in.
    /// Statements without a record stay, after those that have one.
    pub async fn replace_index(&self, index: &Index) -> Result<(), CatalogError> {
        let failed = self.failed("replace the index");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for clear in [
            "DELETE FROM backups",
            "DELETE FROM copies",
            "DELETE FROM statements WHERE recorded = 1",
            "DELETE FROM accepted",
            "DELETE FROM vouches",
            "DELETE FROM findings",
        ] {
            sqlx::query(clear).execute(&mut *transaction).await.map_err(&failed)?;
        }
        for entry in &index.backups {
            Self::insert_backup(&mut transaction, entry).await.map_err(&failed)?;
        }
        for (shard, edge) in &index.edges {
            Self::insert_edge(&mut transaction, shard, *edge).await.map_err(&failed)?;
        }
        sqlx::query(
            "UPDATE statements SET sequence = sequence + (SELECT MAX(sequence) FROM statements) WHERE recorded = 0",
        )
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        for (shard, decision) in &index.decisions {
            Self::insert_decision(&mut transaction, shard, decision).await.map_err(&failed)?;
        }
        for (shard, vouch) in &index.vouches {
            Self::insert_vouch(&mut transaction, shard, vouch).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }
}
