//! `urtext lineage`.

use serde::Serialize;
use urtext_proto::{model, pb};
use urtext_types::ReplicationId;

/// `urtext lineage`
#[derive(Debug, Serialize)]
pub struct Lineage {
    pub deployment: String,
    pub shard: String,
    pub edges: Vec<Edge>,
    pub findings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Edge {
    pub child: ReplicationId,
    pub parent: ReplicationId,
    pub offset: u64,
    /// `promoted-master`, `restore`, `following-replica` or `inferred-same-run`.
    pub evidence: urtext_types::Evidence,
}

/// `urtext accept-lineage`
#[derive(Debug, Serialize)]
pub struct Accepted {
    pub history: ReplicationId,
    pub record: String,
}

impl TryFrom<pb::ShowLineageResponse> for Lineage {
    type Error = model::InvalidField;
    fn try_from(response: pb::ShowLineageResponse) -> Result<Self, model::InvalidField> {
        let pb::ShowLineageResponse { deployment, shard, drawing: _, edges, findings } = response;
        let edges = edges
            .into_iter()
            .map(|edge| {
                let urtext_types::ForkEdge { child, parent, evidence } = edge.try_into()?;
                Ok(Edge { child, parent: parent.history, offset: parent.offset.get(), evidence })
            })
            .collect::<Result<_, model::InvalidField>>()?;
        Ok(Self { deployment, shard, edges, findings })
    }
}
