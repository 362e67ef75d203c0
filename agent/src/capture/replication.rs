//! The RDB as a replica gets it.

use std::time::Duration;

use urtext_replication::{AnnouncePort, ReplicationError, SnapshotRequest, SnapshotStream, request_snapshot};
use urtext_types::{Engine, NodeObservation};

use super::CaptureError;
use crate::server::{Server, Socket};

/// The longest silence. A server that saves sends a newline each second, and one that waits for another of
/// its children as well.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Attaches to the server, and waits for the first byte.
///
/// # Cancel safety
/// Dropping the future, or the stream, closes the connection: the server stops serving us.
pub(super) async fn attach(
    server: &Server,
    observed: &NodeObservation,
) -> Result<SnapshotStream<Box<dyn Socket>>, CaptureError> {
    let request = SnapshotRequest {
        credentials: server.credentials()?,
        announce_version: match observed.server.engine {
            Engine::Valkey => Some(observed.server.version.clone()),
            Engine::Redis => None,
        },
        announce_port: announce_port(observed),
        idle_timeout: IDLE_LIMIT,
    };
    let failed = |source: ReplicationError| CaptureError::Replication { server: server.address().clone(), source };
    request_snapshot(server.dial().await?, &request).await.map_err(failed)
}

/// Sentinel reads a master's list of replicas, and must not make an entry of us.
fn announce_port(observed: &NodeObservation) -> AnnouncePort {
    if observed.replication.role.is_master() { AnnouncePort::Unroutable } else { AnnouncePort::None }
}
