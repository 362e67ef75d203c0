//! What goes into an exported stream: the canonical backup of each shard, or the one that was named.

use std::sync::Arc;

use urtext_repository::{BackupKey, Repository, Store};
use urtext_types::{BackupId, DeploymentName, ErrorKind};

use crate::{Fault, app::App, catalog::BackupEntry, verdict::Ask};

/// Backups, each with a store that has a good copy of it.
pub struct Sources {
    /// Whose header and records go along.
    pub repository: Repository,
    pub backups: Vec<(BackupKey, Arc<dyn Store>)>,
}

impl App {
    /// Chooses.
    ///
    /// # Errors
    /// There is no such backup, a shard has no canonical one, or no repository that has a good copy answers.
    pub async fn to_export(&self, deployment: &DeploymentName, backup: Option<BackupId>) -> Result<Sources, Fault> {
        let mut entries: Vec<BackupEntry> = Vec::new();
        match backup {
            Some(id) => {
                self.reconcile(Some(deployment)).await?;
                let entry = self.catalog.backup(id).await.map_err(Fault::while_doing("look up a backup"))?;
                let entry = entry.filter(|entry| entry.deployment == *deployment).ok_or_else(|| {
                    Fault::new(ErrorKind::NotFound, format!("{deployment} has no backup {id}"))
                        .with_hint(format!("`urtext backups {deployment}` lists them"))
                })?;
                entries.push(entry);
            }
            None => {
                for shard in self.shards(Some(deployment)) {
                    let judgement = self.judge(&shard, &Ask::default()).await?;
                    let canonical = judgement.canonical().cloned().ok_or_else(|| {
                        Fault::new(ErrorKind::NotFound, format!("{shard} has no canonical backup"))
                            .with_hint(format!("`urtext canonical {deployment}` says why; name one to export it"))
                    })?;
                    entries.push(canonical);
                }
            }
        }
        let mut sources: Option<Sources> = None;
        for entry in entries {
            let key = entry.key();
            let opened = self.open_copy(&key).await?;
            let store = Arc::clone(opened.store());
            let sources = sources.get_or_insert_with(|| Sources { repository: opened, backups: Vec::new() });
            sources.backups.push((key, store));
        }
        sources.ok_or_else(|| {
            Fault::new(ErrorKind::NotFound, format!("there is no deployment {deployment}"))
                .with_hint("`urtext status` lists them")
        })
    }

    /// The repository from which a backup is best read now.
    async fn open_copy(&self, key: &BackupKey) -> Result<Repository, Fault> {
        let mut first_fault = None;
        for place in self.places_with(Some(key)).await? {
            match place.open_if_it_answers().await {
                Ok(repository) => return Ok(repository),
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        Err(first_fault.unwrap_or_else(|| Fault::new(ErrorKind::NotFound, format!("no repository has {key}"))))
    }
}
