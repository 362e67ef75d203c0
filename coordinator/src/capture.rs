//! `urtext snapshot`: one backup, now.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::info;
use urtext_identity::AgentIdentity;
use urtext_planner::choose_nodes;
use urtext_proto::{RpcError, pb};
use urtext_repository::CaptureMethod;
use urtext_types::{
    BackupId, ByteRate, Chain, ErrorKind, Explain, NodeName, Offset, SiteName, TaskId, Timestamp, may_capture,
};

use crate::{
    Fault,
    app::App,
    catalog::{StoredTask, TaskWork},
    clock::entropy,
    fleet::{Node, Session},
    sessions::send,
    shard::{NodeKey, ShardKey},
    tasks::{Outcome, Task},
    verdict::seen,
};

/// How long a snapshot waits for its node to have applied `--at-least`.
const REACH_LIMIT: Duration = Duration::from_secs(300);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    pub shard: ShardKey,
    pub node: Option<NodeName>,
    pub site: Option<SiteName>,
    /// The agent chooses unless given.
    pub method: Option<CaptureMethod>,
    pub allow_stale: bool,
    pub at_least: Option<Offset>,
}

/// How an agent is to capture its node.
#[derive(Debug, Clone, Copy, Default)]
pub struct CaptureOrder {
    /// The agent chooses unless given.
    pub method: Option<CaptureMethod>,
    pub allow_stale: bool,
    /// The deployment's hooks run around it.
    pub hooked: bool,
    /// The run of the schedule that it belongs to.
    pub slot: Option<Timestamp>,
}

/// A snapshot that was given to an agent.
#[derive(Debug)]
pub struct Started {
    pub task: Task,
    pub backup: BackupId,
    pub agent: AgentIdentity,
    /// Why this node.
    pub reason: String,
}

impl App {
    /// Chooses the node, unless it is named, and gives its agent the task.
    pub async fn snapshot(self: &Arc<Self>, request: SnapshotRequest) -> Result<Started, Fault> {
        let (agent, reason) = self.choose(&request)?;
        if let Some(offset) = request.at_least {
            self.wait_until_reached(&agent, offset).await?;
        }
        let SnapshotRequest { method, allow_stale, .. } = request;
        let order = CaptureOrder { method, allow_stale, hooked: true, slot: None };
        self.begin_snapshot(&agent, order, reason).await
    }

    /// Runs the hook before a snapshot, gives the agent the task, and sees to the hooks after it.
    pub async fn begin_snapshot(
        self: &Arc<Self>,
        agent: &AgentIdentity,
        order: CaptureOrder,
        reason: String,
    ) -> Result<Started, Fault> {
        self.hook_before(agent).await?;
        let task = match self.give_capture(agent, order).await {
            Ok(task) => task,
            Err(fault) => {
                self.hook_never_begun(agent, &fault);
                return Err(fault);
            }
        };
        self.hook_when_ended(task.clone());
        let agent = agent.clone();
        let TaskWork::Capture { backup, .. } = task.stored.work else {
            return Err(Fault::new(ErrorKind::Internal, "a capture task is no capture task"));
        };
        info!(%agent, %backup, task = %task.stored.id, %reason, "asked for a snapshot");
        Ok(Started { task, backup, agent, reason })
    }

    fn choose(&self, request: &SnapshotRequest) -> Result<(AgentIdentity, String), Fault> {
        let SnapshotRequest { shard, node, site, allow_stale, .. } = request;
        let now = self.clock.now();
        let mut nodes = self.fleet.shard(shard);
        if let Some(name) = node {
            let Some(found) = nodes.into_iter().find(|node| node.identity.node == *name) else {
                return Err(self.unknown_node(shard, name));
            };
            if site.as_ref().is_some_and(|site| found.identity.site != *site) {
                let message = format!("node {name} is at site {}", found.identity.site);
                return Err(Fault::new(ErrorKind::Usage, message).with_hint("leave --site out"));
            }
            // What was last seen of it may be a second old: its agent looks again, and decides.
            self.session_of(&found, now)?;
            return Ok((found.identity, "It was asked for.".to_owned()));
        }
        if let Some(site) = site {
            nodes.retain(|node| node.identity.site == *site);
            if nodes.is_empty() {
                return Err(Fault::new(ErrorKind::NotFound, format!("{shard} has no node at site {site}")));
            }
        }
        let view = self.capture_view(shard, &nodes, now);
        let choices = choose_nodes(&view, &self.planner_policy(&shard.deployment, site.clone()), 1);
        if let Some(choice) = choices.iter().find(|choice| choice.chosen)
            && let Some(node) = nodes.iter().find(|node| node.identity.node == choice.node)
        {
            return Ok((node.identity.clone(), choice.reason.clone()));
        }
        // With one node, say what is the matter with it; with several, each with its reason.
        if let [only] = nodes.as_slice() {
            self.check_capture(only, *allow_stale, now)?;
        }
        let reasons = choices.iter().map(|choice| format!("{}: {}", choice.node, choice.reason));
        let silent = nodes
            .iter()
            .filter(|node| node.seen.is_none())
            .map(|node| format!("{}: It was never seen.", node.identity.node));
        let reasons: Vec<String> = reasons.chain(silent).collect();
        Err(Fault::new(
            ErrorKind::Unavailable,
            format!("no node of {shard} can be captured now. {}", reasons.join(" ")),
        )
        .with_hint("`urtext status` shows the nodes; --allow-stale with --node takes an old copy knowingly"))
    }

    /// What is seen of these nodes, and what is known of their histories: what the choice is made by.
    pub fn capture_view(&self, shard: &ShardKey, nodes: &[Node], now: Timestamp) -> urtext_planner::ShardView {
        let known = self.histories.of(shard);
        urtext_planner::ShardView {
            deployment: shard.deployment.clone(),
            shard: shard.shard.clone(),
            heads: known.heads(),
            ended: known.ended(),
            timeline: known.timeline,
            repositories: self.repositories.seen(),
            lineage: known.lineage,
            contradictions: known.contradictions,
            accepted: known.decisions,
            losses: known.losses,
            candidates: Vec::new(),
            nodes: nodes.iter().filter_map(|node| seen(node, now)).collect(),
            vouched: std::collections::BTreeSet::new(),
            now,
        }
    }

    /// Whether this node can be captured now.
    fn check_capture(&self, node: &Node, allow_stale: bool, now: Timestamp) -> Result<(), Fault> {
        let name = &node.identity.node;
        self.session_of(node, now)?;
        if let Some(trouble) = &node.trouble {
            let error = RpcError::from(trouble.clone());
            return Err(Fault::while_doing(format!("node {name} cannot be captured: its server is in trouble"))(error));
        }
        let Some(seen) = &node.seen else {
            let message = format!("node {name} cannot be captured: its server was never seen");
            return Err(Fault::new(ErrorKind::Unavailable, message));
        };
        let max_link_down = self.settings.policy(&node.identity.deployment).max_link_down;
        may_capture(&seen.observation, allow_stale, max_link_down)
            .map_err(Fault::while_doing(format!("node {name} cannot be captured")))
    }

    /// The live session of a node's agent.
    pub fn session_of<'a>(&self, node: &'a Node, now: Timestamp) -> Result<&'a Session, Fault> {
        node.live_session(now).ok_or_else(|| {
            let when = node.last_seen.map_or("it was never seen".to_owned(), |at| format!("last seen at {at}"));
            let message = format!("the agent of node {} is not connected; {when}", node.identity.node);
            Fault::new(ErrorKind::Unavailable, message)
                .with_hint("is `urtext-agent run` running on its host, and can it reach this coordinator?")
        })
    }

    pub fn unknown_node(&self, shard: &ShardKey, name: &NodeName) -> Fault {
        let names: Vec<String> =
            self.fleet.shard(shard).into_iter().map(|node| node.identity.node.to_string()).collect();
        Fault::new(ErrorKind::NotFound, format!("{shard} has no node {name}"))
            .with_hint(format!("it has: {}", names.join(", ")))
    }

    async fn wait_until_reached(&self, agent: &AgentIdentity, offset: Offset) -> Result<(), Fault> {
        let key = NodeKey::of(agent);
        let reached = async {
            loop {
                let node = self.fleet.node(&key);
                let at = node.and_then(|node| Some(node.seen?.observation.position()?.offset));
                if at.is_some_and(|at| at >= offset) {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(REACH_LIMIT, reached).await.map_err(|_| {
            let message = format!("node {} did not reach offset {offset} within {REACH_LIMIT:?}", agent.node);
            Fault::new(ErrorKind::Unavailable, message)
        })
    }

    /// Gives an agent the task to capture its node, under a new id.
    pub async fn give_capture(&self, agent: &AgentIdentity, order: CaptureOrder) -> Result<Task, Fault> {
        let CaptureOrder { method, allow_stale, hooked, slot } = order;
        let place = self.repositories.for_site(&agent.site)?;
        let repository = place.open().await?;
        let recipients = repository.recipients(&self.verifier).await;
        let recipients = recipients.map_err(Fault::while_doing("find out to whom the backup is sealed"))?;
        let now = self.clock.now();
        let backup = BackupId::new(now, entropy());
        let work = TaskWork::Capture { backup, hooked, slot };
        let message = pb::CaptureTask {
            backup: Some(pb::BackupKey {
                deployment: agent.deployment.to_string(),
                shard: agent.shard.to_string(),
                id: backup.to_string(),
            }),
            method: capture_method(method).into(),
            allow_stale,
            max_link_down_seconds: self.settings.policy(&agent.deployment).max_link_down.as_secs(),
            recipients: recipients.iter().map(ToString::to_string).collect(),
            direct: place.direct(&repository),
            upload_bytes_per_second: self.upload_share(place).map(ByteRate::get),
        };
        let given = self.give(agent, work, pb::task::Work::Capture(message)).await;
        self.share_uploads();
        given
    }

    /// Records a task and sends it.
    pub async fn give(&self, agent: &AgentIdentity, work: TaskWork, message: pb::task::Work) -> Result<Task, Fault> {
        let now = self.clock.now();
        let node = self.fleet.node(&NodeKey::of(agent));
        let node = node.ok_or_else(|| Fault::new(ErrorKind::NotFound, format!("there is no agent {agent}")))?;
        let session = self.session_of(&node, now)?;
        let id = TaskId::new(now, entropy());
        let boot_id = Some(session.boot_id.clone());
        let stored = StoredTask { id, agent: agent.clone(), work, boot_id, given_at: now };
        self.catalog.add_task(&stored).await.map_err(Fault::while_doing("keep a task"))?;
        let message = pb::Task { id: id.to_string(), work: Some(message) };
        let task = Task::new(stored, Some(message.clone()));
        self.tasks.add(task.clone());
        if let Err(fault) = send(&session.outbox, pb::coordinator_message::Message::Task(message)) {
            let failure = RpcError::new(fault.kind(), Chain(&fault).to_string(), fault.hint());
            self.end_task(&task, Outcome::Failed(failure)).await;
            return Err(fault);
        }
        Ok(task)
    }

    /// What an agent's "done" comes to: nothing is done that the repository does not have.
    pub async fn captured(&self, task: &Task) -> Result<Outcome, Fault> {
        let TaskWork::Capture { backup, .. } = task.stored.work else {
            return Ok(Outcome::Failed(wrong_result(task)));
        };
        let entry = self.catalog.backup(backup).await.map_err(Fault::while_doing("look up a backup"))?;
        Ok(entry.map_or_else(
            || {
                let message = format!("the agent says that backup {backup} is done, but it is not committed");
                Outcome::Failed(RpcError::new(ErrorKind::Internal, message, None))
            },
            |entry| Outcome::Committed(Box::new(entry)),
        ))
    }
}

/// An agent that answers one question with the answer to another.
pub fn wrong_result(task: &Task) -> RpcError {
    RpcError::new(ErrorKind::Internal, format!("the agent's result is none of a {}", task.what()), None)
}

fn capture_method(method: Option<CaptureMethod>) -> pb::CaptureMethod {
    match method {
        None => pb::CaptureMethod::Unspecified,
        Some(CaptureMethod::Replication) => pb::CaptureMethod::Replication,
        Some(CaptureMethod::File) => pb::CaptureMethod::File,
    }
}
