//! What every store does, and what a directory does on bad days.

use std::{fs, path::Path, process::Command, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt;
use urtext_types::{ErrorKind, Explain, Timestamp};

use super::{key, noise};
use crate::{
    DirectoryStore, Location, ObjectInfo, ObjectPrefix, PutOutcome, Store,
    testing::{FaultyStore, MemoryStore, check_conformance, check_locking, check_sweeping},
};

#[tokio::test]
async fn memory_is_a_store() {
    check_conformance(Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn a_faulty_store_without_faults_is_a_store() {
    check_conformance(Arc::new(FaultyStore::new(MemoryStore::default(), |_, _, _| None))).await;
}

#[tokio::test]
async fn a_directory_is_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    check_conformance(Arc::new(DirectoryStore::open(directory.path()).expect("open"))).await;
}

#[tokio::test]
async fn every_store_deletes_as_it_must() {
    check_sweeping(Arc::new(MemoryStore::default())).await;
    check_sweeping(Arc::new(FaultyStore::new(MemoryStore::default(), |_, _, _| None))).await;
    let directory = tempfile::tempdir().expect("a directory");
    check_sweeping(Arc::new(DirectoryStore::open(directory.path()).expect("open"))).await;
}

#[tokio::test]
async fn memory_locks_as_a_store_must() {
    check_locking(Arc::new(MemoryStore::default()), Timestamp::from_millis(1_800_000_000_000)).await;
}

#[tokio::test]
async fn a_killed_put_leaves_nothing_that_is_listed_or_in_the_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DirectoryStore::open(directory.path()).expect("open");
    let name = key(1).part(0);
    let file = directory.path().join(name.as_str());
    fs::create_dir_all(file.parent().expect("below the root")).expect("folders");
    for staging in ["#1", "#2"] {
        fs::write(format!("{}{staging}", file.display()), b"half of").expect("a staging file");
    }
    assert_eq!(listed(&store).await, []);
    let outcome = store.put_new(&name, Bytes::from_static(b"all of it")).await.expect("put");
    assert_eq!(outcome, PutOutcome::Created);
    let names: Vec<_> = listed(&store).await.into_iter().map(|object| (object.name, object.size)).collect();
    assert_eq!(names, [(name, 9)]);
}

#[tokio::test]
async fn files_of_others_are_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DirectoryStore::open(directory.path()).expect("open");
    for foreign in [".hidden", "a file with spaces", "lost+found", "Überraschung", "100%"] {
        fs::write(directory.path().join(foreign), b"not ours").expect("a file");
    }
    assert_eq!(listed(&store).await, []);
    // A folder where an object should be is not an object, and nothing is put over it.
    fs::create_dir_all(directory.path().join("urtext.json")).expect("a folder");
    let error = store.put_new(&Location::Repository.name(), Bytes::new()).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn a_directory_that_is_gone_is_not_made_anew() {
    let parent = tempfile::tempdir().expect("a directory");
    let root = parent.path().join("repository");
    let store = DirectoryStore::create(&root).expect("made");
    let name = Location::Repository.name();
    store.put_new(&name, Bytes::from_static(b"{}")).await.expect("put");

    // As after an unmount: first nothing is there, then another folder of the same name.
    fs::rename(&root, parent.path().join("elsewhere")).expect("moved");
    for _ in 0..2 {
        let errors = [
            store.put_new(&name, Bytes::from_static(b"{}")).await.expect_err("gone"),
            store.get(&name).await.expect_err("gone"),
            store.list(&ObjectPrefix::all()).try_collect::<Vec<_>>().await.expect_err("gone"),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(urtext_types::Chain(&error).to_string().contains("unmounted"), "{error:?}");
        }
        assert!(!root.join("urtext.json").exists());
        if !root.exists() {
            fs::create_dir(&root).expect("another one");
        }
    }
    assert_eq!(DirectoryStore::open(parent.path().join("nowhere")).expect_err("nothing").kind(), ErrorKind::NotFound);
}

/// A file system of its own, unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// `None`, with the reason printed, where mounting is not allowed.
    fn new(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(directory.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(directory)),
            other => {
                super::skip(&format!("cannot mount a small file system: {other:?}"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount {}", self.path().display());
    }
}

#[tokio::test]
async fn a_full_disk_is_said_with_path_and_size_and_leaves_nothing_behind() {
    let Some(mount) = Mount::new("size=1m") else { return };
    let store = DirectoryStore::open(mount.path()).expect("open");
    store.put_new(&key(1).part(0), noise(1, 600_000).into()).await.expect("fits");
    let error = store.put_new(&key(1).part(1), noise(2, 600_000).into()).await.expect_err("does not fit");
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    let text = error.to_string();
    assert!(text.contains("585.9 KiB") && text.contains(&mount.path().display().to_string()), "{text}");
    assert_eq!(store.get(&key(1).part(1)).await.expect_err("not there").kind(), ErrorKind::NotFound);
    // What was written of it was taken away again: something smaller still fits.
    store.put_new(&key(1).part(2), noise(3, 300_000).into()).await.expect("fits");
    assert_eq!(listed(&store).await.len(), 2);
}

#[tokio::test]
async fn a_read_only_disk_is_said() {
    let Some(mount) = Mount::new("size=1m,ro") else { return };
    let store = DirectoryStore::open(mount.path()).expect("open");
    let error = store.put_new(&key(1).part(0), Bytes::from_static(b"x")).await.expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains(&mount.path().display().to_string())));
}

async fn listed(store: &DirectoryStore) -> Vec<ObjectInfo> {
    store.list(&ObjectPrefix::all()).try_collect().await.expect("a listing")
}
