//! What was written is what is read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use urtext_types::{ErrorKind, Explain, RepositoryId, Timestamp};

use super::{back_up, key, manifest_of, noise, read_back, signer, until};
use crate::{
    BackupReader, BackupWriter, DirectoryStore, Identity, ObjectInfo, ObjectName, ObjectPrefix, PART_BYTES, PutOutcome,
    Recipients, Record, RecordBody, RecordKind, Repository, RepositoryError, Store, StoreError, StoredProof,
    WriteError, WriterOptions,
    testing::{DigestVerifier, MemoryStore},
};

#[track_caller]
fn identity() -> (Identity, Recipients) {
    let identity = Identity::generate();
    let recipients = identity.recipient().into();
    (identity, recipients)
}

#[tokio::test]
async fn an_rdb_comes_back_whatever_its_size() {
    let (identity, recipients) = identity();
    let sizes = [1, 100_000, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 3 * PART_BYTES + 12_345];
    for (n, size) in (0..).zip(sizes) {
        // Half noise, half zeros: parts that hardly compress and parts that nearly vanish.
        let mut rdb = noise(size as u64, size);
        rdb[size / 2..].fill(0);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let manifest = back_up(Arc::clone(&store), &key(n), &recipients, &rdb).await.expect("a backup");
        assert_eq!(manifest.parts.len(), size.div_ceil(PART_BYTES), "{size}");
        assert!(read_back(store, &key(n), &identity).await.expect("readable") == rdb, "{size}");
    }
}

#[tokio::test]
async fn a_backup_in_a_directory_reads_back_and_verifies() {
    let (identity, recipients) = identity();
    let directory = tempfile::tempdir().expect("a directory");
    let rdb = noise(1, PART_BYTES + 77);
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(directory.path()).expect("open"));
    let manifest = back_up(Arc::clone(&store), &key(1), &recipients, &rdb).await.expect("a backup");

    // Another process, later.
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(directory.path()).expect("open again"));
    let reader = BackupReader::open(store, key(1), &DigestVerifier).await.expect("committed");
    assert_eq!(*reader.manifest(), manifest);
    let proof = reader.verify_stored().await.expect("as stored");
    assert_eq!(proof, StoredProof { objects: 3, bytes: manifest.stored_bytes() });
    let settings = reader.settings(vec![identity.clone()]).await.expect("readable");
    assert_eq!(settings.as_deref(), Some(&b"{\"acl\":[]}"[..]));
    let parts: Vec<Bytes> =
        reader.rdb(vec![identity]).expect("its key").into_stream().try_collect().await.expect("all");
    assert!(parts.concat() == rdb);
}

/// Callers spawn what they do with a backup; this compiles only if they can.
#[tokio::test]
async fn a_backup_is_read_and_listed_in_spawned_tasks() {
    let (identity, recipients) = identity();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(Arc::clone(&store), id, recipients.clone()).await.expect("made");
    let task = tokio::spawn(async move {
        back_up(store, &key(1), &recipients, b"REDIS0012").await.expect("a backup");
        let listed: Vec<_> = repository.manifests(None, &DigestVerifier).await.expect("listed").collect().await;
        let reader = repository.read_backup(listed[0].0.clone(), &DigestVerifier).await.expect("committed");
        let proof = reader.verify_stored().await.expect("as stored");
        let part = reader.rdb(vec![identity]).expect("its key").next().await.expect("readable");
        (proof.objects, part.as_deref().map(<[u8]>::to_vec))
    });
    assert_eq!(task.await.expect("the task ends"), (2, Some(b"REDIS0012".to_vec())));
}

#[tokio::test]
async fn each_of_several_recipients_reads_alone() {
    let (one, other) = (Identity::generate(), Identity::generate());
    let recipients = Recipients::try_from(vec![one.recipient(), other.recipient()]).expect("two");
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    back_up(Arc::clone(&store), &key(1), &recipients, b"REDIS0012").await.expect("a backup");
    for identity in [one, other] {
        assert_eq!(read_back(Arc::clone(&store), &key(1), &identity).await.expect("readable"), b"REDIS0012");
    }
}

#[tokio::test]
async fn a_manifest_that_describes_something_else_is_not_committed() {
    let (_, recipients) = identity();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut writer = BackupWriter::new(Arc::clone(&store), key(1), recipients.clone(), WriterOptions::default());
    writer.write(b"REDIS0012").await.expect("written");
    let written = writer.finish().await.expect("stored");
    let good = manifest_of(&key(1), &written, &recipients);
    let mut wrong_key = good.clone();
    wrong_key.backup = key(2).id;
    let mut wrong_parts = good.clone();
    wrong_parts.parts[0].stored_bytes += 1;
    let mut wrong_size = good.clone();
    wrong_size.rdb.bytes += 1;
    for wrong in [wrong_key, wrong_parts, wrong_size] {
        let error = written.commit(&wrong, &signer()).await.expect_err("not what was written");
        assert!(matches!(error, WriteError::NotWhatWasWritten { .. }), "{error}");
    }
    written.commit(&good, &signer()).await.expect("what was written");
}

#[tokio::test]
async fn nothing_is_no_backup() {
    let (_, recipients) = identity();
    let mut writer = BackupWriter::new(Arc::new(MemoryStore::default()), key(1), recipients, WriterOptions::default());
    writer.write(b"").await.expect("nothing");
    let error = writer.finish().await.err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
}

/// Ends each put only when the next one has begun, and counts those that are under way.
#[derive(Default)]
struct SlowStore {
    begun: AtomicUsize,
    ended: AtomicUsize,
    most: AtomicUsize,
    inner: MemoryStore,
}

const SLOW_PUTS: usize = 6;

#[async_trait]
impl Store for SlowStore {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        let begun = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(begun - self.ended.load(Ordering::SeqCst), Ordering::SeqCst);
        until("the next put has begun", || begun == SLOW_PUTS || self.begun.load(Ordering::SeqCst) > begun).await;
        // One more than allowed would begin about now.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.inner.put_new(name, bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        self.inner.list(prefix)
    }
}

#[tokio::test]
async fn two_parts_are_put_at_a_time_and_a_slow_store_holds_the_writer_back() {
    let (_, recipients) = identity();
    let store = Arc::new(SlowStore::default());
    let mut writer = BackupWriter::new(Arc::clone(&store) as _, key(1), recipients, WriterOptions::default());
    writer.write(&vec![0; SLOW_PUTS * PART_BYTES]).await.expect("written");
    writer.finish().await.expect("stored");
    assert_eq!(store.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_repository_is_made_once() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let error = Repository::open(Arc::clone(&store)).await.expect_err("nothing here yet");
    assert!(matches!(error, RepositoryError::NotARepository { .. }), "{error}");
    let (_, recipients) = identity();
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    Repository::init(Arc::clone(&store), id, recipients.clone()).await.expect("made");
    Repository::init(Arc::clone(&store), id, recipients.clone()).await.expect("made again, the same");
    let other = RepositoryId::new(Timestamp::from_millis(2), [1; 10]);
    let error = Repository::init(Arc::clone(&store), other, recipients.clone()).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let opened = Repository::open(store).await.expect("a repository");
    assert_eq!((opened.header().repository, &opened.header().recipients), (id, &recipients));
}

#[tokio::test]
async fn one_unreadable_manifest_does_not_hide_the_others() {
    let (identity, recipients) = identity();
    let memory = MemoryStore::default();
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(Arc::new(memory.clone()), id, recipients.clone()).await.expect("made");
    for n in [3, 1, 2] {
        back_up(Arc::new(memory.clone()), &key(n), &recipients, b"REDIS0012").await.expect("a backup");
    }
    // Never committed: its parts are there, its manifest is not.
    let mut writer = repository.write_backup(key(4), WriterOptions::default());
    writer.write(b"REDIS0012").await.expect("written");
    writer.finish().await.expect("stored");
    memory.tamper(&key(2).manifest(), |_| Some(b"{".to_vec()));

    assert_eq!(repository.backups(None).await.expect("listed"), [key(1), key(2), key(3)]);
    let other = "other".parse().expect("a name");
    assert_eq!(repository.backups(Some(&other)).await.expect("listed"), []);
    let listed: Vec<_> = repository.manifests(None, &DigestVerifier).await.expect("listed").collect().await;
    let good: Vec<_> = listed.iter().map(|(key, manifest)| (key.clone(), manifest.is_ok())).collect();
    assert_eq!(good, [(key(1), true), (key(2), false), (key(3), true)]);
    let error = listed[1].1.as_ref().expect_err("unreadable");
    assert!(error.to_string().contains(&key(2).to_string()), "names the backup: {error}");

    let error = read_back(Arc::new(memory), &key(4), &identity).await.expect_err("never committed");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn records_are_kept_in_order() {
    let (_, recipients) = identity();
    let memory = MemoryStore::default();
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(Arc::new(memory.clone()), id, recipients).await.expect("made");
    let record = |n: i64| Record {
        format_version: 1,
        id: urtext_types::RecordId::new(Timestamp::from_millis(n), [0; 10]),
        deployment: "orders".parse().expect("a name"),
        who: "alice".to_owned(),
        at: Timestamp::from_millis(n),
        reason: Some("nyc goes on".to_owned()),
        body: RecordBody::AcceptedLineage {
            shard: "0".parse().expect("a name"),
            history: "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601".parse().expect("a history"),
            over: vec!["1111111111111111111111111111111111111111".parse().expect("a history")],
        },
    };
    for n in [2, 1, 3] {
        assert_eq!(repository.put_record(&record(n)).await.expect("kept"), PutOutcome::Created);
    }
    assert_eq!(repository.put_record(&record(2)).await.expect("kept already"), PutOutcome::AlreadyIdentical);
    memory.tamper(&record(3).name(), |_| Some(record(1).to_bytes().expect("JSON")));
    let deployment = "orders".parse().expect("a name");
    let read = repository.records(&deployment, RecordKind::AcceptedLineage).await.expect("listed");
    let read: Vec<Option<Record>> = read.into_iter().map(Result::ok).collect();
    assert_eq!(read, [Some(record(1)), Some(record(2)), None], "one that is misplaced does not hide the others");
    assert!(repository.records(&deployment, RecordKind::Audit).await.expect("listed").is_empty());
}

#[tokio::test]
async fn of_large_backups_folders_are_listed_instead_of_parts_if_they_are_few() {
    let memory = MemoryStore::default();
    let recipients: Recipients = Identity::generate().recipient().into();
    let id = RepositoryId::new(Timestamp::from_millis(1_800_000_000_000), [7; 10]);
    let repository = Repository::init(Arc::new(memory.clone()), id, recipients).await.expect("made");
    let put = async |name: ObjectName| memory.put_new(&name, Bytes::from_static(b"x")).await;
    for n in 1..=3 {
        put(key(n).manifest()).await.expect("put");
        for part in 0..4 {
            put(key(n).part(part)).await.expect("put");
        }
    }
    put(key(4).part(0)).await.expect("one that is being written");
    let shouted = key(5).part(0).to_string().replace(&key(5).id.to_string(), &key(5).id.to_string().to_lowercase());
    put(shouted.parse().expect("a name")).await.expect("one of somebody else");
    let ids = |numbers: &[i64]| numbers.iter().map(|&n| key(n).id).collect::<Vec<_>>();
    let orders = key(1).deployment;
    for (first, most, expected) in [
        (100, 10, &[1, 2, 3][..]),
        // What has a folder may be one, and its manifest is asked for.
        (5, 10, &[1, 2, 3, 4]),
        (5, 4, &[1, 2, 3, 4]),
        // Too many to ask for each.
        (5, 3, &[1, 2, 3]),
        (5, 0, &[1, 2, 3]),
    ] {
        for deployment in [None, Some(&orders)] {
            let found = repository.list_backups(deployment, most, first).await.expect("listed");
            let found: Vec<_> = found.into_values().flatten().collect();
            assert_eq!(found, ids(expected), "{first} {most}");
        }
    }
}
