//! The coordinator's repository as a store: what every store must do, as far as an agent may do it.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};
use urtext_agent::store::GrpcStore;
use urtext_proto::{
    MAX_PIECE_BYTES, pb,
    pb::{put_object_request::Part, storage_server::Storage},
    status::to_status,
};
use urtext_repository::{
    MAX_OBJECT_BYTES, ObjectName, ObjectPrefix, PutOutcome, Sha256Digest, Store, testing::MemoryStore,
};
use urtext_types::{ErrorKind, Explain, RecordId, Timestamp};

/// A coordinator that keeps objects in memory, and distrusts what arrives.
struct MemoryStorage(MemoryStore);

#[tonic::async_trait]
impl Storage for MemoryStorage {
    async fn put_object(
        &self,
        request: Request<Streaming<pb::PutObjectRequest>>,
    ) -> Result<Response<pb::PutObjectResponse>, Status> {
        let mut messages = request.into_inner();
        let Some(Part::Header(header)) = messages.message().await?.and_then(|message| message.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let mut object = BytesMut::new();
        while let Some(message) = messages.message().await? {
            match message.part {
                Some(Part::Piece(piece)) if piece.len() <= MAX_PIECE_BYTES => object.extend_from_slice(&piece),
                _ => return Err(Status::invalid_argument("not a piece")),
            }
        }
        if object.len() as u64 != header.size || Sha256Digest::of(&object).as_bytes()[..] != header.sha256[..] {
            return Err(Status::data_loss("not what was announced"));
        }
        let name: ObjectName = header.name.parse().map_err(|_| Status::invalid_argument("a bad name"))?;
        let outcome = self.0.put_new(&name, object.freeze()).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(pb::PutObjectResponse { already_there: outcome == PutOutcome::AlreadyIdentical }))
    }

    type GetObjectStream = Pin<Box<dyn Stream<Item = Result<pb::GetObjectResponse, Status>> + Send>>;

    async fn get_object(
        &self,
        request: Request<pb::GetObjectRequest>,
    ) -> Result<Response<Self::GetObjectStream>, Status> {
        let name: ObjectName = request.into_inner().name.parse().map_err(|_| Status::invalid_argument("a bad name"))?;
        let object = self.0.get(&name).await.map_err(|error| to_status(&error))?;
        // One whose announcement and content differ, as a connection that breaks would leave it.
        let cut = if name.as_str() == "cut-off" { 1 } else { 0 };
        let size = object.len() as u64;
        let object = object.slice(..object.len() - cut);
        let first = pb::GetObjectResponse { size: Some(size), piece: Bytes::new() };
        let pieces = (0..object.len()).step_by(100_000).map(move |from| pb::GetObjectResponse {
            size: None,
            piece: object.slice(from..object.len().min(from + 100_000)),
        });
        Ok(Response::new(stream::iter([first].into_iter().chain(pieces).map(Ok)).boxed()))
    }
}

async fn start() -> (SocketAddr, tokio::task::JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        let service = pb::storage_server::StorageServer::new(MemoryStorage(MemoryStore::default()));
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        serving.await.expect("to serve");
    });
    (address, server)
}

fn store_at(address: SocketAddr) -> GrpcStore {
    let channel: Channel = Endpoint::from_shared(format!("http://{address}")).expect("a URI").connect_lazy();
    GrpcStore::new(channel)
}

fn name(text: &str) -> ObjectName {
    text.parse().expect("a valid name")
}

#[tokio::test]
async fn objects_are_created_once_and_come_back() {
    let (address, _server) = start().await;
    let store = store_at(address);
    assert_eq!(store.get(&name("none")).await.expect_err("never put").kind(), ErrorKind::NotFound);
    for size in [0, 1, 256 * 1024, 256 * 1024 + 1, MAX_OBJECT_BYTES] {
        let name = name(&format!("objects/{size}"));
        let bytes = Bytes::from(vec![7; size]);
        assert_eq!(store.put_new(&name, bytes.clone()).await.expect("a new object"), PutOutcome::Created);
        assert_eq!(store.put_new(&name, bytes.clone()).await.expect("again"), PutOutcome::AlreadyIdentical);
        assert!(store.get(&name).await.expect("it comes back") == bytes, "{size}");
        let error = store.put_new(&name, Bytes::from_static(b"other")).await.expect_err("other bytes");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(name.as_str()), "{error}");
    }
    let error = store.put_new(&name("large"), Bytes::from(vec![7; MAX_OBJECT_BYTES + 1])).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Integrity);
}

#[tokio::test]
async fn an_object_that_is_cut_off_on_its_way_is_not_one() {
    let (address, _server) = start().await;
    let store = store_at(address);
    store.put_new(&name("cut-off"), Bytes::from_static(b"whole")).await.expect("a new object");
    let error = store.get(&name("cut-off")).await.expect_err("one byte is missing");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "worth another try: {error}");
}

#[tokio::test]
async fn a_coordinator_that_is_away_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = store_at(address).get(&name("one")).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn an_agent_does_not_look_around() {
    let (address, _server) = start().await;
    let listed: Vec<_> = store_at(address).list(&ObjectPrefix::all()).collect().await;
    assert!(matches!(&listed[..], [Err(error)] if error.kind() == ErrorKind::Denied));
}

#[tokio::test]
async fn a_store_can_be_shared() {
    let (address, _server) = start().await;
    let store: Arc<dyn Store> = Arc::new(store_at(address));
    let puts = (0..8_u8).map(|i| {
        let store = Arc::clone(&store);
        let name = name(&RecordId::new(Timestamp::from_millis(1), [i; 10]).to_string());
        async move { store.put_new(&name, Bytes::from(vec![i; 1_000_000])).await }
    });
    for outcome in futures::future::join_all(puts).await {
        assert_eq!(outcome.expect("each has a name of its own"), PutOutcome::Created);
    }
}
