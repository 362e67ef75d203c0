//! Backups as one stream, for tape, a pen drive or an air gap: a plain tar that ordinary tools open.
//!
//! Whole backups with everything that a reader needs, each manifest before its parts, so that whoever reads the
//! stream can compare as it flows; the digests of all files last. What is written was compared with its signed
//! manifest. The same backups and records give the same bytes.
//!
//! **Memory**: the object that is written and the next one.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tar::{EntryType, Header};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{
    BackupKey, Location, ManifestVerifier, ObjectName, ObjectPrefix, RecordKind, Repository, Sha256Digest, Store,
    TransferError,
    reader::{data_objects, fetch, read_manifest},
    transfer::get_plain,
};

/// What the stream begins with, for whoever finds the tape.
pub(crate) const README: &str = "README.txt";
/// What the stream ends with: `sha256sum -c` reads it.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// A tar consists of blocks of this size, and two empty ones end it.
const BLOCK: usize = 512;

/// Objects read ahead of the one that is written.
const READ_AHEAD: usize = 2;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    pub objects: usize,
    pub bytes: u64,
}

/// Writes backups, each from the store that has a good copy of it, and the records of their shards as one stream.
/// Header and records are those of `repository`. `progress` is told of the bytes written.
///
/// # Errors
/// Something cannot be read, is damaged, or cannot be written. The stream is not whole then, and `import` says so.
pub async fn export(
    repository: &Repository,
    backups: &[(BackupKey, Arc<dyn Store>)],
    verifier: &dyn ManifestVerifier,
    output: &mut (dyn AsyncWrite + Send + Unpin),
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Exported, TransferError> {
    let store = repository.store().as_ref();
    let keys: Vec<BackupKey> = backups.iter().map(|(key, _)| key.clone()).collect();
    let made_at = keys.iter().map(|key| key.id.timestamp().as_millis().max(0) as u64 / 1000).max().unwrap_or(0);
    let mut tar = Tar { output, made_at, sums: String::new(), exported: Exported::default(), progress };
    tar.file(README, readme(&keys).as_bytes()).await?;
    let header = Location::Repository.name();
    tar.file(header.as_str(), &get_plain(store, &header).await?).await?;
    for object in authorities(store).await? {
        tar.file(object.as_str(), &get_plain(store, &object).await?).await?;
    }
    for (key, store) in backups {
        let store = store.as_ref();
        let (manifest, raw) = read_manifest(store, key, verifier).await?;
        tar.file(key.manifest().as_str(), &raw).await?;
        let mut reads = stream::iter(data_objects(&manifest))
            .map(|(object, entry)| async move {
                Ok::<_, TransferError>((fetch(store, object.clone(), &entry).await?, object))
            })
            .buffered(READ_AHEAD);
        while let Some((bytes, object)) = reads.try_next().await? {
            tar.file(object.as_str(), &bytes).await?;
        }
    }
    for object in records(repository, &keys).await? {
        tar.file(object.as_str(), &get_plain(store, &object).await?).await?;
    }
    tar.finish().await
}

/// The certificates of those whose signatures the manifests carry, if the repository has them.
async fn authorities(store: &dyn Store) -> Result<Vec<ObjectName>, TransferError> {
    let prefix: ObjectPrefix = "authorities".parse().expect("a valid prefix");
    let listed = store.list(&prefix).map_ok(|object| object.name).try_collect::<Vec<_>>().await;
    let mut objects = listed.map_err(TransferError::List)?;
    objects.retain(|object| Location::parse(object).is_some());
    objects.sort_unstable();
    Ok(objects)
}

/// What is on record about the shards of these backups.
async fn records(repository: &Repository, backups: &[BackupKey]) -> Result<Vec<ObjectName>, TransferError> {
    let mut shards: Vec<_> = backups.iter().map(|key| (&key.deployment, &key.shard)).collect();
    shards.sort_unstable();
    shards.dedup();
    let mut objects = Vec::new();
    for (deployment, shard) in shards {
        for kind in RecordKind::ALL {
            for record in repository.records(deployment, kind).await.map_err(TransferError::List)? {
                let record = record?;
                if record.body.shard() == Some(shard) {
                    objects.push(record.name());
                }
            }
        }
    }
    Ok(objects)
}

/// A tar as it is written.
struct Tar<'a> {
    output: &'a mut (dyn AsyncWrite + Send + Unpin),
    /// Seconds; that of every file.
    made_at: u64,
    sums: String,
    exported: Exported,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Tar<'_> {
    async fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), TransferError> {
        let digest = Sha256Digest::of(bytes);
        writeln!(self.sums, "{digest}  {name}").expect("writing to a string");
        self.exported.objects += 1;
        self.entry(name, bytes).await
    }

    async fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<(), TransferError> {
        let mut header = Header::new_ustar();
        // Our names have at most 180 bytes, with a slash where ustar wants to part them.
        header.set_path(name).map_err(TransferError::Output)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(self.made_at);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        let padding = [0; BLOCK];
        let padding = &padding[..bytes.len().next_multiple_of(BLOCK) - bytes.len()];
        for piece in [header.as_bytes(), bytes, padding] {
            self.output.write_all(piece).await.map_err(TransferError::Output)?;
        }
        let written = (BLOCK + bytes.len() + padding.len()) as u64;
        self.exported.bytes += written;
        (self.progress)(written);
        Ok(())
    }

    async fn finish(mut self) -> Result<Exported, TransferError> {
        let sums = Bytes::from(std::mem::take(&mut self.sums));
        self.entry(SUMS, &sums).await?;
        self.output.write_all(&[0; 2 * BLOCK]).await.map_err(TransferError::Output)?;
        self.output.flush().await.map_err(TransferError::Output)?;
        self.exported.bytes += 2 * BLOCK as u64;
        Ok(self.exported)
    }
}

/// How to restore by hand.
fn readme(backups: &[BackupKey]) -> String {
    let mut text = String::from(
        "Backups of Redis or Valkey servers, written by `urtext export`.\n\n\
         With Urtext, back into a repository (a path, or s3://bucket/prefix, …):\n\n    \
         urtext import --repository URL < THIS-STREAM\n\n\
         Without Urtext, with tar, age, zstd and the age identity in the file KEY:\n\n    \
         tar -xf THIS-STREAM\n    \
         sha256sum -c SHA256SUMS\n    \
         cd BACKUP\n    \
         for part in rdb.*.zst.age; do age -d -i KEY \"$part\" | zstd -dc; done > dump.rdb\n    \
         age -d -i KEY settings.zst.age | zstd -dc\n\n\
         dump.rdb is what the server sent. Put it where the server's dir and dbfilename say, while the server is\n\
         stopped and append-only persistence is off, and start the server. settings holds ACL users and\n\
         configuration. manifest.json says which server, which position in its history and whose identity opens\n\
         it; it is signed, and it holds the SHA-256 of every part and of dump.rdb.\n\n\
         BACKUP is one of:\n\n",
    );
    for key in backups {
        writeln!(text, "    {key}").expect("writing to a string");
    }
    text
}
