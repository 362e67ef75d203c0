//! What the planner is asked, and what it answers, for one shard.

use urtext_identity::AgentIdentity;
use urtext_planner::{
    AcceptedLineage, Candidate, NodeSeen, Policy, Selection, ShardView, Source, Verified, select, set_aside_by,
};
use urtext_repository::RecordBody;
use urtext_types::{
    ByteCount, DeploymentName, ErrorKind, Interval, RecordId, Relation, ReplicationId, ShardName, SiteName, Timestamp,
};

use crate::{
    Fault,
    app::App,
    catalog::{BackupEntry, Decision},
    fleet::Node,
    settings::OnFork,
    shard::ShardKey,
};

/// A shard as it is known now, with the verdict about it.
#[derive(Debug)]
pub struct Judgement {
    pub shard: ShardKey,
    pub view: ShardView,
    pub selection: Selection,
    /// The shard's backups, newest first.
    pub backups: Vec<BackupEntry>,
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

    /// Until when a copy at `position` is known to hold every write.
    pub fn data_as_of(&self, position: Option<urtext_types::Position>) -> Interval {
        let nothing = Interval { from: None, to: None };
        let data_as_of = urtext_planner::DataAsOf::new(&self.view.lineage, &self.view.samples);
        let Interval { from, to } = position.map_or(nothing, |position| data_as_of.of(position));
        // A restored server that is idle goes on holding what the others have long left behind: what
        // somebody else was seen to hold beyond it bounds how new the data can be.
        Interval { from: from.map(|from| to.map_or(from, |to| from.min(to))), to }
    }

    /// How much time of writes the loss of every server would cost now.
    pub fn data_loss_window(&self) -> Option<std::time::Duration> {
        let from = self.data_as_of(self.canonical()?.position).from?;
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

    fn unknown_deployment(&self, deployment: &DeploymentName) -> Fault {
        let mut known: Vec<String> = self.shards(None).into_iter().map(|key| key.deployment.to_string()).collect();
        known.dedup();
        let fault = Fault::new(ErrorKind::NotFound, format!("there is no deployment {deployment}"));
        if known.is_empty() {
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
    pub async fn judge(&self, shard: &ShardKey, prefer_site: Option<SiteName>) -> Result<Judgement, Fault> {
        self.reconcile(Some(&shard.deployment)).await?;
        self.judge_known(shard, prefer_site).await
    }

    /// Decides by what the catalog knows.
    pub async fn judge_known(&self, shard: &ShardKey, prefer_site: Option<SiteName>) -> Result<Judgement, Fault> {
        let mut backups =
            self.catalog.backups(Some(&shard.deployment)).await.map_err(Fault::while_doing("list the backups"))?;
        backups.retain(|entry| entry.shard == shard.shard);
        let now = self.clock.now();
        let view = self.view(shard, &backups, now);
        let selection = select(&view, &self.planner_policy(&shard.deployment, prefer_site));
        Ok(Judgement { shard: shard.clone(), view, selection, backups })
    }

    fn view(&self, shard: &ShardKey, backups: &[BackupEntry], now: Timestamp) -> ShardView {
        let known = self.histories.of(shard);
        let nodes = self.fleet.shard(shard);
        let candidates = backups.iter().map(candidate);
        let live = nodes.iter().filter(|node| node.fresh(now).is_some()).filter_map(|node| seen(node, now));
        ShardView {
            deployment: shard.deployment.clone(),
            shard: shard.shard.clone(),
            heads: known.heads(),
            samples: known.samples(),
            lineage: known.lineage,
            contradictions: known.contradictions,
            accepted: known.decisions,
            candidates: candidates.chain(live.map(|seen| Candidate::live(&seen))).collect(),
            nodes: nodes.iter().filter_map(|node| seen(node, now)).collect(),
            vouched: std::collections::BTreeSet::new(),
            now,
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
        let judgement = self.judge(shard, None).await?;
        let on_copies = judgement.view.candidates.iter().filter_map(|copy| Some(copy.position?.history));
        let mut matching: Vec<ReplicationId> =
            self.histories.of(shard).known().into_iter().chain(on_copies).filter(|id| history.fits(id)).collect();
        matching.sort_unstable();
        matching.dedup();
        let history = match matching[..] {
            [only] => only,
            [] => {
                return Err(Fault::new(ErrorKind::NotFound, format!("no history of {shard} begins with {history}"))
                    .with_hint(format!("`urtext lineage {}` shows them", shard.deployment)));
            }
            _ => {
                return Err(Fault::new(
                    ErrorKind::Usage,
                    format!("{} histories of {shard} begin with {history}", matching.len()),
                )
                .with_hint("give more digits"));
            }
        };
        let over = set_aside_by(&judgement.view, history).map_err(Fault::while_doing("accept a lineage"))?;
        let body = RecordBody::AcceptedLineage { shard: shard.shard.clone(), history, over: over.clone() };
        let record = self.put_record(shard, &by, Some(reason.clone()), body).await?;
        let accepted = AcceptedLineage { history, over, at: record.timestamp(), by, reason };
        self.histories.with(shard, |known| known.decisions.push(accepted.clone()));
        self.catalog
            .put_decision(shard, &Decision { record, accepted })
            .await
            .map_err(Fault::while_doing("keep an accepted lineage"))?;
        Ok((history, record))
    }
}

fn candidate(entry: &BackupEntry) -> Candidate {
    Candidate {
        source: Source::Backup(entry.id),
        node: entry.node.clone(),
        site: entry.site.clone(),
        position: entry.position,
        taken_at: entry.taken_at,
        received_at: entry.received_at,
        verified: Verified::Never,
        ineligible: entry.damaged.clone(),
        stale: entry.stale.as_ref().map(|how| format!("captured while {how}")),
        keys: entry.keys,
        bytes: ByteCount::new(entry.rdb_bytes),
        run_id: entry.run_id.clone(),
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
    })
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
