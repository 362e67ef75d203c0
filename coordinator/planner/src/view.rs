//! What a decision is made from: everything known about one shard at one moment, as values.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use urtext_types::{
    BackupId, ByteCount, Contradiction, DataDigest, DeploymentName, Lineage, NodeName, NodeObservation, Position,
    ReplicationId, ShardName, SiteName, Timestamp,
};

use crate::timeline::{ClockSkew, Timeline};

/// One shard as it is known now. The order within the lists means nothing.
#[derive(Debug, Clone)]
pub struct ShardView {
    pub deployment: DeploymentName,
    pub shard: ShardName,
    /// Every fork edge that is known.
    pub lineage: Lineage,
    /// Statements that do not fit `lineage`. An edge that is contradicted proves nothing.
    pub contradictions: Vec<Contradiction>,
    /// Every decision that an operator has recorded. One that a later one overrules holds no longer.
    pub accepted: Vec<AcceptedLineage>,
    /// Committed backups and live nodes, see [`Candidate::live`].
    pub candidates: Vec<Candidate>,
    /// The last look at every node, reachable or not.
    pub nodes: Vec<NodeSeen>,
    /// The greatest positions ever observed, and where, also of nodes that are silent now.
    pub heads: Vec<HeadSeen>,
    /// For each node whose server was started anew, the last that was seen of the run before.
    pub ended: Vec<RunSeen>,
    /// When masters had which offset.
    pub timeline: Timeline,
    /// Where backups are kept.
    pub repositories: Vec<RepositorySeen>,
    /// Backups that an operator has said to be right although they are far smaller than those before.
    pub vouched: BTreeSet<BackupId>,
    /// What operators have accepted to be lost.
    pub losses: Vec<AcceptedLoss>,
    /// The time of the decision.
    pub now: Timestamp,
}

/// A loss that an operator accepted: `urtext restore D --accept-loss --reason TEXT`.
///
/// It counts for what the person gave up, and for nothing else: as long as the node is remembered at that
/// position or before it, has not come back since, and the copy that is chosen holds all that was restored
/// then. Anything more is a loss that nobody has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// Who may hold more, and could not be asked.
    pub node: NodeName,
    /// The furthest that it was remembered to hold.
    pub position: Position,
    /// What was restored instead.
    pub restored: Position,
    /// The coordinator's clock.
    pub at: Timestamp,
    /// Who accepted it.
    pub by: String,
    pub reason: String,
}

/// An operator's decision about a fork: `urtext accept-lineage D HISTORY --reason TEXT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedLineage {
    /// The history whose writes are the right ones.
    pub history: ReplicationId,
    /// The histories that were set aside by this decision: what [`crate::set_aside_by`] said when it
    /// was made. A decision decides about what the person saw; a branch that appears later is a new
    /// fork.
    pub over: Vec<ReplicationId>,
    /// The coordinator's clock.
    pub at: Timestamp,
    /// Who decided.
    pub by: String,
    pub reason: String,
}

/// Where a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Committed in a repository: can be restored now.
    Backup(BackupId),
    /// In the memory of a living server; must be captured first.
    Node,
}

/// What has been proved about a backup since it was committed; the greater the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verified {
    Never,
    /// Its stored objects were read again and every hash was right.
    Stored,
    /// It was loaded into a real server.
    Rehearsed,
}

/// One copy of the shard's data.
///
/// In this order in memory: a verdict over a million copies reads what comes first of each of them, and the
/// rest of a few.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct Candidate {
    /// `None` where the server did not count its writes: a master without a backlog writes no
    /// replication id into its RDB.
    pub position: Option<Position>,
    pub source: Source,
    /// Keys in all databases.
    pub keys: u64,
    /// A fact known to the caller that rules it out, as a clause: `part 3 is missing`, `its RDB
    /// version 12 cannot be loaded by Redis 7.0`.
    pub ineligible: Option<String>,
    /// The repository that holds it, where no repository that does can be asked now: it is remembered,
    /// and cannot be chosen.
    pub out_of_reach: Option<String>,
    /// The coordinator's clock.
    pub received_at: Timestamp,
    pub verified: Verified,
    pub node: NodeName,
    pub site: SiteName,
    /// The agent's clock: when the snapshot was taken, or the node observed.
    pub taken_at: Timestamp,
    /// How it comes that it may be old, as a clause: `captured on request while its master link had
    /// been down for 3 h`.
    pub stale: Option<String>,
    pub bytes: ByteCount,
    /// Copies without a position are compared only if they have this in common, see
    /// [`NodeObservation::uncounted_run`]. Empty: it stands alone.
    pub run_id: String,
    /// Of all data, where it was computed.
    pub content_digest: Option<DataDigest>,
}

impl Candidate {
    /// Whether it could be restored now, whatever its position.
    pub fn is_eligible(&self) -> bool {
        self.ineligible.is_none() && self.out_of_reach.is_none()
    }

    /// A living node as a candidate.
    pub fn live(seen: &NodeSeen) -> Self {
        Self {
            source: Source::Node,
            node: seen.node.clone(),
            site: seen.site.clone(),
            position: seen.observation.position(),
            taken_at: seen.observation.observed_at,
            received_at: seen.received_at,
            verified: Verified::Never,
            ineligible: None,
            out_of_reach: None,
            stale: None,
            keys: seen.observation.keys(),
            bytes: ByteCount::new(seen.observation.used_memory),
            run_id: seen.observation.uncounted_run(),
            content_digest: None,
        }
    }
}

/// The last look at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeen {
    pub node: NodeName,
    pub site: SiteName,
    pub observation: NodeObservation,
    /// The coordinator's clock.
    pub received_at: Timestamp,
    /// Whether its server can be asked now: its agent is connected, and sees it.
    pub reachable: bool,
    /// Whether its agent's session is open now.
    pub agent_connected: bool,
    /// How its agent's clock stands to the coordinator's, if that was measured.
    pub clock: Option<ClockSkew>,
}

/// The last that was seen of a run of a server which has ended since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSeen {
    pub node: NodeName,
    pub run_id: String,
    /// As in [`Candidate::position`].
    pub position: Option<Position>,
    pub keys: u64,
    pub was_master: bool,
    /// When it was last seen, by the coordinator's clock.
    pub seen_at: Timestamp,
    /// When the next run was first seen, by the coordinator's clock.
    pub noticed_at: Timestamp,
}

impl RunSeen {
    /// What `before` was, if `now` is another run of the same node's server.
    pub(crate) fn ended(
        node: &NodeName,
        before: &NodeObservation,
        now: &NodeObservation,
        clock: ClockSkew,
        noticed_at: Timestamp,
    ) -> Option<Self> {
        let (old, new) = (&before.server.run_id, &now.server.run_id);
        let is_another = old != new && !old.is_empty() && !new.is_empty();
        (is_another && before.observed_at <= now.observed_at).then(|| Self {
            node: node.clone(),
            run_id: old.clone(),
            position: before.position(),
            keys: before.keys(),
            was_master: before.replication.role.is_master(),
            seen_at: clock.correct(before.observed_at),
            noticed_at,
        })
    }
}

/// A place where backups are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySeen {
    /// As in the configuration.
    pub name: String,
    /// Whether it answers now.
    pub reachable: bool,
    /// When its backups were last listed, by the coordinator's clock.
    pub listed_at: Option<Timestamp>,
}

/// The greatest position that was ever observed in one history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSeen {
    pub position: Position,
    pub node: NodeName,
    /// The coordinator's clock.
    pub seen_at: Timestamp,
}

/// What a deployment's configuration says about choosing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub on_fork: OnFork,
    /// Breaks ties between equal copies: the site nearest the target.
    pub prefer_site: Option<SiteName>,
    /// A copy is suspect if it holds fewer keys than this percentage of the largest backup before it.
    pub shrink_below_percent: u8,
    /// Backups with fewer keys than this make no later one suspect.
    pub shrink_from_keys: u64,
    /// A replica whose master link has been down for longer is not captured, unless it is asked for.
    pub max_link_down: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        // Half: a busy cache breathes by tens of percent, a lost one loses nearly all.
        // A minute: a link that is down for less has been lost and found again, not broken.
        Self {
            on_fork: OnFork::Refuse,
            prefer_site: None,
            shrink_below_percent: 50,
            shrink_from_keys: 100,
            max_link_down: Duration::from_secs(60),
        }
    }
}

/// What to do about a fork that no operator has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFork {
    /// The verdict is ambiguous.
    #[default]
    Refuse,
    /// Take the branch of the master that was most recently observed with the most attached replicas.
    FollowMaster,
}
