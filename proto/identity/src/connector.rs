//! Dialling the coordinator.

use std::{io, time::Duration};

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::{io::AsyncBufReadExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use urtext_types::{ErrorKind, Explain};

use crate::{ClientTls, TlsFailure, tls::COORDINATOR_NAME};

/// For name resolution, TCP and TLS together. Long enough for a bad link, short enough to try the next
/// address while somebody waits.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Makes TLS connections to the coordinator, each with the credentials of that moment.
///
/// For gRPC, wrap it where the channel is made; the endpoint's scheme is `http`, as TLS happens here:
///
/// ```text
/// Endpoint::from_shared(format!("http://{address}"))?.connect_with_connector(service_fn(move |uri: Uri| {
///     let connector = connector.clone();
///     async move { connector.connect(uri.authority().map_or("", |a| a.as_str())).await.map(TokioIo::new) }
/// }))
/// ```
#[derive(Debug, Clone)]
pub struct Connector {
    tls: ClientTls,
}

/// No connection to the coordinator.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("connect to the coordinator at {address}")]
    Unreachable {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("connect to the coordinator at {address}: no answer within {} s", CONNECT_LIMIT.as_secs())]
    Timeout { address: String },
    #[error("connect to the coordinator at {address}")]
    Tls {
        address: String,
        #[source]
        source: TlsFailure,
    },
}

impl Explain for ConnectError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => ErrorKind::Unavailable,
            Self::Tls { source, .. } => source.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => {
                Some("is `urtext serve` running there, and the port open from here?".to_owned())
            }
            Self::Tls { source, .. } => source.hint(),
        }
    }
}

impl Connector {
    pub fn new(tls: ClientTls) -> Self {
        Self { tls }
    }

    /// Connects to `address`, `host:port`, and returns once both sides have accepted each other.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn connect(&self, address: &str) -> Result<TlsStream<TcpStream>, ConnectError> {
        match timeout(CONNECT_LIMIT, self.dial(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Timeout { address: address.to_owned() }),
        }
    }

    async fn dial(&self, address: &str) -> Result<TlsStream<TcpStream>, ConnectError> {
        let unreachable = |source| ConnectError::Unreachable { address: address.to_owned(), source };
        let refused = |source| match TlsFailure::find(&source) {
            Some(failure) => ConnectError::Tls { address: address.to_owned(), source: failure },
            None => unreachable(source),
        };
        let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::try_from(COORDINATOR_NAME).expect("the coordinator's name is a host name");
        let mut connection = TlsConnector::from(self.tls.current()).connect(name, tcp).await.map_err(refused)?;
        // In TLS 1.3 the client's part of the handshake is over before the server has looked at its
        // certificate. A refusal would reach the HTTP/2 code, which keeps no more of it than a text. So wait
        // for the server's first bytes, unread: its SETTINGS, which it sends unasked (RFC 9113, 3.4).
        if connection.fill_buf().await.map_err(refused)?.is_empty() {
            return Err(unreachable(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(connection)
    }
}
