//! What an agent saw of its server at one moment: INFO, parsed once.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Evidence, ForkEdge, Offset, Position, ReplicationId, Timestamp};

/// One look at one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeObservation {
    /// The agent's clock when the reply arrived.
    pub observed_at: Timestamp,
    pub server: ServerIdentity,
    pub replication: ReplicationView,
    pub persistence: PersistenceView,
    /// Keys per database; databases without keys are not listed.
    pub keyspace: BTreeMap<u32, Keyspace>,
    /// `used_memory`, bytes.
    pub used_memory: u64,
}

impl NodeObservation {
    /// Keys in all databases. Saturates: the numbers are another host's.
    pub fn keys(&self) -> u64 {
        self.keyspace.values().fold(0, |sum, database| sum.saturating_add(database.keys))
    }

    /// The position of the node's data set, or `None` where the offset does not track writes: a
    /// master without a backlog counts nothing, or one per write command (reference: offsets
    /// without a backlog are never to be ordered).
    pub fn position(&self) -> Option<Position> {
        self.replication.position()
    }

    /// What copies without a position must have in common, if the later one is to hold what the earlier one
    /// holds: one run of one master that has no backlog, under one id. The id changes whenever such a
    /// master becomes anything else, and comes back from that with other data perhaps. Empty for all
    /// others: a replica that has not been in sync yet holds whatever it held before.
    pub fn uncounted_run(&self) -> String {
        let counts_nothing = self.replication.role.is_master() && !self.replication.backlog_active;
        if counts_nothing && !self.server.run_id.is_empty() {
            format!("{}/{}", self.server.run_id, self.replication.history)
        } else {
            String::new()
        }
    }

    /// The fork that the node reports: `master_replid2`, `second_repl_offset`.
    ///
    /// A replica that was started from its file and never linked up has no backlog
    /// (`replicationCacheMasterUsingMyself` in replication.c makes none). Promoted like that it writes
    /// without counting, so the number at the fork stands for more and more data. Whoever came by its
    /// parent in another way has a backlog.
    pub fn fork_edge(&self) -> Option<ForkEdge> {
        let parent = self.replication.parent?;
        let evidence = match self.replication.role {
            _ if !self.replication.backlog_active => Evidence::InferredSameRun,
            Role::Master { .. } => Evidence::PromotedMaster,
            Role::Replica { .. } => Evidence::FollowingReplica,
        };
        Some(ForkEdge { child: self.replication.history, parent, evidence })
    }
}

/// Which program the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Redis,
    Valkey,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    pub engine: Engine,
    /// The engine's own version, e.g. `9.1.2` (Valkey's `redis_version` is frozen at 7.2.4).
    pub version: String,
    /// Changes at every start of the process.
    pub run_id: String,
    pub cluster_enabled: bool,
}

/// `INFO replication`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationView {
    /// `master_replid`.
    pub history: ReplicationId,
    /// `master_repl_offset`: on a replica the bytes *applied*.
    pub offset: Offset,
    /// `master_replid2` and `second_repl_offset - 1`: the last position of the previous history.
    pub parent: Option<Position>,
    /// `repl_backlog_active`.
    pub backlog_active: bool,
    /// `master_failover_state` other than `no-failover`.
    pub failover_in_progress: bool,
    pub role: Role,
}

impl ReplicationView {
    /// See [`NodeObservation::position`].
    pub fn position(&self) -> Option<Position> {
        self.position_is_tracked().then(|| Position::new(self.history, self.offset))
    }

    /// Whether the offset counts writes of the history.
    pub(crate) fn position_is_tracked(&self) -> bool {
        match &self.role {
            Role::Master { .. } => self.backlog_active,
            // A replica that has never been in sync carries an id of its own and offset 0. The same
            // offset with its link up is that of a master whose first replica this is, and which has
            // written nothing since (`createReplicationBacklog` and `changeReplicationId` in
            // replication.c): it holds all that its master does.
            Role::Replica { link, .. } => self.offset > Offset::ZERO || link.up,
        }
    }
}

/// What the server is to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Master { replicas: Vec<ReplicaLink> },
    Replica { master: NodeAddress, link: MasterLink, read_only: bool, priority: u64 },
}

impl Role {
    pub fn is_master(&self) -> bool {
        matches!(self, Self::Master { .. })
    }
}

/// Where a server says another one is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeAddress {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A replica's link to its master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterLink {
    /// `master_link_status:up`.
    pub up: bool,
    /// `master_last_io_seconds_ago`; `None` while the link is down.
    pub last_io_seconds: Option<u64>,
    /// `master_link_down_since_seconds`; `None` while up, or if it never was.
    pub down_since_seconds: Option<u64>,
    /// A full sync is running: the data set is about to be replaced.
    pub sync_in_progress: bool,
}

/// A master's line about one of its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaLink {
    pub address: NodeAddress,
    /// `online`, `wait_bgsave`, `send_bulk`, …
    pub state: String,
    /// The offset that it has acknowledged.
    pub offset: u64,
    /// Seconds since its last acknowledgement.
    pub lag_seconds: Option<u64>,
}

/// `INFO persistence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistenceView {
    /// Most commands fail while this is true.
    pub loading: bool,
    pub async_loading: bool,
    /// Also true during a diskless sync child.
    pub bgsave_in_progress: bool,
    pub last_bgsave_ok: bool,
    /// `rdb_last_save_time`: the start of the process if nothing was saved yet.
    pub last_save_at: Option<Timestamp>,
    /// `rdb_saves`, from 7.0 on: the reliable sign that a new save finished.
    pub saves: Option<u64>,
    pub changes_since_last_save: u64,
    pub aof_enabled: bool,
}

/// Keys of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Keyspace {
    pub keys: u64,
    /// Keys with an expiry.
    pub expires: u64,
}
