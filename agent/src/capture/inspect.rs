//! Reading the RDB while it passes by: structure, checksum, counts, the digest of its content.

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use urtext_rdb::{Options, RdbError, Summary, Verifier};

/// Pieces between the socket and the parser: 4 × 512 KiB keep both busy.
const PIECES_IN_FLIGHT: usize = 4;

/// A parser on a thread of its own. Ends with what it is dropped with.
pub struct Inspector {
    pieces: mpsc::Sender<Bytes>,
    parser: JoinSet<Result<Summary, RdbError>>,
}

impl Inspector {
    pub fn start() -> Self {
        let (pieces, mut incoming) = mpsc::channel::<Bytes>(PIECES_IN_FLIGHT);
        let mut parser = JoinSet::new();
        parser.spawn_blocking(move || {
            let mut verifier = Verifier::new(Options { digest: true, ..Options::default() });
            while let Some(piece) = incoming.blocking_recv() {
                verifier.feed(&piece)?;
            }
            verifier.finish()
        });
        Self { pieces, parser }
    }

    /// Hands on the next bytes; waits while the parser is behind. `false` if the parser has given up: then
    /// [`Inspector::finish`] tells why.
    pub async fn feed(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// Ends the RDB.
    pub async fn finish(self) -> Result<Summary, RdbError> {
        let Self { pieces, mut parser } = self;
        drop(pieces);
        let parsed = parser.join_next().await.expect("one parser was started");
        parsed.unwrap_or_else(|error: JoinError| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // A runtime that shuts down; nobody reads this.
            Err(_) => Err(RdbError::Truncated { bytes: 0 }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_passes_by_is_understood() {
        let inspector = Inspector::start();
        assert!(inspector.feed(Bytes::from_static(b"REDIS0003")).await);
        assert!(inspector.feed(Bytes::from_static(&[0xff])).await);
        assert_eq!(inspector.finish().await.map(|summary| summary.bytes), Ok(10));
    }

    #[tokio::test]
    async fn what_is_no_rdb_ends_the_inspection() {
        let inspector = Inspector::start();
        while inspector.feed(Bytes::from_static(b"nothing of the kind")).await {}
        assert!(matches!(inspector.finish().await, Err(RdbError::NotRdb { .. })));
    }

    #[tokio::test]
    async fn an_rdb_that_is_cut_off_is_an_error() {
        let inspector = Inspector::start();
        assert!(inspector.feed(Bytes::from_static(b"REDIS0003")).await);
        assert_eq!(inspector.finish().await, Err(RdbError::Truncated { bytes: 9 }));
    }
}
