//! From a backup to a server that holds it.
//!
//! The backup is read twice: once to prove every byte of it before the target is touched, and once more while
//! it is served. The agent plays master on an address that only the target comes to; the target is told to
//! follow it, loads the RDB at its original position, and is promoted. Its new history then names the restored
//! position as its parent, so that the lineage goes on.
//!
//! **When it fails half-way** the target is told to follow nobody, so that it is not left chasing a port on
//! which nobody listens, and the failure says in which state it is now.
//!
//! The repository's identity lives in memory only, for the time of the task.

mod error;
mod serve;
mod target;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use urtext_proto::{InvalidField, pb};
use urtext_rdb::{Summary, loadable_by};
use urtext_repository::{BackupKey, BackupReader, Identity, Manifest, ManifestVerifier, Store, open_bytes};
use urtext_types::{Chain, DataDigest, NodeObservation, Offset, Position, ReplicationId};

pub use error::{RestoreError, RestoreFailed, TargetState};

use self::target::Permitted;
use crate::{
    capture::{Inspector, Progress, backup_key, content_digest},
    clock,
    server::{Connection, Server},
};

/// How often a target that does not answer is told to follow nobody, before we give up.
const RESCUE_ATTEMPTS: u32 = 10;
const RESCUE_PAUSE: Duration = Duration::from_secs(1);

/// What to restore.
#[derive(Debug)]
pub struct RestoreRequest {
    pub key: BackupKey,
    pub identities: Vec<Identity>,
    permitted: Permitted,
}

impl RestoreRequest {
    /// Opens what came with the task.
    pub fn open(task: pb::RestoreTask, own: &Identity) -> Result<Self, RestoreError> {
        let pb::RestoreTask { backup, sealed_identity, overwrite, planned_target_keys, .. } = task;
        let key = backup_key(backup)?;
        let opened = open_bytes(std::slice::from_ref(own), &sealed_identity).map_err(RestoreError::Sealed)?;
        let text = std::str::from_utf8(opened.expose())
            .map_err(|_| InvalidField::wrong("restore.sealed_identity", "not text"))?;
        let permitted = Permitted { overwrite, planned_keys: planned_target_keys };
        Ok(Self { key, identities: Identity::parse_file(text)?, permitted })
    }
}

/// What a restore works with.
pub struct RestoreTools {
    pub server: Server,
    pub store: Arc<dyn Store>,
    pub verifier: Arc<dyn ManifestVerifier>,
}

/// What was restored, and the proof.
#[derive(Debug, Clone)]
pub struct Restored {
    /// `None` if the backup had no position.
    pub position: Option<Position>,
    pub new_history: ReplicationId,
    /// The target as it was when it held exactly the backup, before its promotion.
    pub loaded: NodeObservation,
    /// Of the bytes that were given to the target, if the manifest names it too.
    pub content_digest: Option<DataDigest>,
    pub verify: Duration,
    pub load: Duration,
}

impl Restored {
    pub fn to_message(&self, key: &BackupKey) -> pb::RestoreDone {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        pb::RestoreDone {
            backup: Some(pb::BackupKey {
                deployment: key.deployment.to_string(),
                shard: key.shard.to_string(),
                id: key.id.to_string(),
            }),
            restored: self.position.map(Into::into),
            new_history: self.new_history.as_bytes().to_vec().into(),
            keyspace: self.loaded.keyspace.iter().map(|(&database, keys)| (database, *keys).into()).collect(),
            verify_ms: millis(self.verify),
            load_ms: millis(self.load),
            content_digest: self.content_digest.map(|digest| digest.to_string()),
        }
    }
}

/// Restores one backup into the server beside this agent.
///
/// `entropy` names the history of a backup that has none: a server without a backlog wrote it.
///
/// # Cancel safety
/// Not cancel safe: use `cancel`, which leaves the target in a state that is told.
pub async fn restore(
    tools: &RestoreTools,
    request: &RestoreRequest,
    entropy: [u8; 20],
    cancel: &CancellationToken,
    progress: Progress<'_>,
) -> Result<Restored, RestoreFailed> {
    let untouched = |error| RestoreFailed { state: TargetState::Untouched, error };
    let prepared = tokio::select! {
        prepared = prepare(tools, request, progress) => prepared.map_err(untouched)?,
        () = cancel.cancelled() => return Err(untouched(RestoreError::Cancelled)),
    };
    let position = prepared.reader.manifest().position;
    let served = position.unwrap_or_else(|| {
        warn!("the backup has no position: the target goes on from a history of its own");
        let history = ReplicationId::from_bytes(entropy).expect("twenty random bytes are not all zero");
        Position::new(history, Offset::ZERO)
    });
    let load_began = Instant::now();
    let loaded = match load(tools, request, &prepared, served, cancel, progress).await {
        Ok(loaded) => loaded,
        Err(LoadFailed { error, touched: false }) => return Err(untouched(error)),
        Err(LoadFailed { error, touched: true }) => {
            error!(error = %Chain(&error), "the restore failed half-way; telling the target to follow nobody");
            return Err(RestoreFailed { state: rescue(&tools.server).await, error });
        }
    };
    let load = load_began.elapsed();
    let after = TargetState::Restored { offset: served.offset };
    let failed = |error| RestoreFailed { state: after, error };
    let (_, promoted) = match tools.server.connect().await {
        Ok(mut connection) => connection.observe(clock::now).await.map_err(|error| failed(error.into()))?,
        Err(error) => return Err(failed(error.into())),
    };
    if !promoted.replication.role.is_master() || promoted.replication.parent != Some(served) {
        return Err(failed(RestoreError::LineageLost { server: tools.server.address().clone(), expected: served }));
    }
    info!(backup = %request.key, position = %served, history = %promoted.replication.history, "restored");
    Ok(Restored {
        position,
        new_history: promoted.replication.history,
        loaded,
        content_digest: prepared.content_digest,
        verify: prepared.verify,
        load,
    })
}

/// A backup of which every byte was read and found good, and a target that can take it.
struct Prepared {
    reader: BackupReader,
    content_digest: Option<DataDigest>,
    verify: Duration,
}

async fn prepare(
    tools: &RestoreTools,
    request: &RestoreRequest,
    progress: Progress<'_>,
) -> Result<Prepared, RestoreError> {
    progress("connecting", 0, None);
    let mut connection = tools.server.connect().await?;
    let target = target::look(&mut connection).await?;
    target.check(request.permitted)?;
    let reader = BackupReader::open(tools.store.clone(), request.key.clone(), tools.verifier.as_ref()).await?;
    let manifest = reader.manifest();
    // The header alone may tell, before anything is downloaded.
    let header = urtext_rdb::RdbHeader { engine: manifest.rdb.magic, version: manifest.rdb.version };
    loadable_by(header, [], target.version)?;
    let began = Instant::now();
    let summary = verify(&reader, request, progress).await?;
    let content_digest = check_against(&summary, manifest)?;
    loadable_by(summary.header, summary.types.keys().copied(), target.version)?;
    target.check_fits(manifest, summary.aux.used_mem, !summary.modules.is_empty())?;
    Ok(Prepared { verify: began.elapsed(), content_digest, reader })
}

/// Reads the whole backup: stored hashes, plaintext hashes, structure, checksum.
async fn verify(
    reader: &BackupReader,
    request: &RestoreRequest,
    progress: Progress<'_>,
) -> Result<Summary, RestoreError> {
    let total = reader.manifest().rdb.bytes;
    let mut rdb = reader.rdb(request.identities.clone())?;
    let inspector = Inspector::start();
    let mut done = 0;
    progress("verifying", done, Some(total));
    'parts: while let Some(part) = rdb.next().await? {
        done += part.len() as u64;
        for piece in pieces(part) {
            if !inspector.feed(piece).await {
                break 'parts;
            }
        }
        progress("verifying", done, Some(total));
    }
    Ok(inspector.finish().await?)
}

/// A part of 16 MiB is in use until its last piece was; pieces let go of it before the next one is wanted.
const PIECE_BYTES: usize = 512 * 1024;

/// A part in pieces that share its memory.
fn pieces(part: Bytes) -> impl Iterator<Item = Bytes> {
    (0..part.len()).step_by(PIECE_BYTES).map(move |from| part.slice(from..part.len().min(from + PIECE_BYTES)))
}

/// Gives the content digest, if the manifest has one that could be compared: both are the same.
fn check_against(summary: &Summary, manifest: &Manifest) -> Result<Option<DataDigest>, RestoreError> {
    let differ = |what| Err(RestoreError::NotAsTheManifest { what });
    if summary.bytes != manifest.rdb.bytes {
        return differ("their sizes");
    }
    let keys = |(&number, keys): (&u32, u64)| (number, keys);
    let counted = summary.databases.iter().map(|(number, database)| keys((number, database.keys)));
    let said = manifest.contents.databases.iter().map(|(number, database)| keys((number, database.keys)));
    if !counted.eq(said) {
        return differ("their keys");
    }
    match (manifest.position, summary.position()) {
        (Some(said), Some(written)) if said != written => return differ("their positions"),
        _ => {}
    }
    let Some((found, said)) = content_digest(summary).zip(manifest.rdb.content_digest) else { return Ok(None) };
    match found.agrees_with(&said) {
        Some(true) => Ok(Some(said)),
        Some(false) => differ("the digests of their content"),
        // A digest of another construction, by another version of this program, says nothing.
        None => Ok(None),
    }
}

/// Makes the target follow us, proves what it holds, and promotes it.
async fn load(
    tools: &RestoreTools,
    request: &RestoreRequest,
    prepared: &Prepared,
    position: Position,
    cancel: &CancellationToken,
    progress: Progress<'_>,
) -> Result<NodeObservation, LoadFailed> {
    let mut connection = tools.server.connect().await.map_err(LoadFailed::untouched)?;
    // Much time may have passed since the first look.
    let target = target::look(&mut connection).await.map_err(LoadFailed::untouched)?;
    target.check(request.permitted).map_err(LoadFailed::untouched)?;
    let serving = serve::Serving {
        target: &target,
        reader: &prepared.reader,
        identities: &request.identities,
        position,
        cancel,
        progress,
        sent: Arc::default(),
    };
    serving.serve(&mut connection).await.map_err(|error| LoadFailed { error, touched: true })
}

/// Why the target does not hold the backup, and whether anything was done to it.
struct LoadFailed {
    error: RestoreError,
    touched: bool,
}

impl LoadFailed {
    fn untouched(error: impl Into<RestoreError>) -> Self {
        Self { error: error.into(), touched: false }
    }
}

/// Tells the target to follow nobody, patiently: it may be loading, or be started anew.
async fn rescue(server: &Server) -> TargetState {
    for attempt in 1..=RESCUE_ATTEMPTS {
        match detach(server).await {
            Ok(keys) => return TargetState::MasterAgain { keys },
            Err(error) => warn!(error = %Chain(&error), attempt, "the target cannot be told to follow nobody"),
        }
        sleep(RESCUE_PAUSE).await;
    }
    TargetState::StillFollowing
}

async fn detach(server: &Server) -> Result<u64, RestoreError> {
    let mut connection: Connection = server.connect().await?;
    connection.query::<String>(&["REPLICAOF", "NO", "ONE"]).await?;
    Ok(connection.observe(clock::now).await?.1.keys())
}
