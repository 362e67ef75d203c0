//! Whole backups: written, read, damaged, interrupted, and restored with ordinary tools.

mod backups;
mod damage;
mod faults;
mod format;
mod keys;
mod killed;
mod locking;
mod proof;
mod prune;
mod stores;
mod streams;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use urtext_types::{BackupId, Engine, Keyspace, NodeName, ServerIdentity, Timestamp};

use crate::{
    BackupKey, BackupReader, BackupWriter, CaptureMethod, ContentSummary, FORMAT_VERSION, Identity, Manifest,
    RdbChecksum, RdbSummary, ReadError, Recipients, SettingsSummary, Store, Timings, WriteError, WriterOptions,
    Written,
    testing::{DigestSigner, DigestVerifier},
};

/// The backup number `n` of one shard.
fn key(n: i64) -> BackupKey {
    BackupKey {
        deployment: "orders".parse().expect("a name"),
        shard: "0".parse().expect("a name"),
        id: BackupId::new(Timestamp::from_millis(1_700_000_000_000 + n), [0; 10]),
    }
}

fn node() -> NodeName {
    "fra-2".parse().expect("a name")
}

fn signer() -> DigestSigner {
    DigestSigner::new(node().as_str())
}

/// The manifest of what was written, as an agent would fill it in.
fn manifest_of(key: &BackupKey, written: &Written, recipients: &Recipients) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        backup: key.id,
        deployment: key.deployment.clone(),
        shard: key.shard.clone(),
        site: "fra".parse().expect("a name"),
        node: node(),
        agent_version: "0.1.0".to_owned(),
        server: ServerIdentity {
            engine: Engine::Redis,
            version: "8.2.3".to_owned(),
            run_id: "5d6d4ce4b5a5c1ab7bb8f0b2f5a0a2b3c4d5e6f7".to_owned(),
            cluster_enabled: false,
        },
        method: CaptureMethod::Replication,
        position: "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601:48211".parse().ok(),
        fork: None,
        observed_before: None,
        observed_after: None,
        stale: None,
        lineage: Vec::new(),
        parts: written.parts.clone(),
        rdb: RdbSummary {
            bytes: written.bytes,
            sha256: written.sha256,
            magic: Engine::Redis,
            version: 12,
            checksum: RdbChecksum::Disabled,
            content_digest: None,
        },
        contents: ContentSummary {
            databases: BTreeMap::from([(0, Keyspace { keys: 3, expires: 1 })]),
            ..ContentSummary::default()
        },
        settings: SettingsSummary::default(),
        timings: Timings {
            started_at: Timestamp::from_millis(1_700_000_000_000),
            finished_at: Timestamp::from_millis(1_700_000_001_000),
            save_ms: 1000,
            ship_ms: 900,
        },
        recipients: recipients.clone(),
    }
}

/// Writes and commits one backup, with settings.
async fn back_up(
    store: Arc<dyn Store>,
    key: &BackupKey,
    recipients: &Recipients,
    rdb: &[u8],
) -> Result<Manifest, WriteError> {
    let mut writer = BackupWriter::new(store, key.clone(), recipients.clone(), WriterOptions::default());
    for piece in rdb.chunks(700_001) {
        writer.write(piece).await?;
    }
    let settings = writer.write_settings(b"{\"acl\":[]}".to_vec()).await?;
    let written = writer.finish().await?;
    let mut manifest = manifest_of(key, &written, recipients);
    manifest.settings.object = Some(settings);
    written.commit(&manifest, &signer()).await?;
    Ok(manifest)
}

/// Reads one backup's RDB whole.
async fn read_back(store: Arc<dyn Store>, key: &BackupKey, identity: &Identity) -> Result<Vec<u8>, ReadError> {
    let mut rdb = BackupReader::open(store, key.clone(), &DigestVerifier).await?.rdb(vec![identity.clone()])?;
    let mut whole = Vec::new();
    while let Some(part) = rdb.next().await? {
        whole.extend_from_slice(&part);
    }
    Ok(whole)
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A stored object of a store, whole.
async fn stored(store: &dyn Store, name: &crate::ObjectName) -> Bytes {
    store.get(name).await.expect("a stored object")
}

/// Waits for a state, for at most 20 seconds.
async fn until(what: &str, state: impl Fn() -> bool) {
    for _ in 0..2000 {
        if state() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still not true: {what}");
}

/// Says why a test did not run to its end.
#[expect(clippy::print_stderr, reason = "a skipped test says so where the runner shows it")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}
