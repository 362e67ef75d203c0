//! Whether a server's data set is fit to be captured now: asked by the coordinator when it chooses
//! nodes, and by the agent again before and after it captures.

use std::time::Duration;

use thiserror::Error;

use crate::{ErrorKind, Explain, NodeObservation, Role};

/// Refuses a server whose data set is incomplete, about to be replaced, or older than is allowed.
///
/// A replica whose master link is down goes on answering and saving, with data that no longer
/// changes: such a snapshot would be a new file with old data. It is refused once the link has been
/// down for longer than `max_link_down`, unless `allow_stale` says that it is asked for knowingly.
/// Nothing makes a data set acceptable that is being loaded or replaced.
///
/// # Errors
/// The first reason that holds, the hardest first.
pub fn may_capture(
    observation: &NodeObservation,
    allow_stale: bool,
    max_link_down: Duration,
) -> Result<(), CaptureRefusal> {
    // `async_loading` still serves the old data set, but the new one may replace it at any moment.
    if observation.persistence.loading || observation.persistence.async_loading {
        return Err(CaptureRefusal::Loading);
    }
    if observation.replication.failover_in_progress {
        return Err(CaptureRefusal::FailingOver);
    }
    if let Role::Replica { link, .. } = &observation.replication.role
        && link.sync_in_progress
    {
        return Err(CaptureRefusal::Syncing);
    }
    match staleness(observation) {
        None => Ok(()),
        Some(_) if allow_stale => Ok(()),
        Some(CaptureRefusal::LinkDown { down_for_seconds: Some(seconds) })
            if Duration::from_secs(seconds) <= max_link_down =>
        {
            Ok(())
        }
        Some(refusal) => Err(refusal),
    }
}

/// How it comes that a snapshot of this server may hold old data, however short the time: what a
/// backup is marked with.
pub fn staleness(observation: &NodeObservation) -> Option<CaptureRefusal> {
    let Role::Replica { link, .. } = &observation.replication.role else {
        return None;
    };
    if !observation.replication.position_is_tracked() {
        return Some(CaptureRefusal::NeverInSync);
    }
    (!link.up).then_some(CaptureRefusal::LinkDown { down_for_seconds: link.down_since_seconds })
}

/// Why a server's data set is not fit to be captured now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CaptureRefusal {
    #[error("the server is loading its data set")]
    Loading,
    #[error("the server is in the middle of a failover")]
    FailingOver,
    /// `master_sync_in_progress`: what is there now is about to be thrown away.
    #[error("the server is receiving a full copy from its master, which will replace its data set")]
    Syncing,
    /// Its link has never been up: what it holds is not its master's.
    #[error("the replica has not received anything from its master yet")]
    NeverInSync,
    /// `None`: it has been down since the server was started.
    #[error("the link to its master has been down {}", for_how_long(*.down_for_seconds))]
    LinkDown { down_for_seconds: Option<u64> },
}

fn for_how_long(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => format!("for {seconds} s"),
        None => "since it was started".to_owned(),
    }
}

impl Explain for CaptureRefusal {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Loading | Self::FailingOver | Self::Syncing => ErrorKind::Unavailable,
            Self::NeverInSync | Self::LinkDown { .. } => ErrorKind::Refused,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Loading | Self::FailingOver | Self::Syncing => "try again when it has finished".to_owned(),
            Self::NeverInSync => "take the snapshot from its master, or from a replica that is in sync".to_owned(),
            Self::LinkDown { .. } => {
                "take the snapshot from another node, or ask for this old state knowingly with --allow-stale".to_owned()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        Engine, MasterLink, NodeAddress, Offset, PersistenceView, ReplicationId, ReplicationView, ServerIdentity,
        Timestamp,
    };

    const MINUTE: Duration = Duration::from_secs(60);
    const UP: MasterLink =
        MasterLink { up: true, last_io_seconds: Some(1), down_since_seconds: None, sync_in_progress: false };

    fn observation(role: Role) -> NodeObservation {
        NodeObservation {
            observed_at: Timestamp::from_millis(0),
            server: ServerIdentity {
                engine: Engine::Redis,
                version: "8.2.3".to_owned(),
                run_id: "a".repeat(40),
                cluster_enabled: false,
            },
            replication: ReplicationView {
                history: ReplicationId::from_bytes([1; 20]).expect("not zero"),
                offset: Offset::new(700).expect("small"),
                parent: None,
                backlog_active: true,
                failover_in_progress: false,
                role,
            },
            persistence: PersistenceView {
                loading: false,
                async_loading: false,
                bgsave_in_progress: false,
                last_bgsave_ok: true,
                last_save_at: None,
                saves: None,
                changes_since_last_save: 0,
                aof_enabled: false,
            },
            keyspace: BTreeMap::new(),
            used_memory: 0,
        }
    }

    fn replica(link: MasterLink) -> NodeObservation {
        let master = NodeAddress { host: "10.0.0.1".to_owned(), port: 6379 };
        observation(Role::Replica { master, link, read_only: true, priority: 100 })
    }

    fn down_for(seconds: Option<u64>) -> NodeObservation {
        replica(MasterLink { up: false, last_io_seconds: None, down_since_seconds: seconds, ..UP })
    }

    #[track_caller]
    fn check(observation: &NodeObservation, by_itself: Result<(), CaptureRefusal>, on_request: bool) {
        assert_eq!(may_capture(observation, false, MINUTE), by_itself);
        assert_eq!(may_capture(observation, true, MINUTE).is_ok(), on_request, "asked for knowingly");
    }

    #[test]
    fn a_master_and_a_replica_in_sync_may_be_captured() {
        check(&observation(Role::Master { replicas: vec![] }), Ok(()), true);
        check(&replica(UP), Ok(()), true);
    }

    #[test]
    fn a_broken_link_is_forgiven_for_as_long_as_allowed_or_on_request() {
        check(&down_for(Some(60)), Ok(()), true);
        check(&down_for(Some(61)), Err(CaptureRefusal::LinkDown { down_for_seconds: Some(61) }), true);
        check(&down_for(None), Err(CaptureRefusal::LinkDown { down_for_seconds: None }), true);
        let mut never_in_sync = down_for(None);
        never_in_sync.replication.offset = Offset::ZERO;
        check(&never_in_sync, Err(CaptureRefusal::NeverInSync), true);
    }

    /// Its first replica gives a master a new history, at offset 0, whatever data it holds.
    #[test]
    fn a_replica_in_sync_with_a_master_that_has_written_nothing_since_may_be_captured() {
        let mut in_sync = replica(UP);
        in_sync.replication.offset = Offset::ZERO;
        check(&in_sync, Ok(()), true);
        assert!(in_sync.position().is_some());
    }

    #[test]
    fn a_data_set_that_is_about_to_be_replaced_is_refused_even_on_request() {
        check(&replica(MasterLink { sync_in_progress: true, ..UP }), Err(CaptureRefusal::Syncing), false);
        let mut loading = replica(UP);
        loading.persistence.async_loading = true;
        check(&loading, Err(CaptureRefusal::Loading), false);
        let mut failing_over = observation(Role::Master { replicas: vec![] });
        failing_over.replication.failover_in_progress = true;
        check(&failing_over, Err(CaptureRefusal::FailingOver), false);
    }

    #[test]
    fn refusals_read_well() {
        assert_eq!(
            CaptureRefusal::LinkDown { down_for_seconds: Some(10_800) }.to_string(),
            "the link to its master has been down for 10800 s"
        );
    }
}
