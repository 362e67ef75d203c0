//! A process that is killed at any moment leaves committed backups and garbage, nothing between.

use std::{
    env,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use urtext_types::{RepositoryId, Timestamp};

use super::{back_up, key, noise, read_back};
use crate::{DirectoryStore, Identity, PART_BYTES, Repository, testing::DigestVerifier};

/// Set for the process that is killed: the directory to write into.
const DIRECTORY: &str = "URTEXT_TEST_KILLED_DIRECTORY";
/// Set for the process that is killed: to whom it seals.
const RECIPIENT: &str = "URTEXT_TEST_KILLED_RECIPIENT";
/// Set for the process that is killed: the number of its first backup.
const FIRST: &str = "URTEXT_TEST_KILLED_FIRST";

fn rdb() -> Vec<u8> {
    noise(11, PART_BYTES + 100_000)
}

/// What the child does: one backup after the other until it is killed.
async fn back_up_for_ever(directory: &str) {
    let store = Arc::new(DirectoryStore::open(directory).expect("the parent's directory"));
    let recipients = env::var(RECIPIENT).expect("a recipient").parse::<crate::Recipient>().expect("a key").into();
    let first: i64 = env::var(FIRST).expect("a number").parse().expect("a number");
    for n in first.. {
        back_up(Arc::clone(&store) as _, &key(n), &recipients, &rdb()).await.expect("a backup");
    }
}

/// Killed when dropped, also by a failing test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("it runs until it is killed");
        self.0.wait().expect("it was killed");
    }
}

#[tokio::test]
async fn a_writer_killed_at_any_moment_leaves_whole_backups_and_garbage() {
    if let Ok(directory) = env::var(DIRECTORY) {
        return back_up_for_ever(&directory).await;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let identity = Identity::generate();
    let store = Arc::new(DirectoryStore::open(directory.path()).expect("open"));
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(store, id, identity.recipient().into()).await.expect("made");
    for round in 0..5_u64 {
        let child = Command::new(env::current_exe().expect("this test"))
            .args(["--exact", "tests::killed::a_writer_killed_at_any_moment_leaves_whole_backups_and_garbage"])
            .env(DIRECTORY, directory.path())
            .env(RECIPIENT, identity.recipient().to_string())
            .env(FIRST, (round * 1000).to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("the child starts");
        let mut child = Killed(child);
        let before = repository.backups(None).await.expect("listed").len();
        // Once it has committed one, at some other moment in each round.
        let committed = async {
            while repository.backups(None).await.expect("listed").len() == before {
                assert_eq!(child.0.try_wait().expect("our child"), None, "the child ended by itself");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), committed).await.expect("a backup in a minute");
        tokio::time::sleep(Duration::from_millis(round * 37)).await;
        drop(child);
    }
    let keys = repository.backups(None).await.expect("listed");
    assert!(keys.len() >= 5);
    for key in keys {
        let reader = repository.read_backup(key.clone(), &DigestVerifier).await.expect("every listed one opens");
        reader.verify_stored().await.expect("every listed one is whole");
        assert!(read_back(Arc::clone(repository.store()), &key, &identity).await.expect("restores") == rdb());
    }
}
