//! Putting right what is damaged, from another repository that has the same backup.
//!
//! Nothing is taken on trust: what is put was compared with the signed manifest first, and a damaged object is
//! removed only when what replaces it is in memory.

use std::collections::BTreeSet;

use crate::{
    BackupKey, Checked, Location, ManifestVerifier, ObjectName, Store, SweepStore, TransferError,
    reader::{data_objects, fetch, read_manifest},
    store::with_patience,
    transfer::put,
};

/// For how long the store may fail, in one piece, before the repair is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What a repair did.
#[derive(Debug, Default)]
pub struct Repaired {
    /// As they were stored once, again.
    pub mended: Vec<ObjectName>,
    pub bytes: u64,
    /// What the other repository could not give, each with the reason.
    pub left: Vec<(ObjectName, TransferError)>,
}

/// Takes every object that was found to be damaged or missing from another repository. Where the manifest itself
/// is damaged, the rest of the backup is still to be checked: nobody knew what it must be.
///
/// # Errors
/// The other repository does not have this backup, or has another one of this id; or one of the two does not
/// answer. What was mended before stays mended.
pub async fn repair(
    to: &dyn SweepStore,
    from: &dyn Store,
    checked: &Checked,
    verifier: &dyn ManifestVerifier,
) -> Result<Repaired, TransferError> {
    let key: &BackupKey = &checked.backup;
    let (manifest, raw) = read_manifest(from, key, verifier).await?;
    let damaged: BTreeSet<&ObjectName> = checked.damage.iter().map(|damage| &damage.object).collect();
    let mut repaired = Repaired::default();
    if damaged.contains(&key.manifest()) {
        replace(to, &key.manifest(), &raw).await?;
        repaired.bytes += raw.len() as u64;
        repaired.mended.push(key.manifest());
    } else if read_manifest(to, key, verifier).await?.0 != manifest {
        return Err(TransferError::Twins { backup: key.clone() });
    }
    for (object, entry) in data_objects(&manifest) {
        if !damaged.contains(&object) {
            continue;
        }
        match fetch(from, object.clone(), &entry).await {
            Ok(bytes) => {
                replace(to, &object, &bytes).await?;
                repaired.bytes += entry.stored_bytes;
                repaired.mended.push(object);
            }
            Err(error) => repaired.left.push((object, error.into())),
        }
    }
    Ok(repaired)
}

/// Puts the right bytes where wrong ones, or none, stand.
async fn replace(to: &dyn SweepStore, object: &ObjectName, bytes: &bytes::Bytes) -> Result<(), TransferError> {
    debug_assert!(Location::parse(object).is_some(), "only our own objects are replaced");
    with_patience(PATIENCE, || to.delete(object))
        .await
        .map_err(|source| TransferError::Replace { object: object.clone(), source })?;
    put(to, object, bytes).await.map(|_| ())
}
