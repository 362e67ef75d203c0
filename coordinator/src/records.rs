//! Records: what the repository keeps for ever beside the backups. Forks and decisions are recalled from it
//! whenever a coordinator starts, so that one that has only the repository learns the same.

mod recall;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicI64, Ordering},
};

use futures::TryStreamExt;
use tracing::{info, warn};
use urtext_repository::{Location, ObjectName, ObjectPrefix, Record, RecordBody, RecordError, RecordKind};
use urtext_types::{BackupId, Chain, DeploymentName, ErrorKind, Explain, RecordId, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{KnownEdge, Vouch},
    clock::entropy,
    repositories::Place,
    shard::ShardKey,
};

pub(crate) use recall::accepted_losses;
pub use recall::{Recalled, Recollection};

/// The time of the last record: ids sort by time, and records must sort in the order in which they were made.
#[derive(Debug, Default)]
pub struct RecordClock(AtomicI64);

impl RecordClock {
    /// A time for the next record: `now`, or a millisecond after the record before it.
    fn tick(&self, now: Timestamp) -> Timestamp {
        let next = |last: i64| Some(now.as_millis().max(last.saturating_add(1)));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        Timestamp::from_millis(next(last.unwrap_or_else(|last| last)).unwrap_or(now.as_millis()))
    }
}

impl App {
    /// A deployment's records of one kind from all repositories that answer, oldest first, each once: a record
    /// that one of them gives back well is good, whatever another has.
    ///
    /// # Errors
    /// No repository answers.
    pub(crate) async fn records(
        &self,
        deployment: &DeploymentName,
        kind: RecordKind,
    ) -> Result<Vec<Result<Record, RecordError>>, Fault> {
        let mut all: BTreeMap<ObjectName, Result<Record, RecordError>> = BTreeMap::new();
        let (mut answered, mut first_fault) = (false, None);
        for place in self.repositories.iter() {
            let read = async {
                let repository = place.open_if_it_answers().await?;
                let read = repository.records(deployment, kind).await;
                read.map_err(Fault::while_doing("read the records of the repository"))
            };
            match read.await {
                Ok(records) => {
                    answered = true;
                    for record in records {
                        let name = match &record {
                            Ok(record) => record.name(),
                            Err(error) => error.object().clone(),
                        };
                        if record.is_ok() || !all.contains_key(&name) {
                            all.insert(name, record);
                        }
                    }
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        match first_fault {
            Some(fault) if !answered => Err(fault),
            _ => Ok(all.into_values().collect()),
        }
    }

    /// Every deployment that has records in a repository that answers.
    ///
    /// # Errors
    /// No repository answers.
    pub async fn recorded_deployments(&self) -> Result<Vec<DeploymentName>, Fault> {
        let (mut names, mut answered, mut first_fault) = (BTreeSet::new(), false, None);
        for place in self.repositories.iter() {
            match record_names(place).await {
                Ok(found) => {
                    answered = true;
                    names.extend(found);
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        if let Some(fault) = first_fault.filter(|_| !answered) {
            return Err(fault);
        }
        let deployments: BTreeSet<DeploymentName> = names.iter().filter_map(deployment_of).collect();
        Ok(deployments.into_iter().collect())
    }

    /// Brings every record into every repository, after one of them had been down, or was added.
    pub async fn spread_records(&self) {
        if self.repositories.iter().count() < 2 || !self.records_to_spread.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Err(fault) = self.spread_all_records().await {
            self.records_to_spread.store(true, Ordering::Relaxed);
            info!(error = %Chain(&fault), "not every record is in every repository yet; trying again");
        }
    }

    async fn spread_all_records(&self) -> Result<(), Fault> {
        let mut held = Vec::new();
        for place in self.repositories.iter() {
            held.push((place, record_names(place).await?));
        }
        for (from, names) in &held {
            let source = from.open().await?;
            for (to, there) in &held {
                let target = to.open().await?;
                for name in names.difference(there) {
                    let bytes = source.store().get(name).await.map_err(Fault::while_doing("copy a record"))?;
                    target.store().put_new(name, bytes).await.map_err(Fault::while_doing("copy a record"))?;
                }
            }
        }
        Ok(())
    }

    /// Writes the records of statements about forks that have none yet.
    pub async fn record_edges(&self) -> Result<(), Fault> {
        let unrecorded = self.catalog.unrecorded_edges().await.map_err(Fault::while_doing("look for new forks"))?;
        for (shard, edge) in unrecorded {
            let body = RecordBody::LineageEdge { shard: shard.shard.clone(), edge };
            self.put_record(&shard, "coordinator", None, body).await?;
            self.catalog
                .put_edge(&shard, KnownEdge { edge, recorded: true })
                .await
                .map_err(Fault::while_doing("keep a fork"))?;
        }
        Ok(())
    }

    /// Keeps a record in every repository that answers; the others get it later.
    ///
    /// # Errors
    /// No repository took it.
    pub async fn put_record(
        &self,
        shard: &ShardKey,
        who: &str,
        reason: Option<String>,
        body: RecordBody,
    ) -> Result<RecordId, Fault> {
        let at = self.record_clock.tick(self.clock.now());
        let id = RecordId::new(at, entropy());
        let record = Record {
            format_version: urtext_repository::FORMAT_VERSION,
            id,
            deployment: shard.deployment.clone(),
            who: who.to_owned(),
            at,
            reason,
            body,
        };
        let record = &record;
        let puts = self.repositories.iter().map(|place| async move {
            let repository = place.open_if_it_answers().await?;
            let put = repository.put_record(record).await;
            put.map_err(Fault::while_doing("keep a record in the repository"))
        });
        let (mut is_kept, mut first_fault) = (false, None);
        for put in futures::future::join_all(puts).await {
            match put {
                Ok(_) => is_kept = true,
                Err(fault) => {
                    self.records_to_spread.store(true, Ordering::Relaxed);
                    first_fault = first_fault.or(Some(fault));
                }
            }
        }
        match first_fault {
            Some(fault) if !is_kept => Err(fault),
            _ => Ok(id),
        }
    }

    /// Records that an operator has looked at a backup and says that it is right.
    pub async fn vouch(
        &self,
        shard: &ShardKey,
        backup: BackupId,
        reason: String,
        by: String,
    ) -> Result<RecordId, Fault> {
        if reason.trim().is_empty() {
            return Err(Fault::new(ErrorKind::Usage, "to vouch for a backup needs a reason")
                .with_hint("say why it is right with --reason: it is kept for ever"));
        }
        self.reconcile(Some(&shard.deployment)).await?;
        let entry = self.catalog.backup(backup).await.map_err(Fault::while_doing("look up a backup"))?;
        if entry.is_none_or(|entry| (entry.deployment, entry.shard) != (shard.deployment.clone(), shard.shard.clone()))
        {
            return Err(Fault::new(ErrorKind::NotFound, format!("{shard} has no backup {backup}"))
                .with_hint(format!("`urtext backups {}` lists them", shard.deployment)));
        }
        let body = RecordBody::Vouch { shard: shard.shard.clone(), backup };
        let record = self.put_record(shard, &by, Some(reason.clone()), body).await?;
        let vouch = Vouch { record, backup, by, at: record.timestamp(), reason };
        let kept = self.catalog.put_vouch(shard, &vouch).await;
        kept.map_err(Fault::while_doing("keep what an operator vouches for"))?;
        Ok(record)
    }

    /// What was decided, newest first: who, when, what, and why.
    pub async fn audit(&self, deployment: Option<&DeploymentName>) -> Result<Vec<Record>, Fault> {
        let deployments = match deployment {
            Some(deployment) => vec![deployment.clone()],
            None => self.recorded_deployments().await?,
        };
        let mut records = Vec::new();
        for deployment in &deployments {
            for kind in RecordKind::ALL.into_iter().filter(|kind| *kind != RecordKind::LineageEdge) {
                let read = self.records(deployment, kind).await;
                for record in read.map_err(Fault::while_doing("read the audit"))? {
                    match record {
                        Ok(record) => records.push(record),
                        // Half an audit is none.
                        Err(error) if error.kind() == ErrorKind::Unavailable => {
                            return Err(Fault::while_doing("read the audit")(error));
                        }
                        Err(error) => warn!(%deployment, error = %Chain(&error), "a record cannot be read"),
                    }
                }
            }
        }
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.id));
        Ok(records)
    }
}

/// The names of all records of one repository.
async fn record_names(place: &Place) -> Result<BTreeSet<ObjectName>, Fault> {
    let prefix: ObjectPrefix = "records".parse().expect("a valid prefix");
    let repository = place.open_if_it_answers().await?;
    let listed = repository.store().list(&prefix).map_ok(|object| object.name);
    let names: BTreeSet<ObjectName> =
        listed.try_collect().await.map_err(Fault::while_doing("list the records of the repository"))?;
    Ok(names.into_iter().filter(|name| deployment_of(name).is_some()).collect())
}

/// Whose record it is; `None` for what is no record.
fn deployment_of(name: &ObjectName) -> Option<DeploymentName> {
    match Location::parse(name) {
        Some(Location::Record { deployment, .. }) => Some(deployment),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_millisecond_sort_in_the_order_in_which_they_were_made() {
        let clock = RecordClock::default();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let times = [now, now, now.plus(std::time::Duration::from_millis(1)), now].map(|now| clock.tick(now));
        assert!(times.is_sorted() && times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert_eq!(times[0], now);
    }
}
