//! Tasks whose end is waited for, and work for a processor away from the threads that serve sockets.

use std::{future, panic};

use tokio::task::JoinError;

/// The result of a task of ours. Its panic goes on here.
pub(crate) async fn joined<T>(result: Result<T, JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(payload) => panic::resume_unwind(payload),
            // Only a runtime that shuts down cancels a task of ours, and it drops the caller as well,
            // at this await.
            Err(_) => future::pending().await,
        },
    }
}

/// Runs `work` on the blocking pool and waits for it.
///
/// # Cancel safety
/// Dropping this does not stop `work`; its result is lost.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await).await
}
