//! The one stream to the coordinator: observations and progress go up, tasks come down.
//!
//! The session is lost and found again without anyone's help: meanwhile the server is looked at, tasks go on,
//! and what they came to is kept. A coordinator that refuses us is asked again slowly, since that is for a
//! person to mend.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, mpsc::error::SendTimeoutError, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};
use tracing::{debug, error, info, warn};
use urtext_proto::{
    MAX_MESSAGE_BYTES, RpcError,
    pb::{
        self, agent_message::Message as Up, agent_session_client::AgentSessionClient,
        coordinator_message::Message as Down,
    },
};
use urtext_types::{ByteRate, Chain, ErrorKind, Explain};

use crate::{
    certificate::Certificate,
    clock,
    observe::{Look, Observer, View},
    tasks::TaskBoard,
    uplink,
    worker::Worker,
};

/// Messages on their way up. More of them wait in the board and the observer, where newer ones replace older.
const MESSAGES_IN_FLIGHT: usize = 16;
/// How long the coordinator may take to say Welcome, and to take a message.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// The first pause before connecting again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest one while the coordinator is away: its agents should be back soon after it is.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The pause after a refusal, which only a person can change.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a renewal that failed: a certificate's last third is days.
const RENEWAL_PAUSE: Duration = Duration::from_secs(600);

/// Keeps the session.
pub struct Session {
    pub channel: Channel,
    pub certificate: Arc<Certificate>,
    pub observer: Arc<Observer>,
    pub board: Arc<TaskBoard>,
    pub worker: Arc<Worker>,
    /// Drawn at the start of the process.
    pub boot_id: String,
    /// Without any password.
    pub server_address: String,
    /// The agent's own age recipient.
    pub recipient: String,
}

impl Session {
    /// Holds a session until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut failures: u32 = 0;
        let mut said: Option<RpcError> = None;
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                ended = self.hold(&mut failures, &mut said) => ended,
                () = stop.cancelled() => return,
            };
            let is_refusal = matches!(ended.kind(), ErrorKind::Denied | ErrorKind::Conflict | ErrorKind::Refused);
            let pause = jittered(if is_refusal { REFUSED_PAUSE } else { backoff(failures) });
            if said.as_ref() == Some(&ended) {
                debug!(error = %ended, ?pause, "no session; will try again");
            } else if is_refusal {
                error!(error = %ended, hint = ended.hint(), "the coordinator refuses this agent; will try again slowly");
            } else {
                warn!(error = %ended, hint = ended.hint(), "no session with the coordinator; will try again");
            }
            said = Some(ended);
            failures = failures.saturating_add(1);
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// One session, from Hello until it ends; says why it ended.
    async fn hold(&self, failures: &mut u32, said: &mut Option<RpcError>) -> RpcError {
        match self.try_hold(failures, said).await {
            Ok(()) => RpcError::new(ErrorKind::Unavailable, "the coordinator ended the session", None),
            Err(error) => error,
        }
    }

    async fn try_hold(&self, failures: &mut u32, said: &mut Option<RpcError>) -> Result<(), RpcError> {
        let (up, messages) = mpsc::channel(MESSAGES_IN_FLIGHT);
        send(&up, Up::Hello(self.hello())).await?;
        let mut client = AgentSessionClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let opened = timeout(ANSWER_LIMIT, client.session(ReceiverStream::new(messages))).await;
        let mut down = opened.map_err(|_| silent())?.map_err(uplink::explain)?.into_inner();
        let welcome = match timeout(ANSWER_LIMIT, next(&mut down)).await.map_err(|_| silent())?? {
            Some(Down::Welcome(welcome)) => welcome,
            Some(_) => {
                return Err(RpcError::new(ErrorKind::Internal, "the coordinator did not say Welcome first", None));
            }
            None => return Ok(()),
        };
        info!(coordinator = welcome.coordinator_version, "session with the coordinator");
        *failures = 0;
        *said = None;
        if welcome.observe_every_ms > 0 {
            self.observer.set_interval(Duration::from_millis(u64::from(welcome.observe_every_ms)));
        }
        self.board.retell();
        let mut views = self.observer.subscribe();
        views.mark_changed();
        self.converse(&up, &mut down, &mut views).await
    }

    async fn converse(
        &self,
        up: &mpsc::Sender<pb::AgentMessage>,
        down: &mut Streaming<pb::CoordinatorMessage>,
        views: &mut watch::Receiver<View>,
    ) -> Result<(), RpcError> {
        // The first view of a session also says what was last seen before things went wrong.
        let mut told_last = false;
        let mut renewal = self.renewal_due();
        loop {
            tokio::select! {
                message = next(down) => match message? {
                    Some(message) => self.on_message(up, message).await?,
                    None => return Ok(()),
                },
                changed = views.changed() => {
                    changed.map_err(|_| RpcError::new(ErrorKind::Internal, "nobody observes the server any more", None))?;
                    let view = views.borrow_and_update().clone();
                    for message in messages_of(&view, !told_last) {
                        send(up, message).await?;
                    }
                    told_last = true;
                }
                () = self.board.changed.notified() => {
                    for message in self.board.take_untold() {
                        send(up, message).await?;
                    }
                }
                () = sleep_until(renewal) => renewal = self.renew().await,
            }
        }
    }

    async fn on_message(&self, up: &mpsc::Sender<pb::AgentMessage>, message: Down) -> Result<(), RpcError> {
        match message {
            Down::Task(task) => self.worker.start(task),
            Down::CancelTask(pb::CancelTask { id, reason }) => {
                if let Ok(task) = id.parse() {
                    info!(%task, reason, "the coordinator cancels a task");
                    self.board.cancel(task);
                }
            }
            Down::TaskResultAcknowledged(pb::TaskResultAcknowledged { id }) => {
                if let Ok(id) = id.parse() {
                    self.board.acknowledged(id);
                }
            }
            Down::UploadRate(pb::UploadRate { task_id, bytes_per_second }) => {
                if let (Ok(task), Some(rate)) = (task_id.parse(), ByteRate::new(bytes_per_second)) {
                    info!(%task, %rate, "may upload no faster than this");
                    self.board.set_rate(task, Some(rate));
                }
            }
            Down::Ping(pb::Ping { sequence }) => {
                let pong = pb::Pong { sequence, agent_clock_ms: clock::now().as_millis() };
                send(up, Up::Pong(pong)).await?;
            }
            Down::Welcome(_) => {}
        }
        Ok(())
    }

    fn hello(&self) -> pb::Hello {
        pb::Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            server_address: self.server_address.clone(),
            running_task_ids: self.board.running().iter().map(ToString::to_string).collect(),
            recipient: self.recipient.clone(),
        }
    }

    fn renewal_due(&self) -> Instant {
        let wait = match self.certificate.renew_at() {
            Ok(at) => at.since(clock::now()),
            Err(error) => {
                error!(error = %Chain(&error), "the certificate cannot be read; it will not be renewed");
                RENEWAL_PAUSE
            }
        };
        Instant::now() + wait
    }

    async fn renew(&self) -> Instant {
        match timeout(ANSWER_LIMIT, self.certificate.renew(self.channel.clone())).await {
            Ok(Ok(())) => {
                info!("the certificate was renewed");
                self.renewal_due()
            }
            Ok(Err(error)) => {
                warn!(error = %Chain(&error), hint = error.hint(), "the certificate was not renewed; will try again");
                Instant::now() + RENEWAL_PAUSE
            }
            Err(_) => Instant::now() + RENEWAL_PAUSE,
        }
    }
}

/// What a view says. `all`: also the last observation before a failure.
fn messages_of(view: &View, all: bool) -> Vec<Up> {
    let observation = |seen: &urtext_types::NodeObservation| Up::Observation(seen.into());
    match &view.newest {
        Look::Pending => vec![],
        Look::Seen(seen) => vec![observation(seen)],
        Look::Failed { at, failure } => {
            let failed = pb::ObservationFailed { at_ms: at.as_millis(), failure: Some(failure.clone()) };
            let last = view.last.iter().filter(|_| all).map(|seen| observation(seen));
            last.chain([Up::ObservationFailed(failed)]).collect()
        }
    }
}

async fn next(down: &mut Streaming<pb::CoordinatorMessage>) -> Result<Option<Down>, RpcError> {
    loop {
        match down.message().await.map_err(uplink::explain)? {
            // A message that a later version knows.
            Some(pb::CoordinatorMessage { message: None }) => {}
            Some(pb::CoordinatorMessage { message }) => return Ok(message),
            None => return Ok(None),
        }
    }
}

async fn send(up: &mpsc::Sender<pb::AgentMessage>, message: Up) -> Result<(), RpcError> {
    let message = pb::AgentMessage { message: Some(message) };
    match up.send_timeout(message, ANSWER_LIMIT).await {
        Ok(()) => Ok(()),
        Err(SendTimeoutError::Timeout(_)) => Err(silent()),
        Err(SendTimeoutError::Closed(_)) => {
            Err(RpcError::new(ErrorKind::Unavailable, "the session with the coordinator broke", None))
        }
    }
}

fn silent() -> RpcError {
    let message = format!("the coordinator did not answer within {} s", ANSWER_LIMIT.as_secs());
    RpcError::new(ErrorKind::Unavailable, message, None)
}

/// Twice as long each time.
fn backoff(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
}

/// Half to one and a half times as long, so that agents that lost their coordinator together do not all come
/// back in one moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + f64::from(u16::from_le_bytes(clock::random())) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let pauses: Vec<_> = (0..8).map(backoff).collect();
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[7], backoff(u32::MAX)), (FIRST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE));
        for _ in 0..100 {
            let pause = jittered(FIRST_PAUSE);
            assert!((FIRST_PAUSE / 2..=FIRST_PAUSE * 3 / 2).contains(&pause), "{pause:?}");
        }
    }
}
