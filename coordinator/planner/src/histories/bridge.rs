//! Edges that no server states.

use std::time::Duration;

use urtext_types::{Evidence, ForkEdge, NodeObservation};

/// Looks that lie further apart prove nothing: in between, the server may have been a replica and have been
/// given another data set, have been promoted again, and have lost its second id with its backlog. The last
/// of these takes `repl-backlog-ttl` without a replica, counted from the promotion (`repl_no_slaves_since`
/// in replication.c): an hour by default. Less than this it is nowhere.
const NO_TIME_FOR_ANOTHER_LIFE: Duration = Duration::from_secs(30);

/// The server went on under a new id without a promotion: the backlog of a master without replicas expired
/// (`replicationCron` in replication.c changes the id then), or its first replica came. The same run at the
/// same or a greater offset holds everything that it was last seen to hold.
pub(super) fn same_run_bridge(before: &NodeObservation, now: &NodeObservation) -> Option<ForkEdge> {
    let parent = before.position()?;
    let is_same_run = before.server.run_id == now.server.run_id && !now.server.run_id.is_empty();
    let both_masters = before.replication.role.is_master() && now.replication.role.is_master();
    let went_on = now.replication.history != parent.history && now.replication.offset >= parent.offset;
    let is_soon = now.observed_at.since(before.observed_at) <= NO_TIME_FOR_ANOTHER_LIFE;
    (is_same_run && is_soon && both_masters && went_on && now.replication.parent.is_none()).then_some(ForkEdge {
        child: now.replication.history,
        parent,
        evidence: Evidence::InferredSameRun,
    })
}
