//! The file of a BGSAVE.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustix::fs::statvfs;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep},
};
use tracing::debug;
use urtext_types::ByteCount;

use super::{CaptureError, FileAccess, guard};
use crate::server::{Connection, Info, ServerError};

/// How long one save may take.
const SAVE_LIMIT: Duration = Duration::from_secs(6 * 3600);
const POLL: Duration = Duration::from_millis(200);
/// How often a save is asked for while other children of the server come first.
const ATTEMPTS: usize = 5;

const PIECE_BYTES: usize = 256 * 1024;

/// Where the server writes its RDB, as this host sees it: the path from the settings, or the server's own.
pub(super) async fn locate(
    connection: &mut Connection,
    configured: Option<&Path>,
) -> Result<Result<PathBuf, String>, ServerError> {
    if let Some(path) = configured {
        return Ok(Ok(path.to_owned()));
    }
    if !connection.server().address().is_local() {
        return Ok(Err("the server is on another host, and rdb_file is not set".to_owned()));
    }
    let dir = match connection.config("dir").await {
        Ok(dir) => dir,
        Err(error) if error.is_about_rights() => return Ok(Err("CONFIG GET is not permitted".to_owned())),
        Err(error) => return Err(error),
    };
    let name = connection.config("dbfilename").await?;
    match (dir, name) {
        (Some(dir), Some(name)) if !name.is_empty() => Ok(Ok(Path::new(&dir).join(name))),
        _ => Ok(Err("the server does not say where it saves".to_owned())),
    }
}

/// Whether the file, or the directory in which it will appear, can be read.
pub(super) fn access(path: &Result<PathBuf, String>) -> FileAccess {
    let tried = match path {
        Ok(path) if path.exists() => File::open(path).map(drop).map_err(|error| format!("{}: {error}", path.display())),
        Ok(path) => {
            let dir = path.parent().unwrap_or(Path::new("/"));
            fs::read_dir(dir).map(drop).map_err(|error| format!("{}: {error}", dir.display()))
        }
        Err(reason) => Err(reason.clone()),
    };
    match tried {
        Ok(()) => FileAccess::Readable,
        Err(reason) => FileAccess::NotReadable { reason },
    }
}

/// A save that is complete, its file open: whatever replaces the name now does not touch it.
#[derive(Debug)]
pub(super) struct RdbFile {
    file: tokio::fs::File,
    length: u64,
    buffer: BytesMut,
}

impl RdbFile {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.buffer.reserve(PIECE_BYTES);
        match self.file.read_buf(&mut self.buffer).await? {
            0 => Ok(None),
            _ => Ok(Some(self.buffer.split().freeze())),
        }
    }
}

/// What tells one file from the next one under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileMark {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl FileMark {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Some(Self { inode: metadata.ino(), modified, length: metadata.len() })
    }
}

/// Makes the server save, or waits for the save that it is at, and opens the file.
///
/// BGSAVE is sent on its own, never inside MULTI: Redis 6.2 would fork in the middle of the transaction.
pub(super) async fn save(connection: &mut Connection, path: &Path) -> Result<RdbFile, CaptureError> {
    for attempt in 1..=ATTEMPTS {
        let before = FileMark::of(path);
        let info = connection.info().await?;
        let saves = info.number("rdb_saves");
        if info.flag("rdb_bgsave_in_progress") {
            // Its file states its own position, which is as good as that of a save which we ask for.
            debug!("the server is saving already: waiting for that save");
        } else {
            let info = guard::wait_until_childless(connection).await?;
            check_room(path, &info)?;
            match connection.query::<String>(&["BGSAVE"]).await {
                Ok(_) => {}
                Err(ServerError::Refused { reply, .. })
                    if attempt < ATTEMPTS
                        && (reply.contains("already in progress") || reply.contains("child process")) =>
                {
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let info = wait_until_saved(connection).await?;
        if info.get("rdb_last_bgsave_status") != Some("ok") {
            return Err(CaptureError::SaveFailed);
        }
        let counted = match (saves, info.number("rdb_saves")) {
            (Some(before), Some(after)) => after > before,
            // Redis 6.2 does not count: the file must tell.
            _ => true,
        };
        let after = FileMark::of(path);
        if counted && after.is_some() && after != before {
            return open(path);
        }
        // The child that ended was no save to disk: a diskless sync looks the same in INFO.
    }
    Err(CaptureError::NoNewFile { path: path.to_owned() })
}

async fn wait_until_saved(connection: &mut Connection) -> Result<Info, CaptureError> {
    let deadline = Instant::now() + SAVE_LIMIT;
    loop {
        sleep(POLL).await;
        let info = connection.info().await?;
        // A save that was only scheduled begins when the child before it has ended.
        if !info.has_child() {
            return Ok(info);
        }
        if Instant::now() >= deadline {
            return Err(CaptureError::Busy { limit: SAVE_LIMIT });
        }
    }
}

fn open(path: &Path) -> Result<RdbFile, CaptureError> {
    let failed = |source| CaptureError::ReadFile { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok(RdbFile { file: tokio::fs::File::from_std(file), length, buffer: BytesMut::new() })
}

/// A save that fails for want of space makes a master with save points refuse writes
/// (`stop-writes-on-bgsave-error`), so it is not even tried.
fn check_room(path: &Path, info: &Info) -> Result<(), CaptureError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    // The new file is written beside the old one and is about as long; the first is no longer than memory.
    let needed = match FileMark::of(path) {
        Some(mark) => mark.length + mark.length / 4,
        None => info.number("used_memory").unwrap_or(0),
    };
    let failed = |error: rustix::io::Errno| CaptureError::ReadFile { path: dir.to_owned(), source: error.into() };
    let system = statvfs(dir).map_err(failed)?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free < needed {
        let (needed, free) = (ByteCount::new(needed), ByteCount::new(free));
        return Err(CaptureError::NoRoom { path: dir.to_owned(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(access(&Ok(dir.path().join("dump.rdb"))), FileAccess::Readable);
        let FileAccess::NotReadable { reason } = access(&Ok(dir.path().join("nowhere/dump.rdb"))) else {
            panic!("there is no such directory")
        };
        assert!(reason.contains("nowhere"), "{reason}");
        let reason = "elsewhere".to_owned();
        assert_eq!(access(&Err(reason.clone())), FileAccess::NotReadable { reason });
    }

    #[test]
    fn a_disk_without_room_is_not_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("dump.rdb");
        check_room(&path, &Info::parse("used_memory:1000000\n")).expect("a MiB fits");
        let error = check_room(&path, &Info::parse("used_memory:9223372036854775807\n")).expect_err("8 EiB do not");
        assert!(matches!(error, CaptureError::NoRoom { .. }));
    }
}
