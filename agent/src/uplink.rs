//! The connection to the coordinator: one HTTP/2 connection for session and data, made anew when it breaks.

use std::{error::Error, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use urtext_identity::{ClientTls, ConnectError, Connector, TlsFailure};
use urtext_proto::RpcError;
use urtext_types::{Chain, ErrorKind, Explain};

/// A connection on which nothing was heard for this long is asked whether it lives, so that a cut in the
/// network is noticed by the side that would otherwise wait for ever.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the answer to that may take.
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

/// HTTP/2 frames of up to this size: 16 KiB, the default, cost half of the throughput.
const FRAME_BYTES: u32 = 256 * 1024;

/// A channel to the first of `endpoints` that answers. It connects at its first use, and again whenever the
/// connection is lost, with the certificate that `tls` holds at that moment.
pub fn channel(tls: ClientTls, endpoints: Vec<String>) -> Channel {
    let connector = Connector::new(tls);
    let endpoints: Arc<[String]> = endpoints.into();
    let dial = service_fn(move |_| {
        let (connector, endpoints) = (connector.clone(), Arc::clone(&endpoints));
        async move { connect_to_any(&connector, &endpoints).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://coordinator")
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .max_frame_size(FRAME_BYTES)
        .connect_with_connector_lazy(dial)
}

async fn connect_to_any(
    connector: &Connector,
    endpoints: &[String],
) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, ConnectError> {
    let mut last =
        ConnectError::Unreachable { address: "no address".to_owned(), source: io::ErrorKind::AddrNotAvailable.into() };
    for endpoint in endpoints {
        match connector.connect(endpoint).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What the coordinator answered, or why it could not be asked, with the sentence and the hint of whoever
/// knows best.
pub fn explain(status: Status) -> RpcError {
    if let Some(error) = find::<ConnectError>(&status) {
        return RpcError::new(error.kind(), Chain(error).to_string(), error.hint());
    }
    if let Some(failure) = TlsFailure::find(&status) {
        return RpcError::new(
            failure.kind(),
            format!("the connection to the coordinator failed: {failure}"),
            failure.hint(),
        );
    }
    // Without an answer of the coordinator's own, what the layers below say of the connection is one matter.
    if let Some(source) = status.source() {
        let mut deepest = source;
        while let Some(cause) = deepest.source() {
            deepest = cause;
        }
        let message = format!("the connection to the coordinator was lost: {deepest}");
        return RpcError::new(ErrorKind::Unavailable, message, None);
    }
    RpcError::from(status)
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
