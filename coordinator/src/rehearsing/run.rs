//! One rehearsal: fetched, loaded, written down by the server, compared.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use bytes::Bytes;
use urtext_rdb::{ContentDigest, Options, RdbHeader, ServerVersion, Verifier};
use urtext_repository::{BackupReader, Identity, Manifest};
use urtext_types::{BackupId, DataDigest, ErrorKind};

use super::{
    content::{content_of, difference, keys_of},
    memory::{available, check_fits},
    sandbox::Sandbox,
    servers::{Installed, choose},
};
use crate::{Fault, clock::Clock};

/// What a server made of a backup.
#[derive(Debug)]
pub struct Rehearsed {
    /// Which server it was.
    pub server: ServerVersion,
    pub fetch_ms: u64,
    pub load_ms: u64,
    pub keys: u64,
    /// Of what it held; empty if it failed.
    pub digest: String,
    /// What was wrong; `None` if the backup is good.
    pub failure: Option<Fault>,
}

/// The installed server that fits the backup, if this machine has the memory for it.
pub fn fitting<'a>(manifest: &Manifest, installed: &'a [Installed]) -> Result<&'a Installed, Fault> {
    // Valkey 9 counts its own scripting engine among the modules.
    let foreign = |name: &str| name != "lua";
    if let Some(module) = manifest.contents.modules.iter().find(|module| foreign(&module.name)) {
        let message = format!("the backup holds data of the module {}, and a throw-away server has none", module.name);
        return Err(Fault::new(ErrorKind::Refused, message)
            .with_hint("restore it to a server of your own that has the module; nothing was started"));
    }
    let header = RdbHeader { engine: manifest.rdb.magic, version: manifest.rdb.version };
    let origin = ServerVersion::parse(manifest.server.engine, &manifest.server.version);
    let server = choose(installed, header, origin)?;
    let used = manifest.observed_before.as_ref().map_or(0, |seen| seen.used_memory);
    check_fits(used.max(manifest.rdb.bytes), available())?;
    Ok(server)
}

/// Rehearses a backup in a folder of its own below `parent`. `progress` is told how many bytes are there.
///
/// # Errors
/// The backup cannot be fetched or opened, or there is no place for it: nothing was found out. What was found out,
/// that it is not good as well, is in the answer.
///
/// # Cancel safety
/// Cancel safe: the server ends and the folder goes with the future.
pub async fn rehearse(
    reader: &BackupReader,
    identities: Vec<Identity>,
    server: &Installed,
    parent: &Path,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Rehearsed, Fault> {
    let mut sandbox = Sandbox::make(parent)?;
    let begun = Instant::now();
    fetch(reader, identities, sandbox.given(), progress).await?;
    let fetch_ms = begun.elapsed().as_millis() as u64;
    load(&mut sandbox, server, reader.manifest(), fetch_ms).await
}

/// The RDB on its way into the sandbox, verified.
async fn fetch(
    reader: &BackupReader,
    identities: Vec<Identity>,
    path: PathBuf,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), Fault> {
    let mut parts = reader.rdb(identities).map_err(Fault::while_doing("open the backup"))?;
    let mut writing = Writing::new(path, reader.key().id)?;
    let mut done = 0;
    while let Some(part) = parts.next().await.map_err(Fault::while_doing("fetch the backup"))? {
        done += part.len() as u64;
        writing = blocking(move || writing.take(&part)).await?;
        progress(done);
    }
    blocking(move || writing.finish()).await
}

async fn load(
    sandbox: &mut Sandbox,
    server: &Installed,
    manifest: &Manifest,
    fetch_ms: u64,
) -> Result<Rehearsed, Fault> {
    let databases = manifest.contents.databases.keys().max().map_or(0, |highest| highest + 1).max(16);
    let clock = Clock::system();
    let begun = Instant::now();
    sandbox.start(&server.program, databases)?;
    let loaded = sandbox.wait_until_loaded(|| clock.now()).await;
    let load_ms = begun.elapsed().as_millis() as u64;
    let ended = match loaded {
        Ok(()) => sandbox.end(manifest.rdb.bytes).await,
        refused => refused,
    };
    let version = server.version;
    if let Err(fault) = ended {
        let (keys, digest) = (0, String::new());
        return Ok(Rehearsed { server: version, fetch_ms, load_ms, keys, digest, failure: Some(fault) });
    }
    // From here on nothing expires any more: both sides are asked about the same moment.
    let (given, written, now) = (sandbox.given(), sandbox.written(), clock.now());
    let both = move || -> Result<(ContentDigest, ContentDigest), Fault> {
        Ok((content_of(&given, now)?, content_of(&written, now)?))
    };
    let (expected, found) = blocking(both).await?;
    let keys = keys_of(&found).values().sum();
    let digest = DataDigest::current(found.root().0).to_string();
    let failure = difference(&expected, &found).map(|what| {
        Fault::new(ErrorKind::Integrity, format!("the rehearsal of backup {} differs: {what}", manifest.backup))
            .with_hint("keep the backup, and compare it with its node: `urtext diff ID redis://…`")
    });
    Ok(Rehearsed { server: version, fetch_ms, load_ms, keys, digest, failure })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::new(ErrorKind::Internal, format!("rehearse a backup: {error}")))?
}

struct Writing {
    attempt: String,
    path: PathBuf,
    file: File,
    verifier: Verifier,
}

impl Writing {
    fn new(path: PathBuf, id: BackupId) -> Result<Self, Fault> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| file_fault(&path, &error))?;
        Ok(Self { attempt: format!("rehearse backup {id}"), path, file, verifier: Verifier::new(Options::default()) })
    }

    fn take(mut self, part: &Bytes) -> Result<Self, Fault> {
        self.verifier.feed(part).map_err(Fault::while_doing(self.attempt.clone()))?;
        self.file.write_all(part).map_err(|error| file_fault(&self.path, &error))?;
        Ok(self)
    }

    fn finish(self) -> Result<(), Fault> {
        self.verifier.finish().map_err(Fault::while_doing(self.attempt))?;
        Ok(())
    }
}

fn file_fault(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(ErrorKind::Unavailable, format!("write {}: {error}", path.display()))
        .with_hint("TMPDIR says where rehearsals take place: it needs room for the RDB twice")
}
