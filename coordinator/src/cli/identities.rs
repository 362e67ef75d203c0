//! The identities that open a backup: those of a file, and those that were handed on to them.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use urtext_proto::{model::parse, pb};
use urtext_repository::{Identity, IdentityFile, KeyChange, Keyring, MAX_SECRET_BYTES, Recipient, Recipients};
use urtext_types::ErrorKind;
use zeroize::Zeroizing;

use super::{
    Context,
    client::{Client, refused},
    passphrase::passphrase,
};
use crate::Fault;

/// The keys of one repository as the coordinator passes them on.
pub(super) struct KnownKeys {
    pub(super) name: String,
    pub(super) keyring: Keyring,
    pub(super) backups: u64,
    pub(super) stored_bytes: u64,
}

impl Context {
    /// Which file holds the identities: the given one, or the one that `init` made.
    pub(super) fn identity_file(&self, given: Option<&Path>) -> Result<PathBuf, Fault> {
        match (given, &self.dir) {
            (Some(path), _) => Ok(path.to_owned()),
            (None, Some(_)) => Ok(self.operator()?.identity()),
            (None, None) => Err(Fault::new(ErrorKind::Usage, "which age identity opens the backup?")
                .with_hint("give it with --identity FILE; nothing was started")),
        }
    }

    /// The identities that open what is sealed to `recipients`. Nothing is fetched for it but public keys and, where
    /// none of them fits, the identities that were handed on.
    pub(super) async fn identities(
        &self,
        client: &Client,
        file: Option<&Path>,
        recipients: &[String],
    ) -> Result<Vec<Identity>, Fault> {
        let path = self.identity_file(file)?;
        let Some(own) = read_identities(&path)? else {
            return Err(Fault::new(ErrorKind::NotFound, format!("there is no age identity in {}", path.display()))
                .with_hint(format!(
                    "give the one for {} with --identity FILE; nothing was started",
                    recipients.join(", ")
                )));
        };
        let wanted: Vec<Recipient> = recipients.iter().filter_map(|one| one.parse().ok()).collect();
        let fitting = |all: &[Identity]| -> Vec<Identity> {
            all.iter().filter(|identity| wanted.contains(&identity.recipient())).cloned().collect()
        };
        let found = fitting(&own);
        if !found.is_empty() {
            return Ok(found);
        }
        let (mut openers, mut troubles) = (Vec::new(), Vec::new());
        for keys in client.keys(None).await? {
            let keys = match keys {
                Ok(keys) => keys,
                Err(trouble) => {
                    troubles.push(trouble);
                    continue;
                }
            };
            let (unlocked, broken) = keys.keyring.unlock(&own);
            let found = fitting(&unlocked);
            if !found.is_empty() {
                return Ok(found);
            }
            troubles.extend(broken);
            if let Ok(recipients) = Recipients::try_from(wanted.clone()) {
                openers.extend(keys.keyring.openers(&recipients).into_iter().map(|one| one.to_string()));
            }
        }
        openers.retain(|one| !recipients.contains(one));
        openers.sort_unstable();
        openers.dedup();
        let own: Vec<String> = own.iter().map(|one| one.recipient().to_string()).collect();
        let mut hint = format!("it is sealed to {}", recipients.join(", "));
        if !openers.is_empty() {
            hint.push_str(&format!("; the identity of {} opens it as well", openers.join(", ")));
        }
        for trouble in troubles {
            hint.push_str(&format!("; {trouble}"));
        }
        let message = format!(
            "the age identity in {} does not open this backup: it is that of {}",
            path.display(),
            own.join(", ")
        );
        Err(Fault::new(ErrorKind::Denied, message).with_hint(format!("{hint}; nothing was started")))
    }
}

/// The identities of a file, its passphrase asked for if it has one; `None` if there is no such file.
pub(super) fn read_identities(path: &Path) -> Result<Option<Vec<Identity>>, Fault> {
    let attempt = || format!("read the age identity in {}", path.display());
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    let read =
        std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let kind = match error.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            };
            return Err(Fault::new(kind, format!("{}: {error}", attempt())));
        }
    }
    match IdentityFile::parse(&bytes).map_err(Fault::while_doing(attempt()))? {
        IdentityFile::Plain(identities) => Ok(Some(identities)),
        IdentityFile::Sealed(sealed) => {
            let passphrase = passphrase(path)?;
            // A second of work on this thread: nothing else is under way in a command line that waits for a key.
            tokio::task::block_in_place(|| sealed.open(&passphrase)).map(Some).map_err(Fault::while_doing(attempt()))
        }
    }
}

impl Client {
    /// The keys of a repository, or of all; of one that does not answer, why.
    pub(super) async fn keys(&self, repository: Option<String>) -> Result<Vec<Result<KnownKeys, String>>, Fault> {
        let request = pb::ListKeysRequest { repository };
        let response = self.control().list_keys(request).await.map_err(refused)?.into_inner();
        response.repositories.into_iter().map(known_keys).collect()
    }
}

fn known_keys(keys: pb::RepositoryKeys) -> Result<Result<KnownKeys, String>, Fault> {
    let pb::RepositoryKeys {
        name,
        trouble,
        id,
        first_recipients,
        changes_json,
        handed_on,
        disbelieved,
        backups,
        stored_bytes,
    } = keys;
    if let Some(trouble) = trouble {
        return Ok(Err(format!("the keys of repository {name} are not known now: {trouble}")));
    }
    let malformed = |error| Fault::new(ErrorKind::Internal, format!("a change of keys is not JSON: {error}"));
    let first =
        first_recipients.iter().map(|one| parse("first_recipients", one)).collect::<Result<Vec<Recipient>, _>>()?;
    let changes: Result<Vec<KeyChange>, Fault> =
        changes_json.iter().map(|change| serde_json::from_slice(change).map_err(malformed)).collect();
    let handed_on: Result<Vec<_>, Fault> =
        handed_on.into_iter().map(|one| Ok((parse("handed_on.change", &one.change)?, one.sealed))).collect();
    let keyring = Keyring {
        repository: parse("id", &id)?,
        first: Recipients::try_from(first).map_err(Fault::while_doing("read the keys of the repository"))?,
        changes: changes?,
        handed_on: handed_on?,
        disbelieved,
    };
    Ok(Ok(KnownKeys { name, keyring, backups, stored_bytes }))
}
