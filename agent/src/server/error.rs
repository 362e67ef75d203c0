//! What can go wrong between the agent and its server.

use std::{io, sync::Arc, time::Duration};

use redis::{ErrorKind as RedisErrorKind, RedisError, ServerErrorKind};
use thiserror::Error;
use urtext_identity::{IdentityError, TlsFailure};
use urtext_types::{ErrorKind, Explain};

use super::{CAPTURE_RIGHTS, InvalidInfo, ServerAddress, Transport};

/// Why the server did not do what it was asked. Every variant names the server.
#[derive(Debug, Error)]
pub enum ServerError {
    #[error("connect to {server}")]
    Unreachable {
        server: Arc<ServerAddress>,
        #[source]
        source: io::Error,
    },
    #[error("{server} did not answer {what} within {} s", limit.as_secs())]
    Timeout { server: Arc<ServerAddress>, what: String, limit: Duration },
    #[error("connect to {server}")]
    Tls {
        server: Arc<ServerAddress>,
        #[source]
        source: TlsFailure,
    },
    #[error("prepare TLS for {server}")]
    TlsSettings {
        server: Arc<ServerAddress>,
        #[source]
        source: IdentityError,
    },
    #[error("read the password for {server} from {path}")]
    PasswordFile {
        server: Arc<ServerAddress>,
        path: String,
        #[source]
        source: io::Error,
    },
    /// Over plain TCP: what a port that expects TLS does.
    #[error("{server} closed the connection, or answered {what} with something that is not the Redis protocol")]
    NotPlain { server: Arc<ServerAddress>, what: String },
    #[error("the connection to {server} was lost during {what}")]
    Lost { server: Arc<ServerAddress>, what: String },
    #[error("{server} wants a password, and none is configured")]
    PasswordMissing { server: Arc<ServerAddress> },
    #[error("{server} refused the password of user {user:?}, or the user is disabled", user = server.user())]
    WrongPassword { server: Arc<ServerAddress> },
    #[error("user {user:?} may not run {command} on {server}", user = server.user())]
    NotPermitted { server: Arc<ServerAddress>, command: String },
    #[error("{server} does not know the command {command}")]
    CommandUnknown { server: Arc<ServerAddress>, command: String },
    #[error("{server} is loading its data set")]
    Loading { server: Arc<ServerAddress> },
    #[error("{server} is a replica without its master and does not serve stale data")]
    MasterDown { server: Arc<ServerAddress> },
    #[error("{server} accepts no more clients")]
    TooManyClients { server: Arc<ServerAddress> },
    #[error("{server} refused {command}: {reply}")]
    Refused { server: Arc<ServerAddress>, command: String, reply: String },
    #[error("{server} answered {command} with something else than expected: {problem}")]
    UnexpectedReply { server: Arc<ServerAddress>, command: String, problem: String },
    #[error("what {server} says of itself cannot be used")]
    Info {
        server: Arc<ServerAddress>,
        #[source]
        source: InvalidInfo,
    },
}

impl ServerError {
    /// What the client library says after `command`, in our words.
    pub(super) fn of_command(server: &Arc<ServerAddress>, command: &str, limit: Duration, error: &RedisError) -> Self {
        let server = server.clone();
        let command = command.to_owned();
        let reply = || error.detail().unwrap_or_default().to_owned();
        match error.kind() {
            RedisErrorKind::Server(ServerErrorKind::NoPerm) => Self::NotPermitted { server, command },
            RedisErrorKind::Server(ServerErrorKind::BusyLoading) => Self::Loading { server },
            RedisErrorKind::Server(ServerErrorKind::MasterDown) => Self::MasterDown { server },
            RedisErrorKind::AuthenticationFailed => Self::WrongPassword { server },
            RedisErrorKind::Server(_) | RedisErrorKind::Extension => match error.code() {
                Some("NOAUTH") => Self::PasswordMissing { server },
                Some("WRONGPASS") => Self::WrongPassword { server },
                _ if reply().contains("max number of clients") => Self::TooManyClients { server },
                _ if reply().starts_with("unknown command") || reply().starts_with("unknown subcommand") => {
                    Self::CommandUnknown { server, command }
                }
                code => Self::Refused { server, command, reply: format!("{} {}", code.unwrap_or("ERR"), reply()) },
            },
            RedisErrorKind::Parse if matches!(server.transport, Transport::Tcp { .. }) => {
                Self::NotPlain { server, what: command }
            }
            RedisErrorKind::Io if error.is_timeout() => Self::Timeout { server, what: command, limit },
            RedisErrorKind::Io => Self::Lost { server, what: command },
            _ => Self::UnexpectedReply { server, command, problem: error.to_string() },
        }
    }

    /// Whether the connection is of no use any more.
    pub fn breaks_connection(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Lost { .. } | Self::NotPlain { .. } | Self::UnexpectedReply { .. })
    }

    /// Whether the server said that this user may not do this, or hides the command.
    pub fn is_about_rights(&self) -> bool {
        matches!(self, Self::NotPermitted { .. } | Self::CommandUnknown { .. })
    }
}

impl Explain for ServerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::NotPlain { .. }
            | Self::Lost { .. }
            | Self::Loading { .. }
            | Self::MasterDown { .. }
            | Self::TooManyClients { .. } => ErrorKind::Unavailable,
            Self::Tls { source, .. } => source.kind(),
            Self::TlsSettings { source, .. } => source.kind(),
            Self::PasswordFile { .. } => ErrorKind::Usage,
            Self::PasswordMissing { .. } | Self::WrongPassword { .. } | Self::NotPermitted { .. } => ErrorKind::Denied,
            Self::CommandUnknown { .. } | Self::Refused { .. } => ErrorKind::Refused,
            Self::UnexpectedReply { .. } | Self::Info { .. } => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { server, source } => match source.kind() {
                io::ErrorKind::PermissionDenied => format!("run the agent as a user who may open {server}"),
                _ => "is the server running, and is this its address?".to_owned(),
            },
            Self::Timeout { .. } => "is it overloaded, or busy with a script or a slow command?".to_owned(),
            Self::Tls { server, source: TlsFailure::NotTls } => {
                format!("the port seems to speak no TLS: try {}", server.to_string().replacen("rediss:", "redis:", 1))
            }
            Self::Tls { source: TlsFailure::OursMissing | TlsFailure::OursRefused, .. } => {
                "the server wants a client certificate (tls-auth-clients): set client_certificate_file and \
                 client_key_file in agent.toml"
                    .to_owned()
            }
            Self::Tls { source: TlsFailure::TheirsOfAnotherAuthority, .. } => {
                "name the authority of the server's certificate with --redis-ca (ca_file in the settings)".to_owned()
            }
            Self::Tls { source, .. } => return source.hint(),
            Self::TlsSettings { source, .. } => return source.hint(),
            Self::PasswordFile { .. } => {
                "the file holds the password alone, and must be readable by the agent".to_owned()
            }
            Self::NotPlain { server, .. } => format!(
                "if the port speaks TLS, use {} and name its authority with --redis-ca (ca_file in the settings)",
                server.to_string().replacen("redis:", "rediss:", 1)
            ),
            Self::PasswordMissing { .. } => {
                "put the password into the file that agent.toml names as password_file".to_owned()
            }
            Self::WrongPassword { .. } => {
                "compare the agent's user and password with ACL LIST on the server".to_owned()
            }
            Self::NotPermitted { server, .. } => {
                format!(
                    "`urtext-agent check` tells what is missing; all of it, on the server: ACL SETUSER {} {CAPTURE_RIGHTS}",
                    server.user()
                )
            }
            Self::CommandUnknown { .. } => "see rename-command in the server's configuration".to_owned(),
            Self::MasterDown { .. } => {
                "wait for master_link_status:up, or set replica-serve-stale-data yes on the server".to_owned()
            }
            Self::TooManyClients { .. } => "raise maxclients on the server, or close idle clients".to_owned(),
            Self::Info { source, .. } => return source.hint(),
            Self::Lost { .. } | Self::Loading { .. } | Self::Refused { .. } | Self::UnexpectedReply { .. } => {
                return None;
            }
        })
    }
}
