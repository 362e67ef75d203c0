//! A place that was made a repository: `urtext.json`, and everything that hangs off it.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use urtext_types::{BackupId, DeploymentName, ErrorKind, Explain, RepositoryId, ShardName};

use crate::{
    BackupKey, BackupReader, BackupWriter, FORMAT_VERSION, Location, Manifest, ManifestVerifier, ObjectPrefix,
    PutOutcome, ReadError, Recipients, Record, RecordError, RecordKind, Store, StoreError, WriterOptions,
    store::with_patience,
};

/// For how long a store may fail, in one piece, before a small read or write is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Manifests or records read at the same time while listing.
const READS_IN_FLIGHT: usize = 8;

/// Three pages of a bucket's listing. What has more has large backups, or many.
const OBJECTS_LISTED_FIRST: usize = 3000;

/// The ids of committed backups.
pub type BackupsByShard = BTreeMap<(DeploymentName, ShardName), Vec<BackupId>>;

/// `urtext.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryHeader {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    pub repository: RepositoryId,
    /// To whom backups are sealed unless a writer is told otherwise.
    pub recipients: Recipients,
}

/// Why a place is not the repository that was wanted.
#[derive(Debug, Error)]
pub enum RepositoryError {
    #[error("there is no repository here: {place}")]
    NotARepository { place: String },
    #[error("there is another repository here already: {place}")]
    AnotherRepository { place: String },
    #[error("urtext.json is not the JSON that it must be")]
    Malformed(#[source] serde_json::Error),
    #[error("the repository has format version {found}, and this Urtext reads version {FORMAT_VERSION}")]
    Version { found: u32 },
    #[error("open the repository")]
    Store(#[source] StoreError),
}

impl Explain for RepositoryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotARepository { .. } => ErrorKind::NotFound,
            Self::AnotherRepository { .. } => ErrorKind::Conflict,
            Self::Malformed(_) => ErrorKind::Integrity,
            Self::Version { .. } => ErrorKind::Usage,
            Self::Store(source) => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotARepository { .. } => {
                Some("check the path, and that its disk is mounted; `urtext init` makes a new one".to_owned())
            }
            Self::AnotherRepository { .. } => Some("open it, or choose an empty place".to_owned()),
            Self::Version { .. } => Some("use the version of Urtext that wrote it, or a later one".to_owned()),
            Self::Store(source) => source.hint(),
            Self::Malformed(_) => None,
        }
    }
}

/// A repository that is open: its header was read.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    header: RepositoryHeader,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Repository {
    /// Makes a place a repository. Doing it again with the same arguments is a success.
    pub async fn init(
        store: Arc<dyn Store>,
        repository: RepositoryId,
        recipients: Recipients,
    ) -> Result<Self, RepositoryError> {
        let header = RepositoryHeader { format_version: FORMAT_VERSION, repository, recipients };
        let mut bytes = serde_json::to_vec_pretty(&header).map_err(RepositoryError::Malformed)?;
        bytes.push(b'\n');
        let (name, bytes) = (Location::Repository.name(), Bytes::from(bytes));
        match with_patience(PATIENCE, || store.put_new(&name, bytes.clone())).await {
            Ok(_) => Ok(Self { store, header }),
            Err(StoreError::Conflict { place, .. }) => Err(RepositoryError::AnotherRepository { place }),
            Err(source) => Err(RepositoryError::Store(source)),
        }
    }

    /// Opens a repository.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, RepositoryError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let name = Location::Repository.name();
        let bytes = match with_patience(PATIENCE, || store.get(&name)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { place, .. }) => return Err(RepositoryError::NotARepository { place }),
            Err(source) => return Err(RepositoryError::Store(source)),
        };
        let Version { format_version: found } = serde_json::from_slice(&bytes).map_err(RepositoryError::Malformed)?;
        if found != FORMAT_VERSION {
            return Err(RepositoryError::Version { found });
        }
        let header = serde_json::from_slice(&bytes).map_err(RepositoryError::Malformed)?;
        Ok(Self { store, header })
    }

    pub fn header(&self) -> &RepositoryHeader {
        &self.header
    }

    /// Where its objects are.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A writer that seals to the repository's own recipients.
    pub fn write_backup(&self, key: BackupKey, options: WriterOptions) -> BackupWriter {
        BackupWriter::new(Arc::clone(&self.store), key, self.header.recipients.clone(), options)
    }

    /// Opens one backup.
    pub async fn read_backup(
        &self,
        key: BackupKey,
        verifier: &dyn ManifestVerifier,
    ) -> Result<BackupReader, ReadError> {
        BackupReader::open(Arc::clone(&self.store), key, verifier).await
    }

    /// All committed backups, of one deployment or of all, ordered by deployment, shard and id.
    pub async fn backups(&self, deployment: Option<&DeploymentName>) -> Result<Vec<BackupKey>, StoreError> {
        let shards = self.backups_by_shard(deployment).await?;
        let keys = shards.into_iter().flat_map(|((deployment, shard), ids)| {
            let key = move |id| BackupKey { deployment: deployment.clone(), shard: shard.clone(), id };
            ids.into_iter().map(key)
        });
        Ok(keys.collect())
    }

    /// The same, the ids of each shard ascending: 16 bytes for each.
    pub async fn backups_by_shard(&self, deployment: Option<&DeploymentName>) -> Result<BackupsByShard, StoreError> {
        self.backups_to_read(deployment, 0).await
    }

    /// The same, for somebody who will ask for the manifest of every one of them if there are no more than `most`: among
    /// those may be some that have none. So the parts of large backups need not all be listed.
    pub async fn backups_to_read(
        &self,
        deployment: Option<&DeploymentName>,
        most: usize,
    ) -> Result<BackupsByShard, StoreError> {
        self.list_backups(deployment, most, OBJECTS_LISTED_FIRST).await
    }

    /// Lists objects; if that does not end with the first of them, folders; and if these are more than `most`, the
    /// objects to their end.
    pub(crate) async fn list_backups(
        &self,
        deployment: Option<&DeploymentName>,
        most: usize,
        first: usize,
    ) -> Result<BackupsByShard, StoreError> {
        let mut listed = self.store.list(&ObjectPrefix::backups(deployment));
        let (mut objects, mut backups) = (0, 0);
        let mut shards = BackupsByShard::new();
        // Stores list shard after shard, so that the last one is mostly the right one.
        let mut last: Option<((DeploymentName, ShardName), Vec<BackupId>)> = None;
        while let Some(object) = listed.try_next().await? {
            objects += 1;
            if objects == first
                && backups < most
                && let Some(folders) = self.backup_folders(deployment, most).await?
            {
                return Ok(folders);
            }
            let Some(Location::Manifest(BackupKey { deployment, shard, id })) = Location::parse(&object.name) else {
                continue;
            };
            backups += 1;
            match &mut last {
                Some(((of, name), ids)) if *of == deployment && *name == shard => ids.push(id),
                _ => {
                    if let Some((shard, mut ids)) = last.replace(((deployment, shard), vec![id])) {
                        shards.entry(shard).or_default().append(&mut ids);
                    }
                }
            }
        }
        if let Some((shard, mut ids)) = last {
            shards.entry(shard).or_default().append(&mut ids);
        }
        shards.values_mut().for_each(|ids| ids.sort_unstable());
        Ok(shards)
    }

    /// What has a folder like that of a backup, unless these are more than `most`.
    async fn backup_folders(
        &self,
        deployment: Option<&DeploymentName>,
        most: usize,
    ) -> Result<Option<BackupsByShard>, StoreError> {
        let deployments = match deployment {
            Some(name) => vec![name.clone()],
            None => parsed(self.store.folders(&ObjectPrefix::backups(None)).await?),
        };
        let (mut found, mut shards) = (0, BackupsByShard::new());
        for deployment in deployments {
            let folder = ObjectPrefix::backups(Some(&deployment));
            for shard in parsed::<ShardName>(self.store.folders(&folder).await?) {
                let below = ObjectPrefix::shard(&deployment, &shard);
                let ids: Vec<BackupId> = parsed(self.store.folders(&below).await?);
                found += ids.len();
                if found > most {
                    return Ok(None);
                }
                shards.insert((deployment.clone(), shard), ids);
            }
        }
        Ok(Some(shards))
    }

    /// The manifests of all committed backups, of one deployment or of all, in the order of
    /// [`Repository::backups`]. One that cannot be read or believed is an error of its own and does
    /// not hide the others.
    pub async fn manifests<'a>(
        &'a self,
        deployment: Option<&DeploymentName>,
        verifier: &'a dyn ManifestVerifier,
    ) -> Result<BoxStream<'a, (BackupKey, Result<Manifest, ReadError>)>, StoreError> {
        let keys = self.backups(deployment).await?;
        let reads = stream::iter(keys).map(move |key| async move {
            let read = self.read_backup(key.clone(), verifier).await;
            (key, read.map(|reader| reader.manifest().clone()))
        });
        Ok(reads.buffered(READS_IN_FLIGHT).boxed())
    }

    /// Keeps a record.
    pub async fn put_record(&self, record: &Record) -> Result<PutOutcome, RecordError> {
        let (object, bytes) = (record.name(), Bytes::from(record.to_bytes()?));
        with_patience(PATIENCE, || self.store.put_new(&object, bytes.clone()))
            .await
            .map_err(|source| RecordError::Store { object, source })
    }

    /// A deployment's records of one kind, oldest first. One that cannot be read is an error of its own
    /// and does not hide the others.
    pub async fn records(
        &self,
        deployment: &DeploymentName,
        kind: RecordKind,
    ) -> Result<Vec<Result<Record, RecordError>>, StoreError> {
        let mut objects: Vec<_> = self
            .store
            .list(&ObjectPrefix::records(deployment, kind))
            .try_filter(|object| future::ready(matches!(Location::parse(&object.name), Some(Location::Record { .. }))))
            .map_ok(|object| object.name)
            .try_collect()
            .await?;
        objects.sort_unstable();
        let reads = stream::iter(objects).map(|object| async move {
            match with_patience(PATIENCE, || self.store.get(&object)).await {
                Ok(bytes) => Record::parse(&object, &bytes),
                Err(source) => Err(RecordError::Store { object, source }),
            }
        });
        Ok(reads.buffered(READS_IN_FLIGHT).collect().await)
    }
}

/// Names that are what they say; those that are spelled in another way are somebody else's.
fn parsed<T: FromStr + fmt::Display>(names: Vec<String>) -> Vec<T> {
    let parse = |name: String| name.parse().ok().filter(|parsed: &T| parsed.to_string() == name);
    names.into_iter().filter_map(parse).collect()
}
