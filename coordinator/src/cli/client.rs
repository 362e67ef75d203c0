//! The coordinator, from the command line: its services, and its repository as a store.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};
use hyper_util::rt::TokioIo;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;
use urtext_identity::{ClientTls, ConnectError, Connector, Credentials, TlsFailure};
use urtext_proto::{
    MAX_MESSAGE_BYTES, RpcError,
    model::BackupAddress,
    pb::{self, control_client::ControlClient, storage_client::StorageClient},
};
use urtext_repository::{
    BackupKey, BackupReader, MAX_OBJECT_BYTES, ObjectInfo, ObjectName, ObjectPrefix, Pace, PacedStore, PutOutcome,
    Store, StoreError, StoreOperation,
};
use urtext_types::{ByteRate, ErrorKind, Explain};

use super::{
    Context, args,
    output::{WIDTH, wrap},
};
use crate::{Fault, alone::StandIn, clock::Clock, directory::OperatorDirectory, verifier::AuthorityVerifier};

const KEEPALIVE: Duration = Duration::from_secs(5);

/// A connected command line.
pub(super) struct Client {
    channel: Channel,
    pub(super) verifier: AuthorityVerifier,
    /// Where no other coordinator is asked.
    _stand_in: Option<StandIn>,
}

impl Context {
    /// Connects to the coordinator that the directory names.
    pub(super) async fn connect(&self) -> Result<Client, Fault> {
        let operator = self.operator()?;
        let credentials =
            Credentials::load(operator.root()).map_err(Fault::while_doing("read the operator's certificate"))?;
        if let Ok(Some(exposed)) = Credentials::check_private(operator.root()) {
            let _ = self.output.warning(exposed);
        }
        let tls = ClientTls::new(&credentials).map_err(Fault::while_doing("use the operator's certificate"))?;
        let mut last = None;
        for endpoint in endpoints(&operator)? {
            match dial(&endpoint, &tls).await {
                Ok(channel) => {
                    let verifier = AuthorityVerifier::new(credentials.ca_pem);
                    return Ok(Client { channel, verifier, _stand_in: None });
                }
                Err(fault) => last = Some(fault),
            }
        }
        Err(last.unwrap_or_else(|| {
            Fault::new(ErrorKind::Usage, format!("{} names no address", operator.endpoints().display()))
        }))
    }
}

impl Context {
    /// Connects to the coordinator, or asks nobody but the repositories that are named.
    pub(super) async fn connect_or_stand_in(&self, alone: &args::Alone) -> Result<Client, Fault> {
        if alone.repositories.is_empty() {
            return self.connect().await;
        }
        let started = Box::pin(StandIn::start(&alone.repositories, alone.authority.as_deref(), Clock::system())).await;
        let stand_in = started.map_err(Fault::while_doing("read the repository without a coordinator"))?;
        for note in &stand_in.notes {
            let noted = self.output.note(wrap(&format!("note: {note}"), WIDTH).join("\n"));
            noted.map_err(|error| Fault::new(ErrorKind::Unavailable, format!("write the output: {error}")))?;
        }
        let (channel, verifier) = (stand_in.channel.clone(), stand_in.verifier.clone());
        Ok(Client { channel, verifier, _stand_in: Some(stand_in) })
    }
}

fn endpoints(operator: &OperatorDirectory) -> Result<Vec<String>, Fault> {
    let path = operator.endpoints();
    let text = urtext_identity::read_text(&path).map_err(Fault::while_doing("find the coordinator's address"))?;
    Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

async fn dial(address: &str, tls: &ClientTls) -> Result<Channel, Fault> {
    let connector = Connector::new(tls.clone());
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Fault::new(ErrorKind::Usage, format!("{address:?} is not host:port")))?
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let connected = endpoint.connect_with_connector(service_fn(move |uri: Uri| {
        let connector = connector.clone();
        async move { connector.connect(uri.authority().map_or("", |a| a.as_str())).await.map(TokioIo::new) }
    }));
    connected.await.map_err(|error| connect_fault(address, &error))
}

/// What is underneath tonic's "transport error".
fn connect_fault(address: &str, error: &(dyn Error + 'static)) -> Fault {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<ConnectError>() {
            let fault = Fault::new(found.kind(), urtext_types::Chain(found).to_string());
            return match found.hint() {
                Some(hint) => fault.with_hint(hint),
                None => fault,
            };
        }
        cause = current.source();
    }
    Fault::new(
        ErrorKind::Unavailable,
        format!("connect to the coordinator at {address}: {}", urtext_types::Chain(error)),
    )
}

/// A refused request. That our certificate is refused shows only here.
pub(super) fn refused(status: Status) -> Fault {
    if let Some(failure) = status.source().and_then(TlsFailure::find)
        && failure.is_about_a_certificate()
    {
        return Fault::while_doing("ask the coordinator")(failure);
    }
    let error = RpcError::from(status);
    let fault = Fault::new(error.kind(), error.message.clone());
    match error.hint() {
        Some(hint) => fault.with_hint(hint),
        None => fault,
    }
}

impl Client {
    pub(super) fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Opens one backup of the coordinator's repository, to be read no faster than `limit`; its manifest is verified.
    pub(super) async fn open_backup(&self, key: pb::BackupKey, limit: Option<ByteRate>) -> Result<BackupReader, Fault> {
        let BackupAddress { deployment, shard, id } = key.try_into()?;
        let store = PacedStore::new(Arc::new(self.store())).reading_at(Arc::new(Pace::new(limit)));
        BackupReader::open(Arc::new(store), BackupKey { deployment, shard, id }, &self.verifier)
            .await
            .map_err(Fault::while_doing("open the backup"))
    }

    /// The coordinator's repository, to be read.
    pub(super) fn store(&self) -> RemoteStore {
        let limit = 2 * urtext_proto::MAX_PIECE_BYTES;
        RemoteStore { storage: StorageClient::new(self.channel.clone()).max_decoding_message_size(limit) }
    }
}

/// A repository behind a coordinator. The command line only reads single objects.
#[derive(Debug, Clone)]
pub(super) struct RemoteStore {
    storage: StorageClient<Channel>,
}

const PLACE: &str = "the coordinator's repository";

#[async_trait]
impl Store for RemoteStore {
    async fn put_new(&self, name: &ObjectName, _: Bytes) -> Result<PutOutcome, StoreError> {
        Err(not_allowed(StoreOperation::Put, name.as_str()))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let failed = |status: Status| store_error(name, status);
        let request = pb::GetObjectRequest { name: name.to_string() };
        let mut messages = self.storage.clone().get_object(request).await.map_err(failed)?.into_inner();
        let mut bytes = BytesMut::new();
        while let Some(message) = messages.message().await.map_err(failed)? {
            if bytes.len() + message.piece.len() > MAX_OBJECT_BYTES {
                let size = urtext_types::ByteCount::new((bytes.len() + message.piece.len()) as u64);
                return Err(StoreError::TooLarge { object: name.to_string(), size, place: PLACE.to_owned() });
            }
            bytes.extend_from_slice(&message.piece);
        }
        Ok(bytes.freeze())
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let refused = not_allowed(StoreOperation::List, prefix.as_str());
        futures::stream::once(async { Err(refused) }).boxed()
    }
}

fn not_allowed(operation: StoreOperation, object: &str) -> StoreError {
    StoreError::Denied { operation, object: object.to_owned(), place: PLACE.to_owned(), source: None }
}

fn store_error(name: &ObjectName, status: Status) -> StoreError {
    let (object, place) = (name.to_string(), PLACE.to_owned());
    let fault = refused(status);
    match fault.kind() {
        ErrorKind::NotFound => StoreError::NotFound { object, place },
        ErrorKind::Denied => {
            StoreError::Denied { operation: StoreOperation::Get, object, place, source: Some(Box::new(fault)) }
        }
        _ => StoreError::Unavailable { operation: StoreOperation::Get, object, place, source: Some(Box::new(fault)) },
    }
}
