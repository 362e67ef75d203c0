//! `INFO` as values. No I/O.

use std::collections::BTreeMap;

use thiserror::Error;
use urtext_types::{
    Engine, ErrorKind, Explain, Keyspace, MasterLink, NodeAddress, NodeObservation, Offset, PersistenceView, Position,
    ReplicaLink, ReplicationId, ReplicationView, Role, ServerIdentity, Timestamp,
};

/// The fields of one `INFO`, by name. Names are unique over all sections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info(BTreeMap<String, String>);

/// `INFO` that does not say what a data server says.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidInfo {
    #[error("INFO has no field {field}")]
    Missing { field: &'static str },
    #[error("INFO says {field}:{value}, which cannot be")]
    Wrong { field: &'static str, value: String },
    #[error("this is a Sentinel, which watches servers and has no data of its own")]
    Sentinel,
}

impl Explain for InvalidInfo {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Wrong { .. } => ErrorKind::Integrity,
            Self::Sentinel => ErrorKind::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } | Self::Wrong { .. } => {
                "Redis 6.2 and later and Valkey are known to work; is this another program?".to_owned()
            }
            Self::Sentinel => "give the address of the server itself; Sentinel listens on 26379 by default".to_owned(),
        })
    }
}

impl Info {
    /// Lines of `name:value`; everything else, the headings too, says nothing.
    pub fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A field's value.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    /// A field that is a number; `None` if it is missing, negative or no number.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.get(field)?.parse().ok()
    }

    /// A field that is `1` or not.
    pub fn flag(&self, field: &str) -> bool {
        self.get(field) == Some("1")
    }

    /// Whether the server has a child process of any kind: BGSAVE, AOF rewrite, a module's.
    pub fn has_child(&self) -> bool {
        [
            "rdb_bgsave_in_progress",
            "aof_rewrite_in_progress",
            "module_fork_in_progress",
            "slot_migration_fork_in_progress",
        ]
        .iter()
        .any(|field| self.flag(field))
    }

    /// What this says of the server.
    pub fn observation(&self, observed_at: Timestamp) -> Result<NodeObservation, InvalidInfo> {
        Ok(NodeObservation {
            observed_at,
            server: self.server()?,
            replication: self.replication()?,
            persistence: self.persistence(),
            keyspace: self.keyspace(),
            used_memory: self.number("used_memory").unwrap_or(0),
        })
    }

    fn server(&self) -> Result<ServerIdentity, InvalidInfo> {
        // Redis says `redis_mode`, Valkey `server_mode`.
        if self.get("redis_mode").or(self.get("server_mode")) == Some("sentinel") {
            return Err(InvalidInfo::Sentinel);
        }
        // On Valkey `redis_version` stands still at 7.2.4.
        let (engine, version) = match self.get("valkey_version") {
            Some(version) => (Engine::Valkey, version),
            None => (Engine::Redis, self.required("redis_version")?),
        };
        Ok(ServerIdentity {
            engine,
            version: version.to_owned(),
            run_id: self.required("run_id")?.to_owned(),
            cluster_enabled: self.flag("cluster_enabled"),
        })
    }

    fn replication(&self) -> Result<ReplicationView, InvalidInfo> {
        let history = self.parsed("master_replid")?;
        let offset = self.parsed("master_repl_offset")?;
        Ok(ReplicationView {
            history,
            offset,
            parent: self.parent(),
            backlog_active: self.flag("repl_backlog_active"),
            failover_in_progress: self.get("master_failover_state").is_some_and(|state| state != "no-failover"),
            role: self.role()?,
        })
    }

    /// Forty zeros, which do not parse, and -1 mean that there is none.
    fn parent(&self) -> Option<Position> {
        let history: ReplicationId = self.get("master_replid2")?.parse().ok()?;
        let first_foreign = self.number("second_repl_offset")?;
        Some(Position::new(history, Offset::new(first_foreign.checked_sub(1)?)?))
    }

    fn role(&self) -> Result<Role, InvalidInfo> {
        match self.required("role")? {
            "master" => Ok(Role::Master { replicas: self.replicas() }),
            "slave" => Ok(Role::Replica {
                master: NodeAddress {
                    host: self.required("master_host")?.to_owned(),
                    port: self.parsed("master_port")?,
                },
                link: MasterLink {
                    up: self.get("master_link_status") == Some("up"),
                    // Both are -1 where they have no value.
                    last_io_seconds: self.number("master_last_io_seconds_ago"),
                    down_since_seconds: self.number("master_link_down_since_seconds"),
                    sync_in_progress: self.flag("master_sync_in_progress"),
                },
                read_only: self.get("slave_read_only") != Some("0"),
                priority: self.number("slave_priority").unwrap_or(0),
            }),
            other => Err(InvalidInfo::Wrong { field: "role", value: other.to_owned() }),
        }
    }

    /// `slaveN:ip=…,port=…,state=…,offset=…,lag=…`. A line whose port no server can have is an agent's
    /// capture, not a replica.
    fn replicas(&self) -> Vec<ReplicaLink> {
        let numbered = |name: &str| name.strip_prefix("slave").is_some_and(|n| n.parse::<u32>().is_ok());
        let lines = self.0.iter().filter(|(name, _)| numbered(name));
        lines
            .filter_map(|(_, line)| {
                let values: BTreeMap<&str, &str> = line.split(',').filter_map(|pair| pair.split_once('=')).collect();
                let port = values.get("port")?.parse().ok().filter(|port| *port != 0)?;
                Some(ReplicaLink {
                    address: NodeAddress { host: (*values.get("ip")?).to_owned(), port },
                    state: (*values.get("state")?).to_owned(),
                    offset: values.get("offset")?.parse().ok()?,
                    lag_seconds: values.get("lag").and_then(|lag| lag.parse().ok()),
                })
            })
            .collect()
    }

    fn persistence(&self) -> PersistenceView {
        let seconds = |field| self.number(field).and_then(|seconds| i64::try_from(seconds).ok());
        PersistenceView {
            loading: self.flag("loading"),
            async_loading: self.flag("async_loading"),
            bgsave_in_progress: self.flag("rdb_bgsave_in_progress"),
            last_bgsave_ok: self.get("rdb_last_bgsave_status") == Some("ok"),
            last_save_at: seconds("rdb_last_save_time").map(|s| Timestamp::from_millis(s.saturating_mul(1000))),
            saves: self.number("rdb_saves"),
            changes_since_last_save: self.number("rdb_changes_since_last_save").unwrap_or(0),
            aof_enabled: self.flag("aof_enabled"),
        }
    }

    /// `dbN:keys=…,expires=…,…`
    fn keyspace(&self) -> BTreeMap<u32, Keyspace> {
        let database = |(name, line): (&String, &String)| {
            let number = name.strip_prefix("db")?.parse().ok()?;
            let value =
                |field| line.split(',').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == field);
            let count = |field| value(field).and_then(|(_, count)| count.parse().ok());
            Some((number, Keyspace { keys: count("keys")?, expires: count("expires").unwrap_or(0) }))
        };
        self.0.iter().filter_map(database).collect()
    }

    fn required(&self, field: &'static str) -> Result<&str, InvalidInfo> {
        self.get(field).ok_or(InvalidInfo::Missing { field })
    }

    fn parsed<T: std::str::FromStr>(&self, field: &'static str) -> Result<T, InvalidInfo> {
        let value = self.required(field)?;
        value.parse().map_err(|_| InvalidInfo::Wrong { field, value: value.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests;
