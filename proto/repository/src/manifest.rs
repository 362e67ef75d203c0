//! What one backup consists of, and where in which history it was taken.
//!
//! The manifest is the last object of a backup to be written: a backup is committed if and only if its
//! manifest exists. It says everything that is needed to choose between copies without opening them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use urtext_types::{
    BackupId, DataDigest, DeploymentName, Engine, ForkEdge, Keyspace, NodeName, NodeObservation, Position,
    ServerIdentity, ShardName, SiteName, Timestamp,
};

use crate::{BackupKey, Recipients, Sha256Digest};

/// The version of the stored format that this code writes, and the only one that it reads. Fields may
/// be added within a version; anything else is a new one.
pub const FORMAT_VERSION: u32 = 1;

/// One backup. `FORMAT.md` describes each field for readers without this code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    pub backup: BackupId,
    pub deployment: DeploymentName,
    pub shard: ShardName,
    pub site: SiteName,
    /// The node whose data this is, and whose agent signs.
    pub node: NodeName,
    pub agent_version: String,
    pub server: ServerIdentity,
    pub method: CaptureMethod,
    /// What the RDB holds; `None` where the server tracks no position (a master that never had a
    /// replica).
    pub position: Option<Position>,
    /// The server's second history at the capture: where the position's history left its parent.
    pub fork: Option<ForkEdge>,
    /// The last look at the server before the capture began.
    pub observed_before: Option<NodeObservation>,
    /// The first look at the server after the capture ended.
    pub observed_after: Option<NodeObservation>,
    /// Set if the copy was taken, on explicit request, while the server's master link was down.
    pub stale: Option<Stale>,
    /// All fork edges of the shard that the agent knew.
    pub lineage: Vec<ForkEdge>,
    /// The RDB, cut into parts of [`crate::PART_BYTES`], in order; the last one may be shorter.
    pub parts: Vec<StoredObject>,
    pub rdb: RdbSummary,
    pub contents: ContentSummary,
    pub settings: SettingsSummary,
    pub timings: Timings,
    /// Whose identities open the parts and the settings.
    pub recipients: Recipients,
}

impl Manifest {
    /// The folder that the manifest belongs into.
    pub fn key(&self) -> BackupKey {
        BackupKey { deployment: self.deployment.clone(), shard: self.shard.clone(), id: self.backup }
    }

    /// Bytes of all objects as stored, the manifest itself apart. Saturates.
    pub fn stored_bytes(&self) -> u64 {
        let objects = self.parts.iter().chain(&self.settings.object);
        objects.fold(0, |sum, object| sum.saturating_add(object.stored_bytes))
    }
}

/// How the RDB was read from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureMethod {
    /// As a replica that wants only the RDB.
    Replication,
    /// From the file that the server saved.
    File,
}

/// The copy may lack writes that its master already had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// One sentence for a person.
    pub reason: String,
    /// For how long the master link had been down when the capture began, if the server knew.
    pub link_down_seconds: Option<u64>,
}

/// One sealed object, as its reader must find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// The file name inside the backup's folder.
    pub name: String,
    pub plaintext_bytes: u64,
    pub plaintext_sha256: Sha256Digest,
    pub stored_bytes: u64,
    pub stored_sha256: Sha256Digest,
}

/// The RDB as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdbSummary {
    pub bytes: u64,
    pub sha256: Sha256Digest,
    /// Whose magic the header carries: `REDIS` or `VALKEY`.
    pub magic: Engine,
    /// The RDB version in the header.
    pub version: u32,
    pub checksum: RdbChecksum,
    /// The digest of the content, independent of the order and encoding of keys, if it was made.
    pub content_digest: Option<DataDigest>,
}

/// The CRC64 at the end of an RDB. One that does not match is never committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RdbChecksum {
    /// It was there and it matched; 16 hex digits.
    Verified { crc64: String },
    /// The server wrote none (`rdbchecksum no`).
    Disabled,
}

/// What the RDB holds, counted while it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentSummary {
    /// Keys per database; databases without keys are not listed.
    pub databases: BTreeMap<u32, Keyspace>,
    /// Keys per type: `string`, `list`, `set`, `zset`, `hash`, `stream`, or a module's type name.
    pub types: BTreeMap<String, u64>,
    /// Function libraries.
    pub functions: u64,
    /// Modules that the server had loaded, or whose data the RDB holds.
    pub modules: Vec<ModuleSummary>,
}

impl ContentSummary {
    /// Keys in all databases. Saturates: whoever signs a manifest may have written anything into it.
    pub fn keys(&self) -> u64 {
        self.databases.values().fold(0, |sum, database| sum.saturating_add(database.keys))
    }
}

/// A module without which the RDB does not load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSummary {
    pub name: String,
    pub version: Option<u64>,
}

/// The server's settings beside its data: ACL users, configuration, module list, slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsSummary {
    /// The sealed object, if any part of the settings could be read.
    pub object: Option<StoredObject>,
    /// What could not be read, and why.
    pub missing: Vec<MissingSettings>,
}

/// A part of the settings that is not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingSettings {
    /// `acl`, `config`, `modules`, `slots`.
    pub what: String,
    pub reason: String,
}

/// When, by the agent's clock, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// From the request to the server until its RDB was complete there.
    pub save_ms: u64,
    /// From the first byte of the RDB until the last part was stored.
    pub ship_ms: u64,
}
