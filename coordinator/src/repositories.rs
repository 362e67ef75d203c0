//! The places where backups are kept: several, each of which may be down without hiding what the others have.
//!
//! A repository is opened when it is first needed and again whenever it failed, so that a coordinator starts
//! and goes on while one of them does not answer. What failed is remembered with its reason: people are told
//! which one it is, and nobody waits twice in a row for the same silence (`ASK_AGAIN_AFTER`).

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use futures::StreamExt;
use tokio::time::Instant;
use tracing::{info, warn};
use urtext_planner::RepositorySeen;
use urtext_proto::pb;
use urtext_repository::{Location, ObjectPrefix, Repository, StoreAddress, StoreError, StoreOperation};
use urtext_types::{Chain, DeploymentName, ErrorKind, Explain, RepositoryId, RepositoryName, SiteName, Timestamp};

use crate::{Fault, locking::CommonLock, settings::RepositorySettings};

/// One of several repositories that did not answer is left alone for so long: not every question waits for the
/// same silence.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(15);

/// A repository that does not give its own header within this does not answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Whether a place that is to lock what is stored there can.
pub async fn check_locks(place: &StoreAddress) -> Result<(), Fault> {
    let attempt = || format!("lock what is stored in {place}");
    match place.open_to_lock().map_err(Fault::while_doing(attempt()))? {
        Some(store) => store.check_locks().await.map_err(Fault::while_doing(attempt())),
        None => Ok(()),
    }
}

/// All repositories, in the order of the settings.
#[derive(Debug)]
pub struct Repositories(Vec<Place>);

/// One repository.
#[derive(Debug)]
pub struct Place {
    pub settings: RepositorySettings,
    /// There are others that may have what is wanted.
    is_one_of_several: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Once it was opened.
    repository: Option<Repository>,
    down: Option<Down>,
    listed_at: Option<Timestamp>,
    /// Why something of a deployment is not locked there as it should be.
    lock_troubles: BTreeMap<DeploymentName, String>,
    common_locks: BTreeMap<DeploymentName, CommonLock>,
}

#[derive(Debug, Clone)]
struct Down {
    kind: ErrorKind,
    reason: String,
    hint: Option<String>,
    tried: Instant,
}

impl Repositories {
    /// None of them is asked yet.
    pub fn new(settings: &[RepositorySettings]) -> Self {
        let is_one_of_several = settings.len() > 1;
        let place = |settings| Place { settings, is_one_of_several, state: Mutex::default() };
        Self(settings.iter().cloned().map(place).collect())
    }

    /// With one that is open already.
    pub fn opened(settings: RepositorySettings, repository: Repository) -> Self {
        let state = State { repository: Some(repository), ..State::default() };
        Self(vec![Place { settings, is_one_of_several: false, state: Mutex::new(state) }])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    pub fn get(&self, name: &RepositoryName) -> Option<&Place> {
        self.iter().find(|place| place.name() == name)
    }

    /// The one of that name, for a person who asked for it.
    pub fn named(&self, name: &RepositoryName) -> Result<&Place, Fault> {
        self.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.iter().map(|place| place.name().as_str()).collect();
            Fault::new(ErrorKind::NotFound, format!("there is no repository {name}"))
                .with_hint(format!("the settings name: {}", names.join(", ")))
        })
    }

    /// Where the agents of that site put their backups: the first that names the site, else the first that
    /// is for every site.
    pub fn for_site(&self, site: &SiteName) -> Result<&Place, Fault> {
        let names_it = self.iter().find(|place| place.settings.sites.iter().flatten().any(|named| named == site));
        names_it.or_else(|| self.iter().find(|place| place.settings.sites.is_none())).ok_or_else(|| {
            Fault::new(ErrorKind::Usage, format!("no repository takes the backups of site {site}"))
                .with_hint("name the site in the `sites` of a repository in urtext.toml, or leave `sites` out of one")
        })
    }

    /// Opens all of them. Two that are one would count every backup twice.
    ///
    /// # Errors
    /// None can be opened, or two are the same.
    pub async fn open(&self) -> Result<(), Fault> {
        let mut known: Vec<(RepositoryId, &RepositoryName)> = Vec::new();
        let mut first_fault = None;
        for place in self.iter() {
            match place.open().await {
                Ok(repository) => {
                    let id = repository.header().repository;
                    if let Some((_, other)) = known.iter().find(|(known, _)| *known == id) {
                        let message = format!("repositories {other} and {} are one and the same", place.name());
                        return Err(Fault::new(ErrorKind::Usage, message)
                            .with_hint("take one of them out of urtext.toml: each is to be a place of its own"));
                    }
                    known.push((id, place.name()));
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        match first_fault {
            Some(fault) if known.is_empty() => Err(fault),
            _ => Ok(()),
        }
    }

    /// As the planner sees them.
    pub fn seen(&self) -> Vec<RepositorySeen> {
        let seen = |place: &Place| {
            let state = place.state();
            RepositorySeen {
                name: place.name().to_string(),
                reachable: state.down.is_none(),
                listed_at: state.listed_at,
            }
        };
        self.iter().map(seen).collect()
    }

    /// The names of those that do not answer.
    pub fn down(&self) -> Vec<(&RepositoryName, String)> {
        self.iter().filter_map(|place| Some((place.name(), place.down()?))).collect()
    }
}

impl Place {
    pub fn name(&self) -> &RepositoryName {
        &self.settings.name
    }

    pub fn address(&self) -> &StoreAddress {
        &self.settings.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state of a repository")
    }

    /// Why it does not answer, if it does not.
    pub fn down(&self) -> Option<String> {
        self.state().down.as_ref().map(|down| down.reason.clone())
    }

    /// How agents reach it by themselves, if they are to.
    pub fn direct(&self, repository: &Repository) -> Option<pb::DirectStore> {
        let url = self.settings.direct.clone()?;
        Some(pb::DirectStore { url, repository_id: repository.header().repository.to_string() })
    }

    /// Whether it is the one of that id, as far as is known.
    pub fn is(&self, id: RepositoryId) -> bool {
        self.state().repository.as_ref().is_some_and(|repository| repository.header().repository == id)
    }

    /// Why something there is not locked as it should be, if that was so when it was last tried.
    pub fn lock_trouble(&self) -> Option<String> {
        self.state().lock_troubles.values().next().cloned()
    }

    pub fn set_lock_trouble(&self, deployment: &DeploymentName, trouble: Option<String>) {
        let troubles = &mut self.state().lock_troubles;
        match trouble {
            Some(trouble) => troubles.insert(deployment.clone(), trouble),
            None => troubles.remove(deployment),
        };
    }

    /// The lock of what is of no backup, since the coordinator started.
    pub fn common_lock(&self, deployment: &DeploymentName) -> Option<CommonLock> {
        self.state().common_locks.get(deployment).copied()
    }

    pub fn set_common_lock(&self, deployment: &DeploymentName, lock: CommonLock) {
        self.state().common_locks.insert(deployment.clone(), lock);
    }

    /// When its backups were last listed.
    pub fn listed_at(&self) -> Option<Timestamp> {
        self.state().listed_at
    }

    /// Whether it failed so recently that it is not worth asking again at once.
    pub fn is_resting(&self) -> bool {
        let rests = |down: &Down| down.tried.elapsed() < ASK_AGAIN_AFTER;
        self.is_one_of_several && self.state().down.as_ref().is_some_and(rests)
    }

    /// The repository, opened if it was not yet.
    pub async fn open(&self) -> Result<Repository, Fault> {
        if let Some(open) = self.state().repository.clone() {
            return Ok(open);
        }
        let attempt = || format!("open repository {}", self.name());
        let opened = async {
            let store = self.address().open().map_err(Fault::while_doing(attempt()))?;
            Repository::open(store).await.map_err(Fault::while_doing(attempt()))
        };
        // The only one is worth some patience; one of several must not keep people from the others.
        let opened = match self.is_one_of_several {
            false => opened.await,
            true => tokio::time::timeout(ANSWER_LIMIT, opened).await.unwrap_or_else(|_| {
                let message = format!("{}: it does not answer within {} s", attempt(), ANSWER_LIMIT.as_secs());
                Err(Fault::new(ErrorKind::Unavailable, message))
            }),
        };
        match opened {
            Ok(repository) => {
                self.state().repository = Some(repository.clone());
                self.answered();
                Ok(repository)
            }
            Err(fault) => {
                self.failed(&fault);
                Err(fault)
            }
        }
    }

    /// Opens it if it is not worth waiting for an answer that just did not come.
    pub async fn open_unless_resting(&self) -> Result<Repository, Fault> {
        let down = self.state().down.clone();
        match down {
            Some(Down { kind, reason, hint, .. }) if self.is_resting() => {
                let fault = Fault::new(kind, reason);
                Err(match hint {
                    Some(hint) => fault.with_hint(hint),
                    None => fault,
                })
            }
            _ => self.open().await,
        }
    }

    /// The repository, for somebody who waits and to whom the others matter as well: one of several is asked first
    /// whether it answers, since what is put into one that does not is tried again for a minute.
    pub async fn open_if_it_answers(&self) -> Result<Repository, Fault> {
        let repository = self.open_unless_resting().await?;
        if self.is_one_of_several { self.check_answers().await } else { Ok(repository) }
    }

    /// Asks for the header, the smallest thing that every repository has.
    pub async fn check_answers(&self) -> Result<Repository, Fault> {
        let repository = self.open().await?;
        let name = Location::Repository.name();
        let silent = || StoreError::Unavailable {
            operation: StoreOperation::Get,
            object: name.to_string(),
            place: self.address().to_string(),
            source: None,
        };
        let answer = tokio::time::timeout(ANSWER_LIMIT, repository.store().get(&name)).await;
        match answer.unwrap_or_else(|_| Err(silent())) {
            Ok(_) => {
                self.answered();
                Ok(repository)
            }
            Err(error) => {
                let fault = Fault::while_doing(format!("ask repository {}", self.name()))(error);
                self.failed(&fault);
                Err(fault)
            }
        }
    }

    /// Whether it can be read, listed and written to: its header is put again as it is, which changes nothing.
    pub async fn check(&self) -> Result<(), Fault> {
        let repository = self.check_answers().await?;
        let name = Location::Repository.name();
        let attempt = |what: &str| format!("{what} repository {}", self.name());
        let store = repository.store();
        let header = store.get(&name).await.map_err(Fault::while_doing(attempt("read")))?;
        store.list(&ObjectPrefix::all()).next().await.transpose().map_err(Fault::while_doing(attempt("list")))?;
        store.put_new(&name, header).await.map_err(Fault::while_doing(attempt("write to")))?;
        check_locks(self.address()).await
    }

    /// It answers.
    pub fn answered(&self) {
        if self.state().down.take().is_some() {
            info!(repository = %self.name(), "the repository answers again");
        }
    }

    /// Its backups were listed.
    pub fn listed(&self, now: Timestamp) {
        self.answered();
        self.state().listed_at = Some(now);
    }

    /// It does not answer.
    pub fn failed(&self, fault: &Fault) {
        let reason = Chain(fault).to_string();
        let down = Down { kind: fault.kind(), reason, hint: fault.hint(), tried: Instant::now() };
        let mut state = self.state();
        if state.down.as_ref().is_none_or(|before| before.reason != down.reason) {
            warn!(repository = %self.settings.name, error = %down.reason, "a repository does not answer");
        }
        state.down = Some(down);
    }
}
