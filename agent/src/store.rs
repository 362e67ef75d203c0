//! The repository behind the coordinator, as a store.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Status, transport::Channel};
use urtext_proto::{MAX_MESSAGE_BYTES, pb, pb::storage_client::StorageClient};
use urtext_repository::{
    MAX_OBJECT_BYTES, ObjectInfo, ObjectName, ObjectPrefix, PutOutcome, Sha256Digest, Store, StoreError, StoreOperation,
};
use urtext_types::{ByteCount, ErrorKind, Explain};

use crate::uplink;

/// Bytes of an object in one message: large enough that messages cost nothing, small enough to share the
/// connection with observations.
const PIECE_BYTES: usize = 256 * 1024;

/// The longest time without any progress of a put or a get. A slow link is no failure; a stuck one is.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// A store that asks the coordinator.
pub struct GrpcStore {
    channel: Channel,
}

impl GrpcStore {
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    fn client(&self) -> StorageClient<Channel> {
        StorageClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

const PLACE: &str = "the coordinator's repository";

#[async_trait]
impl Store for GrpcStore {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(too_large(name, bytes.len() as u64));
        }
        let size = bytes.len() as u64;
        let header = pb::PutObjectHeader {
            name: name.to_string(),
            size,
            sha256: Bytes::copy_from_slice(Sha256Digest::of(&bytes).as_bytes()),
        };
        let (progress, moved) = watch::channel(Instant::now());
        let mut client = self.client();
        let put = client.put_object(messages(header, bytes, progress));
        let answered = tokio::select! {
            answered = put => answered,
            () = stalled(moved) => Err(stall()),
        };
        match answered {
            Ok(response) if response.get_ref().already_there => Ok(PutOutcome::AlreadyIdentical),
            Ok(_) => Ok(PutOutcome::Created),
            Err(status) => Err(failed(StoreOperation::Put, name.as_str(), size, status)),
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let failed = |status| failed(StoreOperation::Get, name.as_str(), 0, status);
        let request = pb::GetObjectRequest { name: name.to_string() };
        let mut client = self.client();
        let mut pieces = timeout(STALL_LIMIT, client.get_object(request))
            .await
            .map_err(|_| failed(stall()))?
            .map_err(failed)?
            .into_inner();
        let mut object = BytesMut::new();
        let mut announced = None;
        while let Some(message) =
            timeout(STALL_LIMIT, pieces.message()).await.map_err(|_| failed(stall()))?.map_err(failed)?
        {
            if let Some(size) = message.size {
                if size > MAX_OBJECT_BYTES as u64 {
                    return Err(too_large(name, size));
                }
                announced = Some(size);
                object.reserve(size as usize);
            }
            if object.len() + message.piece.len() > MAX_OBJECT_BYTES {
                return Err(too_large(name, (object.len() + message.piece.len()) as u64));
            }
            object.extend_from_slice(&message.piece);
        }
        match announced {
            Some(size) if size == object.len() as u64 => Ok(object.freeze()),
            _ => Err(failed(Status::unavailable("the object was cut off on its way"))),
        }
    }

    /// An agent is given the names of what it may read; it never looks around.
    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let denied = StoreError::Denied {
            operation: StoreOperation::List,
            object: prefix.as_str().to_owned(),
            place: PLACE.to_owned(),
            source: None,
        };
        stream::once(async { Err(denied) }).boxed()
    }
}

/// The header, then the pieces; `progress` notes when each was taken.
fn messages(
    header: pb::PutObjectHeader,
    bytes: Bytes,
    progress: watch::Sender<Instant>,
) -> impl futures::Stream<Item = pb::PutObjectRequest> + Send + 'static {
    use pb::put_object_request::Part;
    let pieces = (0..bytes.len().div_ceil(PIECE_BYTES)).map(move |index| {
        let from = index * PIECE_BYTES;
        Part::Piece(bytes.slice(from..bytes.len().min(from + PIECE_BYTES)))
    });
    stream::iter([Part::Header(header)].into_iter().chain(pieces)).map(move |part| {
        progress.send_replace(Instant::now());
        pb::PutObjectRequest { part: Some(part) }
    })
}

/// Ready once nothing has moved for [`STALL_LIMIT`].
async fn stalled(moved: watch::Receiver<Instant>) {
    loop {
        let deadline = *moved.borrow() + STALL_LIMIT;
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
}

fn stall() -> Status {
    Status::deadline_exceeded(format!("nothing moved for {} s", STALL_LIMIT.as_secs()))
}

fn too_large(name: &ObjectName, size: u64) -> StoreError {
    StoreError::TooLarge { object: name.to_string(), size: ByteCount::new(size), place: PLACE.to_owned() }
}

fn failed(operation: StoreOperation, object: &str, size: u64, status: Status) -> StoreError {
    let error = uplink::explain(status);
    let (object, place) = (object.to_owned(), PLACE.to_owned());
    let kind = error.kind();
    let source: Option<Box<dyn Error + Send + Sync>> = Some(Box::new(error));
    match kind {
        ErrorKind::NotFound => StoreError::NotFound { object, place },
        ErrorKind::Conflict => StoreError::Conflict { object, place },
        ErrorKind::Exhausted => {
            StoreError::Exhausted { operation, object, needed: ByteCount::new(size), place, source }
        }
        // Not allowed, or asked in a way that will be refused again.
        ErrorKind::Denied | ErrorKind::Refused | ErrorKind::Usage | ErrorKind::Ambiguous => {
            StoreError::Denied { operation, object, place, source }
        }
        // What arrived damaged arrives whole the next time.
        ErrorKind::Unavailable | ErrorKind::Integrity | ErrorKind::Internal => {
            StoreError::Unavailable { operation, object, place, source }
        }
    }
}

/// A store for tasks to share.
pub fn shared(channel: Channel) -> Arc<dyn Store> {
    Arc::new(GrpcStore::new(channel))
}
