//! Straight to the bucket: what a backup consists of goes from this host to the object store, and comes back the same
//! way, with credentials of this host's own. The coordinator carries messages only, and the manifest: it is the commit,
//! and the coordinator believes no agent that all parts are there.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;
use urtext_proto::{InvalidField, model, pb};
use urtext_repository::{
    InvalidAddress, Location, ObjectInfo, ObjectName, ObjectPrefix, PutOutcome, Repository, RepositoryError, Store,
    StoreAddress, StoreError,
};
use urtext_types::{Chain, ErrorKind, Explain, RepositoryId};

/// A bucket that can be reached gives its header sooner.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Why the bucket cannot be used from here.
#[derive(Debug, Error)]
pub enum DirectError {
    #[error(transparent)]
    Field(#[from] InvalidField),
    #[error("reach the repository from this host")]
    Address(#[from] InvalidAddress),
    #[error("reach the repository {place} from this host")]
    Prepare {
        place: String,
        #[source]
        source: StoreError,
    },
    #[error("reach the repository {place} from this host")]
    Open {
        place: String,
        #[source]
        source: RepositoryError,
    },
    #[error("the repository {place} does not answer this host within {} s", OPEN_LIMIT.as_secs())]
    Silent { place: String },
    #[error("{place} is repository {found} as seen from this host, and the coordinator's is {expected}")]
    AnotherRepository { place: String, found: RepositoryId, expected: RepositoryId },
}

impl Explain for DirectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Field(error) => error.kind(),
            Self::Address(error) => error.kind(),
            Self::Prepare { source, .. } => source.kind(),
            Self::Open { source, .. } => source.kind(),
            Self::Silent { .. } => ErrorKind::Unavailable,
            Self::AnotherRepository { .. } => ErrorKind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        let otherwise = "or take `direct` out of the repository's settings, and its bytes go through the coordinator";
        Some(match self {
            Self::Field(_) | Self::Address(_) => return None,
            Self::Prepare { .. } | Self::Open { .. } | Self::Silent { .. } => format!(
                "this host needs a way to the bucket, and credentials of its own to put and get there, in the agent's \
                 environment (AWS_ACCESS_KEY_ID, …) or in the service's usual file; {otherwise}"
            ),
            Self::AnotherRepository { .. } => {
                format!("the same address must lead to the same bucket from everywhere (endpoint, names); {otherwise}")
            }
        })
    }
}

/// A bucket for the bytes, and the coordinator for the rest.
pub struct DirectStore {
    bucket: Arc<dyn Store>,
    coordinator: Arc<dyn Store>,
}

impl DirectStore {
    /// Opens the bucket, and makes sure that it is the one that the coordinator means.
    pub async fn open(direct: pb::DirectStore, coordinator: Arc<dyn Store>) -> Result<Self, DirectError> {
        let pb::DirectStore { url, repository_id } = direct;
        let expected: RepositoryId = model::parse("direct.repository_id", &repository_id)?;
        let address: StoreAddress = url.parse()?;
        let place = address.to_string();
        let prepare = |source| DirectError::Prepare { place: place.clone(), source };
        let bucket = address.open().map_err(prepare)?;
        let opened = timeout(OPEN_LIMIT, Repository::open(bucket.clone())).await;
        let opened = opened.map_err(|_| DirectError::Silent { place: place.clone() })?;
        let found = opened.map_err(|source| DirectError::Open { place: place.clone(), source })?.header().repository;
        if found != expected {
            return Err(DirectError::AnotherRepository { place, found, expected });
        }
        Ok(Self { bucket, coordinator })
    }
}

#[async_trait]
impl Store for DirectStore {
    /// A manifest is put by the coordinator, which looks first.
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        match Location::parse(name) {
            Some(Location::Part(..) | Location::Settings(_)) => self.bucket.put_new(name, bytes).await,
            _ => self.coordinator.put_new(name, bytes).await,
        }
    }

    /// On the worst day another way will do: the coordinator may reach what this host does not.
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        match self.bucket.get(name).await {
            Ok(bytes) => Ok(bytes),
            Err(error) => {
                warn!(error = %Chain(&error), "cannot be read from the bucket; asking the coordinator for it");
                self.coordinator.get(name).await
            }
        }
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        self.bucket.list(prefix)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use urtext_repository::testing::MemoryStore;

    use super::*;

    fn name(text: &str) -> ObjectName {
        text.parse().expect("a name")
    }

    const FOLDER: &str = "backups/orders/0/01K00000000000000000000000";

    #[tokio::test]
    async fn bytes_go_to_the_bucket_and_the_manifest_to_the_coordinator() {
        let (bucket, coordinator) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
        let store = DirectStore { bucket: bucket.clone(), coordinator: coordinator.clone() };
        for object in ["rdb.00000.zst.age", "settings.zst.age", "manifest.json"] {
            store.put_new(&name(&format!("{FOLDER}/{object}")), object.into()).await.expect("put");
        }
        let names = async |store: Arc<MemoryStore>| {
            let listed = store.list(&ObjectPrefix::all()).map(|object| object.expect("listed").name.to_string());
            let mut names: Vec<String> = listed.collect().await;
            names.sort();
            names
        };
        let parts = [format!("{FOLDER}/rdb.00000.zst.age"), format!("{FOLDER}/settings.zst.age")];
        assert_eq!(names(bucket).await, parts);
        assert_eq!(names(coordinator).await, [format!("{FOLDER}/manifest.json")]);
    }

    #[tokio::test]
    async fn what_the_bucket_does_not_give_the_coordinator_may() {
        let (bucket, coordinator) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
        let (here, there) =
            (name(&format!("{FOLDER}/rdb.00000.zst.age")), name(&format!("{FOLDER}/rdb.00001.zst.age")));
        bucket.put_new(&here, "bucket".into()).await.expect("put");
        coordinator.put_new(&there, "coordinator".into()).await.expect("put");
        let store = DirectStore { bucket, coordinator };
        assert_eq!(store.get(&here).await.expect("there"), "bucket");
        assert_eq!(store.get(&there).await.expect("there"), "coordinator");
    }

    #[tokio::test]
    async fn a_bucket_that_is_another_repository_is_not_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let coordinator: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let url = dir.path().display().to_string();
        let open = |id: &str| {
            let direct = pb::DirectStore { url: url.clone(), repository_id: id.to_owned() };
            DirectStore::open(direct, coordinator.clone())
        };
        let [own, other] =
            [[1; 10], [2; 10]].map(|bytes| RepositoryId::new(urtext_types::Timestamp::from_millis(0), bytes));
        let missing = open(&own.to_string()).await.err().expect("no repository");
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{}", Chain(&missing));
        let recipients = urtext_repository::Identity::generate().recipient().into();
        let store = url.parse::<StoreAddress>().expect("a path").open().expect("a directory");
        Repository::init(store, own, recipients).await.expect("made");
        open(&own.to_string()).await.map(|_| ()).expect("the same one");
        let refused = open(&other.to_string()).await.err().expect("another one");
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.hint().is_some_and(|hint| hint.contains("direct")));
    }
}
