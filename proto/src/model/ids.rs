//! Which backup.

use urtext_types::{BackupId, DeploymentName, ShardName};

use super::{InvalidField, parse};
use crate::pb;

/// A backup with the deployment and shard that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupAddress {
    pub deployment: DeploymentName,
    pub shard: ShardName,
    pub id: BackupId,
}

impl TryFrom<pb::BackupKey> for BackupAddress {
    type Error = InvalidField;
    fn try_from(key: pb::BackupKey) -> Result<Self, InvalidField> {
        let pb::BackupKey { deployment, shard, id } = key;
        Ok(Self {
            deployment: parse("backup.deployment", &deployment)?,
            shard: parse("backup.shard", &shard)?,
            id: parse("backup.id", &id)?,
        })
    }
}

impl From<&BackupAddress> for pb::BackupKey {
    fn from(address: &BackupAddress) -> Self {
        let BackupAddress { deployment, shard, id } = address;
        Self { deployment: deployment.to_string(), shard: shard.to_string(), id: id.to_string() }
    }
}
