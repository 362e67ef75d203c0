//! Fakes for tests, and the suite that keeps them honest.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use urtext_types::{ByteCount, ErrorKind, Explain, Timestamp};

use super::{MAX_OBJECT_BYTES, ObjectInfo, PutOutcome, Store, StoreError, StoreOperation, SweepStore, lock::LockStore};
use crate::{Manifest, ManifestSigner, ManifestVerifier, ObjectName, ObjectPrefix, Sha256Digest, SignatureError};

/// Objects in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<ObjectName, Kept>>>,
    /// Its own clock, which stands still between two calls of [`MemoryStore::set_time`].
    now: Arc<AtomicI64>,
}

#[derive(Debug, Clone)]
struct Kept {
    bytes: Bytes,
    modified: Timestamp,
    locked_until: Option<Timestamp>,
}

const MEMORY: &str = "memory";

impl MemoryStore {
    /// Changes an object behind everybody's back; `None` from `change` removes it.
    pub fn tamper(&self, name: &ObjectName, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let before = objects.remove(name).map(|kept| kept.bytes).unwrap_or_default();
        if let Some(after) = change(before.to_vec()) {
            objects.insert(name.clone(), self.kept(after.into()));
        }
    }

    /// What the store's clock shows from now on.
    pub fn set_time(&self, now: Timestamp) {
        self.now.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Locks an object for good, as a bucket's own rules do.
    pub fn lock_for_good(&self, name: &ObjectName) {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = objects.get_mut(name) {
            kept.locked_until = Some(Timestamp::from_millis(i64::MAX));
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }

    fn not_found(name: &ObjectName) -> StoreError {
        StoreError::NotFound { object: name.to_string(), place: MEMORY.to_owned() }
    }

    /// A store of its own that holds the same.
    pub fn copy(&self) -> Self {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = AtomicI64::new(self.now.load(Ordering::Relaxed));
        Self { objects: Arc::new(Mutex::new(objects)), now: Arc::new(now) }
    }

    fn kept(&self, bytes: Bytes) -> Kept {
        Kept { bytes, modified: self.now(), locked_until: None }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        if bytes.len() > MAX_OBJECT_BYTES {
            let size = ByteCount::new(bytes.len() as u64);
            return Err(StoreError::TooLarge { object: name.to_string(), size, place: MEMORY.to_owned() });
        }
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match objects.get(name) {
            None => {
                objects.insert(name.clone(), self.kept(bytes));
                Ok(PutOutcome::Created)
            }
            Some(existing) if existing.bytes == bytes => Ok(PutOutcome::AlreadyIdentical),
            Some(_) => Err(StoreError::Conflict { object: name.to_string(), place: MEMORY.to_owned() }),
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(name).map(|kept| kept.bytes.clone()).ok_or_else(|| Self::not_found(name))
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let listed: Vec<_> = objects
            .iter()
            .filter(|(name, _)| prefix.contains(name))
            .map(|(name, kept)| {
                let size = kept.bytes.len() as u64;
                Ok(ObjectInfo { name: name.clone(), size, modified: Some(kept.modified) })
            })
            .collect();
        stream::iter(listed).boxed()
    }
}

#[async_trait]
impl SweepStore for MemoryStore {
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if objects.get(name).is_some_and(|kept| kept.locked_until > Some(self.now())) {
            return Err(StoreError::Locked { object: name.to_string(), place: MEMORY.to_owned(), source: None });
        }
        objects.remove(name);
        Ok(())
    }
}

#[async_trait]
impl LockStore for MemoryStore {
    async fn lock(&self, name: &ObjectName, until: Timestamp) -> Result<(), StoreError> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = objects.get_mut(name).ok_or_else(|| Self::not_found(name))?;
        kept.locked_until = kept.locked_until.max(Some(until));
        Ok(())
    }

    async fn locked_until(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.get(name).map(|kept| kept.locked_until).ok_or_else(|| Self::not_found(name))
    }

    async fn check_locks(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused and not carried out, with an error of this kind.
    Before(ErrorKind),
    /// It is carried out, and its answer is lost: an error of this kind all the same.
    After(ErrorKind),
    /// It never ends.
    Hang,
}

type FaultHook = dyn Fn(usize, StoreOperation, &str) -> Option<Fault> + Send + Sync;

/// A store in front of another one, in which requests fail as told.
pub struct FaultyStore<S> {
    inner: S,
    requests: Mutex<usize>,
    hook: Box<FaultHook>,
}

impl<S: Store> FaultyStore<S> {
    /// `hook` is asked about each request: its number from 0, what it is, and of which object.
    pub fn new(inner: S, hook: impl Fn(usize, StoreOperation, &str) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { inner, requests: Mutex::new(0), hook: Box::new(hook) }
    }

    /// How many requests there were so far.
    pub fn requests(&self) -> usize {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, operation: StoreOperation, object: &str) -> Option<Fault> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *requests;
        *requests += 1;
        (self.hook)(number, operation, object)
    }
}

/// An error of a wanted kind.
fn error_of(kind: ErrorKind, operation: StoreOperation, object: &str) -> StoreError {
    let (object, place, source) = (object.to_owned(), "a faulty store".to_owned(), None);
    match kind {
        ErrorKind::NotFound => StoreError::NotFound { object, place },
        ErrorKind::Conflict => StoreError::Conflict { object, place },
        ErrorKind::Exhausted => {
            StoreError::Exhausted { operation, object, needed: ByteCount::new(4711), place, source }
        }
        ErrorKind::Denied => StoreError::Denied { operation, object, place, source },
        _ => StoreError::Unavailable { operation, object, place, source },
    }
}

#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        let operation = StoreOperation::Put;
        match self.fault(operation, name.as_str()) {
            None => self.inner.put_new(name, bytes).await,
            Some(Fault::Before(kind)) => Err(error_of(kind, operation, name.as_str())),
            Some(Fault::After(kind)) => {
                self.inner.put_new(name, bytes).await?;
                Err(error_of(kind, operation, name.as_str()))
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        match self.fault(StoreOperation::Get, name.as_str()) {
            None => self.inner.get(name).await,
            Some(Fault::Before(kind) | Fault::After(kind)) => Err(error_of(kind, StoreOperation::Get, name.as_str())),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        match self.fault(StoreOperation::List, prefix.as_str()) {
            None => self.inner.list(prefix),
            Some(Fault::Before(kind) | Fault::After(kind)) => {
                let error = error_of(kind, StoreOperation::List, prefix.as_str());
                stream::once(std::future::ready(Err(error))).boxed()
            }
            Some(Fault::Hang) => stream::pending().boxed(),
        }
    }
}

#[async_trait]
impl<S: SweepStore> SweepStore for FaultyStore<S> {
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let operation = StoreOperation::Delete;
        match self.fault(operation, name.as_str()) {
            None => self.inner.delete(name).await,
            Some(Fault::Before(kind)) => Err(error_of(kind, operation, name.as_str())),
            Some(Fault::After(kind)) => {
                self.inner.delete(name).await?;
                Err(error_of(kind, operation, name.as_str()))
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }
}

/// Stands in for an agent's certificate: the "signature" is a digest of a name and the bytes, and the
/// "certificate" is that name. Proves nothing, but notices every change.
#[derive(Debug, Clone)]
pub struct DigestSigner {
    node: String,
}

impl DigestSigner {
    /// The signer of one node.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into() }
    }

    fn digest(node: &str, bytes: &[u8]) -> Vec<u8> {
        Sha256Digest::of(&[node.as_bytes(), b"\n", bytes].concat()).as_bytes().to_vec()
    }
}

impl ManifestSigner for DigestSigner {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(Self::digest(&self.node, bytes))
    }

    fn certificate_pem(&self) -> &str {
        &self.node
    }
}

/// Believes every [`DigestSigner`] that signs for its own node.
#[derive(Debug, Clone, Copy, Default)]
pub struct DigestVerifier;

impl ManifestVerifier for DigestVerifier {
    fn verify(
        &self,
        certificate_pem: &str,
        bytes: &[u8],
        signature: &[u8],
        manifest: &Manifest,
    ) -> Result<(), SignatureError> {
        if certificate_pem != manifest.node.as_str() {
            return Err(format!("the certificate is that of node {certificate_pem}").into());
        }
        if signature != DigestSigner::digest(certificate_pem, bytes) {
            return Err("the signature does not match".into());
        }
        Ok(())
    }
}

/// What every store must do. Panics at the first thing that it does otherwise. The store must be empty.
pub async fn check_conformance(store: Arc<dyn Store>) {
    let name = |text: &str| text.parse::<ObjectName>().expect("a valid name");
    let bytes = Bytes::from_static;
    let (one, other) = (name("backups/orders/0/one"), name("backups/orders-old/0/other"));

    let error = store.get(&one).await.expect_err("an object that was never put");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(listed(&store, "").await, [], "an empty store lists nothing");
    assert_eq!(listed(&store, "backups/orders").await, [], "a prefix that was never used lists nothing");

    let outcome = store.put_new(&one, bytes(b"first")).await.expect("put a new object");
    assert_eq!(outcome, PutOutcome::Created);
    assert_eq!(store.get(&one).await.expect("get it back"), bytes(b"first"));
    let outcome = store.put_new(&one, bytes(b"first")).await.expect("put the same bytes again");
    assert_eq!(outcome, PutOutcome::AlreadyIdentical);
    for different in [&b"firsu"[..], b"firs", b"first and more", b""] {
        let error = store.put_new(&one, Bytes::from_static(different)).await.expect_err("other bytes are refused");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains(one.as_str()), "names the object: {error}");
    }
    assert_eq!(store.get(&one).await.expect("unchanged"), bytes(b"first"));

    store.put_new(&other, bytes(b"")).await.expect("an empty object");
    assert_eq!(store.get(&other).await.expect("an empty object comes back"), bytes(b""));
    assert_eq!(listed(&store, "").await, [("backups/orders-old/0/other".to_owned(), 0), (one.to_string(), 5)]);
    assert_eq!(listed(&store, "backups/orders").await, [(one.to_string(), 5)], "prefixes match whole segments");
    for (prefix, expected) in [
        ("", &["backups"][..]),
        ("backups", &["orders", "orders-old"]),
        ("backups/orders", &["0"]),
        ("backups/orders/0", &[]),
        ("backups/carts", &[]),
    ] {
        let folders = store.folders(&prefix.parse().expect("a valid prefix")).await.expect("the folders");
        assert!(folders.windows(2).all(|pair| pair[0] < pair[1]), "ascending, each once: {folders:?}");
        // Some keep folders that are empty.
        assert!(expected.iter().all(|name| folders.iter().any(|found| found == name)), "{folders:?} in {prefix:?}");
    }

    let largest = Bytes::from(vec![7; MAX_OBJECT_BYTES]);
    store.put_new(&name("largest"), largest.clone()).await.expect("the largest object");
    assert!(store.get(&name("largest")).await.expect("the largest object comes back") == largest);
    let error = store
        .put_new(&name("too-large"), Bytes::from(vec![7; MAX_OBJECT_BYTES + 1]))
        .await
        .expect_err("one byte more than the largest");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert_eq!(store.get(&name("too-large")).await.expect_err("was not put").kind(), ErrorKind::NotFound);

    // Of several writers of one name exactly one creates it; those with the same bytes succeed as well.
    let contested = name("contested");
    let puts = (0..16_u8).map(|i| {
        let (store, contested) = (Arc::clone(&store), contested.clone());
        async move { (i % 4, store.put_new(&contested, Bytes::from(vec![i % 4; 100_000])).await) }
    });
    let outcomes = futures::future::join_all(puts).await;
    let created: Vec<u8> = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Ok(PutOutcome::Created)))
        .map(|&(content, _)| content)
        .collect();
    assert_eq!(created.len(), 1, "exactly one writer creates: {outcomes:?}");
    assert_eq!(store.get(&contested).await.expect("the winner's bytes")[..], vec![created[0]; 100_000][..]);
    for (content, outcome) in outcomes {
        match outcome {
            Ok(_) => assert_eq!(content, created[0]),
            Err(error) => {
                assert_ne!(content, created[0]);
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            }
        }
    }
}

/// What every store that deletes must do. The store must be empty, and is empty afterwards.
pub async fn check_sweeping(store: Arc<dyn SweepStore>) {
    let name = |text: &str| text.parse::<ObjectName>().expect("a valid name");
    let folder = "backups/orders/0/01KAQ2Z7M80000000000000000";
    let (one, other) = (name(&format!("{folder}/rdb.00000.zst.age")), name("backups/orders-old/0/other"));
    store.delete(&one).await.expect("what is not there is gone");
    store.put_new(&one, Bytes::from_static(b"first")).await.expect("put");
    store.put_new(&other, Bytes::from_static(b"other")).await.expect("put");
    let objects: Vec<ObjectInfo> = store.list(&ObjectPrefix::all()).try_collect().await.expect("a listing");
    assert!(objects.iter().all(|object| object.modified.is_some()), "a store that deletes tells ages: {objects:?}");
    for _ in 0..2 {
        store.delete(&one).await.expect("deleted, once and again");
        assert_eq!(store.get(&one).await.expect_err("gone").kind(), ErrorKind::NotFound);
    }
    let upcast: Arc<dyn Store> = Arc::clone(&store) as _;
    assert_eq!(listed(&upcast, "").await, [(other.to_string(), 5)], "nothing else goes");
    let outcome = store.put_new(&one, Bytes::from_static(b"second")).await.expect("the name is free again");
    assert_eq!(outcome, PutOutcome::Created);
    for name in [&one, &other] {
        store.delete(name).await.expect("deleted");
    }
    assert_eq!(listed(&upcast, "").await, []);
}

/// What every store that locks must do. The store must be empty.
pub async fn check_locking(store: Arc<dyn LockStore>, now: Timestamp) {
    let name = |text: &str| text.parse::<ObjectName>().expect("a valid name");
    let (one, free, missing) = (name("backups/orders/0/one"), name("backups/orders/0/free"), name("missing"));
    let days = |n: u64| now.plus(Duration::from_secs(n * 24 * 3600));
    store.check_locks().await.expect("it can lock");
    for object in [&one, &free] {
        store.put_new(object, Bytes::from_static(b"first")).await.expect("put");
        assert_eq!(store.locked_until(object).await.expect("asked"), None);
    }
    // Extended, and never made shorter.
    for (until, expected) in [(days(2), days(2)), (days(2), days(2)), (days(9), days(9)), (days(3), days(9))] {
        store.lock(&one, until).await.expect("locked");
        let locked = store.locked_until(&one).await.expect("asked").expect("locked");
        assert!(locked >= expected && locked.since(expected) < Duration::from_secs(1), "{locked} for {expected}");
    }
    assert_eq!(store.get(&one).await.expect("it can be read"), Bytes::from_static(b"first"));
    assert_eq!(
        store.put_new(&one, Bytes::from_static(b"first")).await.expect("as before"),
        PutOutcome::AlreadyIdentical
    );
    assert_eq!(store.locked_until(&free).await.expect("asked"), None, "nothing else is locked");
    let error = store.lock(&missing, days(2)).await.expect_err("there is nothing to lock");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

async fn listed(store: &Arc<dyn Store>, prefix: &str) -> Vec<(String, u64)> {
    let prefix: ObjectPrefix = prefix.parse().expect("a valid prefix");
    let mut objects: Vec<_> = store
        .list(&prefix)
        .map_ok(|object| (object.name.to_string(), object.size))
        .try_collect()
        .await
        .expect("a listing");
    objects.sort_unstable();
    objects
}
