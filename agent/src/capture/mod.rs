//! From a server to a committed backup.
//!
//! ```text
//! server ─► replication, or the file of a BGSAVE ─► writer: zstd + age + SHA-256 ─► coordinator
//!                                              └──► inspector: structure, CRC64, counts
//! ```
//!
//! **Harmless**: the agent attaches as a replica that wants only the RDB and leaves with its last byte. When
//! the repository takes nothing for a minute, it leaves at once, since the server's child waits
//! for us and its memory grows. One capture at a time.
//!
//! **Crash, cancel, error**: until the manifest is stored there is no backup, only objects that nothing names.

mod error;
mod file;
mod guard;
mod inspect;
mod manifest;
mod plan;
mod replication;
mod settings_object;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_proto::{InvalidField, model::BackupAddress, pb};
use urtext_replication::SnapshotStream;
use urtext_repository::{
    BackupKey, BackupWriter, CaptureMethod, ManifestSigner, Recipient, Recipients, SettingsSummary, Store,
    WriterOptions,
};
use urtext_types::{Position, may_capture};

pub use error::CaptureError;
pub use inspect::Inspector;
pub(crate) use manifest::content_digest;
pub use plan::{Choice, FileAccess, NoMethod, choose};
pub use settings_object::module;

use crate::{
    clock,
    server::{Connection, Server, ServerError, Socket},
};

/// How long the repository may take nothing before the server is let go: about what its output buffer for
/// us may grow before it would cut us off itself (`client-output-buffer-limit replica 256mb 64mb 60`).
const SHIP_STALL_LIMIT: Duration = Duration::from_secs(60);

/// How often progress is told, at most.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// What to capture.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    pub key: BackupKey,
    /// `None`: the agent chooses.
    pub method: Option<CaptureMethod>,
    pub allow_stale: bool,
    pub max_link_down: Duration,
    pub recipients: Recipients,
}

impl TryFrom<pb::CaptureTask> for CaptureRequest {
    type Error = InvalidField;
    fn try_from(task: pb::CaptureTask) -> Result<Self, InvalidField> {
        let method = match task.method() {
            pb::CaptureMethod::Unspecified => None,
            pb::CaptureMethod::Replication => Some(CaptureMethod::Replication),
            pb::CaptureMethod::File => Some(CaptureMethod::File),
        };
        let pb::CaptureTask { backup, method: _, allow_stale, max_link_down_seconds, recipients, .. } = task;
        let recipients = recipients
            .iter()
            .map(|recipient| urtext_proto::model::parse::<Recipient>("capture.recipients", recipient))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            key: backup_key(backup)?,
            method,
            allow_stale,
            max_link_down: Duration::from_secs(max_link_down_seconds),
            recipients: recipients.try_into().map_err(|error| InvalidField::wrong("capture.recipients", error))?,
        })
    }
}

/// The backup that a task names.
pub fn backup_key(key: Option<pb::BackupKey>) -> Result<BackupKey, InvalidField> {
    let address = BackupAddress::try_from(key.ok_or_else(|| InvalidField::missing("task.backup"))?)?;
    let BackupAddress { deployment, shard, id } = address;
    Ok(BackupKey { deployment, shard, id })
}

/// What a capture works with.
pub struct CaptureTools {
    pub server: Server,
    pub store: Arc<dyn Store>,
    pub signer: Arc<dyn ManifestSigner>,
    pub identity: AgentIdentity,
    /// The RDB's path on this host, where the server does not know it.
    pub rdb_file: Option<PathBuf>,
}

/// How far a task has come: phase, bytes done, bytes in all.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, Option<u64>) + Send + Sync);

/// Bytes of an RDB on their way.
enum Source {
    Replication(SnapshotStream<Box<dyn Socket>>),
    File { file: file::RdbFile, path: PathBuf },
}

impl Source {
    fn length(&self) -> Option<u64> {
        match self {
            Self::Replication(stream) => stream.length(),
            Self::File { file, .. } => Some(file.length()),
        }
    }

    fn position(&self) -> Option<Position> {
        match self {
            Self::Replication(stream) => Some(stream.position()),
            Self::File { .. } => None,
        }
    }

    async fn next(&mut self, server: &Server) -> Result<Option<Bytes>, CaptureError> {
        match self {
            Self::Replication(stream) => stream
                .next()
                .await
                .map_err(|source| CaptureError::Replication { server: server.address().clone(), source }),
            Self::File { file, path } => {
                file.next().await.map_err(|source| CaptureError::ReadFile { path: path.clone(), source })
            }
        }
    }
}

/// Makes one backup, and commits it if everything about it is as it must be.
///
/// # Cancel safety
/// Dropping the future lets go of the server and leaves no backup, or a committed one.
pub async fn capture(
    tools: &CaptureTools,
    request: &CaptureRequest,
    progress: Progress<'_>,
) -> Result<(), CaptureError> {
    progress("connecting", 0, None);
    let started_at = clock::now();
    let server = &tools.server;
    let mut connection = server.connect().await?;
    let (info, before) = connection.observe(clock::now).await?;
    may_capture(&before, request.allow_stale, request.max_link_down)?;
    guard::check_memory(&info, server.address().is_local())?;
    let path = file::locate(&mut connection, tools.rdb_file.as_deref()).await?;
    let choice = choose(request.method, &before, file::access(&path))?;
    if choice.changes_history {
        warn!(history = %before.replication.history, "attaching to a master without a backlog: it takes a new replication id");
    }
    info!(backup = %request.key, method = ?choice.method, reason = choice.reason, "capture begins");
    let settings = settings_object::collect(&mut connection, before.server.cluster_enabled).await?;

    progress("saving", 0, None);
    let asked = Instant::now();
    let mut source = match (choice.method, path) {
        (CaptureMethod::File, Ok(path)) => Source::File { file: file::save(&mut connection, &path).await?, path },
        (CaptureMethod::File, Err(reason)) => return Err(NoMethod::NoFile { reason }.into()),
        (CaptureMethod::Replication, _) => Source::Replication(replication::attach(server, &before).await?),
    };
    let saved_file = matches!(source, Source::File { .. }).then(|| asked.elapsed());

    let options = WriterOptions::default();
    let mut writer = BackupWriter::new(tools.store.clone(), request.key.clone(), request.recipients.clone(), options);
    let inspector = Inspector::start();
    let mut told: Option<Instant> = None;
    while let Some(piece) = source.next(server).await? {
        if !inspector.feed(piece.clone()).await {
            inspector.finish().await?;
            return Err(CaptureError::Rdb(urtext_rdb::RdbError::Truncated {
                bytes: writer.progress().plaintext_bytes,
            }));
        }
        timeout(SHIP_STALL_LIMIT, writer.write(&piece))
            .await
            .map_err(|_| CaptureError::Stalled { limit: SHIP_STALL_LIMIT })??;
        if told.is_none_or(|told| told.elapsed() >= PROGRESS_INTERVAL) {
            told = Some(Instant::now());
            progress("capturing", writer.progress().plaintext_bytes, source.length());
        }
    }
    let save = saved_file.unwrap_or_else(|| asked.elapsed());
    let received = writer.progress().plaintext_bytes;
    if let Some(given) = source.length().filter(|given| *given != received) {
        return Err(CaptureError::Short { given, received });
    }
    let announced = source.position();
    drop(source);
    let summary = inspector.finish().await?;

    // The server has done its part: from here on only the repository is waited for.
    let after = match connection.observe(clock::now).await {
        Ok((_, after)) => after,
        // The server closes connections that were idle for long (`timeout`).
        Err(error) if error.breaks_connection() => server.connect().await?.observe(clock::now).await?.1,
        Err(error) => return Err(error.into()),
    };
    manifest::position(choice.method, &before, &after, announced, summary.position())?;
    progress("shipping", received, Some(received));
    let settings_entry = match settings.json {
        Some(json) => Some(writer.write_settings(json.expose().clone()).await?),
        None => None,
    };
    let written = writer.finish().await?;
    let captured = manifest::Captured {
        key: &request.key,
        identity: &tools.identity,
        method: choice.method,
        before: &before,
        after: &after,
        announced,
        summary: &summary,
        written: &written,
        settings: SettingsSummary { object: settings_entry, missing: settings.missing },
        modules: settings.modules,
        recipients: &request.recipients,
        started_at,
        finished_at: clock::now(),
        save,
        stale: manifest::stale(&before),
    };
    let manifest = captured.manifest()?;
    progress("committing", received, Some(received));
    written.commit(&manifest, tools.signer.as_ref()).await?;
    info!(
        backup = %request.key,
        position = manifest.position.map(tracing::field::display),
        keys = manifest.contents.keys(),
        bytes = received,
        stored = manifest.stored_bytes(),
        "backup committed"
    );
    Ok(())
}

/// Whether the file that the server saves can be read here.
pub async fn file_access(connection: &mut Connection, rdb_file: Option<&Path>) -> Result<FileAccess, ServerError> {
    Ok(file::access(&file::locate(connection, rdb_file).await?))
}
