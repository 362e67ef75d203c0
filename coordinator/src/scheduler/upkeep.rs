//! What looks after the backups that there are.

use std::sync::Mutex;

use urtext_types::{ByteCount, Chain, DeploymentName, ErrorKind, Explain, RepositoryName};

use crate::{
    Fault,
    app::App,
    proving::{Proving, VerifyRequest},
    prune::PruneAsk,
    repositories::Place,
};

pub(super) const STOPPING: &str = "the coordinator is stopping";

/// Who does it, in records.
pub(super) const BY: &str = "schedule";

/// What a verification has found so far.
#[derive(Debug, Default)]
struct Tally {
    copies: usize,
    damaged: Vec<String>,
    unreadable: Vec<String>,
}

impl App {
    /// Reads all copies of a deployment's backups again. That some are damaged is what it came to, and no failure:
    /// reading them again would find the same.
    pub(super) async fn verify_by_schedule(&self, deployment: &DeploymentName) -> Result<Option<String>, Fault> {
        let request = VerifyRequest {
            deployment: Some(deployment.clone()),
            backup: None,
            repository: None,
            percent: 100,
            since: None,
            repair: false,
        };
        let tally = Mutex::new(Tally::default());
        let said = |proving: Proving| {
            if let Proving::Copy(copy) = proving {
                let mut tally = tally.lock().expect("nothing panics while it holds the tally");
                tally.copies += 1;
                let named = || format!("{} in {}", copy.key.id, copy.repository);
                tally.damaged.extend(copy.reason.as_ref().map(|_| named()));
                tally.unreadable.extend(copy.unreadable.as_ref().map(|reason| format!("{}: {reason}", named())));
            }
        };
        let verified = self.stop.run_until_cancelled(self.verify(&request, BY, &said)).await;
        match verified {
            None => return Err(Fault::new(ErrorKind::Unavailable, STOPPING)),
            Some(Err(fault)) if fault.kind() == ErrorKind::NotFound => {
                return Ok(Some("nothing to verify yet".to_owned()));
            }
            Some(verified) => verified?,
        }
        let Tally { copies, damaged, unreadable } =
            tally.into_inner().expect("nothing panics while it holds the tally");
        if let Some(first) = unreadable.first() {
            let message = format!("{} of {copies} copies could not be read, the first: {first}", unreadable.len());
            return Err(Fault::new(ErrorKind::Unavailable, message));
        }
        Ok(Some(match damaged.as_slice() {
            [] => format!("{copies} copies are as they were signed"),
            damaged => format!("{} of {copies} copies are DAMAGED: {}", damaged.len(), damaged.join(", ")),
        }))
    }

    /// Copies into the repositories that pull what they lack of a deployment.
    pub(super) async fn sync_by_schedule(&self, deployment: &DeploymentName) -> Result<Option<String>, Fault> {
        let mut outcomes = Vec::new();
        for to in self.repositories.iter() {
            for from in &to.settings.pulls {
                let pulled = self.stop.run_until_cancelled(self.pull(from, to, deployment)).await;
                outcomes.extend(pulled.ok_or_else(|| Fault::new(ErrorKind::Unavailable, STOPPING))??);
            }
        }
        Ok(Some(if outcomes.is_empty() { "nothing was missing".to_owned() } else { outcomes.join("; ") }))
    }

    /// What came of it, if anything was missing.
    async fn pull(
        &self,
        from: &RepositoryName,
        to: &Place,
        deployment: &DeploymentName,
    ) -> Result<Option<String>, Fault> {
        let (source, target) = (self.repositories.named(from)?.open().await?, to.open().await?);
        let plan = self.plan_sync(&source, &target, Some(deployment)).await?;
        let synced = self.sync(&source, &target, &plan, &|_| {}).await?;
        if let Some((what, error)) = synced.failed.first() {
            let message = format!(
                "copy from {from} to {}: {} things were not copied, the first: {what}: {}",
                to.name(),
                synced.failed.len(),
                Chain(error)
            );
            return Err(Fault::new(ErrorKind::Unavailable, message));
        }
        let (backups, bytes) = (synced.backups.len(), ByteCount::new(synced.bytes));
        Ok((backups > 0).then(|| format!("copied from {from} to {}: {backups} of the backups, {bytes}", to.name())))
    }

    /// Extends the locks of what is to stay of a deployment.
    pub(super) async fn lock_by_schedule(&self, deployment: &DeploymentName) -> Result<Option<String>, Fault> {
        let extended = self.stop.run_until_cancelled(self.extend_locks(Some(deployment))).await;
        let extended = extended.ok_or_else(|| Fault::new(ErrorKind::Unavailable, STOPPING))??;
        let mut failed = extended.iter().flat_map(|locked| &locked.failed);
        if let Some(first) = failed.next() {
            let message = format!("{} things could not be locked, the first: {first}", failed.count() + 1);
            return Err(Fault::new(ErrorKind::Unavailable, message));
        }
        Ok(Some(extended.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    }

    /// Removes what no rule of retention wants to stay.
    pub(super) async fn prune_by_schedule(&self, deployment: &DeploymentName) -> Result<Option<String>, Fault> {
        let by = BY.to_owned();
        let ask = PruneAsk { deployment: Some(deployment.clone()), dry_run: false, plan: None, by };
        let pruned = self.prune(ask).await?;
        let outcomes = || pruned.repositories.iter().filter_map(|repository| repository.outcome.as_ref());
        if let Some(failed) = outcomes().find_map(|outcome| outcome.failed.first()) {
            let failures: usize = outcomes().map(|outcome| outcome.failed.len()).sum();
            let message = format!("{failures} things could not be removed, the first: {}", Chain(&failed.error));
            return Err(Fault::new(ErrorKind::Unavailable, message));
        }
        let removed: usize = outcomes().map(|outcome| outcome.removed.len()).sum();
        let bytes = ByteCount::new(outcomes().map(|outcome| outcome.deleted_bytes).sum());
        Ok(Some(format!("{removed} copies removed, {bytes} freed")))
    }
}
