//! Whose keys open a repository's backups, as time goes by.
//!
//! Recipients are changed by adding an object, [`KeyChange`]: what is stored stays as it is, and what is captured
//! from then on is sealed to the new ones. So that the holder of a new key can read the older backups as well,
//! whoever changes the recipients seals the identities of the older ones to the new ones beside it
//! ([`Keyring::hand_on`]). It follows that an old key opens old backups for ever: only taking fresh ones and letting
//! the old ones go ends that.
//!
//! A change is signed by an operator. Without that, whoever may write into a bucket could have all further backups
//! sealed to a key of his own. One that is not so signed is reported and changes nothing.
//!
//! Crash story: identities are put first, the change last; identities without their change are used by nobody.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use urtext_types::{ErrorKind, Explain, RecordId, RepositoryId, Secret, Timestamp};

use crate::{
    FORMAT_VERSION, Identity, Location, ManifestSigner, ObjectName, ObjectPrefix, OpenError, PutOutcome, Recipient,
    Recipients, Repository, SIGNATURE_ALGORITHM, SealError, SignatureError, StoreError, open_bytes,
    repository::PATIENCE, seal_bytes, signed::Signature, store::with_patience,
};

/// Objects read at the same time.
const READS_IN_FLIGHT: usize = 8;

/// `keys/<id>.json`: who the recipients are from then on. The newest one governs; before the first, `urtext.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    pub id: RecordId,
    /// The repository that it is for: a change of another one proves nothing here.
    pub repository: RepositoryId,
    pub recipients: Recipients,
    /// Whose identities were sealed to `recipients`, in the object beside this one; none, and there is no object.
    pub handed_on: Vec<Recipient>,
    /// A person's name, as the certificate of the signature says it.
    pub who: String,
    pub at: Timestamp,
    pub reason: Option<String>,
}

/// Decides whether an operator of the installation signed something.
pub trait OperatorVerifier: Send + Sync {
    /// The operator's name.
    ///
    /// # Errors
    /// The certificate is not of this installation, or not an operator's; or the signature is not that of `bytes`.
    fn verify_operator(&self, certificate_pem: &str, bytes: &[u8], signature: &[u8]) -> Result<String, SignatureError>;
}

/// Why keys cannot be read, believed or changed.
#[derive(Debug, Error)]
pub enum KeysError {
    #[error("{object} is not the JSON that it must be")]
    Malformed {
        object: ObjectName,
        #[source]
        source: serde_json::Error,
    },
    #[error("{object} has format version {found}, and this Urtext reads version {FORMAT_VERSION}")]
    Version { object: ObjectName, found: u32 },
    #[error("{object} says that it is {claimed}")]
    Misplaced { object: ObjectName, claimed: String },
    #[error("{object} is not signed by an operator of this installation")]
    Signature {
        object: ObjectName,
        #[source]
        source: SignatureError,
    },
    #[error("use {object}")]
    Store {
        object: String,
        #[source]
        source: StoreError,
    },
    #[error("the keys of the repository have been changed since: {newest} is newer than {given}")]
    NotTheNewest { given: RecordId, newest: RecordId },
}

impl Explain for KeysError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed { .. } | Self::Misplaced { .. } | Self::Signature { .. } => ErrorKind::Integrity,
            Self::Version { .. } => ErrorKind::Usage,
            Self::Store { source, .. } => source.kind(),
            Self::NotTheNewest { .. } => ErrorKind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => Some("use the version of Urtext that wrote it, or a later one".to_owned()),
            Self::Signature { .. } => Some("find out who may write into the repository, and remove it".to_owned()),
            Self::Store { source, .. } => source.hint(),
            Self::NotTheNewest { .. } => Some("look at the keys as they are now, and change them again".to_owned()),
            Self::Malformed { .. } | Self::Misplaced { .. } => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    keys: Box<RawValue>,
    signature: Signature,
}

impl KeyChange {
    /// The object that it is stored as.
    pub fn name(&self) -> ObjectName {
        Location::Keys(self.id).name()
    }

    /// The bytes of the object, signed.
    pub fn seal(&self, signer: &dyn ManifestSigner) -> Result<Bytes, KeysError> {
        let malformed = |source| KeysError::Malformed { object: self.name(), source };
        let keys = serde_json::value::to_raw_value(self).map_err(malformed)?;
        let signature = Signature::make(keys.get().as_bytes(), signer)
            .map_err(|source| KeysError::Signature { object: self.name(), source })?;
        let mut bytes = serde_json::to_vec(&Envelope { keys, signature }).map_err(malformed)?;
        bytes.push(b'\n');
        Ok(bytes.into())
    }

    /// Reads a change that was found in `repository` under `id`, and believes it only from an operator.
    pub fn parse(
        repository: RepositoryId,
        id: RecordId,
        bytes: &[u8],
        verifier: &dyn OperatorVerifier,
    ) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let object = || Location::Keys(id).name();
        let malformed = |source| KeysError::Malformed { object: object(), source };
        let unsigned = |source| KeysError::Signature { object: object(), source };
        let Envelope { keys, signature } = serde_json::from_slice(bytes).map_err(malformed)?;
        if signature.algorithm != SIGNATURE_ALGORITHM {
            return Err(unsigned(format!("its algorithm is {:?}", signature.algorithm).into()));
        }
        let Version { format_version: found } = serde_json::from_str(keys.get()).map_err(malformed)?;
        if found != FORMAT_VERSION {
            return Err(KeysError::Version { object: object(), found });
        }
        let change: Self = serde_json::from_str(keys.get()).map_err(malformed)?;
        let value = signature.decoded().map_err(unsigned)?;
        let who = verifier.verify_operator(&signature.certificate, keys.get().as_bytes(), &value).map_err(unsigned)?;
        if who != change.who {
            return Err(unsigned(format!("{who} signed it, and it says {}", change.who).into()));
        }
        if (change.id, change.repository) != (id, repository) {
            let claimed = format!("{} of repository {}", change.name(), change.repository);
            return Err(KeysError::Misplaced { object: object(), claimed });
        }
        Ok(change)
    }
}

/// All keys that a repository ever had, as far as they are public, and what was handed on.
#[derive(Debug, Clone)]
pub struct Keyring {
    pub repository: RepositoryId,
    /// Those of `urtext.json`.
    pub first: Recipients,
    /// Oldest first.
    pub changes: Vec<KeyChange>,
    /// Sealed identities, oldest first. They are tried whoever put them: they add what can be opened, and nothing
    /// else.
    pub handed_on: Vec<(RecordId, Bytes)>,
    /// Changes that are not believed.
    pub disbelieved: Vec<String>,
}

/// Identities for those who come after.
#[derive(Debug)]
pub struct Handover {
    /// The bytes of the object, if there is anything to hand on.
    pub sealed: Option<Bytes>,
    /// Whose identities these are.
    pub identities: Vec<Recipient>,
    /// What was sealed to these alone stays closed to the new recipients: no identity of them is at hand.
    pub left_behind: Vec<Recipients>,
}

impl Keyring {
    /// To whom backups are sealed now.
    pub fn current(&self) -> &Recipients {
        self.changes.last().map_or(&self.first, |change| &change.recipients)
    }

    /// An id for the next change, which sorts after all others whatever the clocks say.
    pub fn next_id(&self, now: Timestamp, entropy: [u8; 10]) -> RecordId {
        let newest = self.changes.last().map(|change| change.id.timestamp());
        let after = newest.map(|newest| newest.plus(std::time::Duration::from_millis(1)));
        RecordId::new(after.map_or(now, |after| now.max(after)), entropy)
    }

    /// One's own identities and all that they open, directly or by what they open. Says also what is broken.
    pub fn unlock(&self, own: &[Identity]) -> (Vec<Identity>, Vec<String>) {
        let mut known = own.to_vec();
        let mut broken = Vec::new();
        let mut closed: Vec<&(RecordId, Bytes)> = self.handed_on.iter().collect();
        loop {
            let before = closed.len();
            closed.retain(|(id, sealed)| {
                let damaged = |why: String| format!("{}: {why}", Location::HandedOn(*id).name());
                match open_bytes(&known, sealed) {
                    Err(OpenError::WrongKey) => return true,
                    Err(error) => broken.push(damaged(urtext_types::Chain(&error).to_string())),
                    Ok(text) => match std::str::from_utf8(text.expose()).map(Identity::parse_file) {
                        Ok(Ok(identities)) => known.extend(identities),
                        Ok(Err(error)) => broken.push(damaged(error.to_string())),
                        Err(_) => broken.push(damaged("it holds no text".to_owned())),
                    },
                }
                false
            });
            if closed.len() == before {
                return (known, broken);
            }
        }
    }

    /// Whose identity opens what is sealed to `recipients`: they themselves, and those to whom theirs was handed on.
    pub fn openers(&self, recipients: &Recipients) -> Vec<Recipient> {
        let mut openers: Vec<Recipient> = recipients.iter().cloned().collect();
        loop {
            let before = openers.len();
            for change in &self.changes {
                if change.handed_on.iter().any(|one| openers.contains(one)) {
                    let new: Vec<Recipient> =
                        change.recipients.iter().filter(|one| !openers.contains(one)).cloned().collect();
                    openers.extend(new);
                }
            }
            // What was handed on last may open what was handed on before.
            if openers.len() == before {
                return openers;
            }
        }
    }

    /// Every list of recipients that there ever was, oldest first.
    fn lists(&self) -> impl Iterator<Item = &Recipients> {
        std::iter::once(&self.first).chain(self.changes.iter().map(|change| &change.recipients))
    }

    /// Whether each of `to` opens what is sealed to `list`, by an identity of their own or one that they were given.
    fn is_open_to(&self, list: &Recipients, to: &Recipients) -> bool {
        let openers = self.openers(list);
        to.iter().all(|one| openers.contains(one))
    }

    /// What the recipients `to` need in order to read all that is stored: for each list of recipients that there
    /// ever was, and that is not open to all of them, one identity.
    pub fn hand_on(&self, to: &Recipients, own: &[Identity]) -> Result<Handover, SealError> {
        let (available, _) = self.unlock(own);
        let mut chosen: Vec<&Identity> = Vec::new();
        let mut left_behind: Vec<Recipients> = Vec::new();
        for list in self.lists() {
            if self.is_open_to(list, to) {
                continue;
            }
            if chosen.iter().any(|one| list.contains(&one.recipient())) {
                continue;
            }
            let fitting = || available.iter().filter(|one| list.contains(&one.recipient()));
            // Rather the key of somebody who goes than of somebody who stays.
            let best = fitting().find(|one| !to.contains(&one.recipient())).or_else(|| fitting().next());
            match best {
                Some(identity) => chosen.push(identity),
                None if left_behind.contains(list) => {}
                None => left_behind.push(list.clone()),
            }
        }
        let identities: Vec<Recipient> = chosen.iter().map(|one| one.recipient()).collect();
        let text: String = chosen
            .iter()
            .map(|one| format!("# opens what was sealed to {}\n{}\n", one.recipient(), one.to_secret().expose()))
            .collect();
        let text = Secret::new(text);
        let sealed = match chosen.is_empty() {
            true => None,
            false => Some(seal_bytes(to, text.expose().as_bytes())?.into()),
        };
        Ok(Handover { sealed, identities, left_behind })
    }
}

impl Repository {
    /// To whom backups are sealed now. A change that no operator signed is passed over, with a warning.
    ///
    /// # Errors
    /// The newest change cannot be read: nothing is sealed to recipients that may have been dropped.
    pub async fn recipients(&self, verifier: &dyn OperatorVerifier) -> Result<Recipients, KeysError> {
        for id in self.key_objects().await?.changes.into_iter().rev() {
            match self.key_change(id, verifier).await? {
                Ok(change) => return Ok(change.recipients),
                Err(error) => tracing::warn!(error = %urtext_types::Chain(&error), "a change of keys is not believed"),
            }
        }
        Ok(self.header().recipients.clone())
    }

    /// All keys of the repository.
    pub async fn keyring(&self, verifier: &dyn OperatorVerifier) -> Result<Keyring, KeysError> {
        let objects = self.key_objects().await?;
        let read: Vec<Result<KeyChange, KeysError>> = stream::iter(objects.changes)
            .map(|id| self.key_change(id, verifier))
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await?;
        let handed_on = stream::iter(objects.handed_on)
            .map(|id| async move { self.key_object(Location::HandedOn(id)).await.map(|bytes| (id, bytes)) })
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await?;
        let (mut changes, mut disbelieved) = (Vec::new(), Vec::new());
        for change in read {
            match change {
                Ok(change) => changes.push(change),
                Err(error) => disbelieved.push(urtext_types::Chain(&error).to_string()),
            }
        }
        let (repository, first) = (self.header().repository, self.header().recipients.clone());
        Ok(Keyring { repository, first, changes, handed_on, disbelieved })
    }

    /// Changes the keys: what was handed on first, the change itself last.
    ///
    /// # Errors
    /// There is a newer change already; or the repository does not answer. Then nothing has changed.
    pub async fn change_keys(
        &self,
        change: &Bytes,
        id: RecordId,
        handed_on: Option<Bytes>,
    ) -> Result<PutOutcome, KeysError> {
        if let Some(newest) = self.key_objects().await?.changes.last().filter(|newest| **newest > id) {
            return Err(KeysError::NotTheNewest { given: id, newest: *newest });
        }
        if let Some(sealed) = handed_on {
            self.put_key_object(Location::HandedOn(id), sealed).await?;
        }
        self.put_key_object(Location::Keys(id), change.clone()).await
    }

    /// Keeps the certificate of an authority whose signatures this repository's manifests carry.
    pub async fn put_authority(&self, certificate_pem: &str) -> Result<PutOutcome, KeysError> {
        let bytes = Bytes::copy_from_slice(certificate_pem.as_bytes());
        self.put_key_object(Location::Authority(crate::Sha256Digest::of(&bytes)), bytes).await
    }

    /// All authorities that are kept, each unchanged since it was.
    pub async fn authorities(&self) -> Result<Vec<String>, KeysError> {
        let failed = |source| KeysError::Store { object: ObjectPrefix::authorities().to_string(), source };
        let mut found: Vec<Location> = self
            .store()
            .list(&ObjectPrefix::authorities())
            .try_filter_map(|object| future::ready(Ok(Location::parse(&object.name))))
            .try_collect()
            .await
            .map_err(failed)?;
        found.sort_unstable();
        let mut authorities = Vec::new();
        for location in found {
            let Location::Authority(digest) = location else { continue };
            let bytes = self.key_object(Location::Authority(digest)).await?;
            if crate::Sha256Digest::of(&bytes) == digest
                && let Ok(pem) = String::from_utf8(bytes.to_vec())
            {
                authorities.push(pem);
            }
        }
        Ok(authorities)
    }

    async fn key_objects(&self) -> Result<KeyObjects, KeysError> {
        let prefix = ObjectPrefix::keys();
        let failed = |source| KeysError::Store { object: prefix.to_string(), source };
        let listed = || self.store().list(&prefix).map_ok(|object| object.name).try_collect::<BTreeSet<ObjectName>>();
        let names = with_patience(PATIENCE, listed).await.map_err(failed)?;
        let mut objects = KeyObjects::default();
        for name in &names {
            match Location::parse(name) {
                Some(Location::Keys(id)) => objects.changes.push(id),
                Some(Location::HandedOn(id)) => objects.handed_on.push(id),
                _ => {}
            }
        }
        Ok(objects)
    }

    async fn key_change(
        &self,
        id: RecordId,
        verifier: &dyn OperatorVerifier,
    ) -> Result<Result<KeyChange, KeysError>, KeysError> {
        let bytes = self.key_object(Location::Keys(id)).await?;
        Ok(KeyChange::parse(self.header().repository, id, &bytes, verifier))
    }

    async fn key_object(&self, location: Location) -> Result<Bytes, KeysError> {
        let name = location.name();
        let read = with_patience(PATIENCE, || self.store().get(&name)).await;
        read.map_err(|source| KeysError::Store { object: name.to_string(), source })
    }

    async fn put_key_object(&self, location: Location, bytes: Bytes) -> Result<PutOutcome, KeysError> {
        let name = location.name();
        let put = with_patience(PATIENCE, || self.store().put_new(&name, bytes.clone())).await;
        put.map_err(|source| KeysError::Store { object: name.to_string(), source })
    }
}

/// Ids below `keys/`, oldest first.
#[derive(Default)]
struct KeyObjects {
    changes: Vec<RecordId>,
    handed_on: Vec<RecordId>,
}
