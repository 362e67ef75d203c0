//! `urtext restore`: a plan that can be read before anything happens, then its execution, exactly.

mod choose;
mod target;
mod words;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tracing::info;
use urtext_planner::{Holder, Learned, MayHoldMore, Wish};
use urtext_proto::{RpcError, pb};
use urtext_repository::{BackupReader, RecordBody};
use urtext_types::{BackupId, ByteRate, ErrorKind, Evidence, ForkEdge, Keyspace, NodeName, Position, Timestamp};

use crate::{
    Fault,
    app::App,
    capture::wrong_result,
    catalog::{BackupEntry, TaskWork},
    clock::entropy,
    records::accepted_losses,
    shard::ShardKey,
    tasks::{Outcome, Task},
    verdict::HistoryPrefix,
};
pub use choose::canonical_backup;

pub use target::Target;

use choose::Chosen;
use words::steps;

/// A person reads a plan and says yes; after this long the world is another one.
const PLAN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Plans that wait for somebody to say yes.
const PLANS_REMEMBERED: usize = 100;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub shard: ShardKey,
    pub choice: Choice,
    /// `None` for plain files.
    pub to_node: Option<NodeName>,
    pub overwrite: bool,
    /// Why it is right to go on although something may hold more and cannot be asked.
    pub accept_loss: Option<String>,
    /// Only the plan is wanted.
    pub dry_run: bool,
    /// The backup is read no faster than this.
    pub limit: Option<ByteRate>,
    pub by: String,
}

/// Which copy.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The most complete one, not beyond a point if one is wished.
    Canonical(Wish),
    /// The most complete one of this branch, whatever was accepted.
    Branch(HistoryPrefix, Wish),
    Named(BackupId),
}

/// A loss that a person accepted.
#[derive(Debug, Clone)]
pub struct AcceptedLoss {
    pub reason: String,
    pub may_hold_more: Vec<MayHoldMore>,
}

/// A restore as it will be done.
#[derive(Debug, Clone)]
pub struct Plan {
    pub id: String,
    pub made_at: Timestamp,
    pub shard: ShardKey,
    pub backup: BackupEntry,
    /// The copy's keys per database: what the target must hold in the end.
    pub expected: BTreeMap<u32, Keyspace>,
    /// `None` for plain files, which the operator's own machine writes.
    pub target: Option<Target>,
    /// What was chosen and why.
    pub chosen: Vec<String>,
    pub steps: Vec<String>,
    pub warnings: Vec<String>,
    pub accepted_loss: Option<AcceptedLoss>,
    /// The backup is read no faster than this.
    pub limit: Option<ByteRate>,
}

/// Plans that were printed and not carried out yet.
#[derive(Debug, Default)]
pub struct Plans(Mutex<HashMap<String, Plan>>);

impl Plans {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Plan>> {
        self.0.lock().expect("nothing panics while it holds the plans")
    }

    fn add(&self, plan: Plan, now: Timestamp) {
        let mut plans = self.lock();
        plans.retain(|_, plan| now.since(plan.made_at) <= PLAN_LIFETIME);
        if plans.len() >= PLANS_REMEMBERED
            && let Some(oldest) = plans.values().min_by_key(|plan| plan.made_at).map(|plan| plan.id.clone())
        {
            plans.remove(&oldest);
        }
        plans.insert(plan.id.clone(), plan);
    }

    /// Takes a plan out, so that it is carried out once.
    pub fn take(&self, id: &str, now: Timestamp) -> Result<Plan, Fault> {
        let plan = self.lock().remove(id).filter(|plan| now.since(plan.made_at) <= PLAN_LIFETIME);
        plan.ok_or_else(|| {
            Fault::new(ErrorKind::Refused, "this plan has expired, or was carried out already")
                .with_hint("make a new one: run `urtext restore` again")
        })
    }
}

impl App {
    /// Resolves what to restore, checks every guard, and remembers the plan. Changes nothing.
    pub async fn plan_restore(&self, request: RestoreRequest) -> Result<Plan, Fault> {
        let RestoreRequest { shard, choice, to_node, overwrite, accept_loss, dry_run, limit, by } = request;
        self.look_again(&shard).await;
        let target = to_node.as_ref().map(|name| self.target_node(&shard, name)).transpose()?;
        let prefer_site = target.as_ref().map(|node| node.identity.site.clone());
        let mut warnings = Vec::new();
        let chosen = self.choose_backup(&shard, choice, prefer_site, accept_loss, &mut warnings).await?;
        let Chosen { entry, why, accepted_loss } = chosen;
        let reader = self.open_backup(&entry).await?;
        let now = self.clock.now();
        let target = match &target {
            None => None,
            Some(node) => Some(self.check_target(node, reader.manifest(), overwrite, now, &mut warnings)?),
        };
        if let Some(stale) = &entry.stale {
            warnings.push(format!("the backup was known to be old when it was taken: {stale}"));
        }
        // The plan for files is all that the coordinator hears of such a restore.
        if let (Some(loss), None, false) = (&accepted_loss, &target, dry_run) {
            if self.reads_only {
                warnings.push("that this loss was accepted is not on record: nothing is written here".to_owned());
            } else {
                self.record_loss(&shard, loss, &entry, "files", &by).await?;
            }
        }
        let plan = Plan {
            id: hex::encode(entropy::<16>()),
            made_at: now,
            shard,
            expected: reader.manifest().contents.databases.clone(),
            chosen: why,
            steps: steps(&entry, target.as_ref(), limit),
            backup: entry,
            target,
            warnings,
            accepted_loss,
            limit,
        };
        self.plans.add(plan.clone(), now);
        Ok(plan)
    }

    /// What is given up is on record before anything happens, and need not be accepted again.
    async fn record_loss(
        &self,
        shard: &ShardKey,
        loss: &AcceptedLoss,
        backup: &BackupEntry,
        to: &str,
        by: &str,
    ) -> Result<(), Fault> {
        let without: Vec<&str> = loss.may_hold_more.iter().map(|more| more.sentence.as_str()).collect();
        let nodes = loss.may_hold_more.iter().filter_map(|more| match &more.who {
            Holder::Node(node) => Some((node.clone(), more.position?)),
            Holder::Repository(_) => None,
        });
        let nodes: Vec<(NodeName, Position)> = nodes.collect();
        let body = RecordBody::AcceptedLoss {
            shard: shard.shard.clone(),
            backup: backup.id,
            restored: backup.position,
            nodes: nodes.clone(),
            subject: format!("backup {} to {to}, without asking what may hold more: {}", backup.id, without.join(" ")),
        };
        let record = self.put_record(shard, by, Some(loss.reason.clone()), body).await?;
        let losses = accepted_losses(backup.position, nodes, record.timestamp(), by, &loss.reason);
        self.histories.with(shard, |known| known.losses.extend(losses));
        Ok(())
    }

    /// The manifest, read and verified now.
    pub async fn open_backup(&self, entry: &BackupEntry) -> Result<BackupReader, Fault> {
        let key = entry.key();
        let attempt = || format!("open backup {}", entry.id);
        let mut first_fault = None;
        for place in self.places_with(Some(&key)).await? {
            let opened = async {
                let repository = place.open_if_it_answers().await?;
                let read = repository.read_backup(key.clone(), &self.verifier).await;
                read.map_err(Fault::while_doing(attempt()))
            };
            match opened.await {
                Ok(reader) => return Ok(reader),
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        let missing = || Fault::new(ErrorKind::NotFound, format!("{}: no repository has it", attempt()));
        Err(first_fault.unwrap_or_else(missing))
    }

    /// Gives the agent beside the target the task to restore.
    pub async fn give_restore(
        &self,
        plan: &Plan,
        target: &Target,
        sealed_identity: bytes::Bytes,
        by: &str,
    ) -> Result<Task, Fault> {
        let BackupEntry { deployment, shard, id, .. } = &plan.backup;
        if let Some(loss) = &plan.accepted_loss {
            let to = format!("node {}", target.agent.node);
            self.record_loss(&plan.shard, loss, &plan.backup, &to, by).await?;
        }
        let action = if target.keys > 0 { "restore over data" } else { "restore" };
        let body = RecordBody::Audit {
            action: action.to_owned(),
            subject: format!("backup {id} to node {}", target.agent.node),
        };
        self.put_record(&plan.shard, by, None, body).await?;
        let work =
            TaskWork::Restore { deployment: deployment.clone(), shard: shard.clone(), backup: *id, by: by.to_owned() };
        let message = pb::RestoreTask {
            backup: Some(pb::BackupKey {
                deployment: deployment.to_string(),
                shard: shard.to_string(),
                id: id.to_string(),
            }),
            sealed_identity,
            overwrite: target.overwrite,
            planned_target_keys: target.keys,
            direct: self.direct_to(&plan.backup).await?,
            download_bytes_per_second: plan.limit.map(ByteRate::get),
        };
        info!(backup = %id, agent = %target.agent, %by, "asked for a restore");
        self.give(&target.agent, work, pb::task::Work::Restore(message)).await
    }

    /// Where an agent reads the backup by itself: the best copy, if it is in a repository that agents reach.
    async fn direct_to(&self, entry: &BackupEntry) -> Result<Option<pb::DirectStore>, Fault> {
        let places = self.places_with(Some(&entry.key())).await?;
        let Some(place) = places.first().filter(|place| place.settings.direct.is_some()) else { return Ok(None) };
        // If it cannot be opened from here, the agent asks us, and we ask the others.
        Ok(place.open_unless_resting().await.ok().and_then(|repository| place.direct(&repository)))
    }

    /// A restore is done: the target's new history is a child of what was restored, if that is what was to
    /// be restored.
    pub async fn restored(&self, task: &Task, done: pb::RestoreDone) -> Result<Outcome, Fault> {
        let TaskWork::Restore { backup, by, .. } = &task.stored.work else {
            return Ok(Outcome::Failed(wrong_result(task)));
        };
        let restored = done.restored.clone().map(Position::try_from).transpose()?;
        let shard = ShardKey::of(&task.stored.agent);
        let node = &task.stored.agent.node;
        let entry = self.catalog.backup(*backup).await.map_err(Fault::while_doing("look up what was restored"))?;
        let planned = entry.and_then(|entry| entry.position);
        let name = |at: Option<Position>| at.map_or("no known position".to_owned(), |at| at.to_string());
        // An exact edge is believed for ever: it is not made from a report that does not fit.
        if restored != planned {
            let sentence = format!(
                "after the restore of backup {backup} the agent of node {node} reports {}, and the backup is at {}: \
                 nothing is recorded about the history under which {node} goes on",
                name(restored),
                name(planned)
            );
            let mut learned = Learned::default();
            if self.histories.with(&shard, |known| known.find(sentence.clone())) {
                learned.findings.push(sentence.clone());
            }
            self.keep(&shard, learned).await;
            let body = RecordBody::Audit {
                action: "restored something else".to_owned(),
                subject: format!("backup {backup} to node {node}, at {}, planned at {}", name(restored), name(planned)),
            };
            self.put_record(&shard, by, None, body).await?;
            let hint = format!("look at what {node} holds before clients come back");
            return Ok(Outcome::Failed(RpcError::new(ErrorKind::Integrity, sentence, Some(hint))));
        }
        if let Some(parent) = restored
            && !done.new_history.is_empty()
        {
            let child = urtext_proto::model::replication_id("restored.new_history", &done.new_history)?;
            if child != parent.history {
                let edge = ForkEdge { child, parent, evidence: Evidence::Restore };
                let learned = self.histories.with(&shard, |known| known.learn_edge(edge));
                self.keep(&shard, learned).await;
            }
        }
        let body = RecordBody::Audit {
            action: "restored".to_owned(),
            subject: format!("backup {backup} to node {node}, at {}", name(restored)),
        };
        self.put_record(&shard, by, None, body).await?;
        Ok(Outcome::Restored(Box::new(done)))
    }
}
