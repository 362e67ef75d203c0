//! Stored backups are read again, and what is damaged is put right from another repository.
//!
//! The coordinator holds no identity and needs none: it compares what is stored with the signed manifests. What it
//! finds changes the standing of the copy at once, and is kept as a record, so that a catalog made anew knows it.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{info, warn};
use urtext_repository::{
    BackupKey, Checked, Loss, Proof, RecordBody, Repaired, Repository, Sample, check_backup, repair,
};
use urtext_types::{BackupId, Chain, DeploymentName, ErrorKind, Explain, RepositoryId, RepositoryName, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, CopyState},
    repositories::Place,
    shard::ShardKey,
};

/// The most backups that one record names: it stays far below what an object may have.
const BACKUPS_IN_A_RECORD: usize = 10_000;

/// One turn of a partial verification: turns that follow each other read other objects.
const TURN_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What is to be verified.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    pub deployment: Option<DeploymentName>,
    pub backup: Option<BackupId>,
    pub repository: Option<RepositoryName>,
    /// How many of a backup's objects are read, 1 to 100; others on the next day.
    pub percent: u8,
    /// Only backups that were received since then.
    pub since: Option<Timestamp>,
    /// Take what is damaged from another repository.
    pub repair: bool,
}

/// What was found out about one backup in one repository.
#[derive(Debug)]
pub struct ProvedCopy {
    pub key: BackupKey,
    pub repository: RepositoryName,
    pub objects_read: usize,
    pub objects: usize,
    pub bytes_read: u64,
    /// Before a repair: the object, what is wrong with it, what that costs.
    pub damaged: Vec<(String, String, Loss)>,
    /// Why it is damaged now.
    pub reason: Option<String>,
    /// Why nothing was found out.
    pub unreadable: Option<String>,
    /// Objects that were put right.
    pub mended: Vec<String>,
    /// The other repositories that have this backup.
    pub also_in: Vec<RepositoryName>,
}

/// What came of loading a backup into a real server.
#[derive(Debug)]
pub struct Rehearsal {
    pub backup: BackupId,
    /// Which server it was.
    pub server: String,
    /// What was wrong; `None` if it is good.
    pub failure: Option<String>,
    pub fetch_ms: u64,
    pub load_ms: u64,
    pub keys: u64,
}

/// What a verification says while it runs.
#[derive(Debug)]
pub enum Proving {
    Read { bytes: u64, of: u64 },
    Copy(Box<ProvedCopy>),
}

/// One backup in one repository.
#[derive(Debug)]
struct CopyToProve<'a> {
    key: BackupKey,
    place: &'a Place,
    /// The other repositories that have it.
    also_in: Vec<RepositoryName>,
    /// 0 if its manifest says nothing.
    stored_bytes: u64,
}

/// What was found, per shard and repository, for the record.
#[derive(Debug, Default)]
struct Found {
    good: Vec<BackupId>,
    damaged: Vec<(BackupId, String)>,
}

impl App {
    /// Reads backups again, in every repository that has them, and says of each copy what was found.
    ///
    /// # Errors
    /// There is nothing of the kind, or the catalog does not answer. What is damaged, and a repository that is
    /// down, are no errors: `said` is told.
    pub async fn verify(
        &self,
        request: &VerifyRequest,
        who: &str,
        said: &(dyn Fn(Proving) + Sync),
    ) -> Result<(), Fault> {
        if let Some(name) = &request.repository {
            self.repositories.named(name)?;
        }
        self.reconcile(request.deployment.as_ref()).await?;
        let copies = self.copies_to_verify(request).await?;
        // By the size of the data: what is not read for a sample is left out of it.
        let of = copies.iter().map(|copy| copy.stored_bytes * u64::from(request.percent) / 100).sum();
        let turn = (self.clock.now().as_millis() / TURN_MILLIS).max(0) as u64;
        let sample = if request.percent >= 100 { Sample::ALL } else { Sample::percent(request.percent, turn) };
        let mut found: BTreeMap<(ShardKey, RepositoryId), Found> = BTreeMap::new();
        let read = std::sync::atomic::AtomicU64::new(0);
        for CopyToProve { key, place, also_in, stored_bytes: _ } in copies {
            let progress = |bytes: u64| {
                let before = read.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
                said(Proving::Read { bytes: before + bytes, of });
            };
            let (proved, repository) = self.prove(&key, also_in, place, sample, request.repair, who, &progress).await?;
            if let Some(repository) = repository {
                let shard = ShardKey::new(key.deployment.clone(), key.shard.clone());
                let found = found.entry((shard, repository)).or_default();
                match &proved.reason {
                    Some(reason) => found.damaged.push((key.id, reason.clone())),
                    None if sample == Sample::ALL && proved.unreadable.is_none() => found.good.push(key.id),
                    None => {}
                }
            }
            said(Proving::Copy(Box::new(proved)));
        }
        if self.reads_only {
            return Ok(());
        }
        for ((shard, repository), found) in found {
            self.record_proofs(&shard, repository, found, who).await?;
        }
        Ok(())
    }

    /// Keeps what a rehearsal came to: of the copy that is read first. Returns which repository that is.
    ///
    /// Where there are several copies, an object of another one may have taken the place of one that this one lacks;
    /// so it is read again first, and counts as rehearsed if it is whole by itself.
    ///
    /// One that failed marks no copy as damaged: a server may refuse what another one loads, and what is stored is
    /// judged by its hashes. It stands in the audit.
    pub async fn rehearsed(&self, rehearsal: Rehearsal, by: &str) -> Result<RepositoryName, Fault> {
        let Rehearsal { backup, server, failure, fetch_ms, load_ms, keys } = rehearsal;
        let entry = self.catalog.backup(backup).await.map_err(Fault::while_doing("look up a backup"))?;
        let entry = entry.ok_or_else(|| {
            Fault::new(ErrorKind::NotFound, format!("there is no backup {backup}"))
                .with_hint("`urtext backups` lists them")
        })?;
        let key = entry.key();
        let places = self.places_with(Some(&key)).await?;
        let place = places
            .first()
            .ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("no repository has backup {backup}")))?;
        let shard = ShardKey::new(entry.deployment.clone(), entry.shard.clone());
        if failure.is_none() && entry.copies.len() > 1 {
            let (proved, _) = self.prove(&key, Vec::new(), place, Sample::ALL, false, by, &|_| {}).await?;
            if let Some(reason) = proved.reason.or(proved.unreadable) {
                let message = format!("the backup was loaded, but its copy in {} is not whole: {reason}", place.name());
                return Err(Fault::new(ErrorKind::Integrity, message).with_hint(format!(
                    "`urtext verify {backup} --repair` takes what it lacks from another repository"
                )));
            }
        }
        let action = if failure.is_some() { "rehearsal failed" } else { "rehearsed" };
        let subject = format!(
            "backup {backup} from {} in {server}: {keys} keys, {fetch_ms} ms to fetch, {load_ms} ms to load",
            place.name()
        );
        let body = RecordBody::Audit { action: action.to_owned(), subject };
        self.put_record(&shard, by, failure.clone(), body).await?;
        if failure.is_none() {
            let repository = place.open().await?.header().repository;
            let (shard_name, good) = (shard.shard.clone(), vec![backup]);
            let how = Proof::Rehearsed;
            let body = RecordBody::Verified { shard: shard_name, repository, how, good, damaged: Vec::new() };
            self.put_record(&shard, by, None, body).await?;
            if let Some(known) = self.known_copy(&key, place.name()).await? {
                let state = CopyState { rehearsed_at: Some(self.clock.now()), ..known };
                let kept = self.catalog.put_copy(&key, place.name(), &state).await;
                kept.map_err(Fault::while_doing("keep what is known of a copy"))?;
            }
            info!(backup = %key, %server, load_ms, "a backup was rehearsed");
        } else {
            warn!(backup = %key, %server, reason = failure, "a rehearsal failed");
        }
        Ok(place.name().clone())
    }

    /// What is listed, and what is not because its manifest could not be read or believed: that is damage as well.
    async fn copies_to_verify(&self, request: &VerifyRequest) -> Result<Vec<CopyToProve<'_>>, Fault> {
        let all = self.catalog.backups(request.deployment.as_ref()).await;
        let all = all.map_err(Fault::while_doing("list the backups"))?;
        let is_wanted = |id: BackupId, received_at: Timestamp| {
            request.backup.is_none_or(|wanted| id == wanted) && request.since.is_none_or(|since| received_at >= since)
        };
        let is_asked = |place: &&Place| request.repository.as_ref().is_none_or(|name| place.name() == name);
        let hidden: BTreeSet<(BackupKey, RepositoryName)> =
            self.unreadable.lock().expect("nothing panics while it holds the unreadable").keys().cloned().collect();
        let mut copies = Vec::new();
        for entry in all.iter().filter(|entry| is_wanted(entry.id, entry.received_at)) {
            let key = entry.key();
            for place in self.repositories.iter().filter(is_asked) {
                let is_listed = entry.copies.contains_key(place.name());
                if is_listed || hidden.contains(&(key.clone(), place.name().clone())) {
                    let also_in = entry.copies.keys().filter(|name| *name != place.name()).cloned().collect();
                    copies.push(CopyToProve { key: key.clone(), place, also_in, stored_bytes: entry.stored_bytes });
                }
            }
        }
        let listed: BTreeSet<BackupKey> = all.iter().map(BackupEntry::key).collect();
        for (key, name) in hidden {
            let is_meant = request.deployment.as_ref().is_none_or(|deployment| key.deployment == *deployment)
                && is_wanted(key.id, key.id.timestamp())
                && !listed.contains(&key);
            if let Some(place) = self.repositories.get(&name).filter(|place| is_meant && is_asked(place)) {
                copies.push(CopyToProve { key, place, also_in: Vec::new(), stored_bytes: 0 });
            }
        }
        if copies.is_empty() {
            return Err(Fault::new(ErrorKind::NotFound, "there is no such backup to verify")
                .with_hint("`urtext backups` lists what there is, and where"));
        }
        Ok(copies)
    }

    /// Verifies one copy, repairs it if that is wished, and keeps what is known of it then.
    #[expect(clippy::too_many_arguments, reason = "what is proved, how, and who is told")]
    async fn prove(
        &self,
        key: &BackupKey,
        also_in: Vec<RepositoryName>,
        place: &Place,
        sample: Sample,
        wants_repair: bool,
        who: &str,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(ProvedCopy, Option<RepositoryId>), Fault> {
        let mut proved = ProvedCopy {
            key: key.clone(),
            repository: place.name().clone(),
            objects_read: 0,
            objects: 0,
            bytes_read: 0,
            damaged: Vec::new(),
            reason: None,
            unreadable: None,
            mended: Vec::new(),
            also_in,
        };
        let checked = match self.check(place, key, sample, progress).await {
            Ok(checked) => checked,
            Err(fault) => {
                proved.unreadable = Some(Chain(&fault).to_string());
                return Ok((proved, None));
            }
        };
        let (repository, mut checked) = checked;
        (proved.objects_read, proved.objects) = (checked.read, checked.of);
        proved.bytes_read = checked.bytes;
        proved.damaged = checked
            .damage
            .iter()
            .map(|damage| (damage.object.to_string(), Chain(&damage.error).to_string(), damage.loss))
            .collect();
        let mut is_whole = sample == Sample::ALL;
        // Twice: behind a manifest that was damaged there may be parts that are.
        for _ in 0..2 {
            if !wants_repair || checked.damage.is_empty() {
                break;
            }
            let mended = self.mend(place, &checked, &proved.also_in, who).await?;
            if mended.is_empty() {
                break;
            }
            proved.mended.extend(mended);
            // All of it: what was damaged is nothing that a sample proves right again.
            checked = match self.check(place, key, Sample::ALL, &|_| {}).await {
                Ok((_, checked)) => checked,
                Err(fault) => {
                    proved.unreadable = Some(Chain(&fault).to_string());
                    return Ok((proved, None));
                }
            };
            is_whole = true;
        }
        proved.reason = checked.reason();
        self.keep_proof(key, place, proved.reason.as_deref(), is_whole).await?;
        Ok((proved, Some(repository.header().repository)))
    }

    async fn check(
        &self,
        place: &Place,
        key: &BackupKey,
        sample: Sample,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(Repository, Checked), Fault> {
        let repository = place.open_unless_resting().await?;
        let checked = check_backup(repository.store().as_ref(), key, &self.verifier, sample, progress).await;
        let checked = checked.map_err(Fault::while_doing(format!("verify backup {}", key.id)))?;
        Ok((repository, checked))
    }

    /// The standing of the copy, by what was found.
    async fn keep_proof(
        &self,
        key: &BackupKey,
        place: &Place,
        reason: Option<&str>,
        is_whole: bool,
    ) -> Result<(), Fault> {
        let Some(known) = self.known_copy(key, place.name()).await? else { return Ok(()) };
        let state = match reason {
            Some(reason) => CopyState { broken: Some(reason.to_owned()), verified_at: None, ..known },
            None if is_whole => CopyState {
                damaged: None,
                unreadable: None,
                broken: None,
                verified_at: Some(self.clock.now()),
                ..known
            },
            // Part of it was read: that neither proves it nor makes good what was found before.
            None => return Ok(()),
        };
        if let Some(reason) = reason {
            warn!(backup = %key, repository = %place.name(), %reason, "a stored backup is damaged");
        }
        let kept = self.catalog.put_copy(key, place.name(), &state).await;
        kept.map_err(Fault::while_doing("keep what is known of a copy"))
    }

    /// What is known of a copy now: to read it took long. `None` if it was removed meanwhile.
    pub(crate) async fn known_copy(
        &self,
        key: &BackupKey,
        repository: &RepositoryName,
    ) -> Result<Option<CopyState>, Fault> {
        let entry = self.catalog.backup_at(key).await.map_err(Fault::while_doing("look up a backup"))?;
        Ok(entry.and_then(|mut entry| entry.copies.remove(repository)))
    }

    /// Takes what is damaged from the first of the other repositories that can give it. Returns what was mended.
    async fn mend(
        &self,
        place: &Place,
        checked: &Checked,
        others: &[RepositoryName],
        who: &str,
    ) -> Result<Vec<String>, Fault> {
        let attempt = || format!("repair backup {} in {}", checked.backup.id, place.name());
        let to = place.address().open_to_sweep().map_err(Fault::while_doing(attempt()))?;
        let mut mended = Vec::new();
        // While a damaged manifest is replaced, its backup has none, and looks like something to be swept.
        let _not_while_pruning = self.pruning.lock().await;
        for other in others {
            let Some(from) = self.repositories.get(other) else { continue };
            let source = match from.open_unless_resting().await {
                Ok(source) => source,
                Err(fault) => {
                    warn!(repository = %other, error = %Chain(&fault), "cannot repair from a repository that is down");
                    continue;
                }
            };
            match repair(to.as_ref(), source.store().as_ref(), checked, &self.verifier).await {
                Ok(Repaired { mended: now, bytes, left }) => {
                    let is_done = left.is_empty();
                    mended.extend(now.iter().map(ToString::to_string));
                    if !now.is_empty() {
                        let shard = ShardKey::new(checked.backup.deployment.clone(), checked.backup.shard.clone());
                        let subject = format!("backup {}: {} objects from {other}", checked.backup.id, now.len());
                        let body = RecordBody::Audit { action: format!("repair in {}", place.name()), subject };
                        self.put_record(&shard, who, checked.reason(), body).await?;
                        info!(backup = %checked.backup, from = %other, bytes, "repaired a backup");
                    }
                    if is_done {
                        break;
                    }
                }
                Err(error) => {
                    warn!(backup = %checked.backup, from = %other, error = %Chain(&error), hint = ?error.hint(), "cannot repair");
                }
            }
        }
        if !mended.is_empty() {
            self.lock_new(place, &checked.backup).await;
        }
        Ok(mended)
    }

    async fn record_proofs(
        &self,
        shard: &ShardKey,
        repository: RepositoryId,
        found: Found,
        who: &str,
    ) -> Result<(), Fault> {
        let Found { mut good, mut damaged } = found;
        while !good.is_empty() || !damaged.is_empty() {
            let (good, damaged) = (
                good.drain(..good.len().min(BACKUPS_IN_A_RECORD)).collect(),
                damaged.drain(..damaged.len().min(BACKUPS_IN_A_RECORD)).collect(),
            );
            let shard_name = shard.shard.clone();
            let body = RecordBody::Verified { shard: shard_name, repository, how: Proof::Stored, good, damaged };
            self.put_record(shard, who, None, body).await?;
        }
        Ok(())
    }
}
