//! Removing backups that need not stay, and what no manifest names.
//!
//! The plan is made from a fresh listing of every repository and from the records as they are now. What is carried
//! out is what was said yes to, or nothing. It is on record before anything is deleted.

use std::{collections::BTreeSet, fmt};

use tracing::info;
use urtext_planner::{RetentionReason, print_retention};
use urtext_repository::{
    BackupKey, PruneOutcome, PrunePlan, PruneRequest, RecordBody, Repository, Sha256Hasher, SweepStore,
};
use urtext_types::{BackupId, ByteCount, Chain, DeploymentName, ErrorKind, RepositoryName};

use crate::{Fault, app::App, repositories::Place, retention::Retained, shard::ShardKey};

/// So many ids are named in one record of the audit; the others are counted.
const NAMED_IN_AUDIT: usize = 20;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct PruneAsk {
    pub deployment: Option<DeploymentName>,
    pub dry_run: bool,
    /// What was said yes to, if anybody was asked: see [`Pruned::plan`].
    pub plan: Option<String>,
    pub by: String,
}

/// What goes, or went.
#[derive(Debug)]
pub struct Pruned {
    /// Stands for everything that goes.
    pub plan: String,
    pub retained: Vec<Retained>,
    pub repositories: Vec<PrunedRepository>,
}

#[derive(Debug)]
pub struct PrunedRepository {
    pub name: RepositoryName,
    pub plan: PrunePlan,
    /// Unless it was a dry run.
    pub outcome: Option<PruneOutcome>,
}

impl App {
    /// Plans, and unless it is a dry run, deletes.
    ///
    /// # Errors
    /// A repository does not answer: it may have a hold, or the backup that another one could do without. Or the plan
    /// is not the one that was said yes to. What fails while deleting is in the outcome.
    pub async fn prune(&self, ask: PruneAsk) -> Result<Pruned, Fault> {
        let _one_at_a_time = self.pruning.lock().await;
        let retained = self.retention(ask.deployment.as_ref()).await?;
        if let Some((name, reason)) = self.repositories.down().into_iter().next() {
            let message = format!("repository {name} does not answer, and nothing is removed from any: {reason}");
            return Err(Fault::new(ErrorKind::Unavailable, message).with_hint(
                "what it holds decides what others can do without; take it out of urtext.toml if it is gone",
            ));
        }
        let mut repositories = Vec::new();
        let mut stores = Vec::new();
        for place in self.repositories.iter() {
            let store = open_to_sweep(place).await?;
            let request = self.request(&ask, place.name(), &retained);
            let plan = PrunePlan::make(store.as_ref(), request)
                .await
                .map_err(Fault::while_doing(format!("plan what goes from repository {}", place.name())))?;
            repositories.push(PrunedRepository { name: place.name().clone(), plan, outcome: None });
            stores.push(store);
        }
        let plan = stands_for(&repositories);
        if let Some(agreed) = ask.plan.filter(|agreed| *agreed != plan) {
            info!(%agreed, %plan, "the plan of a prune has changed");
            return Err(Fault::new(ErrorKind::Conflict, "what would go is not what was shown any more")
                .with_hint("something was backed up, removed or decided meanwhile; look at the plan again"));
        }
        if ask.dry_run {
            return Ok(Pruned { plan, retained, repositories });
        }
        for (repository, store) in repositories.iter_mut().zip(stores) {
            self.note(repository, &ask.by).await?;
            let outcome = repository.plan.execute(store.as_ref()).await;
            let forgotten = self.catalog.remove_copies(&outcome.removed, &repository.name).await;
            forgotten.map_err(Fault::while_doing("forget backups that were removed"))?;
            repository.outcome = Some(outcome);
        }
        Ok(Pruned { plan, retained, repositories })
    }

    fn request(&self, ask: &PruneAsk, repository: &RepositoryName, retained: &[Retained]) -> PruneRequest {
        let here = || retained.iter().filter(|retained| retained.repository == *repository);
        let key = |retained: &Retained, id: BackupId| BackupKey {
            deployment: retained.shard.deployment.clone(),
            shard: retained.shard.shard.clone(),
            id,
        };
        let is_relied_on = |reason: &RetentionReason| {
            matches!(reason, RetentionReason::Canonical | RetentionReason::LastGood { .. } | RetentionReason::OnlyGood)
        };
        PruneRequest {
            deployment: ask.deployment.clone(),
            gone: here().flat_map(|all| all.retention.removed().map(|gone| key(all, gone.backup.id))).collect(),
            relied_on: here()
                .flat_map(|all| {
                    let relied_on = all.retention.kept().filter(|kept| kept.reasons.iter().any(is_relied_on));
                    relied_on.map(|kept| key(all, kept.backup.id))
                })
                .collect(),
            busy: self.tasks.busy(),
            grace: self.settings.grace,
            now: self.clock.now(),
        }
    }

    /// Puts into the audit what is about to be deleted.
    async fn note(&self, repository: &PrunedRepository, by: &str) -> Result<(), Fault> {
        let PrunedRepository { name, plan, .. } = repository;
        let shard = |key: &BackupKey| ShardKey::new(key.deployment.clone(), key.shard.clone());
        let shards: BTreeSet<ShardKey> =
            plan.backups.iter().chain(&plan.orphans).map(|folder| shard(&folder.key)).collect();
        for of in shards {
            let gone: Vec<_> = plan.backups.iter().filter(|folder| shard(&folder.key) == of).collect();
            let orphans = plan.orphans.iter().filter(|folder| shard(&folder.key) == of).count();
            let bytes = ByteCount::new(gone.iter().map(|folder| folder.bytes).sum());
            let mut ids: Vec<String> =
                gone.iter().take(NAMED_IN_AUDIT).map(|folder| folder.key.id.to_string()).collect();
            if gone.len() > ids.len() {
                ids.push(format!("{} more", gone.len() - ids.len()));
            }
            let mut subject = format!("from repository {name}, shard {}: {} backups, {bytes}", of.shard, gone.len());
            if !ids.is_empty() {
                subject.push_str(&format!(" ({})", ids.join(", ")));
            }
            if orphans > 0 {
                subject.push_str(&format!("; {orphans} folders without a manifest"));
            }
            let body = RecordBody::Audit { action: "pruned".to_owned(), subject };
            self.put_record(&of, by, None, body).await?;
        }
        Ok(())
    }
}

/// The store of a repository, to delete in it; the same repository that everything else is about.
async fn open_to_sweep(place: &Place) -> Result<std::sync::Arc<dyn SweepStore>, Fault> {
    let attempt = || format!("open repository {} to delete in it", place.name());
    let known = place.open().await?.header().repository;
    let store = place.address().open_to_sweep().map_err(Fault::while_doing(attempt()))?;
    let found = Repository::open(store.clone()).await.map_err(Fault::while_doing(attempt()))?;
    if found.header().repository != known {
        let message = format!("{}: another repository is there now", attempt());
        return Err(Fault::new(ErrorKind::Conflict, message).with_hint("restart `urtext serve`"));
    }
    Ok(store)
}

/// The same text for the same deletions.
fn stands_for(repositories: &[PrunedRepository]) -> String {
    let mut all = Sha256Hasher::default();
    for PrunedRepository { name, plan, .. } in repositories {
        for folder in plan.backups.iter().chain(&plan.orphans) {
            all.update(format!("{name} {}\n", folder.key).as_bytes());
        }
        for left in &plan.unfinished {
            all.update(format!("{name} {}#{}\n", left.object, left.attempt).as_bytes());
        }
    }
    all.finish().to_string()
}

/// What was done, or would be, in a few lines.
impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, repository) in self.repositories.iter().enumerate() {
            let separator = if i > 0 { "\n" } else { "" };
            write!(f, "{separator}repository {}: {}", repository.name, repository.plan)?;
            if let Some(outcome) = &repository.outcome {
                write!(f, "\n  {}", words(outcome))?;
            }
        }
        Ok(())
    }
}

/// What came of it.
pub fn words(outcome: &PruneOutcome) -> String {
    let PruneOutcome { removed, swept, deleted_objects, deleted_bytes, locked, spared, failed } = outcome;
    let mut words = format!(
        "removed {} backups and {} folders without a manifest: {} in {deleted_objects} objects",
        removed.len(),
        swept.len(),
        ByteCount::new(*deleted_bytes)
    );
    if !locked.is_empty() {
        words.push_str(&format!("; {} objects are kept: locked by the store", locked.len()));
    }
    for (key, reason) in spared {
        words.push_str(&format!("; left {key} alone: {reason}"));
    }
    for failure in failed {
        words.push_str(&format!("; could not remove {}: {}", failure.subject, Chain(&failure.error)));
    }
    words
}

impl Retained {
    /// For a person.
    pub fn text(&self) -> String {
        print_retention(&self.retention)
    }
}
