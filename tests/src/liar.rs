//! Somebody with a valid certificate who asks for what is not theirs: straight gRPC, past our own programs.

use std::path::Path;

use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use urtext_identity::{ClientTls, Connector, Credentials};
use urtext_proto::pb;

/// A peer with the credentials in a folder of your choice.
#[derive(Debug)]
pub struct Liar {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Liar {
    /// Connects to `address` with the certificate and key below `dir`.
    #[track_caller]
    pub fn connect(address: &str, dir: &Path) -> Self {
        let folder = credentials_folder(dir);
        let credentials = Credentials::load(&folder).expect("credentials to borrow");
        let connector = Connector::new(ClientTls::new(&credentials).expect("a TLS configuration"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = address.to_owned();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid address");
        let dial = tower::service_fn(move |_| {
            let (connector, address) = (connector.clone(), address.clone());
            async move { connector.connect(&address).await.map(TokioIo::new) }
        });
        let channel = runtime.block_on(endpoint.connect_with_connector(dial)).expect("connect with TLS");
        Self { runtime, channel }
    }

    /// Asks to store an object under `name`.
    pub fn put(&self, name: &str, content: &[u8]) -> Result<(), Status> {
        let header = pb::PutObjectHeader {
            name: name.to_owned(),
            size: content.len() as u64,
            sha256: Sha256::digest(content).to_vec().into(),
        };
        let messages = [
            pb::put_object_request::Part::Header(header),
            pb::put_object_request::Part::Piece(content.to_vec().into()),
        ];
        let stream = tokio_stream::iter(messages.map(|part| pb::PutObjectRequest { part: Some(part) }));
        let mut client = pb::storage_client::StorageClient::new(self.channel.clone());
        self.runtime.block_on(client.put_object(stream)).map(drop)
    }

    /// Asks to read an object.
    pub fn get(&self, name: &str) -> Result<(), Status> {
        let mut client = pb::storage_client::StorageClient::new(self.channel.clone());
        let request = pb::GetObjectRequest { name: name.to_owned() };
        self.runtime.block_on(async { client.get_object(request).await?.into_inner().message().await.map(drop) })
    }

    /// Asks, as an operator would, for an invitation.
    pub fn invite(&self) -> Result<(), Status> {
        let mut client = pb::control_client::ControlClient::new(self.channel.clone());
        let request = pb::InviteRequest {
            deployment: "orders".to_owned(),
            shard: "0".to_owned(),
            site: "lyr".to_owned(),
            node: "lyr-1".to_owned(),
            ttl_seconds: 60,
        };
        self.runtime.block_on(client.invite(request)).map(drop)
    }
}

/// Fails the test unless the answer is a refusal of permission, in words; gives the words.
#[track_caller]
pub fn refused(answer: Result<(), Status>) -> String {
    let status = answer.expect_err("this must be refused");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains(' '), "a sentence, not {:?}", status.message());
    status.message().to_owned()
}

/// Where below `dir` the certificate lies.
#[track_caller]
pub fn credentials_folder(dir: &Path) -> std::path::PathBuf {
    let files = crate::fleet::files_below(dir);
    let found = files.iter().find(|file| file.file_name().is_some_and(|name| name == "identity.pem"));
    let found = found.unwrap_or_else(|| panic!("no identity.pem among {files:#?}"));
    found.parent().expect("a file lies in a folder").to_owned()
}
