//! The replica's side: from the first command to the first byte of the RDB, without I/O.

use std::time::Duration;

use urtext_types::{Engine, NodeObservation, Offset, Position, ReplicationId, Secret};

use crate::{Quoted, ReplicationError, command, payload::Framing};

/// How to ask a server for a snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    pub credentials: Option<Credentials>,
    /// Sent as `REPLCONF version`. Must be the server's own version on Valkey 9 and later, which
    /// otherwise write an older RDB format and fail on hash fields with a TTL
    /// (`replication.c:replconfCommand`). Redis answers with an error, which is ignored.
    pub announce_version: Option<String>,
    pub announce_port: AnnouncePort,
    /// The longest silence. Every byte counts, keepalive newlines too: a server that is busy saving
    /// sends one each second.
    pub idle_timeout: Duration,
}

impl SnapshotRequest {
    /// What suits the server that was looked at.
    pub fn to(observed: &NodeObservation, credentials: Option<Credentials>, idle_timeout: Duration) -> Self {
        Self {
            credentials,
            announce_version: match observed.server.engine {
                Engine::Valkey => Some(observed.server.version.clone()),
                Engine::Redis => None,
            },
            // Sentinel reads a master's list of replicas, and must not make an entry of us.
            announce_port: match observed.replication.role.is_master() {
                true => AnnouncePort::Unroutable,
                false => AnnouncePort::None,
            },
            idle_timeout,
        }
    }
}

/// Whether a replica that attaches, as we do for a snapshot, gives the server a new replication id: a master without
/// a backlog makes one for its first (`replication.c:syncCommand`).
pub fn attaching_changes_history(observed: &NodeObservation) -> bool {
    observed.replication.role.is_master() && !observed.replication.backlog_active
}

/// Who we are to the server. Needs `+psync +replconf`, nothing else.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `None` is the user `default`.
    pub user: Option<String>,
    pub password: Secret<String>,
}

impl Credentials {
    /// The command that presents them.
    pub(crate) fn auth(&self) -> Secret<Vec<u8>> {
        Secret::new(match &self.user {
            Some(user) => command::encode(&["AUTH", user, self.password.expose()]),
            None => command::encode(&["AUTH", self.password.expose()]),
        })
    }
}

/// The port that the server believes we listen on. There is no way to announce a real one: Sentinel
/// would take what listens there for a replica, and could make it one, wiping it
/// (`sentinel.c:sentinelRefreshInstanceInfo`, `+convert-to-slave`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnnouncePort {
    /// Nothing is announced; INFO shows `port=0`. Right on replicas, whose lines Sentinel does not read.
    #[default]
    None,
    /// `listening-port -1`, which Sentinel cannot parse, so that it makes no `known-replica` entry for
    /// us. Right on masters.
    Unroutable,
}

/// The conversation of a replica that wants only the RDB.
#[derive(Debug)]
pub struct Handshake {
    user: String,
    /// What is still to be sent, last first.
    steps: Vec<(Step, Secret<Vec<u8>>)>,
    awaiting: Awaiting,
}

/// What to do after a line of the server.
#[derive(Debug)]
pub enum Progress {
    /// Send this, then give the next line. Secret because one of the commands carries the password.
    Send(Secret<Vec<u8>>),
    /// Give the next line.
    Wait,
    /// The conversation is over: what follows is the RDB, framed like this.
    Payload { position: Position, framing: Framing },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Auth,
    Info,
    ListeningPort,
    Capabilities,
    Version,
    RdbOnly,
    Psync,
}

#[derive(Debug, Clone, Copy)]
enum Awaiting {
    Reply(Step),
    PayloadHeader(Position),
}

impl Handshake {
    /// Starts a conversation; the second value is the first thing to send.
    pub fn start(request: &SnapshotRequest) -> (Self, Secret<Vec<u8>>) {
        let mut steps = Vec::with_capacity(6);
        let mut step = |step, words: &[&str]| steps.push((step, Secret::new(command::encode(words))));
        step(Step::Psync, &["PSYNC", "?", "-1"]);
        step(Step::RdbOnly, &["REPLCONF", "rdb-only", "1"]);
        if let Some(version) = &request.announce_version {
            step(Step::Version, &["REPLCONF", "version", version]);
        }
        // Never `rdb-channel-repl` or `dual-channel`: they would split the sync over two connections.
        step(Step::Capabilities, &["REPLCONF", "capa", "eof", "capa", "psync2"]);
        if request.announce_port == AnnouncePort::Unroutable {
            step(Step::ListeningPort, &["REPLCONF", "listening-port", "-1"]);
        }
        if let Some(credentials) = &request.credentials {
            steps.push((Step::Auth, credentials.auth()));
        }
        let user = request.credentials.as_ref().and_then(|credentials| credentials.user.clone());
        let (first, bytes) = steps.pop().expect("PSYNC is always among the steps");
        (Self { user: user.unwrap_or_else(|| "default".to_owned()), steps, awaiting: Awaiting::Reply(first) }, bytes)
    }

    /// What the server's next line will answer, for messages.
    pub fn awaiting(&self) -> &'static str {
        match self.awaiting {
            Awaiting::Reply(step) => step.awaiting(),
            Awaiting::PayloadHeader(_) => "the start of the RDB",
        }
    }

    /// Takes one line of the server, without its end. Empty lines are keepalives.
    pub fn on_line(&mut self, line: &[u8]) -> Result<Progress, ReplicationError> {
        if line.is_empty() {
            return Ok(Progress::Wait);
        }
        match self.awaiting {
            Awaiting::PayloadHeader(position) => self.on_payload_header(position, line),
            Awaiting::Reply(Step::Psync) => self.on_psync_reply(line),
            Awaiting::Reply(step) if line.starts_with(b"+") => self.after(step),
            // `ERR Unrecognized REPLCONF option: version` on every Redis: it was worth a try.
            Awaiting::Reply(step @ Step::Version) if line.starts_with(b"-ERR ") => self.after(step),
            Awaiting::Reply(step) => Err(failure(&self.user, step, line)),
        }
    }

    fn after(&mut self, step: Step) -> Result<Progress, ReplicationError> {
        debug_assert_ne!(step, Step::Psync);
        let (next, bytes) = self.steps.pop().expect("PSYNC is the last step and does not come here");
        self.awaiting = Awaiting::Reply(next);
        Ok(Progress::Send(bytes))
    }

    fn on_psync_reply(&mut self, line: &[u8]) -> Result<Progress, ReplicationError> {
        if line.starts_with(b"-") {
            return Err(failure(&self.user, Step::Psync, line));
        }
        let position = parse_full_resync(line)
            .ok_or_else(|| ReplicationError::UnexpectedReply { command: "PSYNC", reply: Quoted::new(line) })?;
        self.awaiting = Awaiting::PayloadHeader(position);
        Ok(Progress::Wait)
    }

    fn on_payload_header(&mut self, position: Position, line: &[u8]) -> Result<Progress, ReplicationError> {
        if line.starts_with(b"-") {
            // `replication.c:startBgsaveForReplication`: the position was promised, then the fork failed.
            return Err(ReplicationError::SaveFailed { reply: Quoted::new(line) });
        }
        let framing =
            Framing::parse(line).ok_or_else(|| ReplicationError::BadPayloadHeader { line: Quoted::new(line) })?;
        Ok(Progress::Payload { position, framing })
    }
}

/// Which error an answer other than the wanted one is.
pub(crate) fn failure(user: &str, step: Step, line: &[u8]) -> ReplicationError {
    let command = step.command();
    let user = || user.to_owned();
    let has = |text: &str| line.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()));
    let first = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    // Servers quote the arguments of commands that they do not know: what answers AUTH may hold
    // the password, so of such a reply only the first word of an error is kept.
    let reply = || match step {
        Step::Auth if line.starts_with(b"-") => Quoted::new(first),
        Step::Auth => Quoted::new(b"(not shown)"),
        _ => Quoted::new(line),
    };
    match first {
        b"-LOADING" => ReplicationError::Loading,
        b"-NOMASTERLINK" => ReplicationError::MasterLinkDown { reply: reply() },
        b"-MASTERDOWN" => ReplicationError::MasterDown,
        b"-BUSY" => ReplicationError::Busy { reply: reply() },
        b"-DENIED" => ReplicationError::ProtectedMode,
        b"-NOAUTH" => ReplicationError::AuthenticationRequired,
        b"-WRONGPASS" => ReplicationError::WrongPassword { user: user() },
        b"-NOPERM" => ReplicationError::NotPermitted { user: user(), command },
        b"-ERR" if has("max number of clients") => ReplicationError::TooManyClients,
        b"-ERR" if has("unknown command") => ReplicationError::CommandUnknown { command },
        b"-ERR" if step == Step::Auth && has("without any password configured") => {
            ReplicationError::PasswordNotExpected { user: user() }
        }
        _ if !line.starts_with(b"-") => ReplicationError::UnexpectedReply { command, reply: reply() },
        _ if step == Step::RdbOnly => ReplicationError::RdbOnlyUnsupported { reply: reply() },
        _ => ReplicationError::Refused { command, reply: reply() },
    }
}

impl Step {
    fn command(self) -> &'static str {
        match self {
            Self::Auth => "AUTH",
            Self::Info => "INFO",
            Self::ListeningPort | Self::Capabilities | Self::Version | Self::RdbOnly => "REPLCONF",
            Self::Psync => "PSYNC",
        }
    }

    pub(crate) fn awaiting(self) -> &'static str {
        match self {
            Self::Auth => "the answer to AUTH",
            Self::Info => "the answer to INFO",
            Self::ListeningPort => "the answer to REPLCONF listening-port",
            Self::Capabilities => "the answer to REPLCONF capa",
            Self::Version => "the answer to REPLCONF version",
            Self::RdbOnly => "the answer to REPLCONF rdb-only",
            Self::Psync => "the answer to PSYNC",
        }
    }
}

/// `+FULLRESYNC <history> <offset>`.
fn parse_full_resync(line: &[u8]) -> Option<Position> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (name, history, offset) = (words.next()?, words.next()?, words.next()?);
    if name != "+FULLRESYNC" || words.next().is_some() {
        return None;
    }
    Some(Position::new(history.parse::<ReplicationId>().ok()?, offset.parse::<Offset>().ok()?))
}

#[cfg(test)]
mod tests;
