//! Everything that the repositories can give back, replaced at once.

use sqlx::{AnyConnection, Row};
use urtext_repository::BackupKey;
use urtext_types::RepositoryName;

use super::{BackupEntry, Catalog, CatalogError, CopyState, Decision, KnownEdge, Vouch, to_json};
use crate::shard::ShardKey;

/// How many backups one table has that the other one lacks.
macro_rules! missing {
    ($of:literal, $in:literal) => {
        concat!(
            "SELECT COUNT(*) FROM ",
            $of,
            " a WHERE NOT EXISTS (SELECT 1 FROM ",
            $in,
            " b \
             WHERE b.deployment = a.deployment AND b.shard = a.shard AND b.id = a.id)"
        )
    };
}

/// What was read from the repositories about the histories. The backups were staged before.
#[derive(Debug, Default)]
pub struct Index {
    /// In the order in which they were learned; all of them have their records.
    pub edges: Vec<(ShardKey, KnownEdge)>,
    pub decisions: Vec<(ShardKey, Decision)>,
    pub vouches: Vec<(ShardKey, Vouch)>,
}

/// One copy of a backup that was found.
#[derive(Debug)]
pub struct StagedCopy {
    pub key: BackupKey,
    pub repository: RepositoryName,
    pub state: CopyState,
    pub backup: StagedBackup,
}

/// What is known of the backup that it is a copy of.
#[derive(Debug)]
pub enum StagedBackup {
    /// What its manifest says.
    Read(Box<BackupEntry>),
    /// What the catalog said before: that manifest cannot be believed now, or be read.
    Remembered(Box<BackupEntry>),
    /// Nothing, so that it is listed only if another copy tells more.
    Unknown,
}

/// What has changed by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    pub backups: u64,
    /// Of those: not listed before.
    pub found: u64,
    /// Listed before, and not any more.
    pub gone: u64,
}

impl Catalog {
    /// Begins with nothing.
    pub async fn clear_staged(&self) -> Result<(), CatalogError> {
        let failed = self.failed("begin to make the index again");
        for clear in ["DELETE FROM rebuilt_backups", "DELETE FROM rebuilt_copies"] {
            sqlx::query(clear).execute(&self.pool).await.map_err(&failed)?;
        }
        Ok(())
    }

    /// Keeps copies beside the index that is in use, in one transaction.
    pub async fn stage(&self, copies: &[StagedCopy]) -> Result<(), CatalogError> {
        let failed = self.failed("keep what was found");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for copy in copies {
            Self::stage_copy(&mut transaction, copy).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn stage_copy(connection: &mut AnyConnection, copy: &StagedCopy) -> Result<(), sqlx::Error> {
        let StagedCopy { key, repository, state, backup } = copy;
        let insert = match backup {
            StagedBackup::Read(entry) => Some((
                "INSERT INTO rebuilt_backups (deployment, shard, id, summary) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (deployment, shard, id) DO UPDATE SET summary = $4",
                entry,
            )),
            StagedBackup::Remembered(entry) => Some((
                "INSERT INTO rebuilt_backups (deployment, shard, id, summary) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (deployment, shard, id) DO NOTHING",
                entry,
            )),
            StagedBackup::Unknown => None,
        };
        if let Some((insert, entry)) = insert {
            sqlx::query(insert)
                .bind(key.deployment.to_string())
                .bind(key.shard.to_string())
                .bind(key.id.to_string())
                .bind(to_json(entry))
                .execute(&mut *connection)
                .await?;
        }
        sqlx::query(
            "INSERT INTO rebuilt_copies (repository, deployment, shard, id, state) \
             SELECT $1, deployment, shard, id, $5 FROM rebuilt_backups \
             WHERE deployment = $2 AND shard = $3 AND id = $4 \
             ON CONFLICT (deployment, shard, id, repository) DO UPDATE SET state = $5",
        )
        .bind(repository.to_string())
        .bind(key.deployment.to_string())
        .bind(key.shard.to_string())
        .bind(key.id.to_string())
        .bind(to_json(state))
        .execute(connection)
        .await
        .map(|_| ())
    }

    /// Stages what the index in use has of a repository that cannot be asked now.
    pub async fn stage_as_known(&self, repository: &RepositoryName) -> Result<(), CatalogError> {
        let failed = self.failed("keep what is known of a repository");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for statement in [
            "INSERT INTO rebuilt_backups (deployment, shard, id, summary) \
             SELECT b.deployment, b.shard, b.id, b.summary FROM backups b JOIN copies c \
             ON c.deployment = b.deployment AND c.shard = b.shard AND c.id = b.id WHERE c.repository = $1 \
             ON CONFLICT (deployment, shard, id) DO NOTHING",
            "INSERT INTO rebuilt_copies (repository, deployment, shard, id, state) \
             SELECT c.repository, c.deployment, c.shard, c.id, c.state FROM copies c WHERE c.repository = $1 \
             ON CONFLICT (deployment, shard, id, repository) DO NOTHING",
        ] {
            let query = sqlx::query(statement).bind(repository.to_string());
            query.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// Puts what was staged, and `index`, in the place of all that the catalog knew of the repositories, in one
    /// transaction: whoever asks meanwhile sees the old or the new. Findings go, and come back with what they were
    /// found in. Statements without a record stay, after those that have one.
    pub async fn replace_index(&self, index: &Index) -> Result<Replaced, CatalogError> {
        let failed = self.failed("replace the index");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        let replaced = Replaced {
            backups: count(&mut transaction, "SELECT COUNT(*) FROM rebuilt_backups").await.map_err(&failed)?,
            found: count(&mut transaction, missing!("rebuilt_backups", "backups")).await.map_err(&failed)?,
            gone: count(&mut transaction, missing!("backups", "rebuilt_backups")).await.map_err(&failed)?,
        };
        for statement in [
            "DELETE FROM backups",
            "DELETE FROM copies",
            "DELETE FROM statements WHERE recorded = 1",
            "DELETE FROM accepted",
            "DELETE FROM vouches",
            "DELETE FROM findings",
            "INSERT INTO backups (deployment, shard, id, summary) \
             SELECT deployment, shard, id, summary FROM rebuilt_backups",
            "INSERT INTO copies (repository, deployment, shard, id, state) \
             SELECT repository, deployment, shard, id, state FROM rebuilt_copies",
            "DELETE FROM rebuilt_backups",
            "DELETE FROM rebuilt_copies",
        ] {
            sqlx::query(statement).execute(&mut *transaction).await.map_err(&failed)?;
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
        transaction.commit().await.map_err(&failed)?;
        Ok(replaced)
    }
}

async fn count(connection: &mut AnyConnection, statement: &'static str) -> Result<u64, sqlx::Error> {
    let number: i64 = sqlx::query(statement).fetch_one(connection).await?.try_get(0)?;
    Ok(number.unsigned_abs())
}
