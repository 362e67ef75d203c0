//! What services are asked: paths, conditions and headers. A bucket that is real says little of them: it takes an
//! object without its storage class as well. And of Google's there is none that runs beside a test.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use object_store::{
    StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    gcp::GcpCredential,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use urtext_types::{ErrorKind, Explain};

use super::*;
use crate::{SweepStore, store::StoreAddress};

/// One request, as it came.
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Asked {
    #[track_caller]
    fn check(&self, line: &str, headers: &[(&str, Option<&str>)]) {
        assert_eq!(self.line, format!("{line} HTTP/1.1"));
        for (name, expected) in headers {
            assert_eq!(self.headers.get(*name).map(String::as_str), *expected, "{name} in {:?}", self.headers);
        }
    }
}

/// A service that gives each request the next of its answers.
struct Answering {
    endpoint: String,
    asked: Arc<Mutex<VecDeque<Asked>>>,
    task: JoinHandle<()>,
}

impl Answering {
    async fn with<const N: usize>(answers: [String; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let asked = Arc::<Mutex<VecDeque<Asked>>>::default();
        let keep = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            for answer in answers {
                let (mut client, _) = listener.accept().await.expect("a request");
                let request = read_request(&mut client).await;
                keep.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
                client.write_all(answer.as_bytes()).await.expect("answered");
            }
        });
        Self { endpoint, asked, task }
    }

    #[track_caller]
    fn asked(&self) -> Asked {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front().expect("it was asked")
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(client: &mut TcpStream) -> Asked {
    let mut client = BufReader::new(client);
    let mut line = async || {
        let mut line = String::new();
        client.read_line(&mut line).await.expect("a line of a request");
        line.trim_end().to_owned()
    };
    let first = line().await;
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line().await.split_once(": ") {
        headers.insert(name.to_owned(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.expect("the body of a request");
    Asked { line: first, headers, body: String::from_utf8(body).expect("text") }
}

/// A whole answer, to the last request of its connection.
fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let always = "etag: \"1\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nconnection: close\r\n";
    format!("HTTP/1.1 {status}\r\n{always}{headers}content-length: {length}\r\n\r\n{body}")
}

fn bucket(address: &str) -> BucketAddress {
    match address.parse() {
        Ok(StoreAddress::Bucket(address)) => address,
        other => panic!("{address} is {other:?}"),
    }
}

fn s3(address: &str) -> BucketStore {
    s3_by(AmazonS3Builder::new(), address)
}

fn s3_by(builder: AmazonS3Builder, address: &str) -> BucketStore {
    let address = bucket(address);
    let builder = builder.with_access_key_id("key").with_secret_access_key("hunter2");
    let s3 = S3::with(builder, &address).expect("options that fit together");
    BucketStore::with(s3.driver(), Some(s3), &address)
}

fn google(address: &str) -> BucketStore {
    let address = bucket(address);
    let credential = StaticCredentialProvider::new(GcpCredential { bearer: "hunter2".to_owned() });
    let builder = GoogleCloudStorageBuilder::new().with_credentials(Arc::new(credential));
    let driver = gcs(builder, &address).build().expect("options that fit together");
    BucketStore::with(Arc::new(driver), None, &address)
}

fn azure_blob(address: &str) -> BucketStore {
    let address = bucket(address);
    let builder = MicrosoftAzureBuilder::new().with_access_key("aHVudGVyMg==");
    let driver = azure(builder, &address).build().expect("options that fit together");
    BucketStore::with(Arc::new(driver), None, &address)
}

fn name() -> ObjectName {
    "backups/orders/0/one".parse().expect("a name")
}

async fn put(store: &BucketStore) -> Result<PutOutcome, ErrorKind> {
    store.put_new(&name(), Bytes::from_static(b"first")).await.map_err(|error| error.kind())
}

async fn delete(store: &BucketStore) -> Result<(), ErrorKind> {
    store.delete(&name()).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn google_is_asked_to_create_to_read_to_list_and_to_delete() {
    const OBJECT: &str = "/bucket/redis%2Fbackups%2Forders%2F0%2Fone";
    let locked = "<Error><Code>RetentionPolicyNotMet</Code></Error>";
    let listing = "<ListBucketResult><Contents><Key>redis/backups/orders/0/one</Key><Size>5</Size>\
                   <LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"1\"</ETag></Contents>\
                   </ListBucketResult>";
    let service = Answering::with([
        answer("200 OK", "", ""),
        answer("412 Precondition Failed", "", ""),
        answer("200 OK", "", "first"),
        answer("412 Precondition Failed", "", ""),
        answer("200 OK", "", "other"),
        answer("404 Not Found", "", "<Error><Code>NoSuchBucket</Code></Error>"),
        answer("200 OK", "", listing),
        answer("204 No Content", "", ""),
        answer("404 Not Found", "", ""),
        answer("403 Forbidden", "", locked),
        answer("403 Forbidden", "", ""),
    ])
    .await;
    let store = google(&format!("gs://bucket/redis?storage_class=NEARLINE&endpoint={}", service.endpoint));
    let created = [
        ("authorization", Some("Bearer hunter2")),
        ("x-goog-if-generation-match", Some("0")),
        ("x-goog-storage-class", Some("NEARLINE")),
    ];
    assert_eq!(put(&store).await, Ok(PutOutcome::Created));
    let asked = service.asked();
    asked.check(&format!("PUT {OBJECT}"), &created);
    assert_eq!(asked.body, "first");
    for outcome in [Ok(PutOutcome::AlreadyIdentical), Err(ErrorKind::Conflict)] {
        assert_eq!(put(&store).await, outcome);
        service.asked().check(&format!("PUT {OBJECT}"), &created);
        service.asked().check(&format!("GET {OBJECT}"), &[]);
    }
    assert_eq!(put(&store).await, Err(ErrorKind::Unavailable), "a bucket that is not there");
    service.asked();

    let listed: Vec<_> = store.list(&"backups".parse().expect("a prefix")).try_collect().await.expect("a listing");
    assert_eq!(listed.iter().map(|object| (&object.name, object.size)).collect::<Vec<_>>(), [(&name(), 5)]);
    service.asked().check("GET /bucket?list-type=2&prefix=redis%2Fbackups%2F", &[]);

    for outcome in [Ok(()), Ok(()), Err(ErrorKind::Refused), Err(ErrorKind::Denied)] {
        assert_eq!(delete(&store).await, outcome);
        service.asked().check(&format!("DELETE {OBJECT}"), &[]);
    }
}

#[tokio::test]
async fn s3_is_told_of_storage_class_encryption_and_condition() {
    const CLASS: &str = "x-amz-storage-class";
    const ENCRYPTION: &str = "x-amz-server-side-encryption";
    const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
    const CONDITION: &str = "if-none-match";
    const CHECKSUM: &str = "x-amz-checksum-sha256";
    let plain = [(CONDITION, Some("*")), (CLASS, None), (ENCRYPTION, None), (KEY, None), (CHECKSUM, None)];
    for (options, told) in [
        ("", &plain[..]),
        ("&storage_class=STANDARD_IA", &[(CLASS, Some("STANDARD_IA"))]),
        ("&encryption=AES256", &[(ENCRYPTION, Some("AES256")), (KEY, None)]),
        ("&encryption=aws:kms", &[(ENCRYPTION, Some("aws:kms")), (KEY, None)]),
        (
            "&encryption=aws:kms:arn:aws:kms:eu:1:key/2",
            &[(ENCRYPTION, Some("aws:kms")), (KEY, Some("arn:aws:kms:eu:1:key/2"))],
        ),
        ("&lock=30d", &[(CHECKSUM, Some("p5N7ZLjKpY8Dchu2us9ceMsjX+vg5wsbhM2ZVBRhoI4="))]),
    ] {
        let service = Answering::with([answer("200 OK", "", "")]).await;
        let store = s3(&format!("s3://bucket/redis?region=eu-1&endpoint={}{options}", service.endpoint));
        assert_eq!(put(&store).await, Ok(PutOutcome::Created), "{options}");
        service.asked().check("PUT /bucket/redis/backups/orders/0/one", told);
    }
    // Looked at before and read after, where a condition would not be understood.
    let service =
        Answering::with([answer("404 Not Found", "", ""), answer("200 OK", "", ""), answer("200 OK", "", "first")]);
    let service = service.await;
    let store = s3(&format!("s3://bucket?conditional_put=no&endpoint={}/", service.endpoint));
    assert_eq!(put(&store).await, Ok(PutOutcome::Created));
    service.asked().check("GET /bucket/backups/orders/0/one", &[]);
    service.asked().check("PUT /bucket/backups/orders/0/one", &[(CONDITION, None)]);
    service.asked().check("GET /bucket/backups/orders/0/one", &[]);
}

#[tokio::test]
async fn what_is_said_to_be_there_and_is_not_is_asked_for_again() {
    let service = Answering::with([answer("409 Conflict", "", ""), answer("404 Not Found", "", "")]).await;
    let store = s3(&format!("s3://bucket?endpoint={}", service.endpoint));
    assert_eq!(put(&store).await, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_bucket_of_s3_stands_in_the_path_or_in_the_name_of_the_host() {
    for (address, url) in [
        ("s3://bucket/redis?region=eu-1", "https://s3.eu-1.amazonaws.com/bucket/redis/o"),
        ("s3://bucket?region=eu-1&path_style=no", "https://bucket.s3.eu-1.amazonaws.com/o"),
        ("s3://bucket?endpoint=http://127.0.0.1:9000", "http://127.0.0.1:9000/bucket/o"),
        ("s3://bucket?endpoint=https://s3.example.com/&path_style=yes", "https://s3.example.com/bucket/o"),
        ("s3://bucket?endpoint=https://s3.example.com:444&path_style=no", "https://bucket.s3.example.com:444/o"),
        ("s3://bucket?endpoint=https://bucket.s3.example.com&path_style=no", "https://bucket.s3.example.com/o"),
    ] {
        let store = s3(address);
        let asked = store.s3.as_ref().expect("it is S3").url_of(&store.path("o")).await;
        assert_eq!(asked, url, "{address}");
    }
    // As the environment names an endpoint.
    let builder = AmazonS3Builder::new().with_config(AmazonS3ConfigKey::S3Endpoint, "https://elsewhere.example.com");
    let store = s3_by(builder, "s3://bucket?endpoint=http://127.0.0.1:9000");
    let asked = store.s3.as_ref().expect("it is S3").url_of(&store.path("o")).await;
    assert_eq!(asked, "http://127.0.0.1:9000/bucket/o", "the address is what counts");
    let address = bucket("s3://bucket?endpoint=http://127.0.0.1:9000&path_style=no");
    let refused = BucketStore::open(&address).expect_err("a number has no names below it");
    assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
}

#[tokio::test]
async fn azure_is_asked_to_create_and_what_it_says_of_a_deletion_is_understood() {
    const OBJECT: &str = "/acme/container/redis/backups/orders/0/one";
    let deletion = |status: &str| {
        let each = format!(
            "--b\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 {status}\r\n\
             x-ms-request-id: 1\r\n\r\n--b--\r\n"
        );
        answer("202 Accepted", "content-type: multipart/mixed; boundary=b\r\n", &each)
    };
    let service = Answering::with([
        answer("201 Created", "", ""),
        answer("409 The specified blob already exists.", "", ""),
        answer("200 OK", "", "first"),
        deletion("202 Accepted"),
        deletion("404 The specified blob does not exist."),
        deletion("409 This operation is not permitted as the blob is immutable due to a policy."),
        deletion("403 This request is not authorized to perform this operation using this permission."),
        deletion("503 The server is busy."),
    ])
    .await;
    let options = format!("account=acme&storage_class=Cool&endpoint={}/acme/", service.endpoint);
    let store = azure_blob(&format!("az://container/redis?{options}"));
    for outcome in [PutOutcome::Created, PutOutcome::AlreadyIdentical] {
        assert_eq!(put(&store).await, Ok(outcome));
        let told =
            [("if-none-match", Some("*")), ("x-ms-access-tier", Some("Cool")), ("x-ms-blob-type", Some("BlockBlob"))];
        service.asked().check(&format!("PUT {OBJECT}"), &told);
    }
    service.asked().check(&format!("GET {OBJECT}"), &[]);
    for outcome in [Ok(()), Ok(()), Err(ErrorKind::Refused), Err(ErrorKind::Denied), Err(ErrorKind::Unavailable)] {
        assert_eq!(delete(&store).await, outcome);
        let asked = service.asked();
        asked.check("POST /acme/container?restype=container&comp=batch", &[]);
        assert!(asked.body.contains(&format!("DELETE {OBJECT} HTTP/1.1")), "{}", asked.body);
    }
}
