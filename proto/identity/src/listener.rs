//! Accepting connections.

use std::{io, net::SocketAddr, time::Duration};

use futures::{Stream, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, error, warn};

use crate::{ServerTls, TlsFailure};

/// Two round trips and four signatures: ten seconds allow for any link that could carry a backup.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Each holds a socket and some tens of KiB. Beyond that many, new clients wait in the kernel's queue, so
/// a crowd that connects and says nothing holds up others for [`HANDSHAKE_LIMIT`] and costs 16 MiB.
const HANDSHAKES_AT_ONCE: usize = 256;

/// Out of file descriptors or memory: accepting again at once would only spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);

/// The connections that clients make to `listener`, each with its handshake done.
///
/// A client that is slow or fails holds up nobody, and the stream goes on for ever. The handshakes under
/// way belong to the stream and end when it is dropped. A stream's items are never errors; they are
/// `io::Result` because that is what a gRPC server accepts.
pub fn incoming(listener: TcpListener, tls: ServerTls) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> + Send {
    let accepting = Accepting { listener, tls, handshakes: JoinSet::new(), paused_until: None };
    stream::unfold(accepting, |mut accepting| async move {
        let connection = accepting.next().await;
        Some((Ok(connection), accepting))
    })
}

struct Accepting {
    listener: TcpListener,
    tls: ServerTls,
    handshakes: JoinSet<Option<TlsStream<TcpStream>>>,
    paused_until: Option<Instant>,
}

impl Accepting {
    /// The next connection whose handshake is done.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: a connection is out of `handshakes` only when it is returned.
    async fn next(&mut self) -> TlsStream<TcpStream> {
        loop {
            let may_accept = self.handshakes.len() < HANDSHAKES_AT_ONCE;
            tokio::select! {
                Some(done) = self.handshakes.join_next(), if !self.handshakes.is_empty() => {
                    if let Some(connection) = connection_of(done) {
                        return connection;
                    }
                }
                accepted = accept(&self.listener, self.paused_until), if may_accept => self.on_accepted(accepted),
            }
        }
    }

    fn on_accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        self.paused_until = None;
        match accepted {
            Ok((tcp, peer)) => {
                let acceptor = TlsAcceptor::from(self.tls.current());
                self.handshakes.spawn(handshake(acceptor, tcp, peer));
            }
            // The client was gone before we got to it.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
                debug!(%error, "connection lost before it was accepted");
            }
            Err(error) => {
                warn!(%error, pause = ?PAUSE_AFTER_FAILURE, "cannot accept connections; trying again");
                self.paused_until = Some(Instant::now() + PAUSE_AFTER_FAILURE);
            }
        }
    }
}

/// # Cancel safety
/// Safe: `TcpListener::accept` is.
async fn accept(listener: &TcpListener, not_before: Option<Instant>) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(not_before) = not_before {
        sleep_until(not_before).await;
    }
    listener.accept().await
}

async fn handshake(acceptor: TlsAcceptor, tcp: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = tcp.set_nodelay(true) {
        debug!(%peer, %error, "connection lost before its handshake");
        return None;
    }
    match timeout(HANDSHAKE_LIMIT, acceptor.accept(tcp)).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            match TlsFailure::find(&error) {
                Some(failure) if failure.is_about_a_certificate() => {
                    warn!(%peer, error = %failure, "refused a connection");
                }
                // Port scans and health checks: nobody's fault and nobody's business.
                _ => debug!(%peer, %error, "no TLS handshake"),
            }
            None
        }
        Err(_) => {
            debug!(%peer, limit = ?HANDSHAKE_LIMIT, "the TLS handshake took too long");
            None
        }
    }
}

fn connection_of(done: Result<Option<TlsStream<TcpStream>>, JoinError>) -> Option<TlsStream<TcpStream>> {
    done.unwrap_or_else(|error| {
        error!(%error, "a TLS handshake panicked");
        None
    })
}
