//! Deleting in a directory. A deletion is on the disk before it is said: after a power cut, no manifest may
//! come back whose parts are gone.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::SystemTime,
};

use async_trait::async_trait;
use urtext_types::{ByteCount, Timestamp};

use super::{DirectoryStore, StoreError, StoreOperation, io_error};
use crate::{ObjectName, SweepStore, Unfinished, blocking::blocking};

#[async_trait]
impl SweepStore for DirectoryStore {
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.check_root(StoreOperation::Delete, name.as_str()).await?;
        let (root, path) = (self.root.clone(), self.root.join(name.as_str()));
        blocking(move || {
            remove(&path)?;
            // A backup's folder goes with its last object.
            let folder = path.parent().filter(|folder| *folder != root);
            if let Some(folder) = folder
                && fs::remove_dir(folder).is_ok()
                && let Some(above) = folder.parent()
            {
                File::open(above)?.sync_all()?;
            }
            Ok(())
        })
        .await
        .map_err(|source| io_error(StoreOperation::Delete, name.as_str(), ByteCount::ZERO, &self.root, source))
    }

    async fn unfinished(&self) -> Result<Vec<Unfinished>, StoreError> {
        self.check_root(StoreOperation::List, "what is left of puts").await?;
        let root = self.root.clone();
        blocking(move || {
            let mut found = Vec::new();
            walk(&root, "", &mut found)?;
            found.sort_unstable();
            Ok(found)
        })
        .await
        .map_err(|source| io_error(StoreOperation::List, "what is left of puts", ByteCount::ZERO, &self.root, source))
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<bool, StoreError> {
        let name = format!("{}#{}", unfinished.object, unfinished.attempt);
        self.check_root(StoreOperation::Delete, &name).await?;
        let (path, seen) = (self.root.join(&name), unfinished.modified);
        blocking(move || match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && modified(&metadata)? == seen => remove(&path).map(|()| true),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        })
        .await
        .map_err(|source| io_error(StoreOperation::Delete, &name, ByteCount::ZERO, &self.root, source))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match path.parent().map(File::open) {
        Some(Ok(folder)) => folder.sync_all(),
        // Another one took the folder away meanwhile, with its last object.
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Collects staging files below `folder`; `at` is its name within the repository. Links are not followed,
/// and what has no name of ours is not looked at.
fn walk(folder: &Path, at: &str, found: &mut Vec<Unfinished>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Some(file_name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let name = if at.is_empty() { file_name } else { format!("{at}/{file_name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && name.parse::<ObjectName>().is_ok() {
            walk(&entry.path(), &name, found)?;
        } else if kind.is_file()
            && let Some((object, attempt)) = name.rsplit_once('#')
            && let (Ok(object), Ok(attempt)) = (object.parse(), attempt.parse::<u64>())
            // Spelled as the driver does, so that it can be found again.
            && name == format!("{object}#{attempt}")
        {
            match entry.metadata() {
                Ok(metadata) => {
                    found.push(Unfinished { object, attempt, size: metadata.len(), modified: modified(&metadata)? });
                }
                // Its put ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn modified(metadata: &fs::Metadata) -> io::Result<Timestamp> {
    let since = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}
