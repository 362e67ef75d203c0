//! What stays, what goes, and what operators say about it.

use tokio::sync::mpsc;
use tonic::Status;
use urtext_planner::{Held, RetentionVerdict};
use urtext_proto::pb;
use urtext_repository::PruneOutcome;
use urtext_types::Chain;

use crate::{
    prune::{Pruned, PrunedRepository},
    retention::Retained,
    shard::ShardKey,
};

/// Backups in one message, each with its reasons: some 300 KB.
const BACKUPS_IN_A_PIECE: usize = 500;

/// What stays and what goes, shard by shard. One of many backups in pieces.
pub(super) async fn send_retained(
    retained: Vec<Retained>,
    pieces: mpsc::Sender<Result<pb::RetentionResponse, Status>>,
) {
    let has_several = has_several(&retained);
    for retained in retained {
        for piece in shard_retention(&retained, has_several) {
            // Nobody listens any more.
            if pieces.send(Ok(pb::RetentionResponse { shards: vec![piece] })).await.is_err() {
                return;
            }
        }
    }
}

/// The same, then what is done about it.
pub(super) async fn send_pruned(pruned: Pruned, pieces: mpsc::Sender<Result<pb::PruneResponse, Status>>) {
    let Pruned { plan, retained, repositories } = pruned;
    let has_several = has_several(&retained);
    for retained in retained {
        for piece in shard_retention(&retained, has_several) {
            let message = pb::PruneResponse { shards: vec![piece], ..pb::PruneResponse::default() };
            if pieces.send(Ok(message)).await.is_err() {
                return;
            }
        }
    }
    let repositories = repositories.iter().map(repository).collect();
    let _ = pieces.send(Ok(pb::PruneResponse { plan, shards: Vec::new(), repositories })).await;
}

/// Which repository it is about is said where there are several.
fn has_several(retained: &[Retained]) -> bool {
    retained.iter().any(|other| other.repository != retained[0].repository)
}

fn shard_retention(retained: &Retained, has_several: bool) -> impl Iterator<Item = pb::ShardRetention> {
    let heading = if has_several { format!("repository {}\n", retained.repository) } else { String::new() };
    let text = heading + &retained.text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let backups = &retained.retention.backups;
    let pieces = backups.len().div_ceil(BACKUPS_IN_A_PIECE).max(1);
    // About as many lines in each, the rest in the last.
    let lines_in_a_piece = lines.len().div_ceil(pieces).max(1);
    let texts: Vec<String> = lines.chunks(lines_in_a_piece).map(<[&str]>::concat).collect();
    (0..pieces).map(move |i| {
        let backups = backups.chunks(BACKUPS_IN_A_PIECE).nth(i).unwrap_or_default();
        pb::ShardRetention {
            repository: retained.repository.to_string(),
            deployment: retained.shard.deployment.to_string(),
            shard: retained.shard.shard.to_string(),
            policy: retained.retention.policy.to_string(),
            text: texts.get(i).cloned().unwrap_or_default(),
            backups: backups.iter().map(backup).collect(),
        }
    })
}

fn backup(verdict: &RetentionVerdict) -> pb::RetainedBackup {
    pb::RetainedBackup {
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
