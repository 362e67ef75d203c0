//! The RDB as a replica gets it.

use std::time::Duration;

use urtext_replication::{ReplicationError, SnapshotRequest, SnapshotStream, request_snapshot};
use urtext_types::NodeObservation;

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
    let request = SnapshotRequest::to(observed, server.credentials()?, IDLE_LIMIT);
    let failed = |source: ReplicationError| CaptureError::Replication { server: server.address().clone(), source };
    request_snapshot(server.dial().await?, &request).await.map_err(failed)
}
