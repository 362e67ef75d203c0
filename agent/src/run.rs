//! `urtext-agent run`: everything that an agent does, until it is told to stop.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};
use urtext_repository::Pace;
use urtext_types::{ErrorKind, Explain, Secret};

use crate::{
    certificate::Certificate,
    clock,
    home::{Home, HomeError},
    observe::Observer,
    session::Session,
    settings::{Settings, SettingsError},
    store,
    tasks::TaskBoard,
    uplink,
    worker::Worker,
};

/// How long tasks may take to end after they were cancelled. A restore uses it to leave its target in order.
const GRACE: Duration = Duration::from_secs(15);

/// Why the agent did not start.
#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("read the results of earlier tasks")]
    Tasks(#[source] std::io::Error),
}

impl Explain for RunError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Home(error) => error.kind(),
            Self::Settings(error) => error.kind(),
            Self::Tasks(_) => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Home(error) => error.hint(),
            Self::Settings(error) => error.hint(),
            Self::Tasks(_) => None,
        }
    }
}

/// Runs until `stop`. Neither a server nor a coordinator that is away ends it.
///
/// # Cancel safety
/// Not cancel safe: cancel `stop` and wait.
pub async fn run(home: Home, password: Option<Secret<String>>, stop: CancellationToken) -> Result<(), RunError> {
    let _lock = home.lock()?;
    let settings = Settings::load(home.path())?;
    let (credentials, identity) = home.credentials()?;
    let recipient_key = home.recipient_key()?;
    let server = settings.redis.server(password)?;
    let server_address = server.address().to_string();
    let board = Arc::new(TaskBoard::open(home.tasks()?).map_err(RunError::Tasks)?);
    let certificate = Arc::new(Certificate::new(home, credentials)?);
    let channel = uplink::channel(certificate.tls(), settings.coordinator.endpoints.clone());
    let observer = Arc::new(Observer::new(server.clone()));
    let recipient = recipient_key.recipient().to_string();
    info!(agent = %identity, server = server_address, version = env!("CARGO_PKG_VERSION"), "agent starts");
    let worker = Arc::new(Worker {
        server,
        store: store::shared(channel.clone()),
        identity,
        certificate: certificate.clone(),
        recipient_key,
        rdb_file: settings.capture.rdb_file,
        upload: Arc::new(Pace::new(settings.capture.upload_limit)),
        board: board.clone(),
        observer: observer.clone(),
        turn: Semaphore::new(1),
        tracker: TaskTracker::new(),
    });
    let session = Session {
        channel,
        certificate,
        observer: observer.clone(),
        board: board.clone(),
        worker: worker.clone(),
        boot_id: hex::encode(clock::random::<16>()),
        server_address,
        recipient,
    };

    let mut parts = JoinSet::new();
    parts.spawn({
        let stop = stop.clone();
        async move { observer.run(stop).await }
    });
    // The session outlives the tasks, so that what became of them is still told.
    let end_session = CancellationToken::new();
    parts.spawn({
        let end_session = end_session.clone();
        async move { session.run(end_session).await }
    });
    stop.cancelled().await;
    info!("stopping");
    board.cancel_all();
    worker.tracker.close();
    if timeout(GRACE, worker.tracker.wait()).await.is_err() {
        warn!(tasks = ?board.running(), "tasks did not end in time; they are abandoned");
    }
    end_session.cancel();
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    Ok(())
}
