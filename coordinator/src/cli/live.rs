//! A live server, read as a replica reads it that wants only the RDB: as harmlessly as an agent does, and refused
//! under the same conditions.

use std::{env, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use urtext_replication::{
    Credentials, SnapshotRequest, SnapshotStream, ask_info, attaching_changes_history, request_snapshot,
};
use urtext_types::{ErrorKind, NodeObservation, Secret, may_capture};

use crate::{Fault, clock::Clock};

/// What carries bytes to a server.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

pub(super) type LiveStream = SnapshotStream<Box<dyn Socket>>;

/// For name resolution and the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For the answers to AUTH and INFO.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest silence; a server that saves sends a newline each second.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// For how long a replica's link to its master may have been down: as an agent's default.
const MAX_LINK_DOWN: Duration = Duration::from_secs(30);
/// Where a password is better put than on the command line.
const PASSWORD_VARIABLE: &str = "URTEXT_REDIS_PASSWORD";

/// Where a live server is. Its password is never shown.
pub(super) struct LiveServer {
    transport: Transport,
    credentials: Option<Credentials>,
}

#[derive(Debug, PartialEq, Eq)]
enum Transport {
    Tcp { host: String, port: u16 },
    Unix { path: String },
}

impl LiveServer {
    /// Takes a URL apart: `redis://[user[:password]@]host[:port]` or `unix:///path`.
    pub(super) fn parse(url: &Secret<String>) -> Result<Self, Fault> {
        let wrong = |what: &str| {
            Fault::new(ErrorKind::Usage, format!("the server's URL cannot be used: {what}"))
                .with_hint("write redis://[user@]host:port or unix:///path; a password goes into URTEXT_REDIS_PASSWORD")
        };
        let (scheme, rest) = url.expose().split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let (login, place) = match scheme {
            "unix" => (None, rest),
            "redis" | "valkey" => match rest.rsplit_once('@') {
                Some((login, place)) => (Some(login), place),
                None => (None, rest),
            },
            // The scheme of TLS; certificates of servers are configured at the agents.
            _ => {
                return Err(Fault::new(ErrorKind::Usage, "a server that speaks TLS is not read directly")
                    .with_hint("its agent can: take a backup with `urtext snapshot D --node N`, and name its id"));
            }
        };
        let transport = if scheme == "unix" {
            Transport::Unix { path: place.to_owned() }
        } else {
            // All databases are read, whichever is named.
            let place = place.split('/').next().unwrap_or_default();
            let (host, port) = match place.rsplit_once(':') {
                Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                    (host, port.parse().map_err(|_| wrong("its port is no number"))?)
                }
                _ => (place, 6379),
            };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if host.is_empty() {
                return Err(wrong("it names no host"));
            }
            Transport::Tcp { host: host.to_owned(), port }
        };
        let decoded =
            |text: &str| percent_decoded(text).ok_or_else(|| wrong("its user or password is not encoded well"));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (decoded(user)?, Secret::new(decoded(password)?)),
            None => (String::new(), Secret::new(String::new())),
        };
        let password = match env::var(PASSWORD_VARIABLE) {
            Ok(given) if password.expose().is_empty() => Secret::new(given),
            _ => password,
        };
        let user = (!user.is_empty()).then_some(user);
        let credentials = (!password.expose().is_empty()).then_some(Credentials { user, password });
        Ok(Self { transport, credentials })
    }

    /// How messages call it.
    pub(super) fn name(&self) -> String {
        match &self.transport {
            Transport::Tcp { host, port } if host.contains(':') => format!("redis://[{host}]:{port}"),
            Transport::Tcp { host, port } => format!("redis://{host}:{port}"),
            Transport::Unix { path } => format!("unix://{path}"),
        }
    }

    /// Looks at the server, and refuses one that attaching would harm, or whose data is not whole.
    pub(super) async fn look(&self) -> Result<NodeObservation, Fault> {
        let name = self.name();
        let attempt = || format!("read {name}");
        let mut socket = self.dial().await?;
        let info = ask_info(&mut socket, self.credentials.as_ref(), ANSWER_LIMIT)
            .await
            .map_err(Fault::while_doing(attempt()))?;
        let observed = info.observation(Clock::system().now()).map_err(Fault::while_doing(attempt()))?;
        may_capture(&observed, false, MAX_LINK_DOWN).map_err(Fault::while_doing(attempt()))?;
        if attaching_changes_history(&observed) {
            let message = format!(
                "{name} is a master that never had a replica, or none for long: attaching to it would change its \
                 replication id"
            );
            return Err(Fault::new(ErrorKind::Refused, message)
                .with_hint("its own file will do: BGSAVE, then name that file; or name a backup of the node"));
        }
        Ok(observed)
    }

    /// Looks once more, and attaches.
    ///
    /// # Cancel safety
    /// Dropping the future, or the stream, closes the connection: the server stops serving us.
    pub(super) async fn attach(&self) -> Result<LiveStream, Fault> {
        let observed = self.look().await?;
        let request = SnapshotRequest::to(&observed, self.credentials.clone(), IDLE_LIMIT);
        let attempt = format!("read {}", self.name());
        request_snapshot(self.dial().await?, &request).await.map_err(Fault::while_doing(attempt))
    }

    async fn dial(&self) -> Result<Box<dyn Socket>, Fault> {
        let dialled = timeout(CONNECT_LIMIT, async {
            Ok(match &self.transport {
                Transport::Tcp { host, port } => {
                    Box::new(TcpStream::connect((host.as_str(), *port)).await?) as Box<dyn Socket>
                }
                Transport::Unix { path } => Box::new(UnixStream::connect(path).await?),
            })
        });
        let failed = |reason: String| {
            Fault::new(ErrorKind::Unavailable, format!("connect to {}: {reason}", self.name()))
                .with_hint("is the server running, and is this its address?")
        };
        match dialled.await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(failed(std::io::Error::to_string(&error))),
            Err(_) => Err(failed(format!("no answer within {} s", CONNECT_LIMIT.as_secs()))),
        }
    }
}

/// `%40` is `@`.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<LiveServer, Fault> {
        LiveServer::parse(&Secret::new(url.to_owned()))
    }

    #[test]
    fn a_url_is_taken_apart_and_shown_without_its_password() {
        let check = |url: &str, shown: &str, user: Option<&str>, password: Option<&str>| {
            let server = parse(url).expect(url);
            assert_eq!(server.name(), shown);
            assert_eq!(server.credentials.as_ref().map(|c| c.password.expose().as_str()), password, "{url}");
            assert_eq!(server.credentials.as_ref().and_then(|c| c.user.as_deref()), user, "{url}");
        };
        check("redis://h", "redis://h:6379", None, None);
        check("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000", None, None);
        check("valkey://[::1]:7000", "redis://[::1]:7000", None, None);
        check("redis://[::1]", "redis://[::1]:6379", None, None);
        check("redis://:hunter2@h:1", "redis://h:1", None, Some("hunter2"));
        check("redis://bob:p%40ss@h:1", "redis://h:1", Some("bob"), Some("p@ss"));
        check("unix:///run/redis.sock", "unix:///run/redis.sock", None, None);
    }

    #[test]
    fn what_is_no_server_is_refused_and_not_repeated() {
        for url in ["rediss://h:1", "redis://", "redis://:hunter2@", "redis://:hunter2@h:99999", "redis://a:%zz@h"] {
            let fault = parse(url).err().expect(url);
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }
}
