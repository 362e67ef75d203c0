//! `urtext init`: makes a coordinator's directory.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use futures::StreamExt;
use urtext_identity::{AUTHORITY_LIFETIME, CertificateAuthority, USER_LIFETIME, create_private, replace_public};
use urtext_repository::{Identity, ObjectPrefix, Recipients, Repository, StoreAddress, seal_with_passphrase};
use urtext_types::{ErrorKind, RepositoryId, Secret, Timestamp, UserName};

use crate::{
    Fault,
    clock::entropy,
    directory::Directory,
    repositories::check_locks,
    settings::{self, Settings},
};

/// What was made.
#[derive(Debug)]
pub struct Initialized {
    pub listen: SocketAddr,
    pub advertise: String,
    pub repository: StoreAddress,
    /// To whom backups are sealed.
    pub recipient: String,
    /// Where the private part is: to be kept elsewhere.
    pub identity_file: PathBuf,
}

/// Makes the directory, which must be empty or not there. The settings come last, so that a directory
/// with settings is a whole one.
pub async fn init(
    root: &Path,
    listen: SocketAddr,
    repository: Option<&str>,
    passphrase: Option<&Secret<String>>,
    now: Timestamp,
) -> Result<Initialized, Fault> {
    if listen.port() == 0 {
        return Err(Fault::new(ErrorKind::Usage, "the port of --listen must not be 0: agents have to know it"));
    }
    let repository = repository.unwrap_or("repository");
    let place: StoreAddress = repository.parse().map_err(Fault::while_doing("read --repository"))?;
    check_bucket(&place).await?;
    make_folder(root)?;
    let root = fs::canonicalize(root).map_err(|error| io_fault(root, &error))?;
    let directory = Directory::new(&root);
    let is_empty = fs::read_dir(&root).map_err(|error| io_fault(&root, &error))?.next().is_none();
    if !is_empty {
        return Err(Fault::new(ErrorKind::Conflict, format!("{} is not empty", root.display()))
            .with_hint("nothing was changed; choose another --dir, or move the old one aside"));
    }

    let identity_fault = |what: &str| Fault::while_doing::<urtext_identity::IdentityError>(what.to_owned());
    let authority = CertificateAuthority::generate(now, AUTHORITY_LIFETIME)
        .map_err(identity_fault("make the authority of this coordinator"))?;
    make_folder(&directory.authority())?;
    authority.save(&directory.authority()).map_err(identity_fault("keep the authority's key"))?;

    let operator = directory.operator();
    make_folder(operator.root())?;
    let name: UserName = "operator".parse().expect("a valid name");
    let credentials = authority
        .issue_operator(&name, now, USER_LIFETIME)
        .map_err(identity_fault("make the operator's certificate"))?;
    credentials.save(operator.root()).map_err(identity_fault("keep the operator's key"))?;
    let advertise = advertised(listen);
    replace_public(&operator.endpoints(), &format!("{advertise}\n"))
        .map_err(identity_fault("keep the coordinator's address"))?;

    let identity = Identity::generate();
    let recipient = identity.recipient();
    let plain = Secret::new(format!("# public key: {recipient}\n{}\n", identity.to_secret().expose()));
    let text = match passphrase {
        Some(passphrase) => {
            // A second of work, and nothing else is under way.
            let sealed = seal_with_passphrase(&plain, passphrase);
            sealed.map(Secret::new).map_err(Fault::while_doing("keep the age identity under a passphrase"))?
        }
        None => plain,
    };
    create_private(&operator.identity(), text.expose()).map_err(identity_fault("keep the age identity"))?;

    // Relative paths are relative to the settings file.
    let place = place.relative_to(&root);
    let store = place.create().map_err(Fault::while_doing("make the repository"))?;
    let recipients = Recipients::try_from(vec![recipient.clone()]).expect("one recipient is a valid list");
    let id = RepositoryId::new(now, entropy());
    let made = Repository::init(store, id, recipients).await.map_err(Fault::while_doing("make the repository"))?;
    let kept = made.put_authority(&authority.certificate_pem()).await;
    kept.map_err(Fault::while_doing("keep the authority's certificate in the repository"))?;

    let text = settings_text(listen, &advertise, repository);
    Settings::parse(&text, &directory.settings()).map_err(Fault::while_doing("check the settings"))?;
    replace_public(&directory.settings(), &text).map_err(identity_fault("keep the settings"))?;
    Ok(Initialized {
        listen,
        advertise,
        repository: place,
        recipient: recipient.to_string(),
        identity_file: operator.identity(),
    })
}

/// A bucket must answer before anything is made here: its credentials are what is most often wrong.
pub async fn check_bucket(place: &StoreAddress) -> Result<(), Fault> {
    if place.directory().is_none() {
        let store = place.open().map_err(Fault::while_doing("reach the repository"))?;
        let first = store.list(&ObjectPrefix::all()).next().await;
        first.transpose().map_err(Fault::while_doing("reach the repository"))?;
    }
    check_locks(place).await
}

/// The example with this coordinator's own values.
fn settings_text(listen: SocketAddr, advertise: &str, repository: &str) -> String {
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    settings::EXAMPLE
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some(("listen", _)) => format!("listen = {}\n", quote(&listen.to_string())),
            Some(("advertise", _)) => format!("advertise = [{}]\n", quote(advertise)),
            Some(("repository", _)) => format!("repository = {}\n", quote(repository)),
            _ => format!("{line}\n"),
        })
        .collect()
}

/// How others reach a listening address: itself, or this host's name if it is any address.
fn advertised(listen: SocketAddr) -> String {
    let any = match listen.ip() {
        IpAddr::V4(ip) => ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    // The kernel's name of this host; what `hostname` prints.
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        name if any && !name.is_empty() => format!("{name}:{}", listen.port()),
        _ if any => format!("localhost:{}", listen.port()),
        _ => listen.to_string(),
    }
}

/// Keys lie below: for their owner alone.
fn make_folder(path: &Path) -> Result<(), Fault> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| io_fault(path, &error))
}

fn io_fault(path: &Path, error: &io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
        _ => ErrorKind::Unavailable,
    };
    Fault::new(kind, format!("use {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use urtext_types::Explain;

    use super::*;

    #[tokio::test]
    async fn a_directory_is_made_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("urtext");
        let listen = "127.0.0.1:7400".parse().expect("an address");
        let now = Timestamp::from_millis(1_800_000_000_000);
        let made = init(&root, listen, None, None, now).await.expect("made");
        assert_eq!(made.advertise, "127.0.0.1:7400");
        let settings = Settings::load(&root.join("urtext.toml")).expect("settings that load");
        assert_eq!(settings.repositories[0].address, StoreAddress::Directory(root.join("repository")));
        assert!(root.join("repository/urtext.json").is_file());
        let again = init(&root, listen, None, None, now).await.expect_err("refused");
        assert_eq!(again.kind(), ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn another_kind_of_repository_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("urtext");
        let listen = "127.0.0.1:7400".parse().expect("an address");
        let refused =
            init(&root, listen, Some("ftp://host"), None, Timestamp::from_millis(0)).await.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Usage);
        assert!(urtext_types::Chain(&refused).to_string().contains("nothing is known of ftp://"), "{refused:?}");
        assert!(!root.exists());
    }
}
