//! `urtext export` and `urtext import`

use std::io::{self, IsTerminal};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::wrappers::ReceiverStream;
use urtext_proto::{MAX_PIECE_BYTES, pb};
use urtext_types::{ByteCount, ErrorKind};

use crate::{
    Fault,
    cli::{Context, Ended, Stop, args, client::refused, json, output::Progress},
};

/// Pieces on their way to the coordinator.
const PIECES_IN_FLIGHT: usize = 2;

pub(in crate::cli) async fn export(context: &Context, args: args::Export) -> Result<Ended, Stop> {
    let args::Export { deployment, backup } = args;
    if io::stdout().is_terminal() {
        return Err(Fault::new(ErrorKind::Usage, "a backup is nothing for a terminal")
            .with_hint(format!("send it to a file or a pipe: urtext export {deployment} > {deployment}.tar"))
            .into());
    }
    if context.output.json {
        return Err(Fault::new(ErrorKind::Usage, "stdout is the backup: there is no room for JSON")
            .with_hint("leave --json out")
            .into());
    }
    let client = context.connect().await?;
    let request = pb::ExportRequest { deployment: deployment.to_string(), backup_id: backup.map(|id| id.to_string()) };
    let mut pieces = client.control().export(request).await.map_err(refused)?.into_inner();
    let mut stdout = tokio::io::stdout();
    let mut progress = Progress::new();
    let mut bytes_done = 0;
    while let Some(pb::StreamPiece { piece }) = pieces.message().await.map_err(refused)? {
        stdout.write_all(&piece).await?;
        bytes_done += piece.len() as u64;
        progress.update(&pb::TaskPhase { phase: "exporting".to_owned(), bytes_done, bytes_total: None })?;
    }
    stdout.flush().await?;
    drop(progress);
    context.output.note(format_args!("exported {}", ByteCount::new(bytes_done)))?;
    Ok(Ended::Well)
}

pub(in crate::cli) async fn import(context: &Context, args: args::Import) -> Result<Ended, Stop> {
    let args::Import { repository } = args;
    if io::stdin().is_terminal() {
        return Err(Fault::new(ErrorKind::Usage, "import what?")
            .with_hint(format!("give the stream on stdin: urtext import --repository {repository} < orders.tar"))
            .into());
    }
    let client = context.connect().await?;
    let (pieces, stream) = tokio::sync::mpsc::channel(PIECES_IN_FLIGHT);
    let name = repository.clone();
    let reading = async move {
        let mut stdin = tokio::io::stdin();
        let mut first = Some(name);
        loop {
            let mut piece = Vec::with_capacity(MAX_PIECE_BYTES);
            let read = (&mut stdin).take(MAX_PIECE_BYTES as u64).read_to_end(&mut piece).await?;
            let repository = first.take();
            // Even of nothing the coordinator is told for which repository it is.
            if read == 0 && repository.is_none() {
                return Ok(());
            }
            let request = pb::ImportRequest { repository, piece: Bytes::from(piece) };
            // The coordinator says itself why it takes no more.
            if pieces.send(request).await.is_err() {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let mut control = client.control();
    let (read, response) = tokio::join!(reading, control.import(ReceiverStream::new(stream)));
    let response = response.map_err(refused)?.into_inner();
    read.map_err(|error| Fault::new(ErrorKind::Unavailable, format!("read stdin: {error}")))?;
    let answer: json::Imported = response.into();
    let output = &context.output;
    for backup in &answer.backups {
        let how = if backup.was_there { "was there already" } else { "imported" };
        output.text(format_args!("{} of {} {how}", backup.id, backup.deployment))?;
        if backup.sealed_to_others {
            let id = &backup.id;
            output.warning(format_args!(
                "{id} is sealed to others than the recipients of {repository}: keep their identity"
            ))?;
        }
    }
    output.text(format_args!("and {} records, {} in all", answer.others, ByteCount::new(answer.bytes)))?;
    output.value(&answer)?;
    Ok(Ended::Well)
}
