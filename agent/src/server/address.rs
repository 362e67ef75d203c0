//! Where the server is, without any password.

use std::{fmt, net::IpAddr, path::PathBuf};

use redis::{ConnectionAddr, IntoConnectionInfo};
use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Secret};

/// How to reach the server. Prints as a URL that is safe to show: a password is never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    pub transport: Transport,
    /// The ACL user; `None` is `default`.
    pub user: Option<String>,
}

/// What carries the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16 },
    Unix { path: PathBuf },
}

/// Text that does not say where a server is. The text itself may hold a password, so it is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAddress {
    #[error("the server's URL cannot be used: {problem}")]
    Url { problem: String },
    #[error("the server's URL turns the check of certificates off (#insecure), which is not supported")]
    Insecure,
}

impl Explain for InvalidAddress {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Url { .. } => {
                "write redis://[user@]host:port, rediss://[user@]host:port for TLS, or unix:///path/to/socket"
                    .to_owned()
            }
            Self::Insecure => "name the authority of the server's certificate with --redis-ca FILE".to_owned(),
        })
    }
}

impl ServerAddress {
    /// Takes a URL apart; a password in it comes back on its own.
    pub fn parse(url: &str) -> Result<(Self, Option<Secret<String>>), InvalidAddress> {
        // What the parser says may quote its input, and with it the password: only its general words are kept.
        let info = url.into_connection_info().map_err(|error| InvalidAddress::Url {
            problem: if url.contains("://") { error.category().to_owned() } else { "it has no scheme".to_owned() },
        })?;
        let transport = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Transport::Tcp { host: host.clone(), port: *port },
            ConnectionAddr::TcpTls { insecure: true, .. } => return Err(InvalidAddress::Insecure),
            ConnectionAddr::TcpTls { host, port, .. } => Transport::Tls { host: host.clone(), port: *port },
            ConnectionAddr::Unix(path) => Transport::Unix { path: path.clone() },
            _ => return Err(InvalidAddress::Url { problem: "its scheme is not known".to_owned() }),
        };
        let settings = info.redis_settings();
        let user = settings.username().map(str::to_owned).filter(|user| user != "default");
        let password = settings.password().map(|password| Secret::new(password.to_owned()));
        Ok((Self { transport, user }, password))
    }

    /// The user's name as the server spells it.
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }

    /// Whether the server runs on this host for certain: over a Unix socket or a loopback address. Then
    /// its files may be readable here, and its memory is this host's memory.
    pub fn is_local(&self) -> bool {
        match &self.transport {
            Transport::Unix { .. } => true,
            Transport::Tcp { host, .. } | Transport::Tls { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match &self.transport {
            Transport::Tcp { host, port } => ("redis", host, port),
            Transport::Tls { host, port } => ("rediss", host, port),
            Transport::Unix { path } => {
                write!(f, "unix://{}", path.display())?;
                return self.user.as_ref().map_or(Ok(()), |user| write!(f, "?user={user}"));
            }
        };
        write!(f, "{scheme}://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, shown: &str, password: Option<&str>, is_local: bool) {
        let (address, found) = ServerAddress::parse(url).expect(url);
        assert_eq!(address.to_string(), shown);
        assert_eq!(found.as_ref().map(|secret| secret.expose().as_str()), password);
        assert_eq!(address.is_local(), is_local, "{url}");
        assert_eq!(ServerAddress::parse(shown).expect(shown).0, address, "what is shown reads back");
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        check("redis://127.0.0.1:6379", "redis://127.0.0.1:6379", None, true);
        check("redis://127.0.0.1", "redis://127.0.0.1:6379", None, true);
        check("redis://:hunter2@10.0.0.1:7000", "redis://10.0.0.1:7000", Some("hunter2"), false);
        check("redis://backup:p%40ss@localhost:1", "redis://backup@localhost:1", Some("p@ss"), true);
        check("rediss://default:x@db.example:6380", "rediss://db.example:6380", Some("x"), false);
        check("redis://[::1]:6379", "redis://[::1]:6379", None, true);
        check("unix:///run/redis.sock?user=backup&pass=x", "unix:///run/redis.sock?user=backup", Some("x"), true);
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for url in ["", "localhost:6379", "http://:hunter2@localhost", "redis://:hunter2@", "redis://:hunter2@h:99999"]
        {
            let error = ServerAddress::parse(url).expect_err(url);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(ServerAddress::parse("rediss://h:1/#insecure").err(), Some(InvalidAddress::Insecure));
    }
}
