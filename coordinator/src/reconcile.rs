//! The catalog follows the repository: what is committed there is listed here, what is gone there goes
//! here, and what cannot be believed is shown as such without hiding the others.
//!
//! **Memory**: some 40 bytes for each backup of the repositories, and the manifests that are read at one time.

mod lately;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::StreamExt;
use tokio::time::Instant;
use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_planner::ClockSkew;
use urtext_repository::{BackupKey, BackupsByShard, Manifest, Repository};
use urtext_types::{BackupId, Chain, DeploymentName, RepositoryName, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, CopyState, ListedCopy},
    manifests::{Look, MANIFESTS_KEPT_AT_ONCE, entry, estimated_clock, learn_from},
    repositories::Place,
    shard::ShardKey,
};

pub use lately::Compared;

/// Up to so many backups, everything is compared whenever somebody asks: one request for the list. For more see
/// [`App::reconcile_lately`].
const COMPARED_EACH_TIME: usize = 1000;

/// Up to so many, every manifest is read and verified again then: half a second from a bucket. Beyond that, only those
/// that are new.
const READ_EACH_TIME: usize = 200;

/// Of so many found at once, each is named in the log.
const NAMED_IN_LOG: usize = 20;

/// Something about each shard.
type ByShard<T> = BTreeMap<ShardKey, Vec<T>>;

impl App {
    /// Compares the catalog with every repository, of one deployment or of all.
    ///
    /// A repository that does not answer is remembered as down, with what was known of it.
    ///
    /// # Errors
    /// No repository answers, or the catalog does not. What was compared until then stands.
    pub async fn reconcile(&self, deployment: Option<&DeploymentName>) -> Result<(), Fault> {
        let begun = Instant::now();
        // In this order: what is indexed was committed before, so that a backup which is committed meanwhile
        // is not taken for one that has disappeared.
        let indexed = self.catalog.listed_copies(deployment).await.map_err(Fault::while_doing(attempt()))?;
        let answers = futures::future::join_all(self.repositories.iter().map(|place| async move {
            // Before anything that takes long: whether there is anybody.
            place.open_unless_resting().await?;
            let repository = place.check_answers().await?;
            let found = repository.backups_to_read(deployment, READ_EACH_TIME).await;
            let found = found.map_err(Fault::while_doing(attempt()));
            if let Err(fault) = &found {
                place.failed(fault);
            }
            Ok((repository, by_shard(found?)))
        }));
        let nothing = ByShard::new();
        let (mut answered, mut first_fault, mut backups) = (false, None, 0);
        for (place, answer) in self.repositories.iter().zip(answers.await) {
            let indexed = indexed.get(place.name()).unwrap_or(&nothing);
            let compared = match answer {
                Ok((repository, found)) => {
                    backups += found.values().map(Vec::len).sum::<usize>();
                    self.compare(place, &repository, &found, indexed, deployment).await
                }
                Err(fault) => Err(Stopped::Silent(fault)),
            };
            match compared {
                Ok(()) => {
                    place.listed(self.clock.now());
                    answered = true;
                }
                Err(Stopped::Silent(fault)) => first_fault = first_fault.or(Some(fault)),
                Err(Stopped::Catalog(fault)) => return Err(fault),
            }
        }
        if answered {
            self.compared.note(deployment, begun, backups);
        }
        match first_fault {
            Some(fault) if !answered => Err(fault),
            _ => Ok(()),
        }
    }

    /// Compares what the catalog lists of one repository with what was found there.
    async fn compare(
        &self,
        place: &Place,
        repository: &Repository,
        found: &ByShard<BackupId>,
        indexed: &ByShard<ListedCopy>,
        deployment: Option<&DeploymentName>,
    ) -> Result<(), Stopped> {
        let name = place.name();
        let in_catalog = |error| Stopped::Catalog(Fault::while_doing(attempt())(error));
        let reads_all = found.values().map(Vec::len).sum::<usize>() <= READ_EACH_TIME;
        let (mut unreadable, mut gone) = (BTreeMap::new(), Vec::new());
        for shard in found.keys().chain(indexed.keys()).collect::<BTreeSet<_>>() {
            let found = found.get(shard).map_or(&[][..], Vec::as_slice);
            let difference = difference(found, indexed.get(shard).map_or(&[][..], Vec::as_slice), reads_all);
            for ids in difference.to_read.chunks(MANIFESTS_KEPT_AT_ONCE) {
                self.read_in(place, repository, shard, ids, &mut unreadable).await?;
            }
            gone.extend(difference.gone.into_iter().map(|id| key(shard, id)));
        }
        for key in &gone {
            warn!(backup = %key, repository = %name, "a backup has disappeared from the repository");
        }
        self.catalog.remove_copies(&gone, name).await.map_err(in_catalog)?;
        let mut known = self.unreadable.lock().expect("nothing panics while it holds the unreadable");
        for ((key, _), reason) in &unreadable {
            if known.get(&(key.clone(), name.clone())) != Some(reason) {
                warn!(backup = %key, repository = %name, %reason, "a backup cannot be read");
            }
        }
        known.retain(|(key, place), _| place != name || deployment.is_some_and(|wanted| key.deployment != *wanted));
        known.extend(unreadable);
        Ok(())
    }

    /// Reads some manifests of one shard, and brings the entries of these copies into line with what was found.
    async fn read_in(
        &self,
        place: &Place,
        repository: &Repository,
        shard: &ShardKey,
        ids: &[BackupId],
        unreadable: &mut BTreeMap<(BackupKey, RepositoryName), String>,
    ) -> Result<(), Stopped> {
        let in_catalog = |error| Stopped::Catalog(Fault::while_doing(attempt())(error));
        let mut known = self.catalog.backups_at(shard, ids).await.map_err(in_catalog)?;
        let (mut new, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let mut looks = std::pin::pin!(self.look_at_each(repository, shard, ids));
        while let Some((key, look)) = looks.next().await {
            let known = known.remove(&key.id);
            let (damaged, hidden) = match look {
                // Removed since it was listed, or not committed yet.
                Look::Gone => {
                    gone.extend(known.filter(|entry| entry.copies.contains_key(place.name())).map(|_| key));
                    continue;
                }
                Look::Good(manifest) if known.is_none() => {
                    let received_at = key.id.timestamp();
                    let mut entry = entry(&manifest, received_at);
                    entry.copies.insert(place.name().clone(), CopyState::default());
                    new.push(entry);
                    self.learn(&manifest, received_at, None).await;
                    continue;
                }
                Look::Good(_) => (None, None),
                Look::Damaged(reason) => (Some(reason), None),
                Look::Unreadable(reason) => {
                    // That one object cannot be read is said of that one; that none can be, of the repository.
                    place.check_answers().await.map_err(Stopped::Silent)?;
                    (None, Some(reason))
                }
            };
            if let Some(reason) = damaged.clone().or(hidden.clone()) {
                unreadable.insert((key.clone(), place.name().clone()), reason);
            }
            // A manifest that was never read says nothing to be listed.
            if let Some(entry) = known {
                let before = entry.copies.get(place.name());
                let now = CopyState { damaged, unreadable: hidden, ..before.cloned().unwrap_or_default() };
                if before != Some(&now) {
                    changed.push((key, place.name().clone(), now));
                }
            }
        }
        if new.len() > NAMED_IN_LOG {
            info!(%shard, backups = new.len(), repository = %place.name(), "found backups in the repository");
        } else {
            for entry in &new {
                info!(backup = %entry.key(), repository = %place.name(), "found a backup in the repository");
            }
        }
        self.catalog.take_in(&new, &changed).await.map_err(in_catalog)?;
        self.catalog.remove_copies(&gone, place.name()).await.map_err(in_catalog)?;
        self.save_marks_if_many().await;
        Ok(())
    }

    /// Adds a committed backup to the catalog, and what its manifest says of the histories.
    ///
    /// `clock` is how its agent's clock stood, where that was measured.
    pub async fn index(
        &self,
        manifest: &Manifest,
        repository: &RepositoryName,
        received_at: Timestamp,
        clock: Option<ClockSkew>,
    ) -> Result<BackupEntry, Fault> {
        let mut entry = entry(manifest, received_at);
        entry.copies.insert(repository.clone(), CopyState::default());
        self.catalog.put_backup(&entry).await.map_err(Fault::while_doing("index a backup"))?;
        self.learn(manifest, received_at, clock).await;
        Ok(entry)
    }

    /// Learns what a manifest says of its node and of the histories.
    pub(crate) async fn learn(&self, manifest: &Manifest, received_at: Timestamp, clock: Option<ClockSkew>) {
        self.fleet.know(&AgentIdentity {
            deployment: manifest.deployment.clone(),
            shard: manifest.shard.clone(),
            site: manifest.site.clone(),
            node: manifest.node.clone(),
        });
        let shard = ShardKey::new(manifest.deployment.clone(), manifest.shard.clone());
        let clock = clock.unwrap_or_else(|| estimated_clock(manifest));
        for learned in self.histories.with(&shard, |known| learn_from(known, manifest, received_at, clock)) {
            self.keep(&shard, learned).await;
        }
    }

    /// Goes on comparing until the coordinator stops.
    pub async fn keep_reconciling(self: Arc<Self>) {
        while self.stop.run_until_cancelled(tokio::time::sleep(self.compared.pause())).await.is_some() {
            if let Err(error) = self.reconcile(None).await {
                warn!(error = %Chain(&error), "could not compare the catalog with the repository; trying again");
            }
            let is_whole = self.unreadable_records.lock().expect("nothing panics while it holds them").is_empty();
            if !is_whole && let Err(error) = self.recall_records().await {
                warn!(error = %Chain(&error), "could not read the records again; trying again");
            }
            self.spread_records().await;
        }
    }
}

/// Why a comparison ended early.
enum Stopped {
    /// The repository does not answer.
    Silent(Fault),
    Catalog(Fault),
}

/// What is to be done about one shard.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    to_read: Vec<BackupId>,
    gone: Vec<BackupId>,
}

/// Both are ascending. What is not listed is read, and what was in trouble; or everything.
fn difference(found: &[BackupId], listed: &[ListedCopy], reads_all: bool) -> Difference {
    let mut listed = listed.iter().peekable();
    let mut difference = Difference { to_read: Vec::new(), gone: Vec::new() };
    for &id in found {
        while let Some(before) = listed.next_if(|copy| copy.id < id) {
            difference.gone.push(before.id);
        }
        let known = listed.next_if(|copy| copy.id == id);
        if reads_all || known.is_none_or(|copy| copy.is_in_trouble) {
            difference.to_read.push(id);
        }
    }
    difference.gone.extend(listed.map(|copy| copy.id));
    difference
}

fn by_shard(found: BackupsByShard) -> ByShard<BackupId> {
    found.into_iter().map(|((deployment, shard), ids)| (ShardKey::new(deployment, shard), ids)).collect()
}

fn key(shard: &ShardKey, id: BackupId) -> BackupKey {
    BackupKey { deployment: shard.deployment.clone(), shard: shard.shard.clone(), id }
}

fn attempt() -> String {
    "compare the catalog with the repository".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> BackupId {
        BackupId::new(Timestamp::from_millis(1_800_000_000_000), [n; 10])
    }

    #[track_caller]
    fn check(found: &[u8], listed: &[(u8, bool)], reads_all: bool, to_read: &[u8], gone: &[u8]) {
        let found: Vec<_> = found.iter().map(|&n| id(n)).collect();
        let listed: Vec<_> = listed.iter().map(|&(n, is_in_trouble)| ListedCopy { id: id(n), is_in_trouble }).collect();
        let ids = |numbers: &[u8]| numbers.iter().map(|&n| id(n)).collect();
        let expected = Difference { to_read: ids(to_read), gone: ids(gone) };
        assert_eq!(difference(&found, &listed, reads_all), expected);
    }

    #[test]
    fn what_is_new_or_was_in_trouble_is_read_and_what_is_not_found_is_gone() {
        check(&[], &[], false, &[], &[]);
        check(&[1, 2], &[], false, &[1, 2], &[]);
        check(&[], &[(1, false), (2, true)], true, &[], &[1, 2]);
        check(&[1, 2, 3, 5], &[(1, false), (2, true), (4, false), (6, false)], false, &[2, 3, 5], &[4, 6]);
        check(&[1, 2, 3], &[(1, false), (2, false)], true, &[1, 2, 3], &[]);
    }
}
