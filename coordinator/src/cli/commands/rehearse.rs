//! `urtext rehearse`

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use urtext_proto::pb;
use urtext_rdb::{ContentDigest, Options, RdbHeader, ServerVersion, Verifier};
use urtext_repository::Manifest;
use urtext_types::{BackupId, ByteCount, DataDigest, ErrorKind};

use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args,
        client::{Client, refused},
        json,
        source::{Consumer, rdb_fault},
    },
    clock::Clock,
    rehearsing::{
        content::{content_of, difference, keys_of},
        memory::{available, check_fits},
        sandbox::Sandbox,
        servers::{Installed, ask, candidates, choose},
    },
};

/// What a server made of a backup.
struct Rehearsed {
    fetch_ms: u64,
    load_ms: u64,
    keys: u64,
    digest: String,
    failure: Option<Fault>,
}

pub(in crate::cli) async fn run(context: &Context, args: args::Rehearse) -> Result<Ended, Stop> {
    let args::Rehearse { what, shard, servers, identity } = args;
    let client = context.connect().await?;
    let id = match what {
        args::DeploymentOrBackup::Backup(id) => id,
        args::DeploymentOrBackup::Deployment(name) => {
            canonical(&client, name.to_string(), shard.map(String::from)).await?
        }
    };
    let named = args::Named::Backup(id);
    let mut source = context.open_source(&named, identity.as_deref(), &args::Alone::default()).await?;
    let manifest = source.manifest.take().ok_or_else(|| Fault::new(ErrorKind::Internal, "a backup has a manifest"))?;
    let installed = installed(servers)?;
    let server = fitting(&manifest, &installed)?;
    let output = &context.output;
    output.note(format_args!("rehearsing backup {id} in {} ({})", server.version, server.program.display()))?;

    let mut sandbox = Sandbox::make(&env::temp_dir())?;
    let rehearsing = async {
        let begun = Instant::now();
        source.read_into(Writing::new(sandbox.given(), id)?).await?;
        let fetch_ms = begun.elapsed().as_millis() as u64;
        Ok::<_, Stop>(rehearse(&mut sandbox, server, &manifest, fetch_ms).await?)
    };
    // What was opened must not stay behind.
    let rehearsed = tokio::select! {
        rehearsed = rehearsing => rehearsed?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Fault::new(ErrorKind::Unavailable, "interrupted: the rehearsal proved nothing").into());
        }
    };
    drop(sandbox);
    let Rehearsed { fetch_ms, load_ms, keys, digest, failure } = rehearsed;
    let request = pb::ReportRehearsalRequest {
        backup_id: id.to_string(),
        server: server.version.to_string(),
        failure: failure.as_ref().map(|fault| urtext_types::Chain(fault).to_string()),
        fetch_ms,
        load_ms,
        keys,
    };
    let reported = client.control().report_rehearsal(request).await.map_err(refused)?.into_inner();
    if let Some(fault) = failure {
        return Err(fault.into());
    }
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let size = ByteCount::new(manifest.rdb.bytes);
    output.text(format_args!("backup {id} is good: {} loaded it, {keys} keys, {size}", server.version))?;
    output.text(format_args!("same data    {digest}"))?;
    output.text(format_args!(
        "a restore    would take about {:.1} s here: {:.1} s to fetch and open, {:.1} s to load",
        seconds(fetch_ms + load_ms),
        seconds(fetch_ms),
        seconds(load_ms)
    ))?;
    output.text(format_args!("on record    as rehearsed, of the copy in {}", reported.repository))?;
    output.value(&json::Rehearsed {
        id: id.to_string(),
        repository: reported.repository,
        server: server.version.to_string(),
        keys,
        content_digest: digest,
        fetch_seconds: seconds(fetch_ms),
        load_seconds: seconds(load_ms),
    })?;
    Ok(Ended::Well)
}

/// The backup that a restore would take.
async fn canonical(client: &Client, deployment: String, shard: Option<String>) -> Result<BackupId, Stop> {
    let request = pb::CanonicalRequest { deployment: deployment.clone(), shard, ..pb::CanonicalRequest::default() };
    let answer = client.control().canonical(request).await.map_err(refused)?.into_inner();
    let answer: json::Canonical = answer.try_into()?;
    let id = answer.canonical.as_ref().and_then(|canonical| canonical.id.parse().ok());
    id.ok_or_else(|| {
        let kind = if answer.verdict == "ambiguous" { ErrorKind::Ambiguous } else { ErrorKind::NotFound };
        Fault::new(kind, format!("{deployment} has no canonical backup to rehearse"))
            .with_hint(format!("`urtext canonical {deployment}` says why; name a backup by its id"))
            .into()
    })
}

/// Programs that were named must answer; of those in PATH, the ones that do are taken.
fn installed(named: Vec<PathBuf>) -> Result<Vec<Installed>, Fault> {
    let all = candidates(&named, env::var_os("PATH").as_deref());
    let asked = all.iter().map(|program| ask(program));
    if named.is_empty() { Ok(asked.filter_map(Result::ok).collect()) } else { asked.collect() }
}

fn fitting<'a>(manifest: &Manifest, installed: &'a [Installed]) -> Result<&'a Installed, Fault> {
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

async fn rehearse(
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
    if let Err(fault) = ended {
        return Ok(Rehearsed { fetch_ms, load_ms, keys: 0, digest: String::new(), failure: Some(fault) });
    }
    // From here on nothing expires any more: both sides are asked about the same moment.
    let (given, written, now) = (sandbox.given(), sandbox.written(), clock.now());
    let both = tokio::task::spawn_blocking(move || -> Result<(ContentDigest, ContentDigest), Fault> {
        Ok((content_of(&given, now)?, content_of(&written, now)?))
    });
    let (expected, found) =
        both.await.map_err(|error| Fault::new(ErrorKind::Internal, format!("compare the rehearsal: {error}")))??;
    let keys = keys_of(&found).values().sum();
    let digest = DataDigest::current(found.root().0).to_string();
    let failure = difference(&expected, &found).map(|what| {
        Fault::new(ErrorKind::Integrity, format!("the rehearsal of backup {} differs: {what}", manifest.backup))
            .with_hint("keep the backup, and compare it with its node: `urtext diff ID redis://…`")
    });
    Ok(Rehearsed { fetch_ms, load_ms, keys, digest, failure })
}

/// The RDB on its way into the sandbox, verified.
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
}

fn file_fault(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(ErrorKind::Unavailable, format!("write {}: {error}", path.display()))
        .with_hint("TMPDIR says where rehearsals take place: it needs room for the RDB twice")
}

impl Consumer for Writing {
    type Output = ();

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.verifier.feed(bytes).map_err(|error| rdb_fault(self.attempt.clone(), error))?;
        self.file.write_all(bytes).map_err(|error| file_fault(&self.path, &error))
    }

    fn finish(self) -> Result<(), Fault> {
        self.verifier.finish().map_err(|error| rdb_fault(self.attempt, error))?;
        Ok(())
    }
}
