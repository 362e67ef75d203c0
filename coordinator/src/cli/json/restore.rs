//! `urtext restore`.

use std::collections::BTreeMap;

use serde::Serialize;
use urtext_proto::{model, pb};
use urtext_types::{Keyspace, ReplicationId};

use super::{Backup, MayHoldMore, history, position};

/// `urtext restore`: with `--dry-run` the plan alone.
#[derive(Debug, Serialize)]
pub struct Restored {
    pub plan: Plan,
    pub safety_backup: Option<Backup>,
    pub proof: Option<Proof>,
    /// With `--to-dir`: what was written.
    pub files: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Plan {
    pub backup: Backup,
    /// What was chosen and why.
    pub chosen: Vec<String>,
    pub steps: Vec<String>,
    pub warnings: Vec<String>,
    /// What may hold more, and was accepted to be lost.
    pub accepted_loss: Vec<MayHoldMore>,
}

#[derive(Debug, Serialize)]
pub struct Proof {
    /// Keys and keys with an expiry, per database.
    pub expected: BTreeMap<u32, Keyspace>,
    pub found: BTreeMap<u32, Keyspace>,
    pub history: Option<ReplicationId>,
    pub offset: Option<u64>,
    /// The history under which the target goes on.
    pub new_history: Option<ReplicationId>,
    pub verify_ms: u64,
    pub load_ms: u64,
    /// Of what was given to the target, where the backup's manifest names one: both are the same.
    pub content_digest: Option<String>,
}

impl TryFrom<pb::RestoreProof> for Proof {
    type Error = model::InvalidField;
    fn try_from(proof: pb::RestoreProof) -> Result<Self, model::InvalidField> {
        let pb::RestoreProof { expected, found, restored, new_history, verify_ms, load_ms, content_digest } = proof;
        let at = position(restored)?;
        let keyspace = |list: Vec<pb::Keyspace>| list.into_iter().map(Into::into).collect();
        Ok(Self {
            expected: keyspace(expected),
            found: keyspace(found),
            history: at.map(|at| at.history),
            offset: at.map(|at| at.offset.get()),
            new_history: if new_history.is_empty() { None } else { Some(history(&new_history)?) },
            verify_ms,
            load_ms,
            content_digest,
        })
    }
}
