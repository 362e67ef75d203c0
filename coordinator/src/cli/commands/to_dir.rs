//! `urtext restore --to-dir`: plain files, written and verified on the operator's machine.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use urtext_proto::pb;
use urtext_rdb::{Options, Summary, Verifier};
use urtext_repository::{BackupReader, Identity, Manifest};
use urtext_types::{ByteCount, ErrorKind, Keyspace};

use crate::{
    Fault,
    cli::{Context, output::Progress},
};

const RDB: &str = "dump.rdb";
/// The RDB until it is whole and verified.
const UNFINISHED_RDB: &str = "dump.rdb.unfinished";
const SETTINGS: &str = "settings.json";
const USERS: &str = "users.acl";
const NOTE: &str = "RESTORE.txt";

/// Refuses a directory that holds any of the files that would be written.
pub(super) fn check(path: &Path) -> Result<(), Fault> {
    for name in [RDB, UNFINISHED_RDB, SETTINGS, USERS, NOTE] {
        let file = path.join(name);
        if file.symlink_metadata().is_ok() {
            return Err(Fault::new(ErrorKind::Conflict, format!("{} exists already", file.display()))
                .with_hint("nothing is overwritten: choose another --to-dir, or move the file away"));
        }
    }
    Ok(())
}

/// Writes the backup into `path`, and says which files it made.
pub(super) async fn write(
    context: &Context,
    reader: &BackupReader,
    identities: Vec<Identity>,
    path: &Path,
) -> Result<Vec<String>, Fault> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| file_fault(path, &error))?;
    let summary = write_rdb(reader, identities.clone(), path).await?;
    compare(reader.manifest(), &summary)?;
    let mut files = Vec::new();
    let settings = reader.settings(identities).await.map_err(Fault::while_doing("read the server's settings"))?;
    if let Some(settings) = settings {
        files.push(create(&path.join(SETTINGS), &settings)?);
        if let Some(users) = acl_users(&settings) {
            files.push(create(&path.join(USERS), users.as_bytes())?);
        }
    }
    files.push(create(&path.join(NOTE), note(reader.manifest(), &files).as_bytes())?);
    // Last, so that a directory with a dump.rdb is a whole one.
    let rdb = path.join(RDB);
    fs::rename(path.join(UNFINISHED_RDB), &rdb).map_err(|error| file_fault(&rdb, &error))?;
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| file_fault(path, &error))?;
    files.insert(0, rdb);
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let said = files.iter().try_for_each(|file| context.output.text(file)).and_then(|()| {
        let size = ByteCount::new(summary.bytes);
        context.output.note(format_args!("parsed completely: {} keys, {size}, checksum good", summary.keys()))
    });
    said.map_err(|error| Fault::new(ErrorKind::Unavailable, format!("write the output: {error}")))?;
    Ok(files)
}

async fn write_rdb(reader: &BackupReader, identities: Vec<Identity>, path: &Path) -> Result<Summary, Fault> {
    let target = path.join(UNFINISHED_RDB);
    let written = fetch_rdb(reader, identities, &target).await;
    if written.is_err() {
        // Half an RDB helps nobody; that it cannot be removed changes nothing about the error.
        let _ = fs::remove_file(&target);
    }
    written
}

async fn fetch_rdb(reader: &BackupReader, identities: Vec<Identity>, target: &Path) -> Result<Summary, Fault> {
    let failed = |error: io::Error| file_fault(target, &error);
    let mut parts = reader.rdb(identities).map_err(Fault::while_doing("open the backup"))?;
    let mut file = new_file(target).map_err(failed)?;
    let mut verifier = Verifier::new(Options::default());
    let mut progress = Progress::new();
    let mut done = 0;
    while let Some(part) = parts.next().await.map_err(Fault::while_doing("fetch the backup"))? {
        verifier.feed(&part).map_err(Fault::while_doing("parse the RDB"))?;
        file.write_all(&part).map_err(failed)?;
        done += part.len() as u64;
        let bytes_total = Some(reader.manifest().rdb.bytes);
        let phase = pb::TaskPhase { phase: "fetching".to_owned(), bytes_done: done, bytes_total };
        progress
            .update(&phase)
            .map_err(|error| Fault::new(ErrorKind::Unavailable, format!("show progress: {error}")))?;
    }
    let summary = verifier.finish().map_err(Fault::while_doing("parse the RDB"))?;
    file.sync_all().map_err(failed)?;
    Ok(summary)
}

/// What was parsed is what was captured.
fn compare(manifest: &Manifest, summary: &Summary) -> Result<(), Fault> {
    let found = summary
        .databases
        .iter()
        .map(|(&number, database)| (number, Keyspace { keys: database.keys, expires: database.expires }))
        .collect();
    if manifest.contents.databases == found {
        return Ok(());
    }
    let (expected, found) = (manifest.contents.keys(), summary.keys());
    let message = format!("the RDB holds {found} keys where the manifest says {expected}");
    Err(Fault::new(ErrorKind::Integrity, message))
}

/// The lines of a server's `aclfile`, if the settings have them.
fn acl_users(settings: &[u8]) -> Option<String> {
    let settings: serde_json::Value = serde_json::from_slice(settings).ok()?;
    let lines: Vec<&str> = settings.get("acl")?.as_array()?.iter().filter_map(serde_json::Value::as_str).collect();
    (!lines.is_empty()).then(|| lines.iter().flat_map(|line| [line, "\n"]).collect())
}

fn note(manifest: &Manifest, others: &[PathBuf]) -> String {
    let position = manifest.position.map_or("not known".to_owned(), |at| at.to_string());
    let mut text = format!(
        "Backup {id} of deployment {deployment}, shard {shard}, written by Urtext.\n\n\
         dump.rdb is the data of node {node} at site {site} as captured at {at}\n\
         from {engine} {version}, at replication position {position}.\n\
         It holds {keys} keys in {bytes} bytes. Its SHA-256 is\n{sha256}\n\n\
         To load it: stop the server; put dump.rdb into its `dir` under the name in its `dbfilename`, owned by its\n\
         user; if `appendonly` is on, switch it off first, or the server loads its append-only file instead; start\n\
         the server. It must be {engine} {version} or newer.\n",
        id = manifest.backup,
        deployment = manifest.deployment,
        shard = manifest.shard,
        node = manifest.node,
        site = manifest.site,
        at = manifest.timings.started_at,
        engine = manifest.server.engine,
        version = manifest.server.version,
        keys = manifest.contents.keys(),
        bytes = manifest.rdb.bytes,
        sha256 = manifest.rdb.sha256,
    );
    if others.iter().any(|file| file.ends_with(USERS)) {
        text.push_str("\nusers.acl holds the server's users, for its `aclfile`.\n");
    }
    if others.iter().any(|file| file.ends_with(SETTINGS)) {
        text.push_str("settings.json holds the server's settings as they were; it may hold secrets.\n");
    }
    text
}

/// Secrets may be inside: for the owner alone.
fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn create(path: &Path, bytes: &[u8]) -> Result<PathBuf, Fault> {
    let write = || -> io::Result<()> {
        let mut file = new_file(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| file_fault(path, &error))?;
    Ok(path.to_owned())
}

fn file_fault(path: &Path, error: &io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        _ => ErrorKind::Unavailable,
    };
    Fault::new(kind, format!("write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use urtext_types::Explain;

    use super::*;

    #[test]
    fn existing_files_are_never_touched() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        check(dir.path()).expect("empty");
        check(&dir.path().join("not-there-yet")).expect("not there");
        fs::write(dir.path().join(USERS), "user default on").expect("a file");
        assert_eq!(check(dir.path()).expect_err("refused").kind(), ErrorKind::Conflict);
    }

    #[test]
    fn users_are_written_as_an_aclfile() {
        let check = |settings: &str, expect: Option<&str>| {
            assert_eq!(acl_users(settings.as_bytes()).as_deref(), expect, "{settings}");
        };
        check(
            r#"{"acl":["user default on ~* +@all","user app off"]}"#,
            Some("user default on ~* +@all\nuser app off\n"),
        );
        check(r#"{"acl":[]}"#, None);
        check(r#"{"config":{}}"#, None);
        check("not json", None);
    }
}
