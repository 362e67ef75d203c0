//! One look at one server, to and from its message.

use urtext_types::{
    Engine, Keyspace, MasterLink, NodeAddress, NodeObservation, Offset, PersistenceView, ReplicaLink, ReplicationView,
    Role, ServerIdentity, Timestamp,
};

use super::{InvalidField, replication_id, required};
use crate::pb;

impl TryFrom<pb::NodeObservation> for NodeObservation {
    type Error = InvalidField;
    fn try_from(observation: pb::NodeObservation) -> Result<Self, InvalidField> {
        let pb::NodeObservation { observed_at_ms, server, replication, persistence, keyspace, used_memory } =
            observation;
        Ok(Self {
            observed_at: Timestamp::from_millis(observed_at_ms),
            server: required("observation.server", server)?.try_into()?,
            replication: required("observation.replication", replication)?.try_into()?,
            persistence: required("observation.persistence", persistence)?.into(),
            keyspace: keyspace.into_iter().map(database).collect(),
            used_memory,
        })
    }
}

impl From<&NodeObservation> for pb::NodeObservation {
    fn from(observation: &NodeObservation) -> Self {
        let NodeObservation { observed_at, server, replication, persistence, keyspace, used_memory } = observation;
        Self {
            observed_at_ms: observed_at.as_millis(),
            server: Some(server.into()),
            replication: Some(replication.into()),
            persistence: Some(persistence.into()),
            keyspace: keyspace.iter().map(|(&number, keys)| (number, *keys).into()).collect(),
            used_memory: *used_memory,
        }
    }
}

/// The longest word that a server says of itself: a host name.
const WORD_CHARACTERS: usize = 255;

/// A word that the server said, as it can be shown on a terminal: it may be anybody's server.
fn plain(word: String) -> String {
    if word.len() <= WORD_CHARACTERS && !word.contains(char::is_control) {
        return word;
    }
    word.chars().filter(|c| !c.is_control()).take(WORD_CHARACTERS).collect()
}

/// A database's number and keys.
fn database(keyspace: pb::Keyspace) -> (u32, Keyspace) {
    let pb::Keyspace { database, keys, expires } = keyspace;
    (database, Keyspace { keys, expires })
}

impl From<pb::Keyspace> for (u32, Keyspace) {
    fn from(keyspace: pb::Keyspace) -> Self {
        database(keyspace)
    }
}

impl From<(u32, Keyspace)> for pb::Keyspace {
    fn from((database, Keyspace { keys, expires }): (u32, Keyspace)) -> Self {
        Self { database, keys, expires }
    }
}

impl TryFrom<pb::Engine> for Engine {
    type Error = InvalidField;
    fn try_from(engine: pb::Engine) -> Result<Self, InvalidField> {
        match engine {
            pb::Engine::Unspecified => Err(InvalidField::missing("engine")),
            pb::Engine::Redis => Ok(Self::Redis),
            pb::Engine::Valkey => Ok(Self::Valkey),
        }
    }
}

impl From<Engine> for pb::Engine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Redis => Self::Redis,
            Engine::Valkey => Self::Valkey,
        }
    }
}

impl TryFrom<pb::ServerIdentity> for ServerIdentity {
    type Error = InvalidField;
    fn try_from(server: pb::ServerIdentity) -> Result<Self, InvalidField> {
        let engine = server.engine().try_into()?;
        let pb::ServerIdentity { engine: _, version, run_id, cluster_enabled } = server;
        Ok(Self { engine, version: plain(version), run_id: plain(run_id), cluster_enabled })
    }
}

impl From<&ServerIdentity> for pb::ServerIdentity {
    fn from(server: &ServerIdentity) -> Self {
        let ServerIdentity { engine, version, run_id, cluster_enabled } = server;
        Self {
            engine: pb::Engine::from(*engine).into(),
            version: version.clone(),
            run_id: run_id.clone(),
            cluster_enabled: *cluster_enabled,
        }
    }
}

impl TryFrom<pb::ReplicationView> for ReplicationView {
    type Error = InvalidField;
    fn try_from(view: pb::ReplicationView) -> Result<Self, InvalidField> {
        let pb::ReplicationView { history, offset, parent, backlog_active, failover_in_progress, role } = view;
        Ok(Self {
            history: replication_id("replication.history", &history)?,
            offset: Offset::new(offset).ok_or_else(|| InvalidField::wrong("replication.offset", offset))?,
            parent: parent.map(TryInto::try_into).transpose()?,
            backlog_active,
            failover_in_progress,
            role: required("replication.role", role)?.try_into()?,
        })
    }
}

impl From<&ReplicationView> for pb::ReplicationView {
    fn from(view: &ReplicationView) -> Self {
        let ReplicationView { history, offset, parent, backlog_active, failover_in_progress, role } = view;
        Self {
            history: history.as_bytes().to_vec().into(),
            offset: offset.get(),
            parent: parent.map(Into::into),
            backlog_active: *backlog_active,
            failover_in_progress: *failover_in_progress,
            role: Some(role.into()),
        }
    }
}

impl TryFrom<pb::replication_view::Role> for Role {
    type Error = InvalidField;
    fn try_from(role: pb::replication_view::Role) -> Result<Self, InvalidField> {
        use pb::replication_view::Role as Message;
        Ok(match role {
            Message::Master(pb::MasterRole { replicas }) => {
                Self::Master { replicas: replicas.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()? }
            }
            Message::Replica(pb::ReplicaRole { master, link, read_only, priority }) => Self::Replica {
                master: required("role.master", master)?.try_into()?,
                link: required("role.link", link)?.into(),
                read_only,
                priority,
            },
        })
    }
}

impl From<&Role> for pb::replication_view::Role {
    fn from(role: &Role) -> Self {
        match role {
            Role::Master { replicas } => {
                Self::Master(pb::MasterRole { replicas: replicas.iter().map(Into::into).collect() })
            }
            Role::Replica { master, link, read_only, priority } => Self::Replica(pb::ReplicaRole {
                master: Some(master.into()),
                link: Some(link.into()),
                read_only: *read_only,
                priority: *priority,
            }),
        }
    }
}

impl TryFrom<pb::NodeAddress> for NodeAddress {
    type Error = InvalidField;
    fn try_from(address: pb::NodeAddress) -> Result<Self, InvalidField> {
        let pb::NodeAddress { host, port } = address;
        Ok(Self {
            host: plain(host),
            port: u16::try_from(port).map_err(|_| InvalidField::wrong("address.port", port))?,
        })
    }
}

impl From<&NodeAddress> for pb::NodeAddress {
    fn from(address: &NodeAddress) -> Self {
        let NodeAddress { host, port } = address;
        Self { host: host.clone(), port: u32::from(*port) }
    }
}

impl From<pb::MasterLink> for MasterLink {
    fn from(link: pb::MasterLink) -> Self {
        let pb::MasterLink { up, last_io_seconds, down_since_seconds, sync_in_progress } = link;
        Self { up, last_io_seconds, down_since_seconds, sync_in_progress }
    }
}

impl From<&MasterLink> for pb::MasterLink {
    fn from(link: &MasterLink) -> Self {
        let MasterLink { up, last_io_seconds, down_since_seconds, sync_in_progress } = *link;
        Self { up, last_io_seconds, down_since_seconds, sync_in_progress }
    }
}

impl TryFrom<pb::ReplicaLink> for ReplicaLink {
    type Error = InvalidField;
    fn try_from(link: pb::ReplicaLink) -> Result<Self, InvalidField> {
        let pb::ReplicaLink { address, state, offset, lag_seconds } = link;
        Ok(Self {
            address: required("replica.address", address)?.try_into()?,
            state: plain(state),
            offset,
            lag_seconds,
        })
    }
}

impl From<&ReplicaLink> for pb::ReplicaLink {
    fn from(link: &ReplicaLink) -> Self {
        let ReplicaLink { address, state, offset, lag_seconds } = link;
        Self { address: Some(address.into()), state: state.clone(), offset: *offset, lag_seconds: *lag_seconds }
    }
}

impl From<pb::PersistenceView> for PersistenceView {
    fn from(view: pb::PersistenceView) -> Self {
        let pb::PersistenceView {
            loading,
            async_loading,
            bgsave_in_progress,
            last_bgsave_ok,
            last_save_at_ms,
            saves,
            changes_since_last_save,
            aof_enabled,
        } = view;
        let last_save_at = last_save_at_ms.map(Timestamp::from_millis);
        Self {
            loading,
            async_loading,
            bgsave_in_progress,
            last_bgsave_ok,
            last_save_at,
            saves,
            changes_since_last_save,
            aof_enabled,
        }
    }
}

impl From<&PersistenceView> for pb::PersistenceView {
    fn from(view: &PersistenceView) -> Self {
        let PersistenceView {
            loading,
            async_loading,
            bgsave_in_progress,
            last_bgsave_ok,
            last_save_at,
            saves,
            changes_since_last_save,
            aof_enabled,
        } = *view;
        let last_save_at_ms = last_save_at.map(Timestamp::as_millis);
        Self {
            loading,
            async_loading,
            bgsave_in_progress,
            last_bgsave_ok,
            last_save_at_ms,
            saves,
            changes_since_last_save,
            aof_enabled,
        }
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::Position;

    use super::*;

    fn observation() -> NodeObservation {
        let history = "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601".parse().expect("a replication id");
        let offset = Offset::new(48_211).expect("small");
        NodeObservation {
            observed_at: Timestamp::from_millis(1_700_000_000_123),
            server: ServerIdentity {
                engine: Engine::Valkey,
                version: "9.1.2".to_owned(),
                run_id: "ab".to_owned(),
                cluster_enabled: false,
            },
            replication: ReplicationView {
                history,
                offset,
                parent: Some(Position::new(history, Offset::ZERO)),
                backlog_active: true,
                failover_in_progress: false,
                role: Role::Replica {
                    master: NodeAddress { host: "::1".to_owned(), port: 6379 },
                    link: MasterLink {
                        up: false,
                        last_io_seconds: None,
                        down_since_seconds: Some(9),
                        sync_in_progress: false,
                    },
                    read_only: true,
                    priority: 100,
                },
            },
            persistence: PersistenceView {
                loading: false,
                async_loading: false,
                bgsave_in_progress: true,
                last_bgsave_ok: true,
                last_save_at: Some(Timestamp::from_millis(5)),
                saves: Some(3),
                changes_since_last_save: 7,
                aof_enabled: true,
            },
            keyspace: [(0, Keyspace { keys: 4, expires: 1 }), (9, Keyspace { keys: 1, expires: 0 })].into(),
            used_memory: 1 << 20,
        }
    }

    #[test]
    fn an_observation_arrives_as_it_was_sent() {
        let mut sent = observation();
        assert_eq!(NodeObservation::try_from(pb::NodeObservation::from(&sent)), Ok(sent.clone()));
        sent.replication.role = Role::Master {
            replicas: vec![ReplicaLink {
                address: NodeAddress { host: "10.0.0.1".to_owned(), port: 0 },
                state: "online".to_owned(),
                offset: 1,
                lag_seconds: Some(0),
            }],
        };
        assert_eq!(NodeObservation::try_from(pb::NodeObservation::from(&sent)), Ok(sent));
    }

    #[test]
    fn what_a_server_says_of_itself_does_not_write_to_terminals() {
        let mut sent = observation();
        sent.server.version = format!("9.1\x1b]0;.2\n{}", "é".repeat(1000));
        let received = NodeObservation::try_from(pb::NodeObservation::from(&sent)).expect("an observation");
        assert!(received.server.version.starts_with("9.1]0;.2é"), "{:?}", received.server.version);
        assert_eq!(received.server.version.chars().count(), WORD_CHARACTERS);
    }

    #[test]
    fn a_message_without_a_role_names_the_field() {
        let mut message = pb::NodeObservation::from(&observation());
        message.replication.as_mut().expect("set above").role = None;
        let error = NodeObservation::try_from(message).expect_err("no role");
        assert_eq!(error.to_string(), "field replication.role of the message is missing");
    }
}
