//! One run. Snapshots are of the nodes that the planner chooses, as many as the policy asks for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_planner::{Choice, Tried, choose_copies};
use urtext_proto::RpcError;
use urtext_types::{Chain, ErrorKind, SiteName, Timestamp};

use super::{Begin, queue::turn_of};
use crate::{
    Fault,
    app::App,
    capture::CaptureOrder,
    catalog::{Job, JobKey, RunCapture},
    shard::{NodeKey, ShardKey},
    tasks::{Outcome, Task},
};

/// A snapshot whose agent has been gone for so long is not waited for: another node may be better.
const GONE_FOR: Duration = Duration::from_secs(60);

/// How often it is looked whether the agent of a snapshot is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Carries out a run that is remembered as begun, and remembers its end.
pub(super) async fn run(app: Arc<App>, key: JobKey, begin: Begin) {
    let ended = app.carry_out_run(&key, &begin).await;
    if app.stop.is_cancelled() {
        return app.leave_run(&key);
    }
    let ended = ended.map_err(|fault| Chain(&fault).to_string());
    match &ended {
        Ok(outcome) => info!(job = %key, slot = %begin.slot, ?outcome, "a scheduled run is done"),
        Err(failure) => warn!(job = %key, slot = %begin.slot, %failure, "a scheduled run failed; trying again"),
    }
    app.end_run(&key, ended).await;
}

impl App {
    async fn carry_out_run(self: &Arc<Self>, key: &JobKey, begin: &Begin) -> Result<Option<String>, Fault> {
        match (key.job, &key.shard) {
            (Job::Snapshot, Some(shard)) => {
                let shard = ShardKey::new(key.deployment.clone(), shard.clone());
                self.take_snapshots(&shard, begin).await.map(|()| None)
            }
            (Job::Snapshot, None) => Err(Fault::new(ErrorKind::Internal, "a scheduled snapshot of no shard")),
            (Job::Verify, _) => self.verify_by_schedule(&key.deployment).await,
            (Job::Prune, _) => self.prune_by_schedule(&key.deployment).await,
            (Job::Sync, _) => self.sync_by_schedule(&key.deployment).await,
            (Job::Lock, _) => self.lock_by_schedule(&key.deployment).await,
            (Job::Rehearse, _) => self.rehearse_by_schedule(&key.deployment).await,
        }
    }
}

impl App {
    async fn take_snapshots(self: &Arc<Self>, shard: &ShardKey, begin: &Begin) -> Result<(), Fault> {
        let copies = self.settings.policy(&shard.deployment).schedule.copies;
        let mut faults = Vec::new();
        let mut sites = BTreeSet::new();
        let tried = self.tried_before(shard, begin, &mut sites).await?;
        let (choices, agents) = self.choose_for_run(shard, copies, &tried);
        let taken = join_all(agents.iter().map(|(agent, reason)| self.take_one(agent, reason, begin.slot))).await;
        for ((agent, _), taken) in agents.iter().zip(taken) {
            match taken {
                Ok(()) => {
                    sites.insert(agent.site.clone());
                }
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() && sites.len() >= copies {
            return Ok(());
        }
        let lacking = match sites.len() {
            0 => "no node was captured".to_owned(),
            taken => format!("{taken} of {copies} copies were taken"),
        };
        if faults.is_empty() {
            let reasons = choices.iter().filter(|choice| !choice.chosen);
            let reasons: Vec<String> = reasons.map(|choice| format!("{}: {}", choice.node, choice.reason)).collect();
            let no_other = if sites.is_empty() { "none can be now" } else { "no other site has a node that can be" };
            let message = format!("{lacking}: {no_other}. {}", reasons.join(" "));
            return Err(Fault::new(ErrorKind::Unavailable, message));
        }
        let reasons: Vec<String> = faults.iter().map(|fault| Chain(fault).to_string()).collect();
        Err(Fault::new(urtext_types::Explain::kind(&faults[0]), format!("{lacking}: {}", reasons.join("; "))))
    }

    /// What earlier attempts at this run came to. Those that another coordinator left are waited for.
    async fn tried_before(
        self: &Arc<Self>,
        shard: &ShardKey,
        begin: &Begin,
        sites: &mut BTreeSet<SiteName>,
    ) -> Result<Tried, Fault> {
        let captures = self.catalog.run_captures(shard, begin.slot, begin.begun_at).await;
        let captures = captures.map_err(Fault::while_doing("look up the snapshots of a scheduled run"))?;
        let mut tried = Tried::default();
        for capture in captures {
            if self.has_succeeded(&capture).await {
                sites.insert(capture.site);
                tried.captured.insert(capture.node);
            } else {
                tried.failed.insert(capture.node);
            }
        }
        Ok(tried)
    }

    async fn has_succeeded(&self, capture: &RunCapture) -> bool {
        if capture.ended_at.is_some() {
            return capture.is_committed();
        }
        match self.tasks.get(capture.task) {
            Some(task) => self.until_committed(&task).await.is_ok(),
            // Ended while it was looked up.
            None => matches!(self.catalog.backup(capture.backup).await, Ok(Some(_))),
        }
    }

    /// The nodes that a run captures, each with the reason; and why not the others.
    pub(super) fn choose_for_run(
        &self,
        shard: &ShardKey,
        copies: usize,
        tried: &Tried,
    ) -> (Vec<Choice>, Vec<(AgentIdentity, String)>) {
        let now = self.clock.now();
        let nodes = self.fleet.shard(shard);
        let view = self.capture_view(shard, &nodes, now);
        let choices = choose_copies(&view, &self.planner_policy(&shard.deployment, None), copies, tried);
        let chosen = choices.iter().filter(|choice| choice.chosen).filter_map(|choice| {
            let node = nodes.iter().find(|node| node.identity.node == choice.node)?;
            Some((node.identity.clone(), choice.reason.clone()))
        });
        let chosen = chosen.collect();
        (choices, chosen)
    }

    async fn take_one(self: &Arc<Self>, agent: &AgentIdentity, reason: &str, slot: Timestamp) -> Result<(), Fault> {
        let key = NodeKey::of(agent);
        let gone = || Fault::new(ErrorKind::NotFound, format!("there is no agent {agent}"));
        let turn = turn_of(&self.fleet.node(&key).ok_or_else(gone)?);
        let Some(_place) = self.stop.run_until_cancelled(self.take_turn(turn)).await else {
            return Err(Fault::new(ErrorKind::Unavailable, "the coordinator is stopping"));
        };
        let order = CaptureOrder { method: None, allow_stale: false, hooked: true, slot: Some(slot) };
        let started = self.begin_snapshot(agent, order, reason.to_owned()).await?;
        self.until_committed(&started.task).await
    }

    /// Waits for the end of a snapshot, unless its agent stays away.
    async fn until_committed(&self, task: &Task) -> Result<(), Fault> {
        let mut watch = task.watch();
        let node = &task.stored.agent.node;
        let mut gone = Duration::ZERO;
        loop {
            let outcome = watch.borrow_and_update().outcome.clone();
            match outcome {
                Some(Outcome::Committed(_)) => return Ok(()),
                Some(Outcome::Failed(error)) => {
                    return Err(Fault::while_doing::<RpcError>(format!("snapshot of {node}"))(error));
                }
                Some(Outcome::Restored(_)) => {
                    return Err(Fault::new(ErrorKind::Internal, "a snapshot ended as a restore"));
                }
                None => {}
            }
            if gone >= GONE_FOR {
                let message = format!("snapshot of {node}: its agent has been gone for {} s", GONE_FOR.as_secs());
                return Err(Fault::new(ErrorKind::Unavailable, message));
            }
            tokio::select! {
                changed = watch.changed() => if changed.is_err() {
                    return Err(Fault::new(ErrorKind::Internal, "the task was forgotten while it was waited for"));
                },
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let node = self.fleet.node(&NodeKey::of(&task.stored.agent));
                    let is_there = node.is_some_and(|node| node.live_session(self.clock.now()).is_some());
                    gone = if is_there { Duration::ZERO } else { gone + LOOK_EVERY };
                }
                () = self.stop.cancelled() => {
                    return Err(Fault::new(ErrorKind::Unavailable, "the coordinator is stopping"));
                }
            }
        }
    }
}
