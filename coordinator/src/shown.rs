//! Looks at what is stored, and at the state of the coordinator itself.

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use urtext_repository::SignedManifest;
use urtext_types::{BackupId, ByteCount, ErrorKind};

use crate::{Fault, app::App, catalog::BackupEntry};

/// One backup with its manifest as stored, the signature checked.
#[derive(Debug)]
pub struct ShownBackup {
    pub entry: BackupEntry,
    pub manifest_json: String,
    pub signed_by: String,
}

/// Less than this share of the disk, or [`LOW_BYTES`], and `status` warns.
const LOW_PERCENT: u64 = 5;
const LOW_BYTES: u64 = 1024 * 1024 * 1024;

impl App {
    /// Reads one manifest again.
    pub async fn show_backup(&self, id: BackupId) -> Result<ShownBackup, Fault> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            manifest: &'a RawValue,
        }
        let entry = self.catalog.backup(id).await.map_err(Fault::while_doing("look up a backup"))?;
        let entry = entry.ok_or_else(|| {
            Fault::new(ErrorKind::NotFound, format!("there is no backup {id}")).with_hint("`urtext backups` lists them")
        })?;
        let attempt = || format!("read backup {id}");
        let key = entry.key();
        let bytes = self.get(&key.manifest()).await?;
        let manifest = SignedManifest::parse(&key, &bytes)
            .and_then(|signed| signed.verify(&self.verifier))
            .map_err(Fault::while_doing(attempt()))?;
        let envelope: Envelope<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| Fault::new(ErrorKind::Integrity, format!("{}: {error}", attempt())))?;
        Ok(ShownBackup {
            entry,
            manifest_json: envelope.manifest.get().to_owned(),
            // The verifier believes nobody else.
            signed_by: format!("the agent of node {} of {}", manifest.node, manifest.deployment),
        })
    }

    /// What somebody should know about the coordinator itself.
    pub fn warnings(&self) -> Vec<String> {
        let directories = self.repositories.iter().filter_map(|place| {
            let path = place.address().directory()?;
            Some((format!("repository {}", place.name()), path))
        });
        let places = directories.chain([("catalog".to_owned(), self.directory.root())]);
        places.filter_map(|(what, path)| low_on_space(&what, path)).collect()
    }
}

fn low_on_space(what: &str, path: &Path) -> Option<String> {
    // A path that cannot be asked shows itself elsewhere, by what fails.
    let disk = rustix::fs::statvfs(path).ok()?;
    let (free, all) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
    let is_low = free < LOW_BYTES || free < all / 100 * LOW_PERCENT;
    is_low.then(|| format!("only {} are free for the {what} in {}", ByteCount::new(free), path.display()))
}
