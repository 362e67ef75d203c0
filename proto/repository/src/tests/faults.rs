//! Bad days: a store that fails at every point in turn, falls silent, fills up, or answers twice.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use urtext_types::{ErrorKind, Explain, RepositoryId, Timestamp};

use super::{back_up, key, manifest_of, noise, read_back, signer, until};
use crate::{
    BackupWriter, Identity, ManifestSigner, PART_BYTES, Recipients, Repository, SignatureError, Store, StoreOperation,
    WriteError, WriterOptions,
    testing::{DigestVerifier, Fault, FaultyStore, MemoryStore},
};

/// Two parts and a bit, settings, manifest.
const PUTS: usize = 5;

fn rdb() -> Vec<u8> {
    noise(9, 2 * PART_BYTES + 4711)
}

fn keys() -> (Identity, Recipients) {
    let identity = Identity::generate();
    let recipients = identity.recipient().into();
    (identity, recipients)
}

/// How many backups a fresh reader of `memory` lists, each of which must read back as `rdb`.
async fn listed(memory: &MemoryStore, identity: &Identity, recipients: &Recipients) -> usize {
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(Arc::new(memory.clone()), id, recipients.clone()).await.expect("a repository");
    let keys = repository.backups(None).await.expect("listed");
    for key in &keys {
        let reader = repository.read_backup(key.clone(), &DigestVerifier).await.expect("every listed one opens");
        reader.verify_stored().await.expect("every listed one is whole");
        assert!(read_back(Arc::new(memory.clone()), key, identity).await.expect("every listed one restores") == rdb());
    }
    keys.len()
}

#[tokio::test(start_paused = true)]
async fn a_put_that_fails_for_good_leaves_no_backup_at_whatever_point() {
    let (identity, recipients) = keys();
    for at in 0..PUTS {
        for fault in [Fault::Before(ErrorKind::Exhausted), Fault::After(ErrorKind::Denied)] {
            let memory = MemoryStore::default();
            let store = FaultyStore::new(memory.clone(), move |n, _, _| (n == at).then_some(fault));
            let error = back_up(Arc::new(store), &key(1), &recipients, &rdb()).await.expect_err("a put failed");
            assert!(matches!(error, WriteError::Put { .. }), "{error}");
            // A manifest whose put was carried out is a commit, whatever its writer heard of it.
            let committed = usize::from(at == PUTS - 1 && fault == Fault::After(ErrorKind::Denied));
            assert_eq!(listed(&memory, &identity, &recipients).await, committed, "put {at}, {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_at_whatever_point_is_got_over() {
    let (identity, recipients) = keys();
    for at in 0..PUTS {
        for fault in [Fault::Before(ErrorKind::Unavailable), Fault::After(ErrorKind::Unavailable)] {
            let memory = MemoryStore::default();
            let store = FaultyStore::new(memory.clone(), move |n, _, _| (at..at + 3).contains(&n).then_some(fault));
            back_up(Arc::new(store), &key(1), &recipients, &rdb()).await.expect("tried again");
            assert_eq!(listed(&memory, &identity, &recipients).await, 1, "put {at}, {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_cut_ends_the_backup_in_bounded_time_and_names_the_object() {
    let (_, recipients) = keys();
    let store =
        FaultyStore::new(MemoryStore::default(), |n, _, _| (n > 0).then_some(Fault::Before(ErrorKind::Unavailable)));
    let begin = Instant::now();
    let error = back_up(Arc::new(store), &key(1), &recipients, &rdb()).await.expect_err("cut off");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&key(1).to_string()), "{error}");
    let (patience, longest_pause) = (WriterOptions::default().patience, Duration::from_secs(10));
    let elapsed = begin.elapsed();
    assert!(elapsed >= patience && elapsed <= 2 * (patience + longest_pause), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_not_asked_again_and_says_what_was_needed() {
    let (_, recipients) = keys();
    let store = Arc::new(FaultyStore::new(MemoryStore::default(), |_, _, _| Some(Fault::Before(ErrorKind::Exhausted))));
    let error = back_up(Arc::clone(&store) as _, &key(1), &recipients, b"REDIS0012").await.expect_err("full");
    assert_eq!((error.kind(), store.requests()), (ErrorKind::Exhausted, 1));
    let text = urtext_types::Chain(&error).to_string();
    assert!(text.contains("4.6 KiB") && text.contains("a faulty store"), "{text}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_writer_dropped_at_whatever_point_leaves_no_backup_and_no_task() {
    let (identity, recipients) = keys();
    for bytes in [1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 1] {
        let memory = MemoryStore::default();
        let store: Arc<dyn Store> = Arc::new(memory.clone());
        let mut writer = BackupWriter::new(Arc::clone(&store), key(1), recipients.clone(), WriterOptions::default());
        writer.write(&rdb()[..bytes]).await.expect("written");
        drop(writer);
        wait_until_alone(&store).await;
        assert_eq!(listed(&memory, &identity, &recipients).await, 0, "{bytes}");
    }
}

#[tokio::test]
async fn a_writer_dropped_while_its_store_is_silent_gives_up_its_puts() {
    let (_, recipients) = keys();
    let silent = Arc::new(FaultyStore::new(MemoryStore::default(), |_, _, _| Some(Fault::Hang)));
    let store: Arc<dyn Store> = Arc::clone(&silent) as _;
    let mut writer = BackupWriter::new(Arc::clone(&store), key(1), recipients, WriterOptions::default());
    // Two parts are being put; the third has nowhere to go, and `write` waits until it is dropped.
    let rdb = vec![0; 4 * PART_BYTES];
    tokio::select! {
        result = writer.write(&rdb) => panic!("the writer does not wait for its store: {result:?}"),
        () = until("two puts are under way", || silent.requests() == 2) => {}
    }
    let error = writer.write(b"more").await.expect_err("what it took of the bytes is unknown");
    assert!(matches!(error, WriteError::Broken { .. }), "{error}");
    drop((writer, silent));
    wait_until_alone(&store).await;
}

/// Waits until nobody else holds the store.
async fn wait_until_alone(store: &Arc<dyn Store>) {
    until("no task of the dropped writer runs", || Arc::strong_count(store) == 1).await;
}

/// Like ECDSA, signs the same bytes differently each time; [`DigestVerifier`] does not believe it.
#[derive(Default)]
struct RestlessSigner {
    signed: Mutex<u8>,
}

impl ManifestSigner for RestlessSigner {
    fn sign(&self, _bytes: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let mut signed = self.signed.lock().expect("not poisoned");
        *signed += 1;
        Ok(vec![*signed])
    }

    fn certificate_pem(&self) -> &str {
        "fra-2"
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_is_settled_by_committing_again() {
    let (_, recipients) = keys();
    let memory = MemoryStore::default();
    // The manifest is stored at the first put, and no answer comes for as long as the writer waits.
    let lost = Arc::new(Mutex::new(true));
    let hook = Arc::clone(&lost);
    let store = FaultyStore::new(memory, move |_, operation, object| {
        (operation == StoreOperation::Put && object.ends_with("manifest.json") && *hook.lock().expect("not poisoned"))
            .then_some(Fault::After(ErrorKind::Unavailable))
    });
    let mut writer = BackupWriter::new(Arc::new(store), key(1), recipients.clone(), WriterOptions::default());
    writer.write(b"REDIS0012").await.expect("written");
    let written = writer.finish().await.expect("stored");
    let manifest = manifest_of(&key(1), &written, &recipients);
    let restless = RestlessSigner::default();
    let error = written.commit(&manifest, &restless).await.expect_err("no answer");
    assert!(error.kind().is_transient(), "{error}");
    *lost.lock().expect("not poisoned") = false;
    written.commit(&manifest, &restless).await.expect("it is there, signed before");
    let mut other = manifest.clone();
    other.agent_version = "9.9.9".to_owned();
    let error = written.commit(&other, &signer()).await.expect_err("another manifest is there");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn two_writers_of_one_id_never_mix() {
    let (identity, recipients) = keys();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    back_up(Arc::clone(&store), &key(1), &recipients, b"REDIS0012 first").await.expect("the first");
    let error = back_up(Arc::clone(&store), &key(1), &recipients, b"REDIS0012 second").await.expect_err("the second");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(read_back(store, &key(1), &identity).await.expect("the first"), b"REDIS0012 first");
}
