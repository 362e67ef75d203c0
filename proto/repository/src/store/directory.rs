//! A repository in a local directory.
//!
//! An object is written to a staging file beside its place, synced, and hard-linked to its name, which
//! fails if the name is taken; then every folder up to the repository is synced. A crash at any point
//! leaves the whole object, or a staging file (`<name>#1`) that listings do not show, or nothing.

mod sweep;

use std::{
    error::Error as StdError,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream::BoxStream};
use object_store::{ObjectStore, PutMode, PutOptions, local::LocalFileSystem, path::Path as ObjectPath};
use urtext_types::{ByteCount, Timestamp};

use super::{MAX_OBJECT_BYTES, ObjectInfo, PutOutcome, Store, StoreError, StoreOperation};
use crate::{ObjectName, ObjectPrefix, blocking::blocking, buffers::Buffers};

/// Objects as files below one directory.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    root: PathBuf,
    /// Device and inode of `root` when it was opened: an unmounted disk must not be mistaken for an
    /// empty repository.
    identity: (u64, u64),
    files: LocalFileSystem,
    /// For reading large objects.
    buffers: Buffers,
}

/// From this size on, objects are read into buffers that are kept for the next one.
const LARGE_OBJECT_BYTES: u64 = 1024 * 1024;

/// Buffers that a directory keeps: what one reader has under way.
const BUFFERS_KEPT: usize = 2;

impl DirectoryStore {
    /// Opens an existing directory.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        let asked = root.as_ref();
        let failed = |source: io::Error| match source.kind() {
            // What every repository has, and this place does not.
            io::ErrorKind::NotFound => {
                StoreError::NotFound { object: "urtext.json".to_owned(), place: asked.display().to_string() }
            }
            _ => io_error(StoreOperation::List, "its objects", ByteCount::ZERO, asked, source),
        };
        let root = std::fs::canonicalize(asked).map_err(failed)?;
        let metadata = std::fs::metadata(&root).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let files = LocalFileSystem::new_with_prefix(&root)
            .map_err(|source| failed(io::Error::other(source)))?
            .with_fsync(true);
        Ok(Self { root, identity: (metadata.dev(), metadata.ino()), files, buffers: Buffers::new(BUFFERS_KEPT) })
    }

    /// Opens a directory, making it first if it is not there.
    pub fn create(root: impl AsRef<Path>) -> Result<Self, StoreError> {
        let root = root.as_ref();
        std::fs::create_dir_all(root)
            .map_err(|source| io_error(StoreOperation::Put, "its folder", ByteCount::ZERO, root, source))?;
        Self::open(root)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory must still be the one that was opened.
    async fn check_root(&self, operation: StoreOperation, object: &str) -> Result<(), StoreError> {
        let failed = |source| io_error(operation, object, ByteCount::ZERO, &self.root, source);
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the directory is gone; was its disk unmounted?");
        let metadata = match tokio::fs::metadata(&self.root).await {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(failed(gone())),
            Err(error) => return Err(failed(error)),
        };
        if (metadata.dev(), metadata.ino()) == self.identity { Ok(()) } else { Err(failed(gone())) }
    }

    /// Syncs an object and every folder from it up to the repository. A name may have come to be
    /// through a put that was killed before its own syncs.
    async fn sync(&self, name: &ObjectName) -> io::Result<()> {
        let (root, path) = (self.root.clone(), self.root.join(name.as_str()));
        blocking(move || {
            path.ancestors()
                .take_while(|path| path.starts_with(&root))
                .try_for_each(|path| File::open(path)?.sync_all())
        })
        .await
    }

    /// Reads one file, blocking.
    fn read(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let failed = |source| io_error(StoreOperation::Get, name.as_str(), ByteCount::ZERO, &self.root, source);
        let file = File::open(self.root.join(name.as_str())).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::from(io::ErrorKind::NotFound)));
        }
        let size = metadata.len();
        if size > MAX_OBJECT_BYTES as u64 {
            return Err(self.too_large(name, size));
        }
        let is_large = size >= LARGE_OBJECT_BYTES;
        // One byte more than it has, so that nothing grows to find out that there is no more.
        let capacity = size as usize + 1;
        let mut bytes = if is_large { self.buffers.take(capacity) } else { Vec::with_capacity(capacity) };
        file.take(size).read_to_end(&mut bytes).map_err(failed)?;
        Ok(if is_large { self.buffers.lend(bytes) } else { bytes.into() })
    }

    fn too_large(&self, name: &ObjectName, size: u64) -> StoreError {
        StoreError::TooLarge {
            object: name.to_string(),
            size: ByteCount::new(size),
            place: self.root.display().to_string(),
        }
    }

    /// The driver wraps what the system said; that is what decides.
    fn driver_error(
        &self,
        operation: StoreOperation,
        object: &str,
        needed: ByteCount,
        error: object_store::Error,
    ) -> StoreError {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(io) = current.downcast_ref::<io::Error>() {
                let copy = match io.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(io.kind(), io.to_string()),
                };
                return io_error(operation, object, needed, &self.root, copy);
            }
            cause = current.source();
        }
        StoreError::Unavailable {
            operation,
            object: object.to_owned(),
            place: self.root.display().to_string(),
            source: Some(Box::new(error)),
        }
    }
}

/// Says whose move an I/O error is.
fn io_error(operation: StoreOperation, object: &str, needed: ByteCount, root: &Path, source: io::Error) -> StoreError {
    let (object, place) = (object.to_owned(), root.display().to_string());
    match source.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound { object, place },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Exhausted { operation, object, needed, place, source: Some(Box::new(source)) }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Denied { operation, object, place, source: Some(Box::new(source)) }
        }
        _ => StoreError::Unavailable { operation, object, place, source: Some(Box::new(source)) },
    }
}

#[async_trait]
impl Store for DirectoryStore {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        let needed = ByteCount::new(bytes.len() as u64);
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(self.too_large(name, needed.get()));
        }
        self.check_root(StoreOperation::Put, name.as_str()).await?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let outcome = match self.files.put_opts(&ObjectPath::from(name.as_str()), bytes.clone().into(), options).await {
            Ok(_) => PutOutcome::Created,
            Err(object_store::Error::AlreadyExists { .. }) => match self.get(name).await {
                Ok(existing) if existing == bytes => PutOutcome::AlreadyIdentical,
                // Something is there that is not this object: other bytes, too many bytes, a folder.
                Ok(_) | Err(StoreError::TooLarge { .. } | StoreError::NotFound { .. }) => {
                    return Err(StoreError::Conflict {
                        object: name.to_string(),
                        place: self.root.display().to_string(),
                    });
                }
                Err(error) => return Err(error),
            },
            Err(error) => return Err(self.driver_error(StoreOperation::Put, name.as_str(), needed, error)),
        };
        self.sync(name)
            .await
            .map_err(|source| io_error(StoreOperation::Put, name.as_str(), needed, &self.root, source))?;
        Ok(outcome)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.check_root(StoreOperation::Get, name.as_str()).await?;
        let (store, name) = (self.clone(), name.clone());
        blocking(move || store.read(&name)).await
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let (store, prefix) = (self.clone(), prefix.clone());
        let checked = async move {
            store.check_root(StoreOperation::List, prefix.as_str()).await?;
            let folder = (!prefix.as_str().is_empty()).then(|| ObjectPath::from(prefix.as_str()));
            let listed = store.files.list(folder.as_ref());
            Ok(listed
                .map_err(move |error| store.driver_error(StoreOperation::List, prefix.as_str(), ByteCount::ZERO, error))
                // A file whose name is no object name was put there by somebody else.
                .try_filter_map(|found| {
                    let name: Option<ObjectName> = found.location.as_ref().parse().ok();
                    future::ready(Ok(name.map(|name| ObjectInfo {
                        name,
                        size: found.size,
                        modified: Some(Timestamp::from(found.last_modified)),
                    })))
                }))
        };
        futures::stream::once(checked).try_flatten().boxed()
    }
}
