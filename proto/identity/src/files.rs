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

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").permissions().mode() & 0o7777
    }

    #[test]
    fn a_private_key_is_its_owners_alone_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        create_private(&path, "first").expect("to write");
        assert_eq!((read_text(&path).expect("to read").as_str(), mode(&path)), ("first", 0o600));
        assert_eq!(check_private(&path).expect("metadata"), None);

        let error = create_private(&path, "second").expect_err("it exists");
        assert_eq!(error.to_string(), format!("{} exists already", path.display()));
        assert_eq!(read_text(&path).expect("to read"), "first");
    }

    #[test]
    fn a_replaced_key_is_private_even_if_a_crash_left_something_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        fs::write(dir.path().join("key.pem.new"), "half a ke").expect("to write");
        replace_private(&path, "first").expect("to write");
        replace_private(&path, "second").expect("to write");
        assert_eq!((read_text(&path).expect("to read").as_str(), mode(&path)), ("second", 0o600));
        assert_eq!(fs::read_dir(dir.path()).expect("to list").count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        replace_public(&path, "key").expect("to write");
        let found = check_private(&path).expect("metadata").expect("a finding");
        assert_eq!(
            found.to_string(),
            format!("private key {} is open to others (mode 0644): run chmod 600 on it", path.display())
        );
    }

    #[test]
    fn a_file_that_cannot_be_a_key_is_not_read_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key.pem");
        File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        assert!(matches!(read_text(&path), Err(IdentityError::FileTooLarge { .. })));
        assert!(matches!(read_text(&dir.path().join("none")), Err(IdentityError::Read { .. })));
    }
}
