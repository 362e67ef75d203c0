//! Proving stored backups: every object is read again and compared with the signed manifest. Needs no identity.
//!
//! What is found to be damaged is named with what it costs: the RDB is one stream, so whatever stands behind
//! a lost part cannot be loaded, while lost settings cost nothing but themselves.
//!
//! **Memory**: two objects, each at most [`crate::MAX_OBJECT_BYTES`], and the names of what is damaged.

use std::{collections::BTreeMap, fmt};

use futures::{StreamExt, TryStreamExt, stream};
use urtext_types::{ByteCount, Chain, ErrorKind, Explain};

use crate::{
    BackupKey, Manifest, ManifestVerifier, ObjectName, PART_BYTES, ReadError, Sha256Digest, Store, StoreError,
    reader::{data_objects, fetch, read_manifest},
};

/// Objects read at the same time.
const READS_IN_FLIGHT: usize = 2;

/// Which objects of a backup are read. Presence and size of the others are looked at all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    percent: u8,
    turn: u64,
}

impl Sample {
    /// Every object.
    pub const ALL: Self = Self { percent: 100, turn: 0 };

    /// About `percent` of the objects. Which ones follows from their names and from `turn` alone, and turns
    /// that follow each other read others until all were read: after `100 / percent` of them, rounded up.
    pub fn percent(percent: u8, turn: u64) -> Self {
        Self { percent: percent.min(100), turn }
    }

    /// Whether this object is read.
    pub fn takes(self, object: &ObjectName) -> bool {
        let digest = Sha256Digest::of(object.as_str().as_bytes());
        let lot = u64::from(u16::from_be_bytes([digest.as_bytes()[0], digest.as_bytes()[1]])) % 100;
        let percent = u64::from(self.percent);
        let begin = (self.turn % 100) * percent % 100;
        (lot + 100 - begin) % 100 < percent
    }
}

/// What cannot be restored any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// ACL users and configuration. The data is whole.
    Settings,
    /// The RDB from this byte on. What stands before it can be read, and no server loads it.
    RdbFrom { byte: u64, of: u64 },
    /// Nothing of it can be believed: its manifest is damaged.
    Backup,
}

impl Loss {
    /// The loss of one data object.
    fn of(manifest: &Manifest, object: &ObjectName) -> Self {
        let key = manifest.key();
        match (0_u32..).zip(&manifest.parts).find(|(index, _)| key.part(*index) == *object) {
            Some((index, _)) => Self::RdbFrom { byte: u64::from(index) * PART_BYTES as u64, of: manifest.rdb.bytes },
            None => Self::Settings,
        }
    }

    /// The greater of two losses includes the smaller.
    fn rank(self) -> (u8, u64) {
        match self {
            Self::Settings => (0, 0),
            Self::RdbFrom { byte, .. } => (1, u64::MAX - byte),
            Self::Backup => (2, 0),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("ACL users and configuration cannot be restored; the data can"),
            Self::RdbFrom { byte: 0, .. } => f.write_str("nothing of the data can be restored"),
            Self::RdbFrom { byte, of } => write!(
                f,
                "no server loads it: the RDB breaks off after {} of {}",
                ByteCount::new(*byte),
                ByteCount::new(*of)
            ),
            Self::Backup => f.write_str("nothing of the backup can be believed"),
        }
    }
}

/// One object that is not as it was stored.
#[derive(Debug)]
pub struct Damage {
    pub object: ObjectName,
    /// Of kind [`ErrorKind::Integrity`].
    pub error: ReadError,
    pub loss: Loss,
}

/// What was found out about one backup.
#[derive(Debug)]
pub struct Checked {
    pub backup: BackupKey,
    /// Objects that were read, the manifest included.
    pub read: usize,
    /// Objects that the backup has.
    pub of: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// In the order of the names. Empty: what was read is as it was stored, and nothing is missing.
    pub damage: Vec<Damage>,
}

impl Checked {
    /// What all the damage together costs.
    pub fn loss(&self) -> Option<Loss> {
        self.damage.iter().map(|damage| damage.loss).max_by_key(|loss| loss.rank())
    }

    /// Why the backup is damaged, in one sentence: its first damaged object, how many more there are, and what
    /// that costs.
    pub fn reason(&self) -> Option<String> {
        let (first, loss) = (self.damage.first()?, self.loss()?);
        let more = match self.damage.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(format!("{}{more}; {loss}", Chain(&first.error)))
    }
}

/// Reads a backup again and compares it with its manifest. `progress` is told of the bytes of each object.
///
/// # Errors
/// Nothing was found out: there is no such backup, or the store does not answer. What is damaged is no error.
pub async fn check_backup(
    store: &dyn Store,
    key: &BackupKey,
    verifier: &dyn ManifestVerifier,
    sample: Sample,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Checked, ReadError> {
    let (manifest, raw) = match read_manifest(store, key, verifier).await {
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::Integrity => {
            let damage = vec![Damage { object: key.manifest(), error, loss: Loss::Backup }];
            return Ok(Checked { backup: key.clone(), read: 1, of: 1, bytes: 0, damage });
        }
        Err(error) => return Err(error),
    };
    progress(raw.len() as u64);
    let objects = data_objects(&manifest);
    let of = objects.len() + 1;
    // A whole reading finds out by itself what is missing.
    let sizes = if sample.percent < 100 { Some(sizes(store, key).await?) } else { None };
    let looks = stream::iter(objects).map(|(object, entry)| {
        let is_as_listed = sizes.as_ref().is_some_and(|sizes| sizes.get(&object) == Some(&entry.stored_bytes));
        async move {
            // What a listing does not show as it should be is looked at: listings may be behind.
            if is_as_listed && !sample.takes(&object) {
                return (object, Ok(None));
            }
            let read = fetch(store, object.clone(), &entry).await;
            (object, read.map(|_| Some(entry.stored_bytes)))
        }
    });
    let mut looks = looks.buffered(READS_IN_FLIGHT);
    let mut checked = Checked { backup: key.clone(), read: 1, of, bytes: raw.len() as u64, damage: Vec::new() };
    while let Some((object, look)) = looks.next().await {
        match look {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                checked.read += 1;
                checked.bytes += bytes;
                progress(bytes);
            }
            Err(error) if error.kind() == ErrorKind::Integrity => {
                checked.read += 1;
                let loss = Loss::of(&manifest, &object);
                checked.damage.push(Damage { object, error, loss });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(checked)
}

/// The sizes of a backup's objects, as the store lists them.
pub(crate) async fn sizes(store: &dyn Store, key: &BackupKey) -> Result<BTreeMap<ObjectName, u64>, ReadError> {
    let listed = store.list(&key.prefix()).map_ok(|object| (object.name, object.size)).try_collect().await;
    listed.map_err(|source: StoreError| ReadError::Store { object: key.manifest(), source })
}
