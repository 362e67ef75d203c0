//! Carrying out tasks, one after the other.

use std::{panic::AssertUnwindSafe, path::PathBuf, sync::Arc};

use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, error, info, info_span, warn};
use urtext_identity::AgentIdentity;
use urtext_proto::{
    InvalidField, RpcError,
    pb::{self, task::Work, task_result::Outcome},
    status::{kind_name, to_failure},
};
use urtext_repository::{Identity, Pace, PacedStore, Store};
use urtext_types::{ByteRate, Chain, ErrorKind, Explain, TaskId};

use crate::{
    capture::{CaptureRequest, CaptureTools, capture},
    certificate::Certificate,
    clock,
    direct::DirectStore,
    observe::Observer,
    restore::{RestoreFailed, RestoreRequest, RestoreTools, TargetState, restore},
    server::Server,
    tasks::{Accepted, TaskBoard},
    trust::AuthorityVerifier,
};

/// Starts tasks and owns them until they end.
pub struct Worker {
    pub server: Server,
    pub store: Arc<dyn Store>,
    pub identity: AgentIdentity,
    pub certificate: Arc<Certificate>,
    /// What restore tasks are sealed to.
    pub recipient_key: Identity,
    pub rdb_file: Option<PathBuf>,
    /// At which everything that this agent uploads goes.
    pub upload: Arc<Pace>,
    pub board: Arc<TaskBoard>,
    pub observer: Arc<Observer>,
    /// One at a time: a second save would be refused by the server, or slow the first.
    pub turn: Semaphore,
    pub tracker: TaskTracker,
}

impl Worker {
    /// Takes on a task, if it is not known yet.
    pub fn start(self: &Arc<Self>, task: pb::Task) {
        let pb::Task { id, work } = task;
        let id: TaskId = match id.parse() {
            Ok(id) => id,
            Err(error) => {
                warn!(%error, "the coordinator gave a task without a usable id");
                return;
            }
        };
        let Accepted::Start(cancel) = self.board.accept(id) else { return };
        if let Some(Work::Capture(capture)) = &work {
            // At once: the coordinator may change it before the task's turn has come.
            self.board.set_rate(id, capture.upload_bytes_per_second.and_then(ByteRate::new));
        }
        let worker = Arc::clone(self);
        let span = info_span!("task", %id);
        let run = async move {
            // A task that ends without a result would count as running until the agent is started anew.
            let carried_out = AssertUnwindSafe(Box::pin(worker.carry_out(id, work, &cancel))).catch_unwind();
            let outcome = carried_out.await.unwrap_or_else(|_| panicked());
            match &outcome {
                Outcome::Failed(failure) if failure.kind == kind_name(ErrorKind::Unavailable) => {
                    warn!(error = failure.message, hint = failure.hint, "the task failed");
                }
                Outcome::Failed(failure) => {
                    error!(error = failure.message, hint = failure.hint, "the task failed");
                }
                Outcome::Captured(_) | Outcome::Restored(_) => {}
            }
            worker.board.finish(id, outcome);
            worker.observer.look_now();
        };
        self.tracker.spawn(run.instrument(span));
    }

    async fn carry_out(&self, id: TaskId, work: Option<Work>, cancel: &CancellationToken) -> Outcome {
        let progress = |phase: &str, done, total| self.board.progress(id, phase, done, total);
        progress("waiting", 0, None);
        let _turn = tokio::select! {
            turn = self.turn.acquire() => turn.expect("the semaphore is never closed"),
            () = cancel.cancelled() => return cancelled(),
        };
        match work {
            Some(Work::Capture(task)) => {
                let captured = self.capture(id, task, &progress);
                cancel.run_until_cancelled(captured).await.unwrap_or_else(|| {
                    info!("the capture was cancelled");
                    cancelled()
                })
            }
            Some(Work::Restore(task)) => self.restore(task, cancel, &progress).await,
            None => failed(&InvalidField::missing("task.work")),
        }
    }

    /// # Cancel safety
    /// Like [`capture`].
    async fn capture(&self, id: TaskId, mut task: pb::CaptureTask, progress: crate::capture::Progress<'_>) -> Outcome {
        let key = task.backup.clone();
        let direct = task.direct.take();
        let request = match CaptureRequest::try_from(task) {
            Ok(request) => request,
            Err(error) => return failed(&error),
        };
        let store = match direct {
            None => self.store.clone(),
            // Whoever said `direct` does not want the bytes to go another way unnoticed.
            Some(direct) => match DirectStore::open(direct, self.store.clone()).await {
                Ok(store) => Arc::new(store),
                Err(error) => return failed(&error),
            },
        };
        let mut store = PacedStore::new(store).putting_at(self.upload.clone());
        if let Some(share) = self.board.pace(id) {
            store = store.putting_at(share);
        }
        let tools = CaptureTools {
            server: self.server.clone(),
            store: Arc::new(store),
            signer: self.certificate.signer(),
            identity: self.identity.clone(),
            rdb_file: self.rdb_file.clone(),
        };
        match capture(&tools, &request, progress).await {
            Ok(()) => Outcome::Captured(pb::CaptureDone { backup: key }),
            Err(error) => failed(&error),
        }
    }

    async fn restore(
        &self,
        mut task: pb::RestoreTask,
        cancel: &CancellationToken,
        progress: crate::capture::Progress<'_>,
    ) -> Outcome {
        let (direct, rate) = (task.direct.take(), task.download_bytes_per_second.take());
        let request = match RestoreRequest::open(task, &self.recipient_key) {
            Ok(request) => request,
            Err(error) => return failed(&RestoreFailed { state: TargetState::Untouched, error }),
        };
        let verifier = Arc::new(AuthorityVerifier { ca_pem: self.certificate.ca_pem() });
        let store = PacedStore::new(self.store_to_read(direct).await);
        let store = store.reading_at(Arc::new(Pace::new(rate.and_then(ByteRate::new))));
        let tools = RestoreTools { server: self.server.clone(), store: Arc::new(store), verifier };
        match restore(&tools, &request, clock::random(), cancel, progress).await {
            Ok(restored) => Outcome::Restored(restored.to_message(&request.key)),
            Err(error) => failed(&error),
        }
    }

    /// The nearest store that has what is to be restored: a restore takes any way that leads there.
    async fn store_to_read(&self, direct: Option<pb::DirectStore>) -> Arc<dyn Store> {
        let coordinator = self.store.clone();
        let Some(direct) = direct else { return coordinator };
        match DirectStore::open(direct, coordinator.clone()).await {
            Ok(store) => Arc::new(store),
            Err(error) => {
                warn!(error = %Chain(&error), "reading through the coordinator instead");
                coordinator
            }
        }
    }
}

fn failed<E: Explain + 'static>(error: &E) -> Outcome {
    Outcome::Failed(to_failure(error))
}

fn panicked() -> Outcome {
    let message = "the agent failed in the middle of the task by a fault of its own; its log says where";
    failed(&RpcError::new(ErrorKind::Internal, message, Some("`urtext status` shows how its server is now".to_owned())))
}

fn cancelled() -> Outcome {
    failed(&RpcError::new(ErrorKind::Unavailable, "the task was cancelled; nothing was committed", None))
}
