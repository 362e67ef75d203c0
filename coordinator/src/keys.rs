//! Who can read what is stored: the coordinator passes on, and keeps, what only operators can open.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::{info, warn};
use urtext_repository::{KeyChange, Keyring, RecordBody};
use urtext_types::{Chain, ErrorKind, RecordId, UserName};

use crate::{Fault, app::App, repositories::Place, shard::ShardKey};

/// How often a repository that was down is tried again.
const AUTHORITY_AGAIN: Duration = Duration::from_secs(60);

impl App {
    /// All keys of one repository.
    pub async fn keyring(&self, place: &Place) -> Result<Keyring, Fault> {
        let repository = place.open_unless_resting().await?;
        let read = repository.keyring(&self.verifier).await;
        read.map_err(Fault::while_doing(format!("read the keys of repository {}", place.name())))
    }

    /// Keeps a change of keys that `by` has signed; what is captured from then on is sealed to the new recipients.
    pub async fn change_keys(
        &self,
        place: &Place,
        id: RecordId,
        signed: Bytes,
        handed_on: Option<Bytes>,
        by: &UserName,
    ) -> Result<(), Fault> {
        let attempt = || format!("change the keys of repository {}", place.name());
        let repository = place.open().await?;
        let change = KeyChange::parse(repository.header().repository, id, &signed, &self.verifier)
            .map_err(Fault::while_doing(attempt()))?;
        if change.who != by.as_str() {
            let message = format!("{}: {} signed it, and {by} asks for it", attempt(), change.who);
            return Err(Fault::new(ErrorKind::Denied, message));
        }
        if change.handed_on.is_empty() != handed_on.is_none() {
            let message = format!("{}: what it says of identities is not what came with it", attempt());
            return Err(Fault::new(ErrorKind::Usage, message));
        }
        repository.change_keys(&signed, id, handed_on).await.map_err(Fault::while_doing(attempt()))?;
        info!(repository = %place.name(), recipients = %change.recipients, %by, "changed the keys");
        let mut shards = self.shards(None);
        shards.dedup_by_key(|shard| shard.deployment.clone());
        for shard in shards {
            self.record_keys(&shard, place, &change).await?;
        }
        Ok(())
    }

    async fn record_keys(&self, shard: &ShardKey, place: &Place, change: &KeyChange) -> Result<(), Fault> {
        let body = RecordBody::Audit {
            action: "changed the keys".to_owned(),
            subject: format!("repository {}: sealed to {} from now on", place.name(), change.recipients),
        };
        self.put_record(shard, &change.who, change.reason.clone(), body).await.map(drop)
    }

    /// Puts the authority's certificate into every repository, so that its signatures can be checked without us.
    pub async fn keep_authority(self: Arc<Self>) {
        let certificate = self.authority.certificate_pem();
        let mut left: Vec<&Place> = self.repositories.iter().collect();
        loop {
            let mut failed = Vec::new();
            for place in left {
                let put = async {
                    let put = place.open_unless_resting().await?.put_authority(&certificate).await;
                    put.map_err(Fault::while_doing("keep the authority's certificate"))
                };
                if let Err(fault) = put.await {
                    warn!(repository = %place.name(), error = %Chain(&fault), "could not keep the authority's \
                           certificate in the repository; trying again");
                    failed.push(place);
                }
            }
            left = failed;
            let pause = tokio::time::sleep(AUTHORITY_AGAIN);
            if left.is_empty() || self.stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }
}
