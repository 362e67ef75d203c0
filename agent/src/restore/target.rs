//! Whether the target can and may take the data. The decision is a function of what was seen.

use std::sync::Arc;

use urtext_rdb::ServerVersion;
use urtext_repository::{Manifest, ModuleSummary};
use urtext_types::{ByteCount, NodeObservation, Role};

use super::RestoreError;
use crate::{
    capture::module,
    clock,
    server::{Connection, Info, ServerAddress, ServerError},
};

/// What was seen of the target.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: Arc<ServerAddress>,
    pub(super) observation: NodeObservation,
    pub(super) version: ServerVersion,
    pub(super) tls_replication: bool,
    /// `maxmemory`, if there is a limit.
    pub(super) max_memory: Option<u64>,
    /// The port that it will announce to us; `None` where it cannot be known.
    pub(super) announced_port: Option<u16>,
    /// `None` where it may not be asked.
    pub(super) modules: Option<Vec<ModuleSummary>>,
}

/// Looks at the target.
pub(super) async fn look(connection: &mut Connection) -> Result<Target, RestoreError> {
    let address = connection.server().address().clone();
    let (info, observation) = connection.observe(clock::now).await?;
    let version = ServerVersion::parse(observation.server.engine, &observation.server.version).ok_or_else(|| {
        RestoreError::UnknownVersion { server: address.clone(), version: observation.server.version.clone() }
    })?;
    let tls_replication = optional(connection.config("tls-replication").await)?.flatten();
    let announced_port = announced_port(connection, &info).await?;
    let modules = optional(connection.query::<Vec<redis::Value>>(&["MODULE", "LIST"]).await)?;
    Ok(Target {
        address,
        observation,
        version,
        tls_replication: tls_replication.as_deref() == Some("yes"),
        max_memory: info.number("maxmemory").filter(|&limit| limit > 0),
        announced_port,
        modules: modules.map(|list| list.iter().filter_map(module).collect()),
    })
}

/// A server announces `replica-announce-port` if that is set, and else its own port
/// (`replication.c:syncWithMaster`).
async fn announced_port(connection: &mut Connection, info: &Info) -> Result<Option<u16>, ServerError> {
    let configured = optional(connection.config("replica-announce-port").await)?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|&port| port != 0);
    Ok(match configured {
        // Not known whether one is set: anyone who comes from the target's address has to do.
        None => None,
        Some(announced) => announced.as_deref().and_then(number).or_else(|| info.get("tcp_port").and_then(number)),
    })
}

fn optional<T>(answer: Result<T, ServerError>) -> Result<Option<T>, ServerError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_about_rights() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the plan of the restore allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permitted {
    pub(super) overwrite: bool,
    /// The keys that the plan saw.
    pub(super) planned_keys: u64,
}

impl Target {
    /// Refuses a target that cannot be made to follow us, or that holds what nobody has agreed to lose.
    pub(super) fn check(&self, permitted: Permitted) -> Result<(), RestoreError> {
        let server = || self.address.clone();
        let Self { observation, .. } = self;
        if observation.server.cluster_enabled {
            return Err(RestoreError::Cluster { server: server() });
        }
        if self.tls_replication {
            return Err(RestoreError::TlsReplication { server: server() });
        }
        let persistence = &observation.persistence;
        if persistence.loading || persistence.async_loading || observation.replication.failover_in_progress {
            return Err(RestoreError::InTransition { server: server() });
        }
        if let Role::Replica { master, link, .. } = &observation.replication.role {
            if link.sync_in_progress {
                return Err(RestoreError::InTransition { server: server() });
            }
            if link.up && !permitted.overwrite {
                return Err(RestoreError::LiveReplica { server: server(), master: master.clone() });
            }
        }
        let found = observation.keys();
        if found > 0 && !permitted.overwrite {
            return Err(RestoreError::NotEmpty { server: server(), keys: found });
        }
        if found > permitted.planned_keys {
            return Err(RestoreError::MoreKeys { server: server(), found, planned: permitted.planned_keys });
        }
        Ok(())
    }

    /// Refuses data that would not fit, or not work, on the target.
    pub(super) fn check_fits(
        &self,
        manifest: &Manifest,
        used_memory: Option<u64>,
        holds_module_data: bool,
    ) -> Result<(), RestoreError> {
        if let (Some(limit), Some(needed)) = (self.max_memory, used_memory)
            && needed > limit
        {
            let (limit, needed) = (ByteCount::new(limit), ByteCount::new(needed));
            return Err(RestoreError::MaxMemory { server: self.address.clone(), limit, needed });
        }
        let Some(loaded) = self.modules.as_ref().filter(|_| holds_module_data) else { return Ok(()) };
        let had = manifest.contents.modules.iter().filter(|module| module.version.is_some());
        match had.into_iter().find(|module| !loaded.iter().any(|loaded| loaded.name == module.name)) {
            Some(missing) => {
                Err(RestoreError::ModuleMissing { server: self.address.clone(), module: missing.name.clone() })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::{Engine, Timestamp};

    use super::*;

    const EMPTY: Permitted = Permitted { overwrite: false, planned_keys: 0 };
    const OVERWRITE: Permitted = Permitted { overwrite: true, planned_keys: 2 };

    fn target(info: &str) -> Target {
        let observation = Info::parse(info).observation(Timestamp::from_millis(0)).expect("a server");
        Target {
            address: Arc::new(ServerAddress::parse("redis://127.0.0.1:1").expect("an address").0),
            observation,
            version: ServerVersion { engine: Engine::Redis, major: 7, minor: 0 },
            tls_replication: false,
            max_memory: None,
            announced_port: None,
            modules: None,
        }
    }

    #[track_caller]
    fn check(target: &Target, permitted: Permitted, expect: Result<(), &str>) {
        match (target.check(permitted), expect) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (found, expect) => panic!("{found:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn a_target_is_refused_for_what_could_be_lost() {
        let master = include_str!("../../../proto/replication/src/info/redis-7.0-master.txt");
        let replica = include_str!("../../../proto/replication/src/info/redis-7.0-replica.txt");
        let empty = master.replace("db0:", "no:").replace("db9:", "no:");
        check(&target(&empty), EMPTY, Ok(()));
        check(&target(master), EMPTY, Err("holds 2 keys"));
        check(&target(master), OVERWRITE, Ok(()));
        check(&target(master), Permitted { planned_keys: 1, ..OVERWRITE }, Err("more than the 1"));
        check(&target(replica), EMPTY, Err("and its link is up"));
        check(&target(replica), OVERWRITE, Ok(()));
    }

    #[test]
    fn a_target_is_refused_for_what_it_cannot_do() {
        let master = include_str!("../../../proto/replication/src/info/redis-7.0-master.txt");
        let with = |from: &str, to: &str| target(&master.replace(from, to));
        check(&with("cluster_enabled:0", "cluster_enabled:1"), OVERWRITE, Err("Redis Cluster"));
        check(&with("\nloading:0", "\nloading:1"), OVERWRITE, Err("is loading"));
        check(&with("no-failover", "waiting-for-sync"), OVERWRITE, Err("failing over"));
        check(&Target { tls_replication: true, ..target(master) }, OVERWRITE, Err("over TLS only"));
    }
}
