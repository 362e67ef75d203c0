//! `urtext repository add`: one more place for backups, made and then named in the settings.

use std::fs;

use urtext_identity::{CertificateAuthority, replace_public};
use urtext_repository::{Recipient, Recipients, Repository, StoreAddress};
use urtext_types::{ByteRate, ErrorKind, RepositoryId, RepositoryName, SiteName, Timestamp};

use crate::{
    Fault,
    clock::entropy,
    directory::Directory,
    init::check_bucket,
    settings::{RepositorySettings, Settings},
    verifier::AuthorityVerifier,
};

/// What is to be added.
#[derive(Debug, Clone)]
pub struct NewRepository {
    pub name: RepositoryName,
    pub url: String,
    /// Whose agents put their backups there; with none it receives copies.
    pub sites: Vec<SiteName>,
    /// Agents go there by themselves.
    pub direct: bool,
    pub upload_limit: Option<ByteRate>,
    /// To whom its backups are sealed; with none, to whom those of the first repository are.
    pub recipients: Vec<Recipient>,
}

/// What was added.
#[derive(Debug)]
pub struct Added {
    pub repository: RepositorySettings,
    /// To whom backups are sealed there.
    pub recipients: Recipients,
}

/// Makes the repository, then adds its table to the settings. What is a repository already is taken as it is, so
/// that a second coordinator, or a second try, finds what the first one made.
///
/// # Errors
/// The settings would not be right with it, the place cannot be used, or nobody is known to seal to. The settings
/// are as they were.
pub async fn add_repository(directory: &Directory, new: NewRepository, now: Timestamp) -> Result<Added, Fault> {
    let name = new.name.clone();
    let path = directory.settings();
    let before = fs::read_to_string(&path)
        .map_err(|error| Fault::new(ErrorKind::Usage, format!("read {}: {error}", path.display())))?;
    let known = Settings::parse(&before, &path).map_err(Fault::while_doing("read the settings"))?;
    if known.repositories.iter().any(|known| known.name == name) {
        return Err(Fault::new(ErrorKind::Conflict, format!("there is a repository {name} already"))
            .with_hint("`urtext repository list` shows what there is; choose another name"));
    }
    let after = format!("{}\n{}", before.trim_end(), table(&new));
    let settings = Settings::parse(&after, &path).map_err(Fault::while_doing(format!("add repository {name}")))?;
    let added = settings.repositories.into_iter().find(|known| known.name == name);
    let repository = added.ok_or_else(|| Fault::new(ErrorKind::Internal, "the added table is not in the settings"))?;

    let attempt = || format!("make repository {name}");
    let authority = CertificateAuthority::load(&directory.authority()).map_err(Fault::while_doing(attempt()))?;
    let verifier = AuthorityVerifier::new(authority.certificate_pem());
    check_bucket(&repository.address).await?;
    let recipients = match new.recipients.as_slice() {
        [] => recipients_of(&known.repositories[0].address, &verifier).await?,
        _ => Recipients::try_from(new.recipients).map_err(Fault::while_doing(attempt()))?,
    };
    let store = repository.address.create().map_err(Fault::while_doing(attempt()))?;
    let made = match Repository::open(store.clone()).await {
        Ok(there) => there,
        Err(_) => Repository::init(store, RepositoryId::new(now, entropy()), recipients)
            .await
            .map_err(Fault::while_doing(attempt()))?,
    };
    replace_public(&path, &after).map_err(Fault::while_doing("keep the settings"))?;
    let recipients = made.recipients(&verifier).await.map_err(Fault::while_doing("read its keys"))?;
    Ok(Added { repository, recipients })
}

async fn recipients_of(address: &StoreAddress, verifier: &AuthorityVerifier) -> Result<Recipients, Fault> {
    let opened = async {
        let store = address.open().map_err(Fault::while_doing("open the first repository"))?;
        Repository::open(store).await.map_err(Fault::while_doing("open the first repository"))
    };
    opened.await?.recipients(verifier).await.map_err(Fault::while_doing("read the keys of the first repository"))
}

/// The table as a person would write it. Tables stand at the end of a file, so nothing that follows is torn off.
fn table(new: &NewRepository) -> String {
    let NewRepository { name, url, sites, direct, upload_limit, recipients: _ } = new;
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let sites: Vec<String> = sites.iter().map(|site| quote(site.as_str())).collect();
    // `a.b` is a name, and two keys to TOML.
    let name = quote(name.as_str());
    let mut table = format!("\n[repositories.{name}]\nurl = {}\nsites = [{}]\n", quote(url), sites.join(", "));
    if *direct {
        table.push_str("direct = true\n");
    }
    if let Some(limit) = upload_limit {
        table.push_str(&format!("upload_limit = {}\n", quote(&String::from(*limit))));
    }
    table
}

#[cfg(test)]
mod tests {
    use urtext_types::Explain;

    use super::*;
    use crate::init::init;

    #[tokio::test]
    async fn a_repository_is_added_once_and_sealed_as_the_first() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let directory = Directory::new(dir.path().join("urtext"));
        let now = Timestamp::from_millis(1_800_000_000_000);
        let made = init(directory.root(), "127.0.0.1:7400".parse().expect("an address"), None, None, now).await;
        let recipient = made.expect("made").recipient;
        let add = |name: &str, url: &str| {
            let new = NewRepository {
                name: name.parse().expect("a name"),
                url: url.to_owned(),
                sites: vec!["nyc".parse().expect("a name")],
                direct: false,
                upload_limit: ByteRate::new(50_000_000),
                recipients: vec![],
            };
            let directory = directory.clone();
            async move { add_repository(&directory, new, now).await }
        };
        let added = add("nyc.1", "second").await.expect("added");
        assert_eq!(added.recipients.to_string(), recipient);
        assert!(directory.root().join("second/urtext.json").is_file());
        let settings = Settings::load(&directory.settings()).expect("settings that load");
        assert_eq!(settings.repositories[1], added.repository);
        assert_eq!(added.repository.upload_limit, ByteRate::new(50_000_000));
        for (name, url, kind) in [
            ("nyc.1", "third", ErrorKind::Conflict),
            ("other", "second", ErrorKind::Usage),
            ("other", "ftp://host", ErrorKind::Usage),
        ] {
            assert_eq!(add(name, url).await.expect_err("refused").kind(), kind, "{name} {url}");
        }
        assert_eq!(Settings::load(&directory.settings()).expect("as it was"), settings);
    }
}
