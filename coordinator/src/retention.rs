//! Which backups stay, in each repository by its own copies; and what operators say about that: holds, and
//! branches that they let go of.
//!
//! Both are records, and are read from the repositories whenever they are needed: who deletes must not go by what
//! was known a while ago.

use std::collections::BTreeMap;

use chrono::Utc;
use urtext_planner::{Held, LetGo, Retention, RetentionView, Standing, StoredBackup, Verified, retention};
use urtext_repository::{Record, RecordBody, RecordKind};
use urtext_types::{
    BackupId, ByteCount, DeploymentName, ErrorKind, RecordId, ReplicationId, RepositoryName, ShardName,
};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, CopyState},
    shard::ShardKey,
    verdict::{Ask, HistoryPrefix, Judgement},
};

/// What becomes of a shard's backups in one repository.
#[derive(Debug)]
pub struct Retained {
    pub repository: RepositoryName,
    pub shard: ShardKey,
    pub retention: Retention,
}

/// What operators have said about a shard's backups.
#[derive(Debug, Default)]
pub struct Orders {
    pub holds: Vec<Held>,
    pub let_go: Vec<LetGo>,
}

impl App {
    /// What would stay and what would go, shard by shard and repository by repository: after a look at every
    /// repository, for whoever goes by it.
    ///
    /// # Errors
    /// The repositories cannot be compared with the catalog, or a record that may say that something stays
    /// cannot be read.
    pub async fn retention(&self, deployment: Option<&DeploymentName>) -> Result<Vec<Retained>, Fault> {
        self.reconcile(deployment).await?;
        self.retention_known(deployment).await
    }

    /// The same by what the catalog knows of the backups.
    pub async fn retention_known(&self, deployment: Option<&DeploymentName>) -> Result<Vec<Retained>, Fault> {
        let shards = self.shards(deployment);
        if let Some(deployment) = deployment.filter(|_| shards.is_empty()) {
            return Err(self.unknown_deployment(deployment));
        }
        let mut all = Vec::new();
        let mut orders: Option<(&DeploymentName, BTreeMap<ShardName, Orders>)> = None;
        for shard in &shards {
            let judgement = self.judge_known(shard, &Ask::default()).await?;
            // Once for all shards of a deployment, which follow each other.
            if orders.as_ref().is_none_or(|(of, _)| **of != shard.deployment) {
                orders = Some((&shard.deployment, self.orders_of(&shard.deployment).await?));
            }
            let orders = orders.as_mut().and_then(|(_, orders)| orders.remove(&shard.shard)).unwrap_or_default();
            let policy = &self.settings.policy(&shard.deployment).retention;
            for place in self.repositories.iter() {
                let view = view(&judgement, place.name(), &orders);
                if !view.backups.is_empty() {
                    let retention = retention(&view, policy, &Utc);
                    all.push(Retained { repository: place.name().clone(), shard: shard.clone(), retention });
                }
            }
        }
        Ok(all)
    }

    /// What holds now.
    pub async fn orders(&self, shard: &ShardKey) -> Result<Orders, Fault> {
        Ok(self.orders_of(&shard.deployment).await?.remove(&shard.shard).unwrap_or_default())
    }

    /// What holds now in all shards of a deployment.
    async fn orders_of(&self, deployment: &DeploymentName) -> Result<BTreeMap<ShardName, Orders>, Fault> {
        let mut orders: BTreeMap<ShardName, Orders> = BTreeMap::new();
        for record in self.read_orders(deployment, RecordKind::Hold).await? {
            let Record { who: by, at, reason, body, .. } = record;
            if let RecordBody::Hold { shard, backup, released } = body {
                let holds = &mut orders.entry(shard).or_default().holds;
                holds.retain(|held| held.backup != backup);
                if !released {
                    holds.push(Held { backup, by, at, reason: reason.unwrap_or_default() });
                }
            }
        }
        for record in self.read_orders(deployment, RecordKind::LetGo).await? {
            let Record { who: by, at, reason, body, .. } = record;
            if let RecordBody::LetGo { shard, history } = body {
                let let_go = LetGo { history, by, at, reason: reason.unwrap_or_default() };
                orders.entry(shard).or_default().let_go.push(let_go);
            }
        }
        Ok(orders)
    }

    /// Records of one kind, oldest first. One that cannot be read may be the one that matters.
    async fn read_orders(&self, deployment: &DeploymentName, kind: RecordKind) -> Result<Vec<Record>, Fault> {
        let attempt = || "read what operators say about backups".to_owned();
        let records = self.records(deployment, kind).await?;
        records.into_iter().collect::<Result<_, _>>().map_err(Fault::while_doing(attempt()))
    }

    /// Every backup that is on hold.
    pub async fn holds(&self, deployment: Option<&DeploymentName>) -> Result<Vec<(ShardKey, Held)>, Fault> {
        let mut all = Vec::new();
        let mut deployments: Vec<_> = self.shards(deployment).into_iter().map(|shard| shard.deployment).collect();
        deployments.dedup();
        for deployment in deployments {
            for (shard, orders) in self.orders_of(&deployment).await? {
                let shard = ShardKey::new(deployment.clone(), shard);
                all.extend(orders.holds.into_iter().map(|held| (shard.clone(), held)));
            }
        }
        Ok(all)
    }

    /// Records that an operator wants a backup to stay, or no longer.
    pub async fn hold(&self, backup: BackupId, released: bool, reason: String, by: &str) -> Result<RecordId, Fault> {
        check_reason(&reason, if released { "to release a backup" } else { "to hold a backup" })?;
        let attempt = || "look up a backup".to_owned();
        let known = match self.catalog.backup(backup).await.map_err(Fault::while_doing(attempt()))? {
            Some(entry) => Some(entry),
            None => {
                self.reconcile(None).await?;
                self.catalog.backup(backup).await.map_err(Fault::while_doing(attempt()))?
            }
        };
        let Some(BackupEntry { deployment, shard, .. }) = known else {
            return Err(Fault::new(ErrorKind::NotFound, format!("there is no backup {backup}"))
                .with_hint("`urtext backups` lists them"));
        };
        let shard = ShardKey::new(deployment, shard);
        let is_held = self.orders(&shard).await?.holds.iter().any(|held| held.backup == backup);
        if released && !is_held {
            return Err(Fault::new(ErrorKind::NotFound, format!("backup {backup} is not on hold"))
                .with_hint("`urtext hold list` shows what is"));
        }
        let body = RecordBody::Hold { shard: shard.shard.clone(), backup, released };
        // Nothing may be deleted between the look at the holds and the deletion.
        let _not_while_pruning = self.pruning.lock().await;
        self.put_record(&shard, by, Some(reason), body).await
    }

    /// Records that a branch which was set aside need not stay.
    pub async fn let_go(
        &self,
        shard: &ShardKey,
        history: &HistoryPrefix,
        reason: String,
        by: &str,
    ) -> Result<(ReplicationId, RecordId), Fault> {
        check_reason(&reason, "to let go of a branch")?;
        let judgement = self.judge(shard, &Ask::default()).await?;
        let history = self.resolve_history(&judgement, history)?;
        let is_aside = judgement.selection.candidates.iter().any(|judged| {
            let position = judgement.view.candidates[judged.candidate].position;
            judged.set_aside
                && position.is_some_and(|at| judgement.view.lineage.path(at).any(|at| at.history == history))
        });
        if !is_aside {
            let message = format!("no backup of {shard} is set aside on a branch of history {}", history.short());
            return Err(Fault::new(ErrorKind::Refused, message).with_hint(format!(
                "`urtext accept-lineage {}` sets branches aside; `urtext retention {}` shows which are",
                shard.deployment, shard.deployment
            )));
        }
        let body = RecordBody::LetGo { shard: shard.shard.clone(), history };
        let record = self.put_record(shard, by, Some(reason), body).await?;
        Ok((history, record))
    }
}

fn check_reason(reason: &str, what: &str) -> Result<(), Fault> {
    if reason.trim().is_empty() {
        return Err(Fault::new(ErrorKind::Usage, format!("{what} needs a reason"))
            .with_hint("say why with --reason: it is kept for ever"));
    }
    Ok(())
}

/// The backups of one repository, as its own copies stand.
fn view(judgement: &Judgement, repository: &RepositoryName, orders: &Orders) -> RetentionView {
    let Judgement { shard, view, selection, backups, .. } = judgement;
    let stored = backups.iter().enumerate().filter_map(|(i, entry)| {
        let copy = entry.copies.get(repository)?;
        // Backups are the first candidates, in the same order.
        let judged = &selection.candidates[i];
        Some(StoredBackup {
            id: entry.id,
            node: entry.node.clone(),
            position: entry.position,
            run_id: entry.run_id.clone(),
            received_at: entry.received_at,
            bytes: ByteCount::new(entry.stored_bytes),
            verified: proved(copy),
            damaged: copy.damaged.clone().or_else(|| copy.broken.clone()),
            unreadable: copy.unreadable.clone(),
            suspect: judged.standing == Standing::Suspect,
            set_aside: judged.set_aside,
        })
    });
    let ShardKey { deployment, shard: name } = shard;
    let (deployment, name): (DeploymentName, ShardName) = (deployment.clone(), name.clone());
    RetentionView {
        deployment,
        shard: name,
        lineage: view.lineage.clone(),
        contradictions: view.contradictions.clone(),
        accepted: view.accepted.clone(),
        backups: stored.collect(),
        canonical: judgement.canonical().map(|entry| entry.id),
        holds: orders.holds.clone(),
        let_go: orders.let_go.clone(),
        now: view.now,
    }
}

fn proved(copy: &CopyState) -> Verified {
    match copy {
        CopyState { rehearsed_at: Some(_), .. } => Verified::Rehearsed,
        CopyState { verified_at: Some(_), .. } => Verified::Stored,
        _ => Verified::Never,
    }
}
