//! What stays, what goes, and what operators say about it.

use urtext_planner::{Held, RetentionVerdict};
use urtext_proto::pb;
use urtext_repository::PruneOutcome;
use urtext_types::Chain;

use crate::{
    prune::{Pruned, PrunedRepository},
    retention::Retained,
    shard::ShardKey,
};

pub(super) fn shard_retention(retained: &Retained) -> pb::ShardRetention {
    let backup = |verdict: &RetentionVerdict| pb::RetainedBackup {
        id: verdict.backup.id.to_string(),
        node: verdict.backup.node.to_string(),
        received_at_ms: verdict.backup.received_at.as_millis(),
        stored_bytes: verdict.backup.bytes.get(),
        keep: verdict.keep,
        reasons: verdict
            .reasons
            .iter()
            .map(|reason| pb::RetentionReason { code: reason.as_str().to_owned(), sentence: reason.to_string() })
            .collect(),
    };
    pb::ShardRetention {
        repository: retained.repository.to_string(),
        deployment: retained.shard.deployment.to_string(),
        shard: retained.shard.shard.to_string(),
        policy: retained.retention.policy.to_string(),
        text: retained.text(),
        backups: retained.retention.backups.iter().map(backup).collect(),
    }
}

pub(super) fn pruned(pruned: &Pruned) -> pb::PruneResponse {
    pb::PruneResponse {
        plan: pruned.plan.clone(),
        shards: pruned.retained.iter().map(shard_retention).collect(),
        repositories: pruned.repositories.iter().map(repository).collect(),
    }
}

fn repository(pruned: &PrunedRepository) -> pb::PrunedRepository {
    let PrunedRepository { name, plan, outcome } = pruned;
    let (objects, bytes) = plan.freed();
    pb::PrunedRepository {
        repository: name.to_string(),
        plan: plan.to_string(),
        backups: plan.backups.len() as u64,
        unreferenced: (plan.orphans.len() + plan.unfinished.len()) as u64,
        objects,
        bytes: bytes.get(),
        outcome: outcome.as_ref().map(self::outcome),
    }
}

fn outcome(outcome: &PruneOutcome) -> pb::PruneOutcome {
    let PruneOutcome { removed, swept, deleted_objects, deleted_bytes, locked, spared, failed } = outcome;
    pb::PruneOutcome {
        removed: removed.iter().map(|key| key.id.to_string()).collect(),
        swept: swept.len() as u64,
        deleted_objects: *deleted_objects,
        deleted_bytes: *deleted_bytes,
        locked: locked.iter().map(ToString::to_string).collect(),
        spared: spared.iter().map(|(key, reason)| format!("{key}: {reason}")).collect(),
        failed: failed.iter().map(|failure| format!("{}: {}", failure.subject, Chain(&failure.error))).collect(),
    }
}

pub(super) fn held((shard, held): (ShardKey, Held)) -> pb::HeldBackup {
    let Held { backup, by, at, reason } = held;
    pb::HeldBackup {
        deployment: shard.deployment.to_string(),
        shard: shard.shard.to_string(),
        backup_id: backup.to_string(),
        by,
        at_ms: at.as_millis(),
        reason,
    }
}
