//! The index of committed backups.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::{
    Any, AnyConnection, Row,
    any::{AnyArguments, AnyRow},
    query::Query,
};
use urtext_identity::AgentIdentity;
use urtext_planner::Verified;
use urtext_rdb::RdbHeader;
use urtext_repository::{BackupKey, CaptureMethod};
use urtext_types::{
    BackupId, DataDigest, DeploymentName, Engine, NodeName, Position, RepositoryName, ShardName, SiteName, Timestamp,
};

use super::{Catalog, CatalogError, Copies, CopyState, json, parsed, to_json};
use crate::shard::ShardKey;

/// Ids named in one statement; databases bound how many values one may have.
const ASKED_AT_ONCE: usize = 200;

/// Backups with their copies, a row for each copy.
macro_rules! entries {
    ($rest:literal) => {
        concat!(
            "SELECT b.deployment, b.shard, b.id, b.summary, c.repository, c.state FROM backups b \
             LEFT JOIN copies c ON c.deployment = b.deployment AND c.shard = b.shard AND c.id = b.id ",
            $rest
        )
    };
}

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
        for (repository, state) in entry.copies.iter() {
            Self::insert_copy(connection, &key, repository, state).await?;
        }
        Ok(())
    }

    /// Lists what was found in the repositories, in one transaction: backups that are new, and copies of others whose
    /// state is another one now. What was committed and listed meanwhile stays as it is: its session knew more.
    pub async fn take_in(
        &self,
        new: &[BackupEntry],
        copies: &[(BackupKey, RepositoryName, CopyState)],
    ) -> Result<(), CatalogError> {
        if new.is_empty() && copies.is_empty() {
            return Ok(());
        }
        let failed = self.failed("index backups");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        for entry in new {
            let key = entry.key();
            sqlx::query(
                "INSERT INTO backups (deployment, shard, id, summary) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (deployment, shard, id) DO NOTHING",
            )
            .bind(key.deployment.to_string())
            .bind(key.shard.to_string())
            .bind(key.id.to_string())
            .bind(to_json(entry))
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
            for (repository, state) in entry.copies.iter() {
                Self::insert_copy(&mut transaction, &key, repository, state).await.map_err(&failed)?;
            }
        }
        for (key, repository, state) in copies {
            Self::insert_copy(&mut transaction, key, repository, state).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// All backups, or those of one deployment, newest first.
    pub async fn backups(&self, deployment: Option<&DeploymentName>) -> Result<Vec<BackupEntry>, CatalogError> {
        let query = match deployment {
            Some(deployment) => {
                sqlx::query(entries!("WHERE b.deployment = $1 ORDER BY b.id DESC, b.deployment, b.shard"))
                    .bind(deployment.to_string())
            }
            None => sqlx::query(entries!("ORDER BY b.id DESC, b.deployment, b.shard")),
        };
        self.entries(query).await
    }

    /// The backups of one shard, newest first.
    pub async fn backups_of(&self, shard: &ShardKey) -> Result<Vec<BackupEntry>, CatalogError> {
        let query = sqlx::query(entries!("WHERE b.deployment = $1 AND b.shard = $2 ORDER BY b.id DESC"))
            .bind(shard.deployment.to_string())
            .bind(shard.shard.to_string());
        self.entries(query).await
    }

    /// Those of a shard that have these ids.
    pub async fn backups_at(
        &self,
        shard: &ShardKey,
        ids: &[BackupId],
    ) -> Result<BTreeMap<BackupId, BackupEntry>, CatalogError> {
        let mut found = BTreeMap::new();
        for ids in ids.chunks(ASKED_AT_ONCE) {
            let places: Vec<String> = (0..ids.len()).map(|i| format!("${}", i + 3)).collect();
            let places = places.join(", ");
            let text = [entries!("WHERE b.deployment = $1 AND b.shard = $2 AND b.id IN ("), &places, ")"].concat();
            // Of our own words and numbers alone.
            let mut query =
                sqlx::query(sqlx::AssertSqlSafe(text)).bind(shard.deployment.to_string()).bind(shard.shard.to_string());
            for id in ids {
                query = query.bind(id.to_string());
            }
            found.extend(self.entries(query).await?.into_iter().map(|entry| (entry.id, entry)));
        }
        Ok(found)
    }

    /// The next backups of a list, newest first: those that come after `last`.
    pub async fn page(
        &self,
        deployment: Option<&DeploymentName>,
        last: Option<&BackupKey>,
        limit: usize,
    ) -> Result<Vec<BackupEntry>, CatalogError> {
        // Later than any id.
        let after = last.map_or("~".to_owned(), |key| key.id.to_string());
        let (of, shard) = last.map_or(Default::default(), |key| (key.deployment.to_string(), key.shard.to_string()));
        // The page is chosen before copies are joined to it: a backup has several.
        let query = sqlx::query(
            "SELECT b.deployment, b.shard, b.id, b.summary, c.repository, c.state FROM \
             (SELECT * FROM backups WHERE (id < $1 OR (id = $1 AND (deployment > $2 OR \
             (deployment = $2 AND shard > $3)))) AND ($4 = '' OR deployment = $4) \
             ORDER BY id DESC, deployment, shard LIMIT $5) b \
             LEFT JOIN copies c ON c.deployment = b.deployment AND c.shard = b.shard AND c.id = b.id \
             ORDER BY b.id DESC, b.deployment, b.shard",
        )
        .bind(after)
        .bind(of)
        .bind(shard)
        .bind(deployment.map_or(String::new(), ToString::to_string))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.entries(query).await
    }

    /// The nodes that any backup is of.
    pub async fn nodes_with_backups(&self) -> Result<BTreeSet<AgentIdentity>, CatalogError> {
        #[derive(Deserialize)]
        struct Of {
            deployment: DeploymentName,
            shard: ShardName,
            site: SiteName,
            node: NodeName,
        }
        let failed = self.failed("look up whose backups there are");
        let mut nodes = BTreeSet::new();
        let mut rows = sqlx::query("SELECT summary FROM backups").fetch(&self.pool);
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let Of { deployment, shard, site, node } = json(&row, "summary").map_err(&failed)?;
            nodes.insert(AgentIdentity { deployment, shard, site, node });
        }
        Ok(nodes)
    }

    /// Reads rows as they come: what the database hands over is larger than what is kept of it.
    async fn entries<'q>(&self, query: Query<'q, Any, AnyArguments>) -> Result<Vec<BackupEntry>, CatalogError> {
        let failed = self.failed("list backups");
        let mut entries: Vec<BackupEntry> = Vec::new();
        let mut rows = query.fetch(&self.pool);
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            take_row(&mut entries, &row).map_err(&failed)?;
        }
        Ok(entries)
    }

    /// The backup in that place.
    pub async fn backup_at(&self, key: &BackupKey) -> Result<Option<BackupEntry>, CatalogError> {
        let query = sqlx::query(entries!("WHERE b.deployment = $1 AND b.shard = $2 AND b.id = $3"))
            .bind(key.deployment.to_string())
            .bind(key.shard.to_string())
            .bind(key.id.to_string());
        Ok(self.entries(query).await?.pop())
    }

    /// The backup of that id, of whatever deployment.
    pub async fn backup(&self, id: BackupId) -> Result<Option<BackupEntry>, CatalogError> {
        let query = sqlx::query(entries!("WHERE b.id = $1 ORDER BY b.deployment, b.shard")).bind(id.to_string());
        Ok(self.entries(query).await?.into_iter().next())
    }
}

/// One row is one copy of a backup; rows of one backup follow each other.
fn take_row(entries: &mut Vec<BackupEntry>, row: &AnyRow) -> Result<(), sqlx::Error> {
    let key =
        BackupKey { deployment: parsed(row, "deployment")?, shard: parsed(row, "shard")?, id: parsed(row, "id")? };
    let is_of =
        |entry: &BackupEntry| (&entry.deployment, &entry.shard, &entry.id) == (&key.deployment, &key.shard, &key.id);
    if !entries.last().is_some_and(is_of) {
        let mut entry: BackupEntry = json(row, "summary")?;
        if let Some(before) = entries.last() {
            share(&mut entry.deployment, &before.deployment);
            share(&mut entry.shard, &before.shard);
            share(&mut entry.site, &before.site);
            share(&mut entry.node, &before.node);
        }
        entries.push(entry);
    }
    let repository: Option<String> = row.try_get("repository")?;
    if let (Some(_), Some(entry)) = (repository, entries.last_mut()) {
        entry.copies.insert(parsed(row, "repository")?, json(row, "state")?);
    }
    Ok(())
}

/// Of equal names one is enough: those of very many backups are few.
fn share<T: Clone + PartialEq>(name: &mut T, before: &T) {
    if name == before {
        *name = before.clone();
    }
}
