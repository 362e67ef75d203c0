//! Export and import: one tar in pieces.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use tokio::{io::AsyncReadExt, sync::mpsc};
use tonic::{Status, Streaming};
use urtext_proto::{MAX_PIECE_BYTES, model::InvalidField, pb};
use urtext_repository as stored;

use crate::{Fault, app::App, exporting::Sources};

/// Pieces between the network and whoever takes the tar apart.
const PIECES_WAITING: usize = 2;

/// Writes until it is done or nobody reads any more.
pub(super) async fn export(app: Arc<App>, sources: Sources, pieces: mpsc::Sender<Result<pb::StreamPiece, Status>>) {
    let (mut output, mut input) = tokio::io::duplex(MAX_PIECE_BYTES);
    let Sources { repository, backups } = sources;
    let written = async move {
        let written = stored::export(&repository, &backups, &app.verifier, &mut output, &|_| {}).await;
        drop(output);
        written
    };
    let sent = async {
        loop {
            let mut piece = Vec::with_capacity(MAX_PIECE_BYTES);
            // The other end of this pipe is above: it does not fail.
            if (&mut input).take(MAX_PIECE_BYTES as u64).read_to_end(&mut piece).await.is_err() || piece.is_empty() {
                break;
            }
            if pieces.send(Ok(pb::StreamPiece { piece: piece.into() })).await.is_err() {
                break;
            }
        }
    };
    let (written, ()) = tokio::select! {
        both = async { tokio::join!(written, sent) } => both,
        () = pieces.closed() => return,
    };
    if let Err(error) = written {
        let fault: Fault = Fault::while_doing("export backups")(error);
        let _ = pieces.send(Err(fault.into())).await;
    }
}

/// Takes a stream in.
pub(super) async fn import(
    app: &App,
    mut requests: Streaming<pb::ImportRequest>,
) -> Result<pb::ImportResponse, Status> {
    let first = requests.message().await?.unwrap_or_default();
    let name = first.repository.ok_or_else(|| Fault::from(InvalidField::missing("repository")))?;
    let repository = app.repository(&name).await?;
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
    let arriving = async move {
        let mut next = Some(first.piece);
        while let Some(piece) = next {
            // Nobody waits for more: it went wrong, and says so itself.
            if pieces.send(piece).await.is_err() {
                break;
            }
            next = requests.message().await?.map(|message| message.piece);
        }
        Ok::<(), Status>(())
    };
    let input = Pieces { waiting, piece: Bytes::new() };
    let taken = stored::import(&repository, &app.verifier, input, &|_| {});
    let (arrived, taken) = tokio::join!(arriving, taken);
    // A connection that broke makes a stream that ends too early: that is the lesser of the two reasons.
    arrived?;
    let imported = taken.map_err(Fault::while_doing("import backups"))?;
    app.reconcile(None).await?;
    let recipients = repository.recipients(&app.verifier).await.map_err(Fault::while_doing("read the keys"))?;
    let backups = imported.backups.into_iter().map(|backup| pb::ImportedBackup {
        key: Some(pb::BackupKey {
            deployment: backup.manifest.deployment.to_string(),
            shard: backup.manifest.shard.to_string(),
            id: backup.manifest.backup.to_string(),
        }),
        was_there: backup.was_there,
        sealed_to_others: !backup.manifest.recipients.iter().any(|one| recipients.iter().any(|other| one == other)),
    });
    Ok(pb::ImportResponse {
        backups: backups.collect(),
        others: imported.others as u64,
        bytes: imported.bytes,
        origin: imported.origin.map(|header| header.repository.to_string()),
    })
}

/// What arrives, for a reader on a thread of its own.
struct Pieces {
    waiting: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.waiting.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let bytes = self.piece.len().min(to.len());
        self.piece.copy_to_slice(&mut to[..bytes]);
        Ok(bytes)
    }
}
