//! Trying again while a store does not answer.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;
use tracing::warn;
use urtext_types::{Chain, Explain};

use super::StoreError;

/// The first pause. Most cuts are a connection that has to be made anew.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest pause before jitter, so that the end of a longer cut is noticed soon.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Repeats an operation that fails for a transient reason, until `patience` has passed since the first
/// failure. The operation must be one that may be repeated; all of a store's are.
pub(crate) async fn with_patience<T, F, O>(patience: Duration, operation: O) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
    O: FnMut() -> F,
{
    let mut failing_since = None;
    let backoff = ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .without_max_times()
        .with_jitter();
    operation
        .retry(backoff)
        .when(|error| {
            let since = failing_since.get_or_insert_with(Instant::now);
            error.kind().is_transient() && since.elapsed() < patience
        })
        .notify(|error, delay| warn!(error = %Chain(error), ?delay, "store failed; will try again"))
        .await
}
