//! What follows the question mark of a bucket's address.

use std::{collections::BTreeMap, time::Duration};

use url::Url;

use super::{InvalidAddress, Service};
use crate::store::Lock;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Locks are extended once a day, by schedule.
const SHORTEST_LOCK: Duration = DAY;

/// As S3 has it.
const LONGEST_LOCK: Duration = Duration::from_secs(36_500 * 24 * 3600);

/// What may follow the question mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// The server, where it is not the cloud's own: `http://127.0.0.1:9000`. Of Azure's emulator, whose name does not
    /// hold the account, with that: `http://127.0.0.1:10000/devstoreaccount1`. No slash at its end.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// `https://endpoint/bucket/…`, unless it is said to be `https://bucket.endpoint/…`.
    pub path_style: Option<bool>,
    /// As the service spells it: `STANDARD_IA`, `NEARLINE`, `Cool`.
    pub storage_class: Option<String>,
    /// S3's server-side encryption: `AES256`, `aws:kms`, or `aws:kms:` and the id of a key.
    pub encryption: Option<String>,
    /// The storage account of an Azure container.
    pub account: Option<String>,
    /// The store does not know conditional puts: see [`crate::BucketStore`] for what is done instead.
    pub no_conditional_put: bool,
    /// What is stored is locked, and the locks are extended as long as it is to stay: S3's object lock.
    pub lock: Option<Lock>,
    /// What was first written, whatever was deleted and overwritten since: see [`crate::FirstVersions`]. For reading.
    pub first_versions: bool,
}

impl BucketOptions {
    /// Reads them off an address that is a URL.
    pub(super) fn parse(address: &str, service: Service, url: &Url) -> Result<Self, InvalidAddress> {
        let malformed = |problem: String| InvalidAddress::Malformed { address: address.to_owned(), problem };
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for (option, value) in url.query_pairs() {
            if ["access_key_id", "secret_access_key", "key", "token", "password", "sas"].contains(&&*option) {
                return Err(InvalidAddress::Credentials);
            }
            if !service.options().contains(&&*option) {
                return Err(InvalidAddress::UnknownOption {
                    address: address.to_owned(),
                    option: option.into_owned(),
                    service,
                });
            }
            if value.is_empty() {
                return Err(malformed(format!("its option {option} has no value")));
            }
            if given.insert(option.to_string(), value.into_owned()).is_some() {
                return Err(malformed(format!("its option {option} stands twice")));
            }
        }
        let yes_or_no = |option: &str, value: Option<String>| match value.as_deref() {
            None => Ok(None),
            Some("yes" | "true") => Ok(Some(true)),
            Some("no" | "false") => Ok(Some(false)),
            Some(_) => Err(malformed(format!("its option {option} is yes or no"))),
        };
        let endpoint = given.remove("endpoint").map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        if let Some(endpoint) = &endpoint {
            let parsed = Url::parse(endpoint).map_err(|error| malformed(format!("its endpoint: {error}")))?;
            if !["http", "https"].contains(&parsed.scheme()) || parsed.host().is_none() {
                return Err(malformed("its endpoint is not http://host:port or https://host".to_owned()));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(InvalidAddress::Credentials);
            }
        }
        let encryption = given.remove("encryption");
        if let Some(encryption) = &encryption
            && encryption != "AES256"
            && encryption != "aws:kms"
            && !encryption.starts_with("aws:kms:")
        {
            return Err(malformed("its encryption is AES256, aws:kms or aws:kms:KEY".to_owned()));
        }
        let first_versions = match given.remove("versions").as_deref() {
            None => false,
            Some("first") => true,
            Some(_) => return Err(malformed("its option versions is first, or is left out".to_owned())),
        };
        let lock = lock(given.remove("lock"), given.remove("lock_mode")).map_err(&malformed)?;
        if first_versions && lock.is_some() {
            return Err(malformed("with versions=first it is for reading only, and nothing is locked".to_owned()));
        }
        Ok(Self {
            path_style: yes_or_no("path_style", given.remove("path_style"))?,
            no_conditional_put: yes_or_no("conditional_put", given.remove("conditional_put"))? == Some(false),
            region: given.remove("region"),
            storage_class: given.remove("storage_class"),
            account: given.remove("account"),
            endpoint,
            encryption,
            lock,
            first_versions,
        })
    }
}

fn lock(period: Option<String>, mode: Option<String>) -> Result<Option<Lock>, String> {
    let mode = match mode {
        None => None,
        Some(text) => Some(text.parse().map_err(|()| "its option lock_mode is governance or compliance".to_owned())?),
    };
    let Some(text) = period else {
        return match mode {
            None => Ok(None),
            Some(_) => Err("its option lock_mode says nothing without lock=30d".to_owned()),
        };
    };
    let period = humantime::parse_duration(&text)
        .map_err(|error| format!("its option lock: {text:?} is not a duration ({error}): write like 30d"))?;
    if period < SHORTEST_LOCK {
        return Err("its option lock is at least 1 day: locks are extended once a day".to_owned());
    }
    if period > LONGEST_LOCK {
        return Err("its option lock is at most 100 years".to_owned());
    }
    Ok(Some(Lock { period, mode: mode.unwrap_or_default() }))
}
