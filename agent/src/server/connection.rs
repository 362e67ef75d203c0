//! Connections to the server: one way to dial, for commands and for replication.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use redis::{AsyncConnectionConfig, FromRedisValue, RedisConnectionInfo, aio::MultiplexedConnection};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use urtext_identity::TlsFailure;
use urtext_replication::Credentials;
use urtext_types::{Secret, Timestamp};

use super::{Info, ServerAddress, ServerError, Transport};

/// For name resolution, TCP and TLS together. The server is on this host or near it.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// For the TLS handshake alone: a server that speaks no TLS may just be silent.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// For one command. None of those that the agent sends works longer than a moment; a server that needs more
/// is stuck in a script or swapping, and that is worth knowing.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// What carries bytes to the server, whichever transport it is.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// Where the password comes from.
#[derive(Debug, Clone)]
pub enum Password {
    None,
    Known(Secret<String>),
    /// Read again at each connection, so that it can be changed without a restart.
    File(PathBuf),
}

/// How to reach and to authenticate with one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: Arc<ServerAddress>,
    password: Password,
    tls: Option<Arc<ClientConfig>>,
}

impl Server {
    /// `tls` is needed where the address says TLS.
    pub fn new(address: ServerAddress, password: Password, tls: Option<Arc<ClientConfig>>) -> Self {
        Self(Arc::new(Inner { address: Arc::new(address), password, tls }))
    }

    pub fn address(&self) -> &Arc<ServerAddress> {
        &self.0.address
    }

    /// The user and password, for a connection that authenticates by itself.
    pub fn credentials(&self) -> Result<Option<Credentials>, ServerError> {
        Ok(self.password()?.map(|password| Credentials { user: self.0.address.user.clone(), password }))
    }

    /// An open connection on which nothing was said yet.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn dial(&self) -> Result<Box<dyn Socket>, ServerError> {
        Ok(self.dial_from().await?.0)
    }

    /// A connection for commands, authenticated.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn connect(&self) -> Result<Connection, ServerError> {
        let address = &self.0.address;
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = &address.user {
            login = login.set_username(user);
        }
        if let Some(password) = self.password()? {
            login = login.set_password(password.expose());
        }
        let (socket, local_ip) = self.dial_from().await?;
        let settings = AsyncConnectionConfig::new().set_response_timeout(Some(COMMAND_LIMIT));
        let setup = MultiplexedConnection::new_with_config(&login, socket, settings);
        let (commands, driver) = match timeout(COMMAND_LIMIT, setup).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(first_answer(ServerError::of_command(address, "AUTH", COMMAND_LIMIT, &error)));
            }
            Err(_) => {
                let what = "AUTH".to_owned();
                return Err(ServerError::Timeout { server: address.clone(), what, limit: COMMAND_LIMIT });
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        let mut connection = Connection { server: self.clone(), commands, local_ip, fresh: true, _driver: tasks };
        // The first command shows whether this is a server that talks to us at all.
        connection.info().await?;
        Ok(connection)
    }

    async fn dial_from(&self) -> Result<(Box<dyn Socket>, Option<IpAddr>), ServerError> {
        let limit = CONNECT_LIMIT;
        match timeout(limit, self.dial_within()).await {
            Ok(dialled) => dialled,
            Err(_) => {
                let what = "the connection".to_owned();
                Err(ServerError::Timeout { server: self.0.address.clone(), what, limit })
            }
        }
    }

    async fn dial_within(&self) -> Result<(Box<dyn Socket>, Option<IpAddr>), ServerError> {
        let server = || self.0.address.clone();
        let unreachable = |source| ServerError::Unreachable { server: server(), source };
        match &self.0.address.transport {
            Transport::Unix { path } => Ok((Box::new(UnixStream::connect(path).await.map_err(unreachable)?), None)),
            Transport::Tcp { host, port } => {
                let (tcp, local) = dial_tcp(host, *port).await.map_err(unreachable)?;
                Ok((Box::new(tcp), Some(local)))
            }
            Transport::Tls { host, port } => {
                let (tcp, local) = dial_tcp(host, *port).await.map_err(unreachable)?;
                let config =
                    self.0.tls.clone().ok_or_else(|| unreachable(io::Error::other("TLS is not configured")))?;
                let name = ServerName::try_from(host.clone()).map_err(|error| unreachable(io::Error::other(error)))?;
                let failed = |source| ServerError::Tls { server: server(), source };
                let handshake = timeout(HANDSHAKE_LIMIT, TlsConnector::from(config).connect(name, tcp));
                let tls = match handshake.await {
                    Ok(Ok(tls)) => tls,
                    Ok(Err(error)) => {
                        return Err(match TlsFailure::find(&error) {
                            Some(failure) => failed(failure),
                            None if error.kind() == io::ErrorKind::UnexpectedEof => failed(TlsFailure::NotTls),
                            None => unreachable(error),
                        });
                    }
                    // A plain server waits for the end of what it takes for a command (`networking.c:processInlineBuffer`).
                    Err(_) => return Err(failed(TlsFailure::NotTls)),
                };
                Ok((Box::new(tls), Some(local)))
            }
        }
    }

    fn password(&self) -> Result<Option<Secret<String>>, ServerError> {
        match &self.0.password {
            Password::None => Ok(None),
            Password::Known(password) => Ok(Some(password.clone())),
            Password::File(path) => {
                let text = fs::read_to_string(path).map(Secret::new).map_err(|source| ServerError::PasswordFile {
                    server: self.0.address.clone(),
                    path: path.display().to_string(),
                    source,
                })?;
                Ok(Some(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())))
            }
        }
    }
}

async fn dial_tcp(host: &str, port: u16) -> io::Result<(TcpStream, IpAddr)> {
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    let local = tcp.local_addr().as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), SocketAddr::ip);
    Ok((tcp, local))
}

/// A server that expects TLS hangs up at our first plain bytes; one that has a password or is full answers.
fn first_answer(error: ServerError) -> ServerError {
    match error {
        ServerError::Lost { server, what } if matches!(server.transport, Transport::Tcp { .. }) => {
            ServerError::NotPlain { server, what }
        }
        error => error,
    }
}

/// A connection for commands. Every command has a limit; nothing reconnects by itself.
pub struct Connection {
    server: Server,
    commands: MultiplexedConnection,
    local_ip: Option<IpAddr>,
    /// Nothing was answered yet.
    fresh: bool,
    /// Owns the task that reads and writes; it ends with the connection.
    _driver: JoinSet<()>,
}

impl Connection {
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Our own address on this connection, as the server sees it; `None` over a Unix socket.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.local_ip
    }

    /// Sends one command and reads its answer.
    ///
    /// # Cancel safety
    /// The command may have been carried out.
    pub async fn query<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, ServerError> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        let answer = command.query_async(&mut self.commands).await;
        answer
            .map_err(|error| {
                let name = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
                let error = ServerError::of_command(self.server.address(), &name, COMMAND_LIMIT, &error);
                if self.fresh { first_answer(error) } else { error }
            })
            .inspect(|_| self.fresh = false)
    }

    /// `INFO`, taken apart.
    pub async fn info(&mut self) -> Result<Info, ServerError> {
        let text: String = self.query(&["INFO"]).await?;
        Ok(Info::parse(&text))
    }

    /// `INFO` as an observation made at `now`.
    pub async fn observe(
        &mut self,
        now: impl Fn() -> Timestamp,
    ) -> Result<(Info, urtext_types::NodeObservation), ServerError> {
        let info = self.info().await?;
        let observation = info
            .observation(now())
            .map_err(|source| ServerError::Info { server: self.server.address().clone(), source })?;
        Ok((info, observation))
    }

    /// One configuration value; `None` where the server has no such setting.
    pub async fn config(&mut self, name: &str) -> Result<Option<String>, ServerError> {
        let pairs: Vec<(String, String)> = self.query(&["CONFIG", "GET", name]).await?;
        Ok(pairs.into_iter().find(|(found, _)| found == name).map(|(_, value)| value))
    }
}
