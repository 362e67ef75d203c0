//! What can go wrong between a server and us, by whose move it is.

use std::{error::Error, fmt, io, time::Duration};

use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Offset};

/// Why a snapshot could not be requested, or not be served.
#[derive(Debug, Error)]
pub enum ReplicationError {
    // What the server answered.
    #[error("the server is loading its data set")]
    Loading,
    #[error("the server is a replica whose link to its master is down, or it is failing over: {reply}")]
    MasterLinkDown { reply: Quoted },
    #[error("the server is a replica without its master and does not serve stale data")]
    MasterDown,
    #[error("the server is busy: {reply}")]
    Busy { reply: Quoted },
    #[error("the server accepts no more clients")]
    TooManyClients,
    #[error("the server is in protected mode and accepts connections from its own host only")]
    ProtectedMode,
    #[error("the server wants a password and none is configured")]
    AuthenticationRequired,
    #[error("the server refused the password of user {user:?}, or the user is disabled")]
    WrongPassword { user: String },
    #[error("a password is configured but the server has none for user {user:?}")]
    PasswordNotExpected { user: String },
    #[error("user {user:?} may not run {command}")]
    NotPermitted { user: String, command: &'static str },
    #[error("the server does not know the command {command}")]
    CommandUnknown { command: &'static str },
    #[error("the server cannot send only its RDB: it refused REPLCONF rdb-only ({reply})")]
    RdbOnlyUnsupported { reply: Quoted },
    #[error("the server refused {command}: {reply}")]
    Refused { command: &'static str, reply: Quoted },
    #[error("the server could not save its data set for us: {reply}")]
    SaveFailed { reply: Quoted },

    // What arrived is not the protocol.
    #[error("unexpected answer to {command}: {reply}")]
    UnexpectedReply { command: &'static str, reply: Quoted },
    #[error("a line of more than {limit} bytes while waiting for {awaiting}")]
    LineTooLong { awaiting: &'static str, limit: usize },
    #[error("not a length or an end mark before the RDB: {line}")]
    BadPayloadHeader { line: Quoted },
    #[error("not a command: {what}")]
    BadCommand { what: String },

    // What happened to the connection.
    #[error("the connection ended while waiting for {awaiting}")]
    Closed { awaiting: &'static str },
    #[error("the connection ended after {received} bytes of {}", length_or_unknown(*expected))]
    CutOff { received: u64, expected: Option<u64> },
    #[error("nothing was heard for {limit:?} while waiting for {awaiting}")]
    Silent { awaiting: &'static str, limit: Duration },
    #[error("the other end took no bytes for {limit:?}")]
    Stalled { limit: Duration },
    #[error("the connection failed while waiting for {awaiting}")]
    Io {
        awaiting: &'static str,
        #[source]
        source: io::Error,
    },

    // When we play master.
    #[error("a stranger asked for the data: it announced port {} instead of {expected}", announced.as_ref().map_or("none".to_owned(), Quoted::to_string))]
    Stranger { expected: u16, announced: Option<Quoted> },
    #[error("the target left {}", left_when(*acknowledged))]
    TargetLeft { acknowledged: Option<Offset> },
    #[error("the RDB to serve ended after {got} bytes of {expected}")]
    PayloadShort { got: u64, expected: u64 },
    #[error("the RDB to serve is longer than the {expected} bytes that were announced")]
    PayloadLong { expected: u64 },
    #[error("reading the RDB to serve")]
    Payload {
        kind: ErrorKind,
        hint: Option<String>,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

fn length_or_unknown(expected: Option<u64>) -> String {
    expected.map_or_else(|| "an RDB of unknown length".to_owned(), |length| format!("an RDB of {length}"))
}

fn left_when(acknowledged: Option<Offset>) -> String {
    acknowledged.map_or_else(
        || "before it had loaded the data".to_owned(),
        |offset| format!("at offset {offset}, which is not the one it was to reach"),
    )
}

impl ReplicationError {
    /// An error of the socket, or its end, while waiting for something.
    pub(crate) fn io(awaiting: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { awaiting, source }
    }
}

impl Explain for ReplicationError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Loading
            | Self::MasterLinkDown { .. }
            | Self::MasterDown
            | Self::Busy { .. }
            | Self::TooManyClients
            | Self::Refused { .. }
            | Self::SaveFailed { .. }
            | Self::Closed { .. }
            | Self::CutOff { .. }
            | Self::Silent { .. }
            | Self::Stalled { .. }
            | Self::Io { .. }
            | Self::TargetLeft { .. } => ErrorKind::Unavailable,
            Self::ProtectedMode
            | Self::AuthenticationRequired
            | Self::WrongPassword { .. }
            | Self::NotPermitted { .. }
            | Self::CommandUnknown { .. } => ErrorKind::Denied,
            Self::PasswordNotExpected { .. } => ErrorKind::Usage,
            Self::RdbOnlyUnsupported { .. } | Self::Stranger { .. } => ErrorKind::Refused,
            Self::UnexpectedReply { .. }
            | Self::LineTooLong { .. }
            | Self::BadPayloadHeader { .. }
            | Self::BadCommand { .. }
            | Self::PayloadShort { .. }
            | Self::PayloadLong { .. } => ErrorKind::Integrity,
            Self::Payload { kind, .. } => *kind,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Loading => "wait until INFO persistence shows loading:0; it is tried again",
            Self::MasterLinkDown { .. } => {
                "a copy of a replica whose link is down can be taken with the method \"file\"; otherwise wait for \
                 master_link_status:up"
            }
            Self::MasterDown => "wait for master_link_status:up, or set replica-serve-stale-data yes on the server",
            Self::Busy { .. } => "a script or function is blocking the server; it is tried again",
            Self::TooManyClients => "raise maxclients on the server or close idle clients",
            Self::ProtectedMode => {
                "run the agent on the server's host, or give the server a password and a bind address"
            }
            Self::AuthenticationRequired => "configure the user and password that the agent uses for this server",
            Self::WrongPassword { .. } => "compare the configured user and password with ACL LIST on the server",
            Self::PasswordNotExpected { .. } => "remove the password from the agent's configuration of this server",
            Self::NotPermitted { user, .. } => {
                return Some(format!("on the server: ACL SETUSER {user} +psync +replconf +ping"));
            }
            Self::CommandUnknown { .. } => {
                "is this a Redis or Valkey server? If so, see rename-command in its configuration; without this command \
                 only the method \"file\" works"
            }
            Self::RdbOnlyUnsupported { .. } => "Redis 6.2 or later is needed; on older servers use the method \"file\"",
            Self::SaveFailed { .. } => "the server's log says why: often no memory to fork, or no disk space",
            Self::CutOff { .. } => {
                "the server's log says why: often a failed save, a restart, or client-output-buffer-limit replica"
            }
            Self::UnexpectedReply { .. } | Self::LineTooLong { .. } | Self::BadPayloadHeader { .. } => {
                "is this the port of a Redis or Valkey server, with TLS on both sides or on neither?"
            }
            Self::Stranger { .. } => {
                "only the target of the restore may connect; find out who else has REPLICAOF this port"
            }
            Self::TargetLeft { .. } => "the target's log says why",
            Self::Payload { hint, .. } => return hint.clone(),
            Self::Refused { .. }
            | Self::BadCommand { .. }
            | Self::Closed { .. }
            | Self::Silent { .. }
            | Self::Stalled { .. }
            | Self::Io { .. }
            | Self::PayloadShort { .. }
            | Self::PayloadLong { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Foreign text that is safe to print: escaped, and at most 200 characters of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    const MOST: usize = 200;

    pub fn new(bytes: &[u8]) -> Self {
        let cut = bytes.len() > Self::MOST;
        let mut text = bytes[..bytes.len().min(Self::MOST)].escape_ascii().to_string();
        if cut {
            text.push('…');
        }
        Self(text)
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_reach_the_terminal_unescaped() {
        assert_eq!(Quoted::new(b"-ERR \x1b[31mred\r").to_string(), "-ERR \\x1b[31mred\\r");
        assert!(Quoted::new(&[b'x'; 100_000]).to_string().chars().count() <= 201);
    }

    #[test]
    fn messages_say_what_is_known() {
        let check = |error: ReplicationError, text: &str| assert_eq!(error.to_string(), text);
        check(
            ReplicationError::CutOff { received: 7, expected: Some(90) },
            "the connection ended after 7 bytes of an RDB of 90",
        );
        check(
            ReplicationError::CutOff { received: 7, expected: None },
            "the connection ended after 7 bytes of an RDB of unknown length",
        );
        check(
            ReplicationError::Stranger { expected: 6379, announced: None },
            "a stranger asked for the data: it announced port none instead of 6379",
        );
        check(ReplicationError::TargetLeft { acknowledged: None }, "the target left before it had loaded the data");
    }

    #[test]
    fn a_missing_right_is_answered_with_the_line_that_grants_it() {
        let error = ReplicationError::NotPermitted { user: "backup".to_owned(), command: "PSYNC" };
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.hint().as_deref(), Some("on the server: ACL SETUSER backup +psync +replconf +ping"));
    }
}
