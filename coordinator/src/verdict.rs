//! What the planner is asked, and what it answers, for one shard.

use std::collections::BTreeSet;

use urtext_identity::AgentIdentity;
use urtext_planner::{
    AcceptedLineage, Candidate, NodeSeen, Policy, Selection, ShardView, Source, Wish, select, set_aside_by,
};
use urtext_rdb::{ServerVersion, loadable_by};
use urtext_repository::RecordBody;
use urtext_types::{
    ByteCount, DeploymentName, Engine, ErrorKind, NodeName, RecordId, Relation, ReplicationId, RepositoryName,
    ShardName, SiteName, Timestamp,
};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, Decision, Vouch},
    fleet::Node,
    settings::OnFork,
    shard::ShardKey,
};

/// What is asked about a shard, beyond "which is the most complete copy".
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Breaks ties between equal copies.
    pub prefer_site: Option<SiteName>,
    pub wish: Wish,
    /// The server that must be able to load the answer.
    pub target: Option<ServerVersion>,
    /// Decide as if this history had been accepted.
    pub lineage: Option<ReplicationId>,
}

/// A shard as it is known now, with the verdict about it.
#[derive(Debug)]
pub struct Judgement {
    pub shard: ShardKey,
    pub view: ShardView,
    pub policy: Policy,
    pub selection: Selection,
    /// The shard's backups, newest first: the first candidates of the view, in the same order.
    pub backups: Vec<BackupEntry>,
    pub vouches: Vec<Vouch>,
}

impl Judgement {
    /// The entry behind a candidate of the view, if it is a backup.
    pub fn entry_of(&self, candidate: usize) -> Option<&BackupEntry> {
        let Source::Backup(id) = self.view.candidates[candidate].source else { return None };
        self.backups.iter().find(|entry| entry.id == id)
    }

    /// The backup to restore.
    pub fn canonical(&self) -> Option<&BackupEntry> {
        self.selection.canonical.and_then(|candidate| self.entry_of(candidate))
    }

    /// How much time of writes the loss of every server would cost now.
    pub fn data_loss_window(&self) -> Option<std::time::Duration> {
        let from = self.times().of(self.canonical()?.position?).from?;
        Some(self.view.now.since(from))
    }

    /// How many bytes a node lacks against the furthest one that holds all that it holds.
    pub fn lag(&self, node: &Node) -> Option<u64> {
        let own = node.seen.as_ref()?.observation.position()?;
        let others = self.view.nodes.iter().filter_map(|seen| seen.observation.position());
        others
            .filter_map(|other| match self.view.lineage.relate(own, other) {
                Relation::Equal | Relation::Ahead { .. } => Some(0),
                Relation::Behind { missing } => Some(missing.get()),
                Relation::Divergent { .. } | Relation::Unrelated => None,
            })
            .max()
    }
}

impl App {
    /// Every shard that is known, ordered.
    pub fn shards(&self, deployment: Option<&DeploymentName>) -> Vec<ShardKey> {
        let mut shards: Vec<_> = self.fleet.nodes(deployment).iter().map(|node| ShardKey::of(&node.identity)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// The shard that is meant: the named one, or the only one.
    pub fn shard(&self, deployment: &DeploymentName, shard: Option<ShardName>) -> Result<ShardKey, Fault> {
        let known = self.shards(Some(deployment));
        let list = |shards: &[ShardKey]| {
            let names: Vec<String> = shards.iter().map(|key| key.shard.to_string()).collect();
            names.join(", ")
        };
        match (shard, known.as_slice()) {
            (_, []) => Err(self.unknown_deployment(deployment)),
            (None, [only]) => Ok(only.clone()),
            (None, several) => {
                Err(Fault::new(ErrorKind::Usage, format!("deployment {deployment} has {} shards", several.len()))
                    .with_hint(format!("name one with --shard: {}", list(several))))
            }
            (Some(shard), shards) => {
                let key = ShardKey::new(deployment.clone(), shard);
                if shards.contains(&key) {
                    return Ok(key);
                }
                let message = format!("deployment {deployment} has no shard {}", key.shard);
                Err(Fault::new(ErrorKind::NotFound, message).with_hint(format!("it has: {}", list(shards))))
            }
        }
    }

    /// The same; a named node is of one shard, which need not be named then.
    pub fn shard_with(
        &self,
        deployment: &DeploymentName,
        shard: Option<ShardName>,
        node: Option<&NodeName>,
    ) -> Result<ShardKey, Fault> {
        let of_node = || {
            let nodes = self.fleet.nodes(Some(deployment));
            nodes.into_iter().find(|known| Some(&known.identity.node) == node).map(|known| known.identity.shard)
        };
        self.shard(deployment, shard.or_else(of_node))
    }

    pub(crate) fn unknown_deployment(&self, deployment: &DeploymentName) -> Fault {
        let mut known: Vec<String> = self.shards(None).into_iter().map(|key| key.deployment.to_string()).collect();
        known.dedup();
        let unreadable = self.unreadable.lock().expect("nothing panics while it holds the unreadable");
        if let Some(((key, _), reason)) = unreadable.iter().find(|((key, _), _)| key.deployment == *deployment) {
            let message = format!("no backup of {deployment} can be believed: backup {}: {reason}", key.id);
            return Fault::new(ErrorKind::Integrity, message);
        }
        let fault = Fault::new(ErrorKind::NotFound, format!("there is no deployment {deployment}"));
        if known.is_empty() && self.reads_only {
            fault.with_hint("the repository holds no backups: is it the right one?")
        } else if known.is_empty() {
            fault.with_hint("none has joined yet: `urtext invite` makes the token for a node's agent")
        } else {
            fault.with_hint(format!("known are: {}", known.join(", ")))
        }
    }

    /// The planner's rules for a deployment.
    pub fn planner_policy(&self, deployment: &DeploymentName, prefer_site: Option<SiteName>) -> Policy {
        let policy = self.settings.policy(deployment);
        Policy {
            on_fork: match policy.on_fork {
                OnFork::Refuse => urtext_planner::OnFork::Refuse,
                OnFork::FollowMaster => urtext_planner::OnFork::FollowMaster,
            },
            prefer_site,
            max_link_down: policy.max_link_down,
            ..Policy::default()
        }
    }

    /// Looks at the repository, then decides.
    pub async fn judge(&self, shard: &ShardKey, ask: &Ask) -> Result<Judgement, Fault> {
        self.reconcile(Some(&shard.deployment)).await?;
        self.judge_known(shard, ask).await
    }

    /// Decides for somebody who only asks: see [`App::reconcile_lately`].
    pub async fn judge_lately(&self, shard: &ShardKey, ask: &Ask) -> Result<Judgement, Fault> {
        self.reconcile_lately(Some(&shard.deployment)).await?;
        self.judge_known(shard, ask).await
    }

    /// Decides by what the catalog knows.
    pub async fn judge_known(&self, shard: &ShardKey, ask: &Ask) -> Result<Judgement, Fault> {
        let backups = self.catalog.backups_of(shard).await.map_err(Fault::while_doing("list the backups"))?;
        let vouches = self.catalog.vouches(shard).await.map_err(Fault::while_doing("read what operators vouch for"))?;
        let now = self.clock.now();
        let mut view = self.view(shard, &backups, now);
        view.vouched = vouches.iter().map(|vouch| vouch.backup).collect();
        if let Some(target) = ask.target {
            for (candidate, entry) in view.candidates.iter_mut().zip(&backups) {
                let refusal = loadable_by(entry.header(), [], target).err();
                candidate.ineligible = candidate.ineligible.take().or(refusal.map(|refusal| refusal.to_string()));
            }
        }
        if let Some(history) = ask.lineage {
            let over = set_aside_by(&view, history).map_err(Fault::while_doing("look at one branch"))?;
            let (by, reason) = ("This request".to_owned(), "restored beside the accepted one".to_owned());
            view.accepted.push(AcceptedLineage { history, over, at: now, by, reason });
        }
        let policy = self.planner_policy(&shard.deployment, ask.prefer_site.clone());
        let selection = select(&view, &policy, &ask.wish);
        Ok(Judgement { shard: shard.clone(), view, policy, selection, backups, vouches })
    }

    fn view(&self, shard: &ShardKey, backups: &[BackupEntry], now: Timestamp) -> ShardView {
        let nodes = self.fleet.shard(shard);
        let down: BTreeSet<&RepositoryName> = self.repositories.down().into_iter().map(|(name, _)| name).collect();
        let candidates = backups.iter().map(|entry| candidate(entry, &down));
        let live = nodes.iter().filter(|node| node.fresh(now).is_some()).filter_map(|node| seen(node, now));
        ShardView {
            candidates: candidates.chain(live.map(|seen| Candidate::live(&seen))).collect(),
            ..self.capture_view(shard, &nodes, now)
        }
    }

    /// The history that a person means.
    pub fn resolve_history(&self, judgement: &Judgement, prefix: &HistoryPrefix) -> Result<ReplicationId, Fault> {
        let shard = &judgement.shard;
        let on_copies = judgement.view.candidates.iter().filter_map(|copy| Some(copy.position?.history));
        let mut matching: Vec<ReplicationId> =
            self.histories.of(shard).known().into_iter().chain(on_copies).filter(|id| prefix.fits(id)).collect();
        matching.sort_unstable();
        matching.dedup();
        match matching[..] {
            [only] => Ok(only),
            [] => Err(Fault::new(ErrorKind::NotFound, format!("no history of {shard} begins with {prefix}"))
                .with_hint(format!("`urtext lineage {}` shows them", shard.deployment))),
            _ => {
                let message = format!("{} histories of {shard} begin with {prefix}", matching.len());
                Err(Fault::new(ErrorKind::Usage, message).with_hint("give more digits"))
            }
        }
    }

    /// Records an operator's decision about a fork.
    pub async fn accept_lineage(
        &self,
        shard: &ShardKey,
        history: &HistoryPrefix,
        reason: String,
        by: String,
    ) -> Result<(ReplicationId, RecordId), Fault> {
        if reason.trim().is_empty() {
            return Err(Fault::new(ErrorKind::Usage, "a decision needs a reason")
                .with_hint("say why with --reason: it is kept with the decision for ever"));
        }
        let judgement = self.judge(shard, &Ask::default()).await?;
        let history = self.resolve_history(&judgement, history)?;
        let over = set_aside_by(&judgement.view, history).map_err(Fault::while_doing("accept a lineage"))?;
        let body = RecordBody::AcceptedLineage { shard: shard.shard.clone(), history, over: over.clone() };
        let record = self.put_record(shard, &by, Some(reason.clone()), body).await?;
        let accepted = AcceptedLineage { history, over, at: record.timestamp(), by, reason };
        self.histories.with(shard, |known| known.decisions.push(accepted.clone()));
        self.alarms.look_at(shard);
        self.catalog
            .put_decision(shard, &Decision { record, accepted })
            .await
            .map_err(Fault::while_doing("keep an accepted lineage"))?;
        Ok((history, record))
    }
}

/// A backup as the planner sees it. One whose good copies are all in repositories that are down is out of reach.
fn candidate(entry: &BackupEntry, down: &BTreeSet<&RepositoryName>) -> Candidate {
    let mut good = entry.copies.iter().filter(|(_, copy)| copy.trouble().is_none()).map(|(name, _)| name);
    let out_of_reach = match good.clone().all(|name| down.contains(name)) {
        true => good.next().map(ToString::to_string),
        false => None,
    };
    Candidate {
        source: Source::Backup(entry.id),
        node: entry.node.clone(),
        site: entry.site.clone(),
        position: entry.position,
        taken_at: entry.taken_at,
        received_at: entry.received_at,
        verified: entry.verified(),
        ineligible: entry.trouble(),
        out_of_reach,
        stale: entry.stale.as_ref().map(|how| format!("captured while {how}")),
        keys: entry.keys,
        bytes: ByteCount::new(entry.rdb_bytes),
        run_id: entry.run_id.clone(),
        content_digest: entry.content_digest,
    }
}

/// A node as the planner sees it.
pub fn seen(node: &Node, now: Timestamp) -> Option<NodeSeen> {
    let AgentIdentity { node: name, site, .. } = &node.identity;
    node.seen.as_ref().map(|seen| NodeSeen {
        node: name.clone(),
        site: site.clone(),
        observation: seen.observation.clone(),
        received_at: seen.received_at,
        reachable: node.fresh(now).is_some(),
        agent_connected: node.live_session(now).is_some(),
        clock: node.live_session(now).and_then(|session| session.clock),
    })
}

impl App {
    /// The server that is meant by `text`: a node of the deployment, or a version like `valkey-8.1`.
    pub fn server_version(&self, deployment: &DeploymentName, text: &str) -> Result<ServerVersion, Fault> {
        let nodes = self.fleet.nodes(Some(deployment));
        if let Some(node) = nodes.iter().find(|node| node.identity.node.as_str() == text) {
            let seen = node.seen.as_ref().map(|seen| &seen.observation.server);
            return seen.and_then(|server| ServerVersion::parse(server.engine, &server.version)).ok_or_else(|| {
                Fault::new(ErrorKind::Unavailable, format!("the version of the server of node {text} is not known"))
                    .with_hint("name the version itself, like valkey-8.1")
            });
        }
        let version = text.split_once('-').and_then(|(engine, version)| {
            let engine = match engine {
                "redis" => Engine::Redis,
                "valkey" => Engine::Valkey,
                _ => return None,
            };
            ServerVersion::parse(engine, version)
        });
        version.ok_or_else(|| {
            let names: Vec<String> = nodes.iter().map(|node| node.identity.node.to_string()).collect();
            Fault::new(ErrorKind::Usage, format!("{text:?} is neither a node of {deployment} nor a version"))
                .with_hint(format!("write redis-7.0 or valkey-8.1, or name one of these nodes: {}", names.join(", ")))
        })
    }
}

/// The leading bytes of a replication id, as a person types them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPrefix(Vec<u8>);

impl HistoryPrefix {
    /// At least four bytes: eight digits, as everything prints them.
    pub fn new(bytes: Vec<u8>) -> Result<Self, Fault> {
        if (4..=20).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(Fault::new(ErrorKind::Usage, "a history is named by its 40 digits, or by the first 8 or more"))
        }
    }

    fn fits(&self, id: &ReplicationId) -> bool {
        id.as_bytes().starts_with(&self.0)
    }
}

impl std::fmt::Display for HistoryPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}
