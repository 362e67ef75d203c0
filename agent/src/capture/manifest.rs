//! What is said about a capture: where in which history it stands, and what it holds. No I/O.

use std::{collections::BTreeMap, time::Duration};

use urtext_identity::AgentIdentity;
use urtext_rdb::{Checksum, Summary};
use urtext_repository::{
    BackupKey, CaptureMethod, ContentSummary, FORMAT_VERSION, Manifest, ModuleSummary, RdbChecksum, RdbSummary,
    Recipients, SettingsSummary, Stale, Timings, Written,
};
use urtext_types::{
    CaptureRefusal, DataDigest, Evidence, ForkEdge, Keyspace, NodeObservation, Position, Role, Timestamp, staleness,
};

use super::CaptureError;

/// All that is known of one capture when its last part is stored.
pub(super) struct Captured<'a> {
    pub(super) key: &'a BackupKey,
    pub(super) identity: &'a AgentIdentity,
    pub(super) method: CaptureMethod,
    pub(super) before: &'a NodeObservation,
    pub(super) after: &'a NodeObservation,
    /// From `+FULLRESYNC`.
    pub(super) announced: Option<Position>,
    pub(super) summary: &'a Summary,
    pub(super) written: &'a Written,
    pub(super) settings: SettingsSummary,
    pub(super) modules: Vec<ModuleSummary>,
    pub(super) recipients: &'a Recipients,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
    pub(super) save: Duration,
    pub(super) stale: Option<Stale>,
}

/// The position of what was captured, if the server stood still in its history meanwhile.
///
/// An RDB is frozen at one moment, so its own position is the exact one; what was seen before and after only
/// bounds it.
pub(super) fn position(
    method: CaptureMethod,
    before: &NodeObservation,
    after: &NodeObservation,
    announced: Option<Position>,
    written: Option<Position>,
) -> Result<Option<Position>, CaptureError> {
    if before.server.run_id != after.server.run_id {
        return Err(CaptureError::Restarted);
    }
    // A master that had no backlog took a new history when we attached; the announcement names it.
    let expected = match announced {
        Some(position) if before.position().is_none() && before.replication.role.is_master() => position.history,
        _ => before.replication.history,
    };
    for seen in [announced.map(|position| position.history), Some(after.replication.history)].into_iter().flatten() {
        if seen != expected {
            return Err(CaptureError::HistoryChanged { before: expected, after: seen });
        }
    }
    let position = match (method, announced, written) {
        (_, Some(announced), Some(written)) if announced != written => {
            return Err(CaptureError::PositionMismatch { announced, written });
        }
        (CaptureMethod::Replication, announced, _) => announced,
        // A server that tracks no position may still write one: an id of its own, and 0.
        (CaptureMethod::File, _, Some(written)) if before.position().is_some() => Some(written),
        (CaptureMethod::File, _, _) => None,
    };
    match position {
        Some(position) if position.history != expected => {
            Err(CaptureError::HistoryChanged { before: expected, after: position.history })
        }
        Some(written) if written.offset > after.replication.offset => {
            let announced = Position::new(after.replication.history, after.replication.offset);
            Err(CaptureError::PositionMismatch { announced, written })
        }
        position => Ok(position),
    }
}

/// How it comes that the copy may be old.
pub(super) fn stale(before: &NodeObservation) -> Option<Stale> {
    let reason = staleness(before)?;
    let link_down_seconds = match reason {
        CaptureRefusal::LinkDown { down_for_seconds } => down_for_seconds,
        _ => None,
    };
    Some(Stale { reason: reason.to_string(), link_down_seconds })
}

impl Captured<'_> {
    /// The manifest, or why there must be none.
    pub(super) fn manifest(self) -> Result<Manifest, CaptureError> {
        let position = position(self.method, self.before, self.after, self.announced, self.summary.position())?;
        let Summary { header, .. } = self.summary;
        Ok(Manifest {
            format_version: FORMAT_VERSION,
            backup: self.key.id,
            deployment: self.key.deployment.clone(),
            shard: self.key.shard.clone(),
            site: self.identity.site.clone(),
            node: self.identity.node.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            server: self.before.server.clone(),
            method: self.method,
            position,
            fork: position
                .and_then(|position| edges(self.before, self.after, position).find(|e| e.child == position.history)),
            lineage: position.map(|position| lineage(self.before, self.after, position)).unwrap_or_default(),
            observed_before: Some(self.before.clone()),
            observed_after: Some(self.after.clone()),
            stale: self.stale,
            parts: self.written.parts.clone(),
            rdb: RdbSummary {
                bytes: self.written.bytes,
                sha256: self.written.sha256,
                magic: header.engine,
                version: header.version,
                checksum: match self.summary.checksum {
                    Checksum::Verified(crc64) => RdbChecksum::Verified { crc64: format!("{crc64:016x}") },
                    Checksum::NotComputed => RdbChecksum::Disabled,
                },
                content_digest: content_digest(self.summary),
            },
            contents: contents(self.summary, self.modules),
            settings: self.settings,
            timings: Timings {
                started_at: self.started_at,
                finished_at: self.finished_at,
                save_ms: millis(self.save),
                ship_ms: millis(self.written.ship),
            },
            recipients: self.recipients.clone(),
        })
    }
}

/// The digest in the form in which it is stored and compared.
pub(crate) fn content_digest(summary: &Summary) -> Option<DataDigest> {
    summary.digest.as_ref().map(|digest| DataDigest::current(digest.root().0))
}

fn contents(summary: &Summary, loaded: Vec<ModuleSummary>) -> ContentSummary {
    let databases = summary
        .databases
        .iter()
        .map(|(&number, database)| (number, Keyspace { keys: database.keys, expires: database.expires }))
        .collect();
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    for (value_type, count) in &summary.types {
        *types.entry(value_type.logical().to_string()).or_default() += count;
    }
    let in_data = summary.modules.iter().map(|module| ModuleSummary { name: module.name(), version: None });
    ContentSummary {
        databases,
        types,
        functions: summary.functions,
        modules: loaded.into_iter().chain(in_data).collect(),
    }
}

/// Every edge that the agent saw around the capture.
fn edges<'a>(
    before: &'a NodeObservation,
    after: &'a NodeObservation,
    position: Position,
) -> impl Iterator<Item = ForkEdge> + 'a {
    // Attaching gave the master a new history: the same run went on from where it was.
    let renamed = (position.history != before.replication.history
        && matches!(before.replication.role, Role::Master { .. })
        && before.server.run_id == after.server.run_id)
        .then(|| ForkEdge {
            child: position.history,
            parent: Position::new(before.replication.history, before.replication.offset),
            evidence: Evidence::InferredSameRun,
        });
    [before.fork_edge(), after.fork_edge(), renamed].into_iter().flatten()
}

fn lineage(before: &NodeObservation, after: &NodeObservation, position: Position) -> Vec<ForkEdge> {
    let mut known: Vec<ForkEdge> = Vec::new();
    for edge in edges(before, after, position) {
        if !known.contains(&edge) {
            known.push(edge);
        }
    }
    known
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Info;

    const MASTER: &str = include_str!("../../../proto/replication/src/info/redis-7.0-master.txt");
    const REPLICA: &str = include_str!("../../../proto/replication/src/info/redis-7.0-replica.txt");
    const LINK_DOWN: &str = include_str!("../../../proto/replication/src/info/redis-7.0-replica-link-down.txt");

    fn observed(text: &str) -> NodeObservation {
        Info::parse(text).observation(Timestamp::from_millis(0)).expect("a server")
    }

    fn with_history(text: &str, digit: char) -> String {
        text.lines()
            .map(|line| match line.strip_prefix("master_replid:") {
                Some(_) => format!("master_replid:{}\n", digit.to_string().repeat(40)),
                None => format!("{line}\n"),
            })
            .collect()
    }

    fn at(node: &NodeObservation, offset: u64) -> Position {
        Position::new(node.replication.history, urtext_types::Offset::new(offset).expect("small"))
    }

    #[test]
    fn a_copy_by_replication_stands_where_the_server_said() {
        let node = observed(REPLICA);
        let said = at(&node, 100);
        let found = position(CaptureMethod::Replication, &node, &node, Some(said), Some(said)).expect("a position");
        assert_eq!(found, Some(said));
    }

    #[test]
    fn two_positions_for_one_copy_are_refused() {
        let node = observed(REPLICA);
        let error = position(CaptureMethod::Replication, &node, &node, Some(at(&node, 100)), Some(at(&node, 99)));
        assert!(matches!(error, Err(CaptureError::PositionMismatch { .. })));
    }

    #[test]
    fn a_position_that_the_server_has_not_reached_is_refused() {
        let node = observed(REPLICA);
        let beyond = at(&node, node.replication.offset.get() + 1);
        let error = position(CaptureMethod::File, &node, &node, None, Some(beyond));
        assert!(matches!(error, Err(CaptureError::PositionMismatch { .. })));
    }

    #[test]
    fn a_history_that_changes_meanwhile_is_refused() {
        let (before, after) = (observed(REPLICA), observed(&with_history(REPLICA, 'a')));
        for announced in [Some(at(&before, 100)), Some(at(&after, 100)), None] {
            let error = position(CaptureMethod::Replication, &before, &after, announced, announced);
            assert!(matches!(error, Err(CaptureError::HistoryChanged { .. })), "{error:?}");
        }
    }

    #[test]
    fn a_server_that_is_started_anew_meanwhile_is_refused() {
        let (before, mut after) = (observed(REPLICA), observed(REPLICA));
        after.server.run_id = "another".to_owned();
        let said = Some(at(&before, 100));
        let error = position(CaptureMethod::Replication, &before, &after, said, said);
        assert!(matches!(error, Err(CaptureError::Restarted)));
    }

    #[test]
    fn a_lone_masters_file_has_no_position() {
        let lone = observed(&MASTER.replace("repl_backlog_active:1", "repl_backlog_active:0"));
        assert_eq!(position(CaptureMethod::File, &lone, &lone, None, None).expect("no position"), None);
    }

    #[test]
    fn attaching_to_a_lone_master_is_on_record() {
        let before = observed(&MASTER.replace("repl_backlog_active:1", "repl_backlog_active:0"));
        let after = observed(&with_history(MASTER, 'a'));
        let said = at(&after, 100);
        let found = position(CaptureMethod::Replication, &before, &after, Some(said), Some(said)).expect("a position");
        assert_eq!(found, Some(said));
        let edges = lineage(&before, &after, said);
        assert_eq!(edges.len(), 1);
        assert_eq!((edges[0].child, edges[0].evidence), (said.history, Evidence::InferredSameRun));
        assert_eq!(edges[0].parent.history, before.replication.history);
    }

    #[test]
    fn a_copy_of_a_replica_without_its_master_is_marked() {
        let node = observed(LINK_DOWN);
        let marked = stale(&node).expect("stale");
        assert_eq!(marked.link_down_seconds, Some(1));
        assert!(marked.reason.contains("down for 1 s"), "{}", marked.reason);
        assert_eq!(stale(&observed(REPLICA)), None);
    }
}
