//! Positions, fork edges and times.

use bytes::Bytes;
use urtext_types::{Evidence, ForkEdge, Offset, Position, ReplicationId, Timestamp};

use super::{InvalidField, required};
use crate::pb;

/// A replication id from its twenty raw bytes.
pub fn replication_id(field: &'static str, bytes: &[u8]) -> Result<ReplicationId, InvalidField> {
    let raw: [u8; 20] =
        bytes.try_into().map_err(|_| InvalidField::wrong(field, format!("{} bytes instead of 20", bytes.len())))?;
    ReplicationId::from_bytes(raw).ok_or_else(|| InvalidField::wrong(field, "all zero, which names no history"))
}

/// A time from milliseconds.
pub fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

impl TryFrom<pb::Position> for Position {
    type Error = InvalidField;
    fn try_from(position: pb::Position) -> Result<Self, InvalidField> {
        let pb::Position { history, offset } = position;
        Ok(Self {
            history: replication_id("position.history", &history)?,
            offset: Offset::new(offset)
                .ok_or_else(|| InvalidField::wrong("position.offset", format!("{offset}, more than 2^63 - 1")))?,
        })
    }
}

impl From<Position> for pb::Position {
    fn from(position: Position) -> Self {
        Self { history: Bytes::copy_from_slice(position.history.as_bytes()), offset: position.offset.get() }
    }
}

impl TryFrom<pb::ForkEdge> for ForkEdge {
    type Error = InvalidField;
    fn try_from(edge: pb::ForkEdge) -> Result<Self, InvalidField> {
        let evidence = match edge.evidence() {
            pb::Evidence::Unspecified => return Err(InvalidField::missing("edge.evidence")),
            pb::Evidence::PromotedMaster => Evidence::PromotedMaster,
            pb::Evidence::Restore => Evidence::Restore,
            pb::Evidence::FollowingReplica => Evidence::FollowingReplica,
            pb::Evidence::InferredSameRun => Evidence::InferredSameRun,
        };
        let pb::ForkEdge { child, parent, evidence: _ } = edge;
        Ok(Self {
            child: replication_id("edge.child", &child)?,
            parent: required("edge.parent", parent)?.try_into()?,
            evidence,
        })
    }
}

impl From<ForkEdge> for pb::ForkEdge {
    fn from(edge: ForkEdge) -> Self {
        let ForkEdge { child, parent, evidence } = edge;
        let evidence = match evidence {
            Evidence::PromotedMaster => pb::Evidence::PromotedMaster,
            Evidence::Restore => pb::Evidence::Restore,
            Evidence::FollowingReplica => pb::Evidence::FollowingReplica,
            Evidence::InferredSameRun => pb::Evidence::InferredSameRun,
        };
        Self { child: Bytes::copy_from_slice(child.as_bytes()), parent: Some(parent.into()), evidence: evidence.into() }
    }
}
