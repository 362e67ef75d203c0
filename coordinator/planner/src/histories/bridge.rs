//! Edges that no server states.

use urtext_types::{Evidence, ForkEdge, NodeObservation};

/// The server went on under a new id without a promotion: the backlog of a master without replicas expired
/// (`replicationCron` in replication.c changes the id then), or its first replica came. The same run at the
/// same or a greater offset holds everything that it was last seen to hold.
pub(super) fn same_run_bridge(before: &NodeObservation, now: &NodeObservation) -> Option<ForkEdge> {
    let parent = before.position()?;
    let is_same_run = before.server.run_id == now.server.run_id && !now.server.run_id.is_empty();
    let both_masters = before.replication.role.is_master() && now.replication.role.is_master();
    let went_on = now.replication.history != parent.history && now.replication.offset >= parent.offset;
    (is_same_run && both_masters && went_on && now.replication.parent.is_none()).then_some(ForkEdge {
        child: now.replication.history,
        parent,
        evidence: Evidence::InferredSameRun,
    })
}
