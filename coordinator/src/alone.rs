//! With nothing left but repositories: a coordinator for the time of one command, inside the command line.
//!
//! It is the same coordinator, so that what it says is what a real one would say: the catalog is made anew from
//! manifests and records in a folder that goes with the command, and the services answer over a pipe in memory
//! instead of a network. What it lacks is what no repository has: the live nodes, and what was seen since the last
//! backup. It writes nothing into any repository.

use std::{io, path::Path, sync::Arc};

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::{io::DuplexStream, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    service::InterceptorLayer,
    transport::{Channel, Endpoint, Server, Uri},
};
use tower::service_fn;
use urtext_identity::{AUTHORITY_LIFETIME, CertificateAuthority};
use urtext_repository::StoreAddress;
use urtext_types::{Chain, ErrorKind, RepositoryName};

use crate::{
    Fault,
    app::{App, Parts},
    catalog::Catalog,
    clock::Clock,
    directory::Directory,
    repositories::Repositories,
    rpc,
    settings::{EXAMPLE, RepositorySettings, Settings},
    verifier::AuthorityVerifier,
};

/// Bytes on their way between the command line and its own services.
const PIPE_BYTES: usize = 1024 * 1024;

/// A coordinator that stands in for the one that is gone.
pub struct StandIn {
    pub channel: Channel,
    pub verifier: AuthorityVerifier,
    /// What whoever reads its answers must know.
    pub notes: Vec<String>,
    /// Ends with it.
    _serving: JoinSet<()>,
    _folder: TempDir,
}

impl StandIn {
    /// Reads what the repositories have. One that does not answer is named in the notes and hides nothing.
    ///
    /// Signatures are checked against the authority in the file, if one is given, else against those that the
    /// repositories keep.
    ///
    /// # Errors
    /// No repository answers, or no authority is known.
    pub async fn start(addresses: &[String], authority: Option<&Path>, clock: Clock) -> Result<Self, Fault> {
        let attempt = "stand in for the coordinator";
        let places = places(addresses)?;
        let repositories = Repositories::new(&places);
        repositories.open().await?;
        let mut notes = vec![
            "no coordinator is asked: this is what the backups alone say. Live nodes, and what was seen since the last \
             backup, are not known here."
                .to_owned(),
        ];
        for (name, reason) in repositories.down() {
            notes.push(format!("repository {name} does not answer, and what it alone holds is missing here: {reason}"));
        }
        let verifier = match authority {
            Some(file) => AuthorityVerifier::new(
                urtext_identity::read_text(file).map_err(Fault::while_doing("read --authority"))?,
            ),
            None => {
                notes.push(
                    "signatures are checked against the authority that the repository itself keeps; --authority FILE, \
                     the ca.pem of your operator's directory, proves more."
                        .to_owned(),
                );
                kept_authorities(&repositories).await?
            }
        };
        let folder = tempfile::tempdir()
            .map_err(|error| Fault::new(ErrorKind::Unavailable, format!("{attempt}: make a folder: {error}")))?;
        let directory = Directory::new(folder.path());
        let mut settings = Settings::parse(EXAMPLE, &directory.settings()).map_err(Fault::while_doing(attempt))?;
        settings.repositories = places;
        let own = CertificateAuthority::generate(clock.now(), AUTHORITY_LIFETIME);
        let catalog = Catalog::open(&directory.catalog()).await.map_err(Fault::while_doing(attempt))?;
        let authority = own.map_err(Fault::while_doing(attempt))?;
        let parts = Parts { directory, settings, clock, authority, repositories, catalog };
        let mut app = App::start_believing(parts, verifier.clone()).await?;
        app.reads_only = true;
        let mut serving = JoinSet::new();
        let channel = serve_here(&Arc::new(app), &mut serving).await?;
        Ok(Self { channel, verifier, notes, _serving: serving, _folder: folder })
    }
}

/// Each repository under a name that people recognize.
fn places(addresses: &[String]) -> Result<Vec<RepositorySettings>, Fault> {
    let mut places: Vec<RepositorySettings> = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        let address: StoreAddress = address.parse().map_err(Fault::while_doing("read --repository"))?;
        let own = match &address {
            StoreAddress::Directory(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            StoreAddress::Bucket(bucket) => Some(bucket.bucket.clone()),
        };
        let numbered = (number + 1..).map(|number| format!("repository-{number}"));
        let mut names = own.into_iter().chain(numbered).filter_map(|name| name.parse::<RepositoryName>().ok());
        let name = names.find(|name| places.iter().all(|place| place.name != *name)).expect("numbers do not end");
        places.push(RepositorySettings::plain(name, address));
    }
    Ok(places)
}

async fn kept_authorities(repositories: &Repositories) -> Result<AuthorityVerifier, Fault> {
    let mut authorities = Vec::new();
    for place in repositories.iter() {
        if let Ok(repository) = place.open_unless_resting().await {
            let kept = repository.authorities().await;
            authorities.extend(kept.map_err(Fault::while_doing("read the authorities of the repository"))?);
        }
    }
    if authorities.is_empty() {
        return Err(Fault::new(
            ErrorKind::NotFound,
            "no repository keeps the authority whose agents signed the backups",
        )
        .with_hint("give it with --authority FILE: it is ca.pem of an operator's directory, or of an agent's"));
    }
    Ok(AuthorityVerifier::of_any(authorities))
}

/// Serves over a pipe in memory, to this process alone.
async fn serve_here(app: &Arc<App>, serving: &mut JoinSet<()>) -> Result<Channel, Fault> {
    let (connections, incoming) = mpsc::channel::<DuplexStream>(1);
    let trusted = InterceptorLayer::new(|mut request: Request<()>| {
        request.extensions_mut().insert(rpc::InProcess);
        Ok(request)
    });
    let server = Server::builder().layer(trusted).add_routes(rpc::services(app));
    let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
    serving.spawn(async move {
        // It ends with the command: nobody is left to be told.
        let _ = server.serve_with_incoming(incoming).await;
    });
    let connector = service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            connections.send(theirs).await.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
            Ok::<_, io::Error>(TokioIo::new(ours))
        }
    });
    let endpoint = Endpoint::from_static("http://in-process");
    let connected = endpoint.connect_with_connector(connector).await;
    connected
        .map_err(|error| Fault::new(ErrorKind::Internal, format!("stand in for the coordinator: {}", Chain(&error))))
}

#[cfg(test)]
mod tests {
    use urtext_types::Explain;

    use super::*;

    #[test]
    fn repositories_have_names_that_people_recognize() {
        let names = |addresses: &[&str]| -> Vec<String> {
            let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
            places(&addresses).expect("addresses").iter().map(|place| place.name.to_string()).collect()
        };
        assert_eq!(names(&["/backup/redis", "s3://fra/redis"]), ["redis", "fra"]);
        assert_eq!(
            names(&["s3://fra/a", "s3://fra/b", "/", "/Backup"]),
            ["fra", "repository-2", "repository-3", "repository-4"]
        );
        assert_eq!(names(&["/backup/repository-2", "/"]), ["repository-2", "repository-3"]);
    }

    #[tokio::test]
    async fn what_is_no_repository_is_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let address = dir.path().display().to_string();
        let clock = Clock::system();
        let Err(fault) = StandIn::start(&[address], None, clock).await else { panic!("refused") };
        assert_eq!(fault.kind(), ErrorKind::NotFound);
        assert!(Chain(&fault).to_string().contains("there is no repository here"), "{fault:?}");
    }
}
