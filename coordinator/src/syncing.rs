//! Copying from repository to repository.

use std::sync::Arc;

use urtext_repository::{Pace, PacedStore, Repository, StoreAddress, SyncPlan, SyncStep, Synced};
use urtext_types::{DeploymentName, ErrorKind, RepositoryName};

use crate::{Fault, app::App};

impl App {
    /// The repository of that name or at that address.
    pub async fn repository(&self, named: &str) -> Result<Repository, Fault> {
        if let Ok(name) = named.parse::<RepositoryName>()
            && let Some(place) = self.repositories.get(&name)
        {
            return place.open().await;
        }
        if !named.contains('/') {
            let name = named.parse().map_err(|error| Fault::new(ErrorKind::Usage, format!("{error}")))?;
            self.repositories.named(&name)?;
        }
        let attempt = || format!("open {named}");
        let address: StoreAddress = named.parse().map_err(Fault::while_doing(attempt()))?;
        let store = address.open().map_err(Fault::while_doing(attempt()))?;
        Repository::open(store).await.map_err(Fault::while_doing(attempt()))
    }

    /// What the second repository lacks of what the first one has.
    pub async fn plan_sync(
        &self,
        from: &Repository,
        to: &Repository,
        deployment: Option<&DeploymentName>,
    ) -> Result<SyncPlan, Fault> {
        if from.header().repository == to.header().repository {
            return Err(Fault::new(ErrorKind::Usage, "these are one and the same repository"));
        }
        let plan = SyncPlan::make(from.store().as_ref(), to.store().as_ref(), deployment).await;
        plan.map_err(Fault::while_doing("compare two repositories"))
    }

    /// Copies what is planned; the catalog knows the copies then.
    pub async fn sync(
        &self,
        from: &Repository,
        to: &Repository,
        plan: &SyncPlan,
        progress: &(dyn Fn(SyncStep) + Sync),
    ) -> Result<Synced, Fault> {
        let recipients = to.recipients(&self.verifier).await.map_err(Fault::while_doing("read the keys"))?;
        let place = self.repositories.iter().find(|place| place.is(to.header().repository));
        let limit = place.and_then(|place| place.settings.upload_limit);
        let target = PacedStore::new(to.store().clone()).putting_at(Arc::new(Pace::new(limit)));
        let copied = plan.execute(from.store().as_ref(), &target, &recipients, &self.verifier, progress).await;
        let synced = copied.map_err(Fault::while_doing("copy from repository to repository"))?;
        self.reconcile(None).await?;
        if let Some(place) = place {
            for key in &synced.backups {
                self.lock_new(place, key).await;
            }
        }
        Ok(synced)
    }
}
