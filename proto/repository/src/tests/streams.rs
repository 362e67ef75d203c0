//! Backups as a stream: written, opened with ordinary tools, read back, damaged, and hostile.

use std::{fs, io, process::Command, sync::Arc};

use futures::TryStreamExt;
use tar::{Builder, EntryType, Header};
use urtext_types::{ErrorKind, Explain, RepositoryId, Timestamp};

use super::{back_up, key, noise, read_back, stored};
use crate::{
    BackupKey, Identity, Imported, ObjectName, ObjectPrefix, PART_BYTES, Recipients, Record, RecordBody, Repository,
    Store, TransferError, export, import,
    testing::{DigestVerifier, MemoryStore},
};

async fn repository(recipients: &Recipients) -> (MemoryStore, Repository) {
    let memory = MemoryStore::default();
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(Arc::new(memory.clone()), id, recipients.clone()).await.expect("a repository");
    (memory, repository)
}

fn rdb() -> Vec<u8> {
    [vec![0; PART_BYTES], noise(33, 4711)].concat()
}

struct Fixture {
    identity: Identity,
    recipients: Recipients,
    memory: MemoryStore,
    repository: Repository,
    record: Record,
}

/// A repository with two backups and a record.
async fn fixture() -> Fixture {
    let identity = Identity::generate();
    let recipients: Recipients = identity.recipient().into();
    let (memory, repository) = repository(&recipients).await;
    back_up(Arc::new(memory.clone()), &key(1), &recipients, &rdb()).await.expect("a backup");
    back_up(Arc::new(memory.clone()), &key(2), &recipients, b"REDIS0012").await.expect("a backup");
    let record = Record {
        format_version: 1,
        id: urtext_types::RecordId::new(key(1).id.timestamp(), [3; 10]),
        deployment: key(1).deployment,
        who: "alice".to_owned(),
        at: key(1).id.timestamp(),
        reason: None,
        body: RecordBody::Vouch { shard: key(1).shard, backup: key(1).id },
    };
    repository.put_record(&record).await.expect("put");
    let elsewhere = RecordBody::Vouch { shard: "7".parse().expect("a name"), backup: key(1).id };
    let id = urtext_types::RecordId::new(key(1).id.timestamp(), [4; 10]);
    repository.put_record(&Record { body: elsewhere, id, ..record.clone() }).await.expect("put");
    Fixture { identity, recipients, memory, repository, record }
}

async fn exported(repository: &Repository, backups: &[BackupKey]) -> Vec<u8> {
    let mut stream = Vec::new();
    let backups: Vec<_> = backups.iter().map(|key| (key.clone(), Arc::clone(repository.store()))).collect();
    let done = export(repository, &backups, &DigestVerifier, &mut stream, &|_| {}).await.expect("exported");
    assert_eq!(done.bytes, stream.len() as u64);
    stream
}

async fn imported(repository: &Repository, stream: Vec<u8>) -> Result<Imported, TransferError> {
    import(repository, &DigestVerifier, io::Cursor::new(stream), &|_| {}).await
}

async fn names(store: &dyn Store) -> Vec<ObjectName> {
    let mut names: Vec<_> =
        store.list(&ObjectPrefix::all()).map_ok(|object| object.name).try_collect().await.expect("listed");
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_stream_brings_back_what_it_was_made_from() {
    let Fixture { identity, recipients, memory, repository: from, record } = fixture().await;
    let stream = exported(&from, &[key(1)]).await;
    assert!(stream == exported(&from, &[key(1)]).await, "the same backups give the same bytes");
    let (there, to) = repository(&recipients).await;
    let done = imported(&to, stream.clone()).await.expect("imported");
    assert!(matches!(&done.backups[..], [one] if one.manifest.backup == key(1).id && !one.was_there));
    assert_eq!(done.others, 1);
    assert_eq!(done.origin.expect("a header"), *from.header());
    assert_eq!(
        names(&there).await,
        [
            key(1).manifest(),
            key(1).part(0),
            key(1).part(1),
            key(1).settings(),
            record.name(),
            "urtext.json".parse().expect("a name")
        ]
    );
    for name in [key(1).manifest(), key(1).part(1), record.name()] {
        assert_eq!(stored(&there, &name).await, stored(&memory, &name).await);
    }
    assert!(read_back(Arc::new(there), &key(1), &identity).await.expect("restored") == rdb());
    let again = imported(&to, stream).await.expect("the same once more");
    assert!(again.backups[0].was_there);
    let both = exported(&from, &[key(1), key(2)]).await;
    assert_eq!(imported(&to, both).await.expect("imported").backups.len(), 2);
}

#[tokio::test]
async fn ordinary_tools_open_it_and_what_they_packed_again_is_taken() {
    let Fixture { recipients, repository: from, .. } = fixture().await;
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("stream"), exported(&from, &[key(2)]).await).expect("written");
    let run = |command: &str| {
        let ended = Command::new("sh").args(["-ec", command]).current_dir(folder.path()).output().expect("a shell");
        assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8_lossy(&ended.stdout).into_owned()
    };
    let listed = run("tar -tf stream");
    let manifest = key(2).manifest();
    assert!(listed.starts_with("README.txt\nurtext.json\n") && listed.ends_with("SHA256SUMS\n"), "{listed}");
    assert!(listed.contains(manifest.as_str()));
    run("mkdir out && tar -xf stream -C out && cd out && sha256sum --strict -c SHA256SUMS");
    let pack = super::format::block("sh pack");
    for format in ["gnu", "pax", "ustar", "v7"] {
        let (there, to) = repository(&recipients).await;
        run(&format!("cd out; export TAR_OPTIONS=--format={format}; {pack}"));
        let done = imported(&to, fs::read(folder.path().join("out/again.tar")).expect("read")).await;
        assert_eq!(done.expect("as exported").backups.len(), 1, "{format}");
        assert_eq!(names(&there).await.len(), 5, "{format}");
    }
    // Names with a dot before them, and in a folder of their own.
    let (_, to) = repository(&recipients).await;
    run(&format!(
        "cd out && tar -cf again.tar ./README.txt ./urtext.json ./backups/orders/0/{id}/manifest.json --no-recursion \
         ./backups --recursion $(ls -d ./backups/orders/0/{id}/*.age) ./records ./SHA256SUMS",
        id = key(2).id
    ));
    let done = imported(&to, fs::read(folder.path().join("out/again.tar")).expect("read")).await;
    assert_eq!(done.expect("as exported").backups.len(), 1);
}

#[tokio::test]
async fn every_cut_and_every_change_is_found_and_commits_nothing_that_is_not_whole() {
    let Fixture { recipients, identity, repository: from, .. } = fixture().await;
    let stream = exported(&from, &[key(2)]).await;
    let end = stream.len() - 1024;
    for at in (0..end).step_by(97) {
        let (there, to) = repository(&recipients).await;
        let error = imported(&to, stream[..at].to_vec()).await.expect_err("cut");
        assert_eq!(error.kind(), ErrorKind::Integrity, "cut at {at}: {error:?}");
        if there.get(&key(2).manifest()).await.is_ok() {
            assert_eq!(read_back(Arc::new(there), &key(2), &identity).await.expect("whole"), b"REDIS0012");
        }
    }
    for at in (0..end).step_by(61) {
        let (there, to) = repository(&recipients).await;
        let mut changed = stream.clone();
        changed[at] ^= 4;
        let outcome = imported(&to, changed).await;
        if let Err(error) = &outcome {
            assert!(matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Usage), "byte {at}: {error:?}");
        }
        // A tar covers neither the padding behind a file nor what its header says of dates and owners twice.
        if outcome.is_ok() || there.get(&key(2).manifest()).await.is_ok() {
            assert_eq!(read_back(Arc::new(there), &key(2), &identity).await.expect("whole"), b"REDIS0012");
        }
    }
}

/// Files as a tar, whatever they are called and say.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        builder.append(&header, *bytes).expect("appended");
    }
    builder.into_inner().expect("finished")
}

#[track_caller]
fn refused(outcome: Result<Imported, TransferError>, words: &str) {
    let error = outcome.expect_err(words);
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
    assert!(urtext_types::Chain(&error).to_string().contains(words), "{words}: {error}");
}

#[tokio::test]
async fn a_hostile_stream_is_refused_and_leaves_nothing() {
    let Fixture { recipients, memory, .. } = fixture().await;
    let (there, to) = repository(&recipients).await;
    let (manifest, part) = (stored(&memory, &key(2).manifest()).await, stored(&memory, &key(2).part(0)).await);
    let (manifest_name, part_name) = (key(2).manifest(), key(2).part(0));
    let (manifest_name, part_name) = (manifest_name.as_str(), part_name.as_str());
    for name in ["../etc/passwd", "/etc/passwd", "backups/x", "C:\\x", "urtext.json/", "README.txt/.."] {
        refused(imported(&to, tar(&[(name, b"x")])).await, "not a");
    }
    refused(imported(&to, tar(&[(part_name, &part)])).await, "before the manifest");
    refused(imported(&to, tar(&[(manifest_name, &manifest)])).await, "too early");
    refused(imported(&to, tar(&[(manifest_name, &manifest), (manifest_name, &manifest)])).await, "twice");
    refused(imported(&to, tar(&[(manifest_name, &manifest), (part_name, b"other")])).await, "has 5 bytes");
    let seventh = key(2).part(7);
    refused(imported(&to, tar(&[(manifest_name, &manifest), (seventh.as_str(), &part)])).await, "does not name");
    let other = key(1).manifest();
    refused(imported(&to, tar(&[(other.as_str(), &manifest)])).await, "says that it is");
    let keys = format!("keys/{}.json", key(1).id);
    refused(imported(&to, tar(&[(&keys, b"{}")])).await, "belongs to the repository");
    refused(imported(&to, b"this is no tar at all".repeat(100)).await, "not a stream");
    refused(imported(&to, Vec::new()).await, "too early");
    let link = {
        let mut header = Header::new_gnu();
        header.set_path("urtext.json").expect("a name");
        header.set_link_name("/etc/passwd").expect("a name");
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    refused(imported(&to, link).await, "something else than files");
    for (kind, size) in
        [(EntryType::Regular, 1 << 40), (EntryType::GNULongName, 1 << 40), (EntryType::XHeader, 1 << 40)]
    {
        let mut header = Header::new_gnu();
        header.set_path(manifest_name).expect("a name");
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        // No more of it is ever read.
        refused(imported(&to, header.as_bytes().to_vec()).await, "1.0 TiB");
    }
    let left = names(&there).await;
    assert_eq!(left.iter().map(ObjectName::as_str).collect::<Vec<_>>(), ["urtext.json"]);
}
