//! The coordinator as one value: what its services share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use urtext_identity::CertificateAuthority;
use urtext_planner::{Mark, RunSeen};
use urtext_repository::BackupKey;
use urtext_types::RepositoryName;

use crate::{
    Fault,
    alarms::Alarms,
    catalog::Catalog,
    clock::Clock,
    directory::Directory,
    fleet::Fleet,
    histories::Histories,
    objects::{OBJECTS_AT_ONCE, PutGate},
    reconcile::Compared,
    records::RecordClock,
    repositories::Repositories,
    restoring::Plans,
    scheduler::Scheduler,
    settings::Settings,
    shard::ShardKey,
    tasks::{Task, Tasks},
    verifier::AuthorityVerifier,
};

/// Everything behind the services. Each part has its own lock, none is held across a wait, and none is
/// taken while another is held.
#[derive(Debug)]
pub struct App {
    pub directory: Directory,
    pub settings: Settings,
    pub clock: Clock,
    pub authority: CertificateAuthority,
    pub verifier: AuthorityVerifier,
    pub repositories: Repositories,
    pub catalog: Catalog,
    pub fleet: Fleet,
    pub histories: Histories,
    pub alarms: Alarms,
    pub tasks: Tasks,
    pub plans: Plans,
    pub scheduler: Scheduler,
    pub puts: PutGate,
    /// Places in memory for objects that are read.
    pub gets: Arc<Semaphore>,
    /// Copies of backups that cannot be read now, each with the reason.
    pub unreadable: Mutex<BTreeMap<(BackupKey, RepositoryName), String>>,
    /// Records that could not be read when they were last tried, each with the reason.
    pub unreadable_records: Mutex<Vec<String>>,
    pub record_clock: RecordClock,
    /// A record is not in every repository yet.
    pub records_to_spread: AtomicBool,
    /// When everything was last compared.
    pub compared: Compared,
    /// Held while the index is made again.
    pub rebuilding: tokio::sync::Mutex<()>,
    /// Held while something is deleted.
    pub pruning: tokio::sync::Mutex<()>,
    /// What was measured since it was last made durable.
    pub unsaved: Mutex<Unsaved>,
    /// Nothing is written into any repository: see [`crate::alone`].
    pub reads_only: bool,
    /// Everything that runs beside the requests; waited for at the end.
    pub background: TaskTracker,
    /// Cancelled when the coordinator stops.
    pub stop: CancellationToken,
}

/// Progress of the histories that is not in the catalog yet.
#[derive(Debug, Default)]
pub struct Unsaved {
    pub heads: BTreeMap<(ShardKey, urtext_types::ReplicationId), urtext_planner::HeadSeen>,
    pub marks: Vec<(ShardKey, Mark)>,
    pub ended: Vec<(ShardKey, RunSeen)>,
}

/// What an [`App`] is made from.
#[derive(Debug)]
pub struct Parts {
    pub directory: Directory,
    pub settings: Settings,
    pub clock: Clock,
    pub authority: CertificateAuthority,
    pub repositories: Repositories,
    pub catalog: Catalog,
}

impl App {
    /// Takes up where the last coordinator left off: from the catalog, then from the repository.
    pub async fn start(parts: Parts) -> Result<Self, Fault> {
        let verifier = AuthorityVerifier::new(parts.authority.certificate_pem());
        Self::start_believing(parts, verifier).await
    }

    /// [`App::start`], where the signatures of what is stored are not those of our own authority.
    pub async fn start_believing(parts: Parts, verifier: AuthorityVerifier) -> Result<Self, Fault> {
        let Parts { directory, settings, clock, authority, repositories, catalog } = parts;
        let failed = |attempt: &str| Fault::while_doing::<crate::catalog::CatalogError>(attempt.to_owned());
        let named: Vec<RepositoryName> = repositories.iter().map(|place| place.name().clone()).collect();
        catalog.keep_repositories(&named).await.map_err(failed("start"))?;
        let known = catalog.lineages().await.map_err(failed("start"))?;
        let fleet = Fleet::default();
        for enrolment in catalog.current_enrolments().await.map_err(failed("start"))? {
            fleet.know(&enrolment.identity);
        }
        // Whose enrolments went with an older catalog, and who has not come back since.
        for node in catalog.nodes_with_backups().await.map_err(failed("start"))? {
            fleet.know(&node);
        }
        for last in catalog.observations().await.map_err(failed("start"))? {
            fleet.recall(last);
        }
        let alarms = Alarms::recall(catalog.alarms().await.map_err(failed("start"))?);
        let memories = catalog.memories().await.map_err(failed("start"))?;
        let open = catalog.open_tasks().await.map_err(failed("start"))?;
        let scheduler = Scheduler::recall(memories, clock.now());
        let app = Self {
            directory,
            verifier,
            clock,
            authority,
            repositories,
            catalog,
            fleet,
            histories: Histories::recall(&known),
            alarms,
            tasks: Tasks::recall(open.into_iter().map(|stored| Task::new(stored, None)).collect()),
            plans: Plans::default(),
            scheduler,
            puts: PutGate::default(),
            gets: Arc::new(Semaphore::new(OBJECTS_AT_ONCE)),
            unreadable: Mutex::default(),
            unreadable_records: Mutex::default(),
            record_clock: RecordClock::default(),
            records_to_spread: AtomicBool::new(true),
            compared: Compared::default(),
            rebuilding: tokio::sync::Mutex::default(),
            pruning: tokio::sync::Mutex::default(),
            unsaved: Mutex::default(),
            reads_only: false,
            background: TaskTracker::new(),
            stop: CancellationToken::new(),
            settings,
        };
        app.recall_records().await?;
        app.reconcile(None).await?;
        Ok(app)
    }
}

#[cfg(test)]
pub(crate) mod tests;
