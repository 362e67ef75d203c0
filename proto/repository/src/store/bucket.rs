//! A repository in a bucket: S3 and everything that speaks it, Google Cloud Storage, Azure Blob Storage.
//!
//! An object is put with the condition that nothing has its name, so that of several writers exactly one
//! creates it. An answer that is lost is no answer: the put is made again, finds its own object, compares
//! the bytes and succeeds.
//!
//! A store without conditional puts (`?conditional_put=no`) is looked at before and read after: the
//! object is compared with what was put. Two writers of *different* bytes under one name, in the same
//! moment, are not told apart then. No two writers of Urtext share a name, since ids are given once.

mod lock;
#[cfg(test)]
mod requests;
mod s3;
mod sweep;
mod versions;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream::BoxStream};
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, GetOptions, ObjectStore, PutMode, PutOptions, RetryConfig,
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::GoogleCloudStorageBuilder,
    path::Path as ObjectPath,
};
use urtext_types::{ByteCount, Timestamp};

use self::s3::S3;
pub use self::versions::FirstVersions;
use super::{
    BucketAddress, MAX_OBJECT_BYTES, ObjectInfo, PutOutcome, Service, Store, StoreCause, StoreError, StoreOperation,
};
use crate::{ObjectName, ObjectPrefix};

/// A server that is there answers the first packet sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An object of 17 MiB at 0.5 Mbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// Repeated by the driver, with backoff and jitter; who calls has more patience than this.
const RETRIES: usize = 4;
const RETRY_FOR: Duration = Duration::from_secs(20);

/// The address that cloud machines give their own credentials at.
const INSTANCE_METADATA: &str = "://169.254.169.254/";
const NO_CREDENTIALS: &str =
    "no credentials were found: not in the environment, not in the service's usual file, and this machine has none";

const NO_ACCOUNT: &str = "no storage account is named: neither in the address, ?account=NAME, nor in the environment, AZURE_STORAGE_ACCOUNT_NAME";

/// Objects in a bucket, below a prefix.
#[derive(Clone)]
pub struct BucketStore {
    driver: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    /// For messages.
    place: String,
    storage_class: Option<String>,
    conditional_put: bool,
    /// For what only S3 can be asked.
    s3: Option<S3>,
}

impl fmt::Debug for BucketStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketStore").field("place", &self.place).finish_non_exhaustive()
    }
}

impl BucketStore {
    /// Prepares to reach a bucket. Nothing is asked of it yet.
    ///
    /// Credentials come from the environment and the service's usual files: for S3 `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`, else `~/.aws/credentials` (`AWS_SHARED_CREDENTIALS_FILE`, `AWS_PROFILE`), else
    /// web identity, container and instance metadata; for Google `GOOGLE_APPLICATION_CREDENTIALS` and the
    /// application default; for Azure `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY` and the other
    /// `AZURE_` variables.
    ///
    /// # Errors
    /// The options do not fit together, or a file with credentials cannot be read.
    pub fn open(address: &BucketAddress) -> Result<Self, StoreError> {
        let refused = |source: StoreCause| StoreError::Refused { place: address.to_string(), source };
        let mut s3 = None;
        let driver: Arc<dyn ObjectStore> = match address.service {
            Service::S3 => s3.insert(S3::open(address).map_err(refused)?).driver(),
            Service::Gcs => {
                let builder = gcs(GoogleCloudStorageBuilder::from_env(), address);
                Arc::new(builder.build().map_err(|error| refused(error.into()))?)
            }
            Service::Azure => {
                let builder = azure(MicrosoftAzureBuilder::from_env(), address);
                if builder.get_config_value(&AzureConfigKey::AccountName).is_none() {
                    return Err(refused(NO_ACCOUNT.into()));
                }
                Arc::new(builder.build().map_err(|error| refused(error.into()))?)
            }
        };
        Ok(Self::with(driver, s3, address))
    }

    fn with(driver: Arc<dyn ObjectStore>, s3: Option<S3>, address: &BucketAddress) -> Self {
        Self {
            driver,
            prefix: ObjectPath::from(address.prefix.as_str()),
            storage_class: address.options.storage_class.clone(),
            conditional_put: !address.options.no_conditional_put,
            s3,
            place: address.to_string(),
        }
    }

    fn path(&self, name: &str) -> ObjectPath {
        match (self.prefix.as_ref(), name) {
            ("", name) => ObjectPath::from(name),
            (prefix, "") => ObjectPath::from(prefix),
            (prefix, name) => ObjectPath::from(format!("{prefix}/{name}")),
        }
    }

    fn failed(&self, operation: StoreOperation, object: &str, needed: usize, error: object_store::Error) -> StoreError {
        use object_store::Error;
        // The driver's text holds those of its causes already.
        let text = error.to_string();
        match error {
            // Only a missing bucket makes a put or a listing not find its place.
            Error::NotFound { .. } if operation == StoreOperation::Get => {
                StoreError::NotFound { object: object.to_owned(), place: self.place.clone() }
            }
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Denied {
                operation,
                object: object.to_owned(),
                place: self.place.clone(),
                source: Some(text.into()),
            },
            _ => self.failed_because(operation, object, needed, text),
        }
    }

    /// Whose move it is by what was answered: of some requests there is no more than the text.
    fn failed_because(&self, operation: StoreOperation, object: &str, needed: usize, text: String) -> StoreError {
        let (object, place) = (object.to_owned(), self.place.clone());
        let source = |text: String| Some(StoreCause::from(text));
        if text.contains(INSTANCE_METADATA) {
            // Where the driver looks for credentials last.
            return StoreError::Denied { operation, object, place, source: source(NO_CREDENTIALS.to_owned()) };
        }
        if answered(&text, "403") || answered(&text, "401") {
            return StoreError::Denied { operation, object, place, source: source(text) };
        }
        if answered(&text, "507") {
            let needed = ByteCount::new(needed as u64);
            return StoreError::Exhausted { operation, object, needed, place, source: source(text) };
        }
        StoreError::Unavailable { operation, object, place, source: source(text) }
    }

    async fn read(&self, name: &ObjectName, options: GetOptions) -> Result<Bytes, StoreError> {
        let failed = |error| self.failed(StoreOperation::Get, name.as_str(), 0, error);
        let found = self.driver.get_opts(&self.path(name.as_str()), options).await.map_err(failed)?;
        if found.meta.size > MAX_OBJECT_BYTES as u64 {
            let size = ByteCount::new(found.meta.size);
            return Err(StoreError::TooLarge { object: name.to_string(), size, place: self.place.clone() });
        }
        found.bytes().await.map_err(failed)
    }

    /// The name of an object by its place in the bucket. What is not named like one of ours was put there by somebody
    /// else.
    fn name_of(&self, key: &str) -> Option<ObjectName> {
        let name = match self.prefix.as_ref() {
            "" => Some(key),
            prefix => key.strip_prefix(prefix).and_then(|key| key.strip_prefix('/')),
        };
        name.and_then(|name| name.parse().ok())
    }

    async fn put(&self, name: &ObjectName, bytes: Bytes) -> Result<(), object_store::Error> {
        let mut options = PutOptions::default();
        if self.conditional_put {
            options.mode = PutMode::Create;
        }
        if let Some(class) = &self.storage_class {
            options.attributes = Attributes::from_iter([(Attribute::StorageClass, class.clone())]);
        }
        self.driver.put_opts(&self.path(name.as_str()), bytes.into(), options).await.map(|_| ())
    }

    /// What stands under the name already, compared with what should.
    async fn compare(&self, name: &ObjectName, bytes: &Bytes) -> Result<PutOutcome, StoreError> {
        match self.get(name).await {
            Ok(existing) if existing == *bytes => Ok(PutOutcome::AlreadyIdentical),
            Ok(_) | Err(StoreError::TooLarge { .. }) => {
                Err(StoreError::Conflict { object: name.to_string(), place: self.place.clone() })
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether that is the HTTP status in what the driver says, of a request or of one of several that were asked at once.
fn answered(text: &str, status: &str) -> bool {
    text.split("status code: ").skip(1).any(|after| after.starts_with(status))
        || text.contains(&format!("(code: {status})"))
}

fn client_options(address: &BucketAddress) -> ClientOptions {
    let is_plain = address.options.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT).with_allow_http(is_plain)
}

fn retries() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_FOR }
}

fn gcs(builder: GoogleCloudStorageBuilder, address: &BucketAddress) -> GoogleCloudStorageBuilder {
    let builder =
        builder.with_bucket_name(&address.bucket).with_client_options(client_options(address)).with_retry(retries());
    match &address.options.endpoint {
        Some(endpoint) => builder.with_base_url(endpoint),
        None => builder,
    }
}

fn azure(builder: MicrosoftAzureBuilder, address: &BucketAddress) -> MicrosoftAzureBuilder {
    let mut builder =
        builder.with_container_name(&address.bucket).with_client_options(client_options(address)).with_retry(retries());
    if let Some(account) = &address.options.account {
        builder = builder.with_account(account);
    }
    if let Some(endpoint) = &address.options.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    builder
}

#[async_trait]
impl Store for BucketStore {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        if bytes.len() > MAX_OBJECT_BYTES {
            let size = ByteCount::new(bytes.len() as u64);
            return Err(StoreError::TooLarge { object: name.to_string(), size, place: self.place.clone() });
        }
        if !self.conditional_put {
            match self.compare(name, &bytes).await {
                Err(StoreError::NotFound { .. }) => {}
                there => return there,
            }
        }
        match self.put(name, bytes.clone()).await {
            Ok(()) if self.conditional_put => Ok(PutOutcome::Created),
            Ok(()) => self.compare(name, &bytes).await.map(|_| PutOutcome::Created),
            Err(object_store::Error::AlreadyExists { .. }) => match self.compare(name, &bytes).await {
                // It, or its whole bucket, was just being deleted.
                Err(StoreError::NotFound { object, place }) => {
                    let source = Some("it is said to be there already, and is not".into());
                    Err(StoreError::Unavailable { operation: StoreOperation::Put, object, place, source })
                }
                compared => compared,
            },
            Err(error) => Err(self.failed(StoreOperation::Put, name.as_str(), bytes.len(), error)),
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.read(name, GetOptions::default()).await
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let (store, below) = (self.clone(), self.path(prefix.as_str()));
        let (asked, own) = (prefix.clone(), self.clone());
        let below = (!below.as_ref().is_empty()).then_some(below);
        self.driver
            .list(below.as_ref())
            .map_err(move |error| {
                store.failed(
                    StoreOperation::List,
                    if asked.as_str().is_empty() { "its objects" } else { asked.as_str() },
                    0,
                    error,
                )
            })
            .try_filter_map(move |found| {
                let name = own.name_of(found.location.as_ref());
                future::ready(Ok(name.map(|name| ObjectInfo {
                    name,
                    size: found.size,
                    modified: Some(Timestamp::from(found.last_modified)),
                })))
            })
            .boxed()
    }

    async fn folders(&self, prefix: &ObjectPrefix) -> Result<Vec<String>, StoreError> {
        let below = self.path(prefix.as_str());
        let below = (!below.as_ref().is_empty()).then_some(below);
        let asked = if prefix.as_str().is_empty() { "its objects" } else { prefix.as_str() };
        let listed = self.driver.list_with_delimiter(below.as_ref()).await;
        let listed = listed.map_err(|error| self.failed(StoreOperation::List, asked, 0, error))?;
        let mut folders: Vec<String> =
            listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        folders.sort_unstable();
        Ok(folders)
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3Builder;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use urtext_types::{ErrorKind, Explain};

    use super::*;

    /// A server that gives every request the same answer.
    async fn answered_with(status: &'static str) -> StoreError {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let server = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                // The request is small: it comes in one piece.
                let _ = client.read(&mut [0; 4096]).await;
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = client.write_all(answer.as_bytes()).await;
            }
        });
        let driver = AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_access_key_id("key")
            .with_secret_access_key("hunter2")
            .with_retry(RetryConfig { max_retries: 0, ..retries() })
            .build()
            .expect("a driver");
        let store = BucketStore {
            driver: Arc::new(driver),
            prefix: ObjectPath::from(""),
            place: "s3://b".to_owned(),
            storage_class: None,
            conditional_put: true,
            s3: None,
        };
        let put = store.put_new(&"x".parse().expect("a name"), Bytes::from_static(b"x")).await.expect_err("refused");
        let listed = store.list(&ObjectPrefix::all()).try_next().await.expect_err("refused");
        server.abort();
        assert!(!format!("{put:?} {listed:?}").contains("hunter2"));
        assert_eq!(put.kind(), listed.kind(), "{listed}");
        put
    }

    #[tokio::test]
    async fn whose_move_it_is_follows_from_the_answer() {
        assert_eq!(answered_with("507 Insufficient Storage").await.kind(), ErrorKind::Exhausted);
        assert_eq!(answered_with("503 Slow Down").await.kind(), ErrorKind::Unavailable);
        assert_eq!(answered_with("404 Not Found").await.kind(), ErrorKind::Unavailable);
        assert_eq!(answered_with("403 Forbidden").await.kind(), ErrorKind::Denied);
    }
}
