//! What a command line watches: the events of a snapshot, and the course of a restore.
//!
//! The work itself does not depend on who watches: a snapshot goes on when the command line has gone; a
//! restore goes on from the step that was begun, and each further step is still taken, since half a restore
//! helps nobody.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Status;
use urtext_proto::{RpcError, pb};
use urtext_types::{Chain, ErrorKind, Interval, UserName};

use crate::{
    Fault,
    advice::{AsOf, as_of},
    app::App,
    capture::{CaptureOrder, Started},
    catalog::{BackupEntry, EVENTS_PAGE, Wanted},
    restoring::Plan,
    rpc::{self, summary},
    shard::ShardKey,
    tasks::{Outcome, Task},
    verdict::Ask,
};

type Events<T> = mpsc::Sender<Result<T, Status>>;

/// Tells the course of a snapshot until it is committed or has failed.
pub async fn snapshot(app: Arc<App>, started: Started, detach: bool, events: Events<pb::SnapshotEvent>) {
    use pb::snapshot_event::Event;
    let Started { task, backup, agent, reason } = started;
    let begun = pb::SnapshotStarted {
        backup: Some(pb::BackupKey {
            deployment: agent.deployment.to_string(),
            shard: agent.shard.to_string(),
            id: backup.to_string(),
        }),
        node: agent.node.to_string(),
        site: agent.site.to_string(),
        reason,
    };
    tell(&events, pb::SnapshotEvent { event: Some(Event::Started(begun)) }).await;
    if detach {
        return;
    }
    let progress = |progress| pb::SnapshotEvent { event: Some(Event::Progress(progress)) };
    let outcome = tokio::select! {
        outcome = follow(&task, &events, progress) => outcome,
        () = events.closed() => return,
        () = app.stop.cancelled() => {
            let _ = events.send(Err(stopping().into())).await;
            return;
        }
    };
    let last = match committed(&task, outcome) {
        Ok(entry) => {
            let data_as_of = data_as_of(&app, &entry).await;
            Ok(pb::SnapshotEvent { event: Some(Event::Committed(summary(&entry, &data_as_of))) })
        }
        Err(fault) => Err(fault.into()),
    };
    let _ = events.send(last).await;
}

/// Tells the events that are wanted, oldest first, and, if asked to, those that come.
pub async fn events(app: Arc<App>, mut wanted: Wanted, follow: bool, events: Events<pb::Event>) {
    let mut told = app.alarms.watch();
    loop {
        // Before they are read, so that one which comes meanwhile is not missed.
        told.mark_unchanged();
        let page = match app.catalog.events(&wanted).await {
            Ok(page) => page,
            Err(error) => {
                let _ = events.send(Err(Fault::while_doing("read the events")(error).into())).await;
                return;
            }
        };
        let is_last = (page.len() as u64) < u64::from(EVENTS_PAGE);
        for event in page {
            wanted.after = event.sequence;
            if events.send(Ok(rpc::event(event))).await.is_err() {
                return;
            }
        }
        if !is_last {
            continue;
        }
        if !follow {
            return;
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            () = events.closed() => return,
            () = app.stop.cancelled() => return,
        }
    }
}

/// Carries out a plan, and tells how it goes.
pub async fn restore(
    app: Arc<App>,
    plan: Plan,
    sealed_identity: Bytes,
    by: UserName,
    events: Events<pb::RestoreEvent>,
) {
    if let Err(fault) = carry_out(&app, &plan, sealed_identity, &by, &events).await {
        tracing::warn!(backup = %plan.backup.id, error = %Chain(&fault), "a restore failed");
        let _ = events.send(Err(fault.into())).await;
    }
}

async fn carry_out(
    app: &Arc<App>,
    plan: &Plan,
    sealed_identity: Bytes,
    by: &UserName,
    events: &Events<pb::RestoreEvent>,
) -> Result<(), Fault> {
    use pb::restore_event::Event;
    let event = |event: Event| pb::RestoreEvent { event: Some(event) };
    let progress = |progress| pb::RestoreEvent { event: Some(Event::Progress(progress)) };
    let Some(target) = &plan.target else {
        return Err(Fault::new(ErrorKind::Usage, "this plan is for plain files: they are written by `urtext` itself"));
    };
    if sealed_identity.is_empty() {
        return Err(Fault::new(ErrorKind::Usage, "the age identity that opens the backup was not sent"));
    }
    app.check_plan(target)?;
    if target.keys > 0 {
        // Whatever is there is kept, also an old copy: that is what this backup is for.
        let order = CaptureOrder { allow_stale: true, ..CaptureOrder::default() };
        let attempt = || format!("take a safety backup of {}; nothing was restored", target.agent.node);
        let task = app.give_capture(&target.agent, order).await.map_err(Fault::while_doing(attempt()))?;
        let outcome = followed(app, &task, events, progress).await?;
        let entry = committed(&task, outcome).map_err(Fault::while_doing(attempt()))?;
        let data_as_of = data_as_of(app, &entry).await;
        tell(events, event(Event::SafetyBackup(summary(&entry, &data_as_of)))).await;
        app.check_plan(target)?;
    }
    let task = app.give_restore(plan, target, sealed_identity, by.as_str()).await?;
    let done = match followed(app, &task, events, progress).await? {
        Outcome::Restored(done) => done,
        Outcome::Failed(error) => {
            return Err(Fault::while_doing(format!("restore to {}", target.agent.node))(error));
        }
        Outcome::Committed(_) => return Err(Fault::new(ErrorKind::Internal, "a restore ended as a snapshot")),
    };
    let expected = plan.expected.iter().map(|(&number, keys)| (number, *keys).into()).collect();
    let pb::RestoreDone { backup: _, restored, new_history, keyspace, verify_ms, load_ms, content_digest } = *done;
    let proof =
        pb::RestoreProof { expected, found: keyspace, restored, new_history, verify_ms, load_ms, content_digest };
    tell(events, event(Event::Proof(proof))).await;
    Ok(())
}

/// Waits until a task has ended, telling each step of progress on the way.
///
/// # Cancel safety
/// The task goes on; nobody hears of it.
async fn follow<T>(task: &Task, events: &Events<T>, event: impl Fn(pb::TaskPhase) -> T) -> Outcome {
    let mut watch = task.watch();
    let mut told = None;
    loop {
        let state = watch.borrow_and_update().clone();
        if let Some(outcome) = state.outcome {
            return outcome;
        }
        if told.as_ref() != Some(&state.progress) {
            tell(events, event(state.progress.clone())).await;
            told = Some(state.progress);
        }
        if watch.changed().await.is_err() {
            let message = "the task was forgotten while somebody waited for it".to_owned();
            return Outcome::Failed(RpcError::new(ErrorKind::Internal, message, None));
        }
    }
}

/// Tells whoever watches; that nobody does any more changes nothing.
async fn tell<T>(events: &Events<T>, event: T) {
    let _ = events.send(Ok(event)).await;
}

/// Waits for the end of a task, or of the coordinator.
async fn followed<T>(
    app: &Arc<App>,
    task: &Task,
    events: &Events<T>,
    event: impl Fn(pb::TaskPhase) -> T,
) -> Result<Outcome, Fault> {
    tokio::select! {
        outcome = follow(task, events, event) => Ok(outcome),
        () = app.stop.cancelled() => Err(stopping()),
    }
}

fn stopping() -> Fault {
    Fault::new(ErrorKind::Unavailable, "the coordinator is stopping; what an agent has begun goes on")
        .with_hint("`urtext status` shows it when the coordinator is back")
}

fn committed(task: &Task, outcome: Outcome) -> Result<BackupEntry, Fault> {
    match outcome {
        Outcome::Committed(entry) => Ok(*entry),
        Outcome::Failed(error) => Err(Fault::while_doing(format!("snapshot of {}", task.stored.agent.node))(error)),
        Outcome::Restored(_) => Err(Fault::new(ErrorKind::Internal, "a snapshot ended as a restore")),
    }
}

async fn data_as_of(app: &App, entry: &BackupEntry) -> AsOf {
    let shard = ShardKey::new(entry.deployment.clone(), entry.shard.clone());
    match app.judge_known(&shard, &Ask::default()).await {
        Ok(judgement) => as_of(&judgement.times(), entry.position, judgement.view.now),
        // Only for show.
        Err(_) => AsOf { interval: Interval { from: None, to: None }, reason: None },
    }
}
