//! Verification and copies between repositories, as streams of what happens.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;
use tonic::Status;
use urtext_proto::{model::parse, pb};
use urtext_repository::{SyncPlan, Synced};
use urtext_types::{Chain, Timestamp};

use crate::{
    Fault,
    app::App,
    proving::{ProvedCopy, Proving, Rehearsal, VerifyRequest},
};

type Events<T> = mpsc::Sender<Result<T, Status>>;

/// What is asked, if it can be meant.
pub(super) fn verify_request(message: pb::VerifyRequest) -> Result<VerifyRequest, Fault> {
    let pb::VerifyRequest { deployment, backup_id, repository, percent, since_ms, repair } = message;
    Ok(VerifyRequest {
        deployment: deployment.map(|name| parse("deployment", &name)).transpose()?,
        backup: backup_id.map(|id| parse("backup_id", &id)).transpose()?,
        repository: repository.map(|name| parse("repository", &name)).transpose()?,
        percent: u8::try_from(percent.clamp(1, 100)).unwrap_or(100),
        since: since_ms.map(Timestamp::from_millis),
        repair,
    })
}

/// What a rehearsal came to, if it can be meant.
pub(super) fn rehearsal(message: pb::ReportRehearsalRequest) -> Result<Rehearsal, Fault> {
    let pb::ReportRehearsalRequest { backup_id, server, failure, fetch_ms, load_ms, keys } = message;
    let backup = parse("backup_id", &backup_id)?;
    Ok(Rehearsal { backup, server, failure, fetch_ms, load_ms, keys })
}

/// Verifies until it is done or nobody listens any more.
pub(super) async fn verify(app: Arc<App>, request: VerifyRequest, who: String, events: Events<pb::VerifyEvent>) {
    // Results must not be lost, and what waits is bounded by the number of copies; progress may be.
    let (results, mut waiting) = mpsc::unbounded_channel();
    let said = {
        let events = events.clone();
        move |proving: Proving| match proving {
            Proving::Read { bytes, of } => {
                let phase = pb::TaskPhase { phase: "reading".to_owned(), bytes_done: bytes, bytes_total: Some(of) };
                let _ = events.try_send(Ok(pb::VerifyEvent { event: Some(pb::verify_event::Event::Progress(phase)) }));
            }
            Proving::Copy(proved) => {
                let event = pb::verify_event::Event::Copy(checked_copy(*proved));
                let _ = results.send(pb::VerifyEvent { event: Some(event) });
            }
        }
    };
    let forward = async {
        while let Some(event) = waiting.recv().await {
            if events.send(Ok(event)).await.is_err() {
                break;
            }
        }
    };
    let verified = async {
        let verified = app.verify(&request, &who, &said).await;
        // Nothing more is said: that ends the forwarding.
        drop(said);
        verified
    };
    let (verified, ()) = tokio::select! {
        both = async { tokio::join!(verified, forward) } => both,
        () = events.closed() => return,
        () = app.stop.cancelled() => return,
    };
    if let Err(fault) = verified {
        let _ = events.send(Err(fault.into())).await;
    }
}

fn checked_copy(proved: ProvedCopy) -> pb::CheckedCopy {
    let ProvedCopy { key, repository, objects_read, objects, bytes_read, damaged, reason, unreadable, mended, also_in } =
        proved;
    let damaged = damaged.into_iter().map(|(object, problem, loss)| pb::DamagedObject {
        object,
        problem,
        unrestorable: loss.to_string(),
    });
    pb::CheckedCopy {
        key: Some(pb::BackupKey {
            deployment: key.deployment.to_string(),
            shard: key.shard.to_string(),
            id: key.id.to_string(),
        }),
        repository: repository.to_string(),
        objects_read: objects_read as u64,
        objects: objects as u64,
        bytes_read,
        damaged: damaged.collect(),
        reason,
        unreadable,
        mended,
        also_in: also_in.iter().map(ToString::to_string).collect(),
    }
}

/// Compares, says what is missing, and copies it unless it is only asked.
pub(super) async fn sync(app: Arc<App>, request: pb::SyncRepositoriesRequest, events: Events<pb::SyncEvent>) {
    let ended = tokio::select! {
        ended = sync_repositories(&app, request, &events) => ended,
        () = events.closed() => return,
        () = app.stop.cancelled() => return,
    };
    if let Err(fault) = ended {
        let _ = events.send(Err(fault.into())).await;
    }
}

async fn sync_repositories(
    app: &App,
    request: pb::SyncRepositoriesRequest,
    events: &Events<pb::SyncEvent>,
) -> Result<(), Fault> {
    use pb::sync_event::Event;
    let pb::SyncRepositoriesRequest { from, to, deployment, dry_run } = request;
    let deployment = deployment.map(|name| parse("deployment", &name)).transpose()?;
    let (from, to) = (app.repository(&from).await?, app.repository(&to).await?);
    let plan = app.plan_sync(&from, &to, deployment.as_ref()).await?;
    let event = |event| Ok(pb::SyncEvent { event: Some(event) });
    let _ = events.send(event(Event::Planned(planned(&plan)))).await;
    if dry_run {
        return Ok(());
    }
    let (sent, of) = (AtomicU64::new(0), plan.bytes());
    let progress = |step: urtext_repository::SyncStep| {
        let bytes_done = sent.fetch_add(step.bytes, Ordering::Relaxed) + step.bytes;
        let phase = pb::TaskPhase { phase: "copying".to_owned(), bytes_done, bytes_total: Some(of) };
        let _ = events.try_send(Ok(pb::SyncEvent { event: Some(Event::Progress(phase)) }));
    };
    let done = app.sync(&from, &to, &plan, &progress).await?;
    let _ = events.send(event(Event::Done(synced(done)))).await;
    Ok(())
}

fn planned(plan: &SyncPlan) -> pb::SyncPlanned {
    let key = |key: &urtext_repository::BackupKey| pb::BackupKey {
        deployment: key.deployment.to_string(),
        shard: key.shard.to_string(),
        id: key.id.to_string(),
    };
    pb::SyncPlanned {
        backups: plan.backups.iter().map(|backup| key(&backup.key)).collect(),
        objects: plan.objects() as u64,
        bytes: plan.bytes(),
        others: plan.others.len() as u64,
        present: plan.present as u64,
        differing: plan.differing.iter().map(ToString::to_string).collect(),
    }
}

fn synced(synced: Synced) -> pb::SyncDone {
    let Synced { backups, others, objects, bytes, sealed_to_others, failed } = synced;
    let failed = failed.into_iter().map(|(what, error)| pb::SyncFailure { what, reason: Chain(&error).to_string() });
    pb::SyncDone {
        backups: backups.len() as u64,
        others: others as u64,
        objects: objects as u64,
        bytes,
        sealed_to_others: sealed_to_others.iter().map(|(key, _)| key.id.to_string()).collect(),
        failed: failed.collect(),
    }
}
