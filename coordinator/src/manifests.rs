//! What manifests say: read, verified, and taken apart into what is kept of them.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use urtext_planner::{ClockSkew, Learned, ShardHistories};
use urtext_repository::{BackupKey, Manifest, Repository, SignedManifest, StoreError};
use urtext_types::{BackupId, Chain, ErrorKind, Explain, ForkEdge, NodeObservation, Timestamp};

use crate::{
    app::App,
    catalog::{BackupEntry, Copies},
    shard::ShardKey,
};

/// Manifests that are read at the same time. That of a backup of 10 GB has 170 KB.
const READS_IN_FLIGHT: usize = 16;

/// So many are read before what they said is kept, in one transaction.
pub const MANIFESTS_KEPT_AT_ONCE: usize = 500;

/// A manifest that cannot be read is tried so often before its backup alone is shown as unreadable. Somebody
/// waits for the answer, and the next who asks tries again.
const READ_TRIES: u32 = 3;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// A store that hangs over one object must not hide the others.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// What came of reading one manifest.
#[derive(Debug)]
pub enum Look {
    Good(Box<Manifest>),
    /// There is none.
    Gone,
    /// It was read, and cannot be believed.
    Damaged(String),
    /// It could not be read now.
    Unreadable(String),
}

impl App {
    /// Reads manifests of one shard, in the order of `ids`.
    pub fn look_at_each<'a>(
        &'a self,
        repository: &'a Repository,
        shard: &'a ShardKey,
        ids: &'a [BackupId],
    ) -> impl Stream<Item = (BackupKey, Look)> + 'a {
        let looks = ids.iter().map(move |&id| async move {
            let key = BackupKey { deployment: shard.deployment.clone(), shard: shard.shard.clone(), id };
            let look = self.look(repository, &key).await;
            (key, look)
        });
        stream::iter(looks).buffered(READS_IN_FLIGHT)
    }

    /// Reads and verifies one manifest.
    pub async fn look(&self, repository: &Repository, key: &BackupKey) -> Look {
        let name = key.manifest();
        let mut tries = 1;
        let bytes = loop {
            let read = tokio::time::timeout(READ_LIMIT, repository.store().get(&name)).await;
            match read {
                Ok(Ok(bytes)) => break bytes,
                Ok(Err(StoreError::NotFound { .. })) => return Look::Gone,
                Ok(Err(error)) if error.kind() == ErrorKind::Unavailable && tries < READ_TRIES => {
                    tries += 1;
                    tokio::time::sleep(READ_AGAIN_AFTER).await;
                }
                Ok(Err(error)) => return Look::Unreadable(Chain(&error).to_string()),
                Err(_) => return Look::Unreadable(format!("{name} was not read within {READ_LIMIT:?}")),
            }
        };
        match SignedManifest::parse(key, &bytes).and_then(|signed| signed.verify(&self.verifier)) {
            Ok(manifest) => Look::Good(Box::new(manifest)),
            Err(error) => Look::Damaged(Chain(&error).to_string()),
        }
    }
}

/// What the catalog keeps of a manifest, without the places where it is.
pub fn entry(manifest: &Manifest, received_at: Timestamp) -> BackupEntry {
    BackupEntry {
        deployment: manifest.deployment.clone(),
        shard: manifest.shard.clone(),
        id: manifest.backup,
        site: manifest.site.clone(),
        node: manifest.node.clone(),
        position: manifest.position,
        taken_at: manifest.timings.started_at,
        received_at,
        keys: manifest.contents.keys(),
        rdb_bytes: manifest.rdb.bytes,
        stored_bytes: manifest.stored_bytes(),
        method: manifest.method,
        engine: manifest.server.engine,
        server_version: manifest.server.version.clone(),
        rdb_version: manifest.rdb.version,
        run_id: uncounted_run(manifest),
        stale: manifest.stale.as_ref().map(|stale| stale.reason.clone()),
        content_digest: manifest.rdb.content_digest,
        recipients: manifest.recipients.iter().map(ToString::to_string).collect(),
        copies: Copies::default(),
    }
}

/// In which run of a master that counts nothing it was taken, from beginning to end; empty otherwise.
fn uncounted_run(manifest: &Manifest) -> String {
    let of = |seen: &Option<NodeObservation>| seen.as_ref().map(NodeObservation::uncounted_run).unwrap_or_default();
    let (before, after) = (of(&manifest.observed_before), of(&manifest.observed_after));
    if before == after { before } else { String::new() }
}

/// The forks that a manifest tells of.
pub fn edges(manifest: &Manifest) -> impl Iterator<Item = ForkEdge> {
    let observed = manifest.observed_before.iter().chain(&manifest.observed_after);
    let told = manifest.lineage.iter().chain(&manifest.fork).copied();
    told.chain(observed.filter_map(NodeObservation::fork_edge))
}

/// Everything that a manifest says of the histories.
pub fn learn_from(
    known: &mut ShardHistories,
    manifest: &Manifest,
    received_at: Timestamp,
    clock: ClockSkew,
) -> Vec<Learned> {
    let mut learned = Vec::new();
    for edge in manifest.lineage.iter().chain(&manifest.fork) {
        learned.push(known.learn_edge(*edge));
    }
    for observation in manifest.observed_before.iter().chain(&manifest.observed_after) {
        learned.push(known.observe(&manifest.node, None, observation, received_at, clock));
    }
    learned
}

/// The id of a backup is from the coordinator's clock just before the capture began: so much later the agent's
/// clock may show the beginning although both are right.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// How the agent's clock stood, judged by the id of the backup. What may as well be waiting counts as that.
pub fn estimated_clock(manifest: &Manifest) -> ClockSkew {
    let ahead = manifest.timings.started_at.as_millis().saturating_sub(manifest.backup.timestamp().as_millis());
    let is_off = u128::from(ahead.unsigned_abs()) > BEGINS_WITHIN.as_millis();
    ClockSkew { ahead_ms: if is_off { ahead } else { 0 }, within: BEGINS_WITHIN }
}
