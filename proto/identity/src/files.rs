//! Key material on disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::IdentityError;

/// A chain of ten certificates with large RSA keys has about 20 KiB.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Writes a new file that only its owner can read, durably. Never overwrites one.
pub fn create_private(path: &Path, text: &str) -> Result<(), IdentityError> {
    write_new(path, text, 0o600)
}

/// Writes a file that only its owner can read, in place of an older one, durably: after a crash there is
/// the old file or the new one, whole.
pub fn replace_private(path: &Path, text: &str) -> Result<(), IdentityError> {
    replace(path, text, 0o600)
}

/// Writes a file that everybody can read, in place of an older one, durably, as [`replace_private`].
pub fn replace_public(path: &Path, text: &str) -> Result<(), IdentityError> {
    replace(path, text, 0o644)
}

/// Reads a key or certificate file.
pub fn read_text(path: &Path) -> Result<String, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(IdentityError::FileTooLarge { path: path.to_owned(), limit: FILE_LIMIT });
    }
    Ok(text)
}

/// A private key that others than its owner can read or write: worth a warning, not a refusal, since a
/// refusal would stop backups for a mistake that has already happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("private key {} is open to others (mode {mode:04o}): run chmod 600 on it", path.display())]
pub struct ExposedKey {
    pub path: PathBuf,
    /// The permission bits.
    pub mode: u32,
}

/// Whether others than the owner can get at the private key in `path`.
pub fn check_private(path: &Path) -> Result<Option<ExposedKey>, IdentityError> {
    let metadata = fs::metadata(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then(|| ExposedKey { path: path.to_owned(), mode }))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => IdentityError::Exists { path: path.to_owned() },
        _ => IdentityError::Write { path: path.to_owned(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    sync_directory_of(path).map_err(failed)
}

fn replace(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What a crash left behind has this name too; it was never the file in use.
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(IdentityError::Write { path: new, source });
        }
        _ => {}
    }
    write_new(&new, text, mode)?;
    fs::rename(&new, path)
        .and_then(|()| sync_directory_of(path))
        .map_err(|source| IdentityError::Write { path: path.to_owned(), source })
}

/// A new name is durable once its directory is.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
