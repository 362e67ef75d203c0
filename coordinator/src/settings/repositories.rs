//! Where backups are kept, whose go where, and how.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use urtext_repository::{InvalidAddress, SLOWEST_UPLOAD, StoreAddress};
use urtext_types::{ByteRate, RepositoryName, SiteName};

use super::with_hint;

/// One place where backups are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
    pub name: RepositoryName,
    pub address: StoreAddress,
    /// Whose agents put their backups there; `None`: those of every site that no other repository names. With an
    /// empty list it receives copies only.
    pub sites: Option<Vec<SiteName>>,
    /// Its address as agents are given it, if they go there by themselves.
    pub direct: Option<String>,
    /// What all agents together upload there, and what is copied there from other repositories.
    pub upload_limit: Option<ByteRate>,
    /// What it lacks of these is copied here by schedule.
    pub pulls: Vec<RepositoryName>,
}

impl RepositorySettings {
    /// Everything goes through the coordinator, from every site, as fast as it goes.
    pub fn plain(name: RepositoryName, address: StoreAddress) -> Self {
        Self { name, address, sites: None, direct: None, upload_limit: None, pulls: Vec::new() }
    }
}

/// The name of the repository that the key `repository` gives.
const MAIN: &str = "main";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepositoryFile {
    url: String,
    sites: Option<Vec<SiteName>>,
    #[serde(default)]
    direct: bool,
    upload_limit: Option<ByteRate>,
    #[serde(default)]
    pulls: Vec<RepositoryName>,
}

/// The repository of the key `repository`, then those that have a table of their own.
pub(super) fn all_repositories(
    main: Option<String>,
    tables: BTreeMap<RepositoryName, RepositoryFile>,
    folder: &Path,
) -> Result<Vec<RepositorySettings>, (String, String)> {
    let address = |key: &str, url: &str| {
        let parsed = url.parse().map_err(|error: InvalidAddress| (key.to_owned(), with_hint(&error)));
        parsed.map(|address: StoreAddress| address.relative_to(folder))
    };
    let mut repositories: Vec<RepositorySettings> = Vec::new();
    if let Some(url) = main {
        let name = MAIN.parse().expect("a valid name");
        if tables.contains_key(&name) {
            let problem = format!("the key `repository` gives the one of the name {MAIN}: leave one of the two out");
            return Err((format!("repositories.{MAIN}"), problem));
        }
        repositories.push(RepositorySettings::plain(name, address("repository", &url)?));
    }
    for (name, RepositoryFile { url, sites, direct, upload_limit, pulls }) in tables {
        let key = |field: &str| format!("repositories.{name}.{field}");
        let address = address(&key("url"), &url)?;
        if let Some(other) = repositories.iter().find(|other| other.address == address) {
            return Err((key("url"), format!("repository {} is in the same place", other.name)));
        }
        for site in sites.iter().flatten() {
            let names_it = |other: &&RepositorySettings| other.sites.iter().flatten().any(|named| named == site);
            if let Some(other) = repositories.iter().find(names_it) {
                return Err((key("sites"), format!("site {site} puts its backups into {} already", other.name)));
            }
        }
        if address.is_for_reading_only() {
            let problem =
                "an address with versions=first is for reading: give it to `urtext canonical --repository` or \
                           `urtext repository sync`"
                    .to_owned();
            return Err((key("url"), problem));
        }
        if direct && address.directory().is_some() {
            let problem = "agents reach buckets by themselves, not the coordinator's directories".to_owned();
            return Err((key("direct"), problem));
        }
        if upload_limit.is_some_and(|limit| limit < SLOWEST_UPLOAD) {
            let problem = format!("must be at least {SLOWEST_UPLOAD}: a server waits while its backup is uploaded");
            return Err((key("upload_limit"), problem));
        }
        let direct = direct.then_some(url);
        repositories.push(RepositorySettings { name, address, sites, direct, upload_limit, pulls });
    }
    for RepositorySettings { name, pulls, .. } in &repositories {
        for from in pulls {
            let key = || format!("repositories.{name}.pulls");
            if from == name {
                return Err((key(), "names itself".to_owned()));
            }
            if repositories.iter().all(|other| other.name != *from) {
                let names: Vec<&str> = repositories.iter().map(|known| known.name.as_str()).collect();
                return Err((key(), format!("there is no repository {from}; there are: {}", names.join(", "))));
            }
        }
    }
    if repositories.is_empty() {
        return Err(("repository".to_owned(), "say where backups are kept".to_owned()));
    }
    Ok(repositories)
}
