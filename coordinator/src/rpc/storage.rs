//! Objects of the repository behind the coordinator.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};
use urtext_proto::{MAX_PIECE_BYTES, model::InvalidField, pb};
use urtext_repository::PutOutcome;
use urtext_types::ErrorKind;

use super::peers::{self, Reader};
use crate::{
    Fault,
    app::App,
    objects::{Announced, IDLE_LIMIT},
};

pub(super) struct Service(pub(super) Arc<App>);

/// An object that comes slower than this, in bytes a second, is given up: its place in memory is for others.
const SLOWEST: u64 = 32 * 1024;

/// A reader that takes nothing for so long is gone, or keeps others from reading.
const TAKING_LIMIT: Duration = Duration::from_secs(60);

/// Pieces that wait for the reader.
const PIECES_WAITING: usize = 1;

#[async_trait]
impl pb::storage_server::Storage for Service {
    type GetObjectStream = ReceiverStream<Result<pb::GetObjectResponse, Status>>;

    async fn put_object(
        &self,
        request: Request<Streaming<pb::PutObjectRequest>>,
    ) -> Result<Response<pb::PutObjectResponse>, Status> {
        let agent = peers::agent(&self.0, &request, "write backups").await?.identity;
        let mut parts = request.into_inner();
        let header = header(&mut parts).await?;
        let announced = self.0.announce(&agent, &header.name, header.size, &header.sha256).await?;
        // While others are being put, this one waits at the agent: nothing of it is read.
        let _place = self.0.puts.enter().await;
        let limit = receiving_limit(announced.size);
        let bytes = timeout(limit, receive(&mut parts, &announced)).await.map_err(|_| {
            let message = format!("{} did not arrive within {} s; send it again", announced.name, limit.as_secs());
            Status::from(Fault::new(ErrorKind::Unavailable, message))
        })??;
        let outcome = self.0.put(&agent, announced, bytes).await?;
        Ok(Response::new(pb::PutObjectResponse { already_there: outcome == PutOutcome::AlreadyIdentical }))
    }

    async fn get_object(
        &self,
        request: Request<pb::GetObjectRequest>,
    ) -> Result<Response<Self::GetObjectStream>, Status> {
        let reader = peers::reader(&self.0, &request).await?;
        let name = request.into_inner().name;
        let app = Arc::clone(&self.0);
        // The place is given back with the last piece, or when the reader hangs up or takes nothing.
        let place = Arc::clone(&self.0.gets).acquire_owned().await.expect("the gate is never closed");
        let bytes = match reader {
            Reader::Agent(agent) => app.get_for_agent(&agent, &name).await?,
            Reader::Operator => {
                let name = name.parse().map_err(Fault::while_doing("read an object"))?;
                app.get(&name).await?
            }
        };
        let (sender, messages) = mpsc::channel(PIECES_WAITING);
        self.0.background.spawn(async move {
            let _held = place;
            for message in pieces(bytes) {
                // A reader that is cut off sees that the object ends before its size.
                if !matches!(timeout(TAKING_LIMIT, sender.send(Ok(message))).await, Ok(Ok(()))) {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

async fn header(parts: &mut Streaming<pb::PutObjectRequest>) -> Result<pb::PutObjectHeader, Status> {
    match next(parts).await?.and_then(|message| message.part) {
        Some(pb::put_object_request::Part::Header(header)) => Ok(header),
        _ => Err(Fault::from(InvalidField::missing("put_object.header")).into()),
    }
}

/// How long an object of that size may take.
fn receiving_limit(size: usize) -> Duration {
    IDLE_LIMIT + Duration::from_secs(size as u64 / SLOWEST)
}

/// The announced number of bytes, and no more.
async fn receive(parts: &mut Streaming<pb::PutObjectRequest>, announced: &Announced) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::with_capacity(announced.size);
    let wrong = |found: usize| {
        let message = format!("{} was announced with {} bytes and has {found}", announced.name, announced.size);
        Status::from(Fault::new(ErrorKind::Usage, message))
    };
    while let Some(message) = next(parts).await? {
        let Some(pb::put_object_request::Part::Piece(piece)) = message.part else {
            return Err(Fault::from(InvalidField::wrong("put_object.part", "a second header")).into());
        };
        if bytes.len() + piece.len() > announced.size {
            return Err(wrong(bytes.len() + piece.len()));
        }
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() == announced.size { Ok(bytes.freeze()) } else { Err(wrong(bytes.len())) }
}

async fn next(parts: &mut Streaming<pb::PutObjectRequest>) -> Result<Option<pb::PutObjectRequest>, Status> {
    timeout(IDLE_LIMIT, parts.message()).await.map_err(|_| {
        Status::from(Fault::new(
            ErrorKind::Unavailable,
            format!("nothing came for {IDLE_LIMIT:?}; send the object again"),
        ))
    })?
}

/// The messages of one object; an empty one has one message as well.
fn pieces(mut bytes: Bytes) -> Vec<pb::GetObjectResponse> {
    let mut messages = Vec::new();
    let mut size = Some(bytes.len() as u64);
    loop {
        let piece = bytes.split_to(bytes.len().min(MAX_PIECE_BYTES));
        messages.push(pb::GetObjectResponse { size: size.take(), piece });
        if bytes.is_empty() {
            return messages;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: usize, expect: &[usize]) {
        let messages = pieces(vec![7; size].into());
        assert_eq!(messages.iter().map(|message| message.piece.len()).collect::<Vec<_>>(), expect);
        assert_eq!(messages[0].size, Some(size as u64));
        assert!(messages[1..].iter().all(|message| message.size.is_none()));
    }

    #[test]
    fn an_object_travels_in_pieces_and_says_its_size_once() {
        check(0, &[0]);
        check(1, &[1]);
        check(MAX_PIECE_BYTES, &[MAX_PIECE_BYTES]);
        check(MAX_PIECE_BYTES + 1, &[MAX_PIECE_BYTES, 1]);
    }
}
