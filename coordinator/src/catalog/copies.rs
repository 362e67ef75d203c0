//! Which repository has which backup, and what is known of that copy.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use urtext_repository::BackupKey;
use urtext_types::{BackupId, DeploymentName, RepositoryName, Timestamp};

use super::{Catalog, CatalogError, json, lineage::shard, parsed, to_json};
use crate::shard::ShardKey;

/// What is known of one backup in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CopyState {
    /// Why its manifest cannot be believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    /// Why its manifest could not be read when it was last tried. It is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// What a verification found wrong with its data objects; a later one may find it right again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// When all of its objects were last read again and every hash was right, by the coordinator's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
    /// When it was last loaded into a real server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsed_at: Option<Timestamp>,
    /// Until when the store keeps it against everybody, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
}

impl CopyState {
    /// Why it cannot be restored from here, as a clause.
    pub fn trouble(&self) -> Option<String> {
        self.damaged.clone().or_else(|| self.broken.clone()).or_else(|| {
            let reason = self.unreadable.as_ref()?;
            Some(format!("its manifest cannot be read now, and is tried again: {reason}"))
        })
    }
}

/// All copies of one backup, by repository. There are one or two, of each of very many backups: a list is a tenth of a
/// map of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copies(Vec<(RepositoryName, CopyState)>);

impl Copies {
    fn find(&self, repository: &RepositoryName) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| name.cmp(repository))
    }

    pub fn get(&self, repository: &RepositoryName) -> Option<&CopyState> {
        self.find(repository).ok().map(|at| &self.0[at].1)
    }

    pub fn contains_key(&self, repository: &RepositoryName) -> bool {
        self.find(repository).is_ok()
    }

    /// In the place of what was known of that copy.
    pub fn insert(&mut self, repository: RepositoryName, state: CopyState) {
        match self.find(&repository) {
            Ok(at) => self.0[at].1 = state,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (repository, state));
            }
        }
    }

    pub fn remove(&mut self, repository: &RepositoryName) -> Option<CopyState> {
        self.find(repository).ok().map(|at| self.0.remove(at).1)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&RepositoryName, &CopyState)> + Clone {
        self.0.iter().map(|(name, state)| (name, state))
    }

    pub fn keys(&self) -> impl Iterator<Item = &RepositoryName> {
        self.iter().map(|(name, _)| name)
    }

    pub fn values(&self) -> impl Iterator<Item = &CopyState> {
        self.iter().map(|(_, state)| state)
    }
}

impl<const N: usize> From<[(RepositoryName, CopyState); N]> for Copies {
    fn from(copies: [(RepositoryName, CopyState); N]) -> Self {
        let mut all = Self::default();
        copies.into_iter().for_each(|(repository, state)| all.insert(repository, state));
        all
    }
}

/// What the catalog lists, for each repository and shard.
pub type ListedCopies = BTreeMap<RepositoryName, BTreeMap<ShardKey, Vec<ListedCopy>>>;

/// One copy, as far as it matters to whether it is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedCopy {
    pub id: BackupId,
    pub is_in_trouble: bool,
}

impl Catalog {
    /// Says that a repository has that backup, and in which state.
    pub async fn put_copy(
        &self,
        key: &BackupKey,
        repository: &RepositoryName,
        state: &CopyState,
    ) -> Result<(), CatalogError> {
        let mut connection = self.pool.acquire().await.map_err(self.failed("keep the state of a copy"))?;
        Self::insert_copy(&mut connection, key, repository, state)
            .await
            .map_err(self.failed("keep the state of a copy"))
    }

    pub(super) async fn insert_copy(
        connection: &mut AnyConnection,
        key: &BackupKey,
        repository: &RepositoryName,
        state: &CopyState,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO copies (repository, deployment, shard, id, state) VALUES ($1, $2, $3, $4, $5) \
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

    /// Forgets a copy that is no longer in that repository, and with the last one the backup.
    pub async fn remove_copy(&self, key: &BackupKey, repository: &RepositoryName) -> Result<(), CatalogError> {
        self.remove_copies(std::slice::from_ref(key), repository).await
    }

    /// The same for several, in one transaction.
    pub async fn remove_copies(&self, keys: &[BackupKey], repository: &RepositoryName) -> Result<(), CatalogError> {
        let failed = self.failed("forget copies");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for key in keys {
            Self::delete_copy(&mut transaction, key, repository).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn delete_copy(
        connection: &mut AnyConnection,
        key: &BackupKey,
        repository: &RepositoryName,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM copies WHERE deployment = $1 AND shard = $2 AND id = $3 AND repository = $4")
            .bind(key.deployment.to_string())
            .bind(key.shard.to_string())
            .bind(key.id.to_string())
            .bind(repository.to_string())
            .execute(&mut *connection)
            .await?;
        sqlx::query(
            "DELETE FROM backups WHERE deployment = $1 AND shard = $2 AND id = $3 AND NOT EXISTS \
             (SELECT 1 FROM copies WHERE deployment = $1 AND shard = $2 AND id = $3)",
        )
        .bind(key.deployment.to_string())
        .bind(key.shard.to_string())
        .bind(key.id.to_string())
        .execute(connection)
        .await
        .map(|_| ())
    }

    /// Forgets what was in repositories that the settings no longer name.
    pub async fn keep_repositories(&self, named: &[RepositoryName]) -> Result<(), CatalogError> {
        let failed = self.failed("forget repositories");
        let rows = sqlx::query("SELECT DISTINCT repository FROM copies").fetch_all(&self.pool).await;
        for row in rows.map_err(&failed)? {
            let known: RepositoryName = parsed(&row, "repository").map_err(&failed)?;
            if !named.contains(&known) {
                sqlx::query("DELETE FROM copies WHERE repository = $1")
                    .bind(known.to_string())
                    .execute(&self.pool)
                    .await
                    .map_err(&failed)?;
            }
        }
        sqlx::query(
            "DELETE FROM backups WHERE NOT EXISTS (SELECT 1 FROM copies WHERE copies.deployment = backups.deployment \
             AND copies.shard = backups.shard AND copies.id = backups.id)",
        )
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        Ok(())
    }

    /// Which copies are listed: for each repository and shard the ids, ascending, and whether something is wrong with
    /// that copy. Some 20 bytes for each.
    pub async fn listed_copies(&self, deployment: Option<&DeploymentName>) -> Result<ListedCopies, CatalogError> {
        let failed = self.failed("list the copies of backups");
        let query = match deployment {
            Some(deployment) => sqlx::query(
                "SELECT repository, deployment, shard, id, state FROM copies WHERE deployment = $1 \
                 ORDER BY deployment, shard, id",
            )
            .bind(deployment.to_string()),
            None => sqlx::query(
                "SELECT repository, deployment, shard, id, state FROM copies ORDER BY deployment, shard, id",
            ),
        };
        let mut listed = ListedCopies::new();
        let mut rows = query.fetch(&self.pool);
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let repository = parsed(&row, "repository").map_err(&failed)?;
            let state: CopyState = json(&row, "state").map_err(&failed)?;
            let copy =
                ListedCopy { id: parsed(&row, "id").map_err(&failed)?, is_in_trouble: state.trouble().is_some() };
            let shards = listed.entry(repository).or_default();
            shards.entry(shard(&row).map_err(&failed)?).or_default().push(copy);
        }
        Ok(listed)
    }
}
