//! Which replication group.

use std::fmt;

use urtext_identity::AgentIdentity;
use urtext_types::{DeploymentName, NodeName, ShardName};

/// One shard of one deployment: what lineage, candidates and policies belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    pub deployment: DeploymentName,
    pub shard: ShardName,
}

impl ShardKey {
    pub fn new(deployment: DeploymentName, shard: ShardName) -> Self {
        Self { deployment, shard }
    }

    pub fn of(agent: &AgentIdentity) -> Self {
        Self::new(agent.deployment.clone(), agent.shard.clone())
    }
}

impl fmt::Display for ShardKey {
    /// The deployment alone where it has no other shard to be confused with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shard == ShardName::default() {
            write!(f, "{}", self.deployment)
        } else {
            write!(f, "{}/{}", self.deployment, self.shard)
        }
    }
}

/// One node; names are unique within a deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey {
    pub deployment: DeploymentName,
    pub node: NodeName,
}

impl NodeKey {
    pub fn of(agent: &AgentIdentity) -> Self {
        Self { deployment: agent.deployment.clone(), node: agent.node.clone() }
    }
}
