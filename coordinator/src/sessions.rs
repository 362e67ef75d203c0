//! One connected agent: what it says is taken in, what it is to do goes down to it.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::{Status, Streaming};
use tracing::{info, warn};
use urtext_identity::{AgentIdentity, PeerCertificate};
use urtext_planner::ClockSkew;
use urtext_proto::{RpcError, model, pb};
use urtext_types::{Chain, ErrorKind, NodeObservation, TaskId};

use crate::{
    Fault,
    app::App,
    catalog::TaskWork,
    enrol::checked_recipient,
    fleet::{Outbox, Session},
    shard::{NodeKey, ShardKey},
    tasks::{Outcome, Task},
};

/// How often clocks are compared, and a dead connection would be noticed.
const PING_EVERY: Duration = Duration::from_secs(2);

/// An observation tells how a server was some moment before its time: so long may a healthy server take to
/// answer INFO.
const ANSWER_LIMIT: Duration = Duration::from_millis(100);

/// An agent says hello at once.
pub const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// Of what went wrong, so much is kept: a long chain of causes, not a flood. It must fit the headers of an
/// answer.
const FAILURE_CHARACTERS: usize = 2000;

/// The session of one agent, open.
pub struct OpenSession {
    app: Arc<App>,
    agent: AgentIdentity,
    certificate: PeerCertificate,
    session: Session,
    /// The last ping: its number, and when it was sent by either of our clocks.
    ping: Option<(u64, Instant, i64)>,
    pings: u64,
}

impl OpenSession {
    /// Opens the session, or refuses it; then sends what is outstanding.
    pub async fn open(
        app: Arc<App>,
        agent: AgentIdentity,
        certificate: PeerCertificate,
        remote: String,
        hello: pb::Hello,
        outbox: Outbox,
    ) -> Result<Self, Fault> {
        let pb::Hello { agent_version, boot_id, server_address, running_task_ids, recipient } = hello;
        let running: Vec<TaskId> =
            running_task_ids.iter().map(|id| model::parse("hello.running_task_ids", id)).collect::<Result<_, _>>()?;
        if boot_id.is_empty() || boot_id.len() > 100 {
            return Err(model::InvalidField::wrong("hello.boot_id", "1 to 100 characters").into());
        }
        let recipient = checked_recipient(&recipient)?;
        let now = app.clock.now();
        let session = Session {
            id: app.fleet.next_session(),
            boot_id,
            serial: certificate.serial.clone(),
            remote,
            agent_version: shortened(agent_version),
            server_address: shortened(server_address),
            recipient,
            outbox,
            stop: app.stop.child_token(),
            last_message_at: now,
            clock: None,
        };
        app.fleet.open(&agent, session.clone(), now)?;
        if let Err(error) = app.catalog.set_recipient(&session.serial, &session.recipient).await {
            warn!(%agent, error = %Chain(&error), "could not keep an agent's recipient");
        }
        info!(%agent, remote = %session.remote, version = %session.agent_version, "an agent has connected");
        let opened = Self { app, agent, certificate, session, ping: None, pings: 0 };
        let welcome = pb::Welcome {
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            observe_every_ms: u32::try_from(opened.app.settings.observe_every.as_millis()).unwrap_or(1000),
        };
        opened.send(pb::coordinator_message::Message::Welcome(welcome))?;
        opened.resume(&running).await;
        opened.app.share_uploads();
        Ok(opened)
    }

    /// Serves the session until it ends, from whichever side.
    pub async fn run(mut self, mut inbound: Streaming<pb::AgentMessage>) {
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            tokio::select! {
                message = inbound.message() => match message {
                    Ok(Some(message)) => if let Err(fault) = self.take(message).await {
                        break Err(fault);
                    },
                    Ok(None) => break Ok("the agent ended it"),
                    Err(status) => {
                        info!(agent = %self.agent, error = status.message(), "an agent's connection broke");
                        break Ok("the connection broke");
                    }
                },
                _ = pings.tick() => if let Err(fault) = self.on_tick().await {
                    break Err(fault);
                },
                () = self.session.stop.cancelled() => break match self.still_counts().await {
                    Err(fault) => Err(fault),
                    Ok(()) if self.app.stop.is_cancelled() => {
                        Err(Fault::new(ErrorKind::Unavailable, "the coordinator is stopping"))
                    }
                    Ok(()) => Ok("a newer session took over"),
                },
            }
        };
        self.app.fleet.close(&NodeKey::of(&self.agent), self.session.id);
        self.tell_watchers();
        match why {
            Ok(why) => info!(agent = %self.agent, why, "an agent's session has ended"),
            Err(fault) => {
                info!(agent = %self.agent, why = %Chain(&fault), "ended an agent's session");
                // An agent that does not read will not read this either.
                let _ = self.session.outbox.try_send(Err(fault.into()));
            }
        }
    }

    /// Says to whoever watches a task of this agent why nothing moves, unless another session took over.
    fn tell_watchers(&self) {
        let key = NodeKey::of(&self.agent);
        let now = self.app.clock.now();
        if self.app.fleet.node(&key).is_some_and(|node| node.live_session(now).is_some()) {
            return;
        }
        let phase = format!("waiting for the agent of {} to come back", self.agent.node);
        for task in self.app.tasks.open_for(&key) {
            let progress = pb::TaskPhase { phase: phase.clone(), bytes_done: 0, bytes_total: None };
            self.app.tasks.progress(task.stored.id, progress);
        }
    }

    async fn still_counts(&self) -> Result<(), Fault> {
        self.app.check_agent(&self.certificate, &self.agent).await
    }

    async fn on_tick(&mut self) -> Result<(), Fault> {
        self.still_counts().await?;
        self.pings += 1;
        self.ping = Some((self.pings, Instant::now(), self.app.clock.now().as_millis()));
        self.send(pb::coordinator_message::Message::Ping(pb::Ping { sequence: self.pings }))
    }

    /// Takes in one message.
    async fn take(&mut self, message: pb::AgentMessage) -> Result<(), Fault> {
        use pb::agent_message::Message;
        let key = NodeKey::of(&self.agent);
        self.app.fleet.heard(&key, self.session.id, self.app.clock.now());
        match message.message {
            Some(Message::Observation(observation)) => {
                let observation = NodeObservation::try_from(observation)?;
                self.app.observed(&self.agent, observation, self.session.clock).await;
            }
            Some(Message::ObservationFailed(pb::ObservationFailed { at_ms: _, failure })) => {
                let failure = failure.ok_or_else(|| model::InvalidField::missing("observation_failed.failure"))?;
                self.app.fleet.failed(&key, readable(failure));
            }
            Some(Message::TaskProgress(pb::TaskProgress { id, phase, bytes_done, bytes_total })) => {
                let id = model::parse("task_progress.id", &id)?;
                if self.own_task(id).is_some() {
                    self.app.tasks.progress(id, pb::TaskPhase { phase: shortened(phase), bytes_done, bytes_total });
                }
            }
            Some(Message::TaskResult(result)) => self.on_result(result).await?,
            Some(Message::Pong(pong)) => self.on_pong(&key, &pong),
            Some(Message::Hello(_)) => return Err(model::InvalidField::wrong("hello", "said twice").into()),
            // A message from a newer agent.
            None => {}
        }
        Ok(())
    }

    /// Half the round trip lies before the agent read its clock.
    fn on_pong(&mut self, key: &NodeKey, pong: &pb::Pong) {
        let Some((sequence, sent, sent_ms)) = self.ping else { return };
        if pong.sequence != sequence {
            return;
        }
        let half = sent.elapsed() / 2;
        let half_ms = i64::try_from(half.as_millis()).unwrap_or(0);
        let ahead_ms = pong.agent_clock_ms.saturating_sub(sent_ms.saturating_add(half_ms));
        // Whole milliseconds, as the catalog keeps it.
        let within = Duration::from_millis(half_ms.unsigned_abs() + 1) + ANSWER_LIMIT;
        let clock = ClockSkew { ahead_ms, within };
        if self.session.clock.is_none() {
            self.app.alarms.look_at(&ShardKey::of(&self.agent));
        }
        self.session.clock = Some(clock);
        self.app.fleet.set_clock(key, self.session.id, clock);
    }

    fn own_task(&self, id: TaskId) -> Option<Task> {
        self.app.tasks.get(id).filter(|task| task.stored.agent == self.agent)
    }

    /// Takes in how a task ended, and says that the agent may forget it. A task that is not known any more
    /// is acknowledged as well: nobody waits for it.
    async fn on_result(&self, result: pb::TaskResult) -> Result<(), Fault> {
        let pb::TaskResult { id, outcome } = result;
        let task_id: TaskId = model::parse("task_result.id", &id)?;
        if let Some(task) = self.own_task(task_id)
            && task.state().outcome.is_none()
        {
            let outcome = match outcome {
                Some(pb::task_result::Outcome::Captured(_)) => self.app.captured(&task).await?,
                Some(pb::task_result::Outcome::Restored(done)) => self.app.restored(&task, done).await?,
                Some(pb::task_result::Outcome::Failed(failure)) => Outcome::Failed(readable(failure).into()),
                None => return Err(model::InvalidField::missing("task_result.outcome").into()),
            };
            self.app.end_task(&task, outcome).await;
        }
        self.send(pb::coordinator_message::Message::TaskResultAcknowledged(pb::TaskResultAcknowledged { id }))
    }

    /// Settles what was under way when the last session ended: what the agent still holds goes on, what it
    /// never got is sent again, what a restart of its process ended has failed.
    async fn resume(&self, running: &[TaskId]) {
        for task in self.app.tasks.open_for(&NodeKey::of(&self.agent)) {
            if running.contains(&task.stored.id) {
                continue;
            }
            if let TaskWork::Capture { backup, .. } = &task.stored.work
                && let Ok(Some(entry)) = self.app.catalog.backup(*backup).await
            {
                self.app.end_task(&task, Outcome::Committed(Box::new(entry))).await;
                continue;
            }
            let is_same_run = task.stored.boot_id.as_deref() == Some(self.session.boot_id.as_str());
            match &task.message {
                Some(message) if is_same_run => {
                    let message = pb::coordinator_message::Message::Task(message.clone());
                    if let Err(fault) = self.send(message) {
                        warn!(agent = %self.agent, error = %fault, "could not give a task again");
                    }
                }
                _ => {
                    let message = if is_same_run {
                        format!("the coordinator was restarted before {} had received its task", self.agent)
                    } else {
                        format!("the agent {} was restarted while it worked on this", self.agent)
                    };
                    let hint = Some("nothing of it is listed; ask for it again".to_owned());
                    let failure = RpcError::new(ErrorKind::Unavailable, message, hint);
                    self.app.end_task(&task, Outcome::Failed(failure)).await;
                }
            }
        }
    }

    fn send(&self, message: pb::coordinator_message::Message) -> Result<(), Fault> {
        send(&self.session.outbox, message)
    }
}

/// Puts a message into an agent's outbox. It never waits: an agent that does not read is gone.
pub fn send(outbox: &Outbox, message: pb::coordinator_message::Message) -> Result<(), Fault> {
    outbox
        .try_send(Ok(pb::CoordinatorMessage { message: Some(message) }))
        .map_err(|_| Fault::new(ErrorKind::Unavailable, "the agent does not read what it is sent, or has just gone"))
}

/// Waits for the first message, which must be a hello.
pub async fn hello(inbound: &mut Streaming<pb::AgentMessage>) -> Result<pb::Hello, Status> {
    let first = tokio::time::timeout(HELLO_LIMIT, inbound.message()).await;
    let first =
        first.map_err(|_| Fault::new(ErrorKind::Unavailable, "the agent opened a session and said nothing"))??;
    match first.and_then(|message| message.message) {
        Some(pb::agent_message::Message::Hello(hello)) => Ok(hello),
        _ => Err(Fault::from(model::InvalidField::missing("hello")).into()),
    }
}

/// Foreign text that is shown to people.
fn shortened(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A failure as people and a gRPC status can bear it: it comes from an agent, and goes to terminals.
fn readable(failure: pb::Failure) -> pb::Failure {
    let readable = |text: String| -> String {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(FAILURE_CHARACTERS).collect()
    };
    let pb::Failure { message, hint, kind } = failure;
    pb::Failure { message: readable(message), hint: hint.map(readable), kind: shortened(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_failure_neither_writes_to_terminals_nor_fills_them() {
        let message = format!("\x1b[2Jgone\n{}", "é".repeat(100_000));
        let failure = pb::Failure { message, hint: Some("\u{9b}31m".to_owned()), kind: "in\x07ternal".to_owned() };
        let pb::Failure { message, hint, kind } = readable(failure);
        assert!(message.starts_with(" [2Jgone é"), "{message:.20}");
        assert_eq!(message.chars().count(), FAILURE_CHARACTERS);
        assert_eq!((hint.as_deref(), kind.as_str()), (Some(" 31m"), "internal"));
    }
}
