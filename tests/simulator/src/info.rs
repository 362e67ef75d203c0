//! What `INFO` shows of a server, as the agent reports it.

use std::collections::BTreeMap;

use urtext_types::{
    Engine, Keyspace, MasterLink, NodeAddress, NodeObservation, Offset, PersistenceView, Position, ReplicaLink,
    ReplicationView, Role, ServerIdentity, Timestamp,
};

use crate::{
    server::{self, Link, Server, Spot},
    story::{Node, Version},
    world::{World, mix},
};

impl Version {
    fn engine(self) -> (Engine, &'static str) {
        match self {
            Self::Redis62 => (Engine::Redis, "6.2.14"),
            Self::Redis70 => (Engine::Redis, "7.0.15"),
            Self::Redis82 => (Engine::Redis, "8.2.3"),
            Self::Valkey81 => (Engine::Valkey, "8.1.8"),
            Self::Valkey91 => (Engine::Valkey, "9.1.2"),
        }
    }
}

impl World {
    /// `run_id`: another one for each start of a process.
    pub fn run_id(&self, run: u32) -> String {
        format!("{:016x}", mix(u64::from(run) << 32))
    }

    /// A position in the words of the product.
    pub fn position(&self, spot: Spot) -> Position {
        Position::new(self.history(spot.history).id, Offset::new(spot.offset).expect("stories are short"))
    }

    /// What the server shows now; `None` if it does not answer. `observed_at` is the agent's clock.
    pub fn observe(&self, node: Node, observed_at: Timestamp) -> Option<NodeObservation> {
        let server = self.server(node);
        if !server.is_up {
            return None;
        }
        let (engine, version) = self.shape.version.engine();
        let own = self.position(server.spot());
        let keys = u64::from(self.truth.keys(server.data));
        Some(NodeObservation {
            observed_at,
            server: ServerIdentity {
                engine,
                version: version.to_owned(),
                run_id: self.run_id(server.run),
                cluster_enabled: false,
            },
            replication: ReplicationView {
                history: own.history,
                offset: own.offset,
                parent: server.second.map(|second| self.position(second)),
                backlog_active: server.backlog.is_some(),
                failover_in_progress: false,
                role: self.role(node, server),
            },
            persistence: PersistenceView {
                loading: false,
                async_loading: false,
                bgsave_in_progress: false,
                last_bgsave_ok: true,
                last_save_at: None,
                saves: None,
                changes_since_last_save: 0,
                aof_enabled: self.shape.aof,
            },
            keyspace: if keys > 0 { BTreeMap::from([(0, Keyspace { keys, expires: 0 })]) } else { BTreeMap::new() },
            used_memory: 1_000_000 + keys * 100,
        })
    }

    fn role(&self, node: Node, server: &Server) -> Role {
        match server.role {
            server::Role::Master => {
                Role::Master { replicas: self.replicas_of(node).map(|of| self.online(of)).collect() }
            }
            server::Role::Replica { of, link } => Role::Replica {
                master: address(of),
                link: MasterLink {
                    up: link == Link::Up,
                    last_io_seconds: (link == Link::Up).then_some(1),
                    down_since_seconds: match link {
                        Link::Up | Link::Down { since: None } => None,
                        Link::Down { since: Some(since) } => Some((self.now - since) as u64 / 1000),
                    },
                    sync_in_progress: false,
                },
                read_only: true,
                priority: 100,
            },
        }
    }

    fn online(&self, replica: Node) -> ReplicaLink {
        ReplicaLink {
            address: address(Some(replica)),
            state: String::from("online"),
            offset: self.server(replica).offset,
            lag_seconds: Some(0),
        }
    }
}

fn address(node: Option<Node>) -> NodeAddress {
    let number = node.map_or(0, |node| u16::from(node.0) + 1);
    NodeAddress { host: String::from("10.0.0.1"), port: 6379 + number }
}
