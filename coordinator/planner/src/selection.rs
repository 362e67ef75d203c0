//! The answer: which copy is canonical, where each other one stands, and why.

use std::{cmp::Reverse, sync::Arc};

use serde::Serialize;
use urtext_types::{ByteCount, NodeName, Offset, Position, ReplicationId, Timestamp};

use crate::{data_as_of::DataAsOf, reasons::Reasons, situation::Situation, view::ShardView, wish::Wish};

/// The verdict about one shard, with its reasons.
#[derive(Debug, Clone)]
pub struct Selection {
    pub verdict: Verdict,
    /// What was asked for.
    pub wish: Wish,
    /// The backup to restore: an index into [`crate::ShardView::candidates`]. `Some` if and only if
    /// the verdict is [`Verdict::Canonical`]. Never a live node.
    pub canonical: Option<usize>,
    /// The furthest that any node was seen on the branch of the canonical backup.
    pub head: Option<Head>,
    /// What the canonical backup lacks against the head; `None` without either.
    pub missing: Option<Missing>,
    /// Every candidate exactly once, in the order of the view. See [`Selection::ranked`].
    pub candidates: Vec<Judged>,
    /// Where the candidates' histories part, decided or not.
    pub forks: Vec<Fork>,
    /// The oldest known histories of the candidates, if there is more than one: nothing is known
    /// about how they relate.
    pub unrelated: Vec<ReplicationId>,
    /// What decided between branches, if anything had to.
    pub decided: Option<Decided>,
    /// Whole sentences for a person, the most important first.
    pub explanation: Vec<String>,
    /// What all of that was judged by.
    pub(crate) situation: Arc<Situation>,
}

impl Selection {
    /// Every candidate, the best first. `view` is the one that the selection was made from.
    pub fn ranked(&self, view: &ShardView) -> Vec<&Judged> {
        let mut ranked: Vec<&Judged> = self.candidates.iter().collect();
        ranked.sort_unstable_by(|a, b| order(view, self.verdict, a).cmp(&order(view, self.verdict, b)));
        ranked
    }

    /// Why a candidate stands where it does: whole sentences. For more than a few, see
    /// [`Selection::reasons`]. `view` is the one that the selection was made from.
    pub fn reason(&self, view: &ShardView, judged: &Judged) -> String {
        self.reasons(view).of(judged)
    }

    /// The reasons, to be asked for. `view` is the one that the selection was made from.
    pub fn reasons<'a>(&'a self, view: &'a ShardView) -> Reasons<'a> {
        Reasons::new(view, self)
    }

    /// Until when copies are known to hold every write. `view` is the one that the selection was made
    /// from.
    pub fn data_as_of<'a>(&'a self, view: &'a ShardView) -> DataAsOf<'a> {
        DataAsOf::on(&self.situation.chart, &view.timeline)
    }

    /// The branches that contend, undecided: what `accept-lineage` can choose from.
    pub fn contending(&self) -> impl Iterator<Item = &Judged> {
        self.candidates.iter().filter(|judged| self.verdict == Verdict::Ambiguous && judged.contends)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// One backup is the most complete one on the accepted lineage.
    Canonical,
    /// Several may be, and nobody has decided: a person must.
    Ambiguous,
    /// There is no backup that could be restored.
    None,
}

/// How one candidate stands to the canonical one; if there is none, to those that contend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The backup to restore.
    Canonical,
    /// Holds exactly the same writes.
    Equal,
    /// Holds everything that the canonical backup holds, and more: a live node, or a copy beyond the
    /// point that was asked for.
    Ahead,
    /// Lacks writes, and holds none of its own.
    Behind,
    /// Holds writes that the other lacks, and lacks some.
    Divergent,
    /// No path between the histories is known: nothing is proved.
    Unrelated,
    /// Far smaller than the backups before it: a person must say that this is right.
    Suspect,
    /// Cannot be restored.
    Ineligible,
}

/// One candidate with its standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// An index into [`crate::ShardView::candidates`].
    pub candidate: usize,
    pub standing: Standing,
    /// What it lacks, where that is known.
    pub missing_bytes: Option<u64>,
    /// What it holds that the other lacks, where that is known.
    pub excess_bytes: Option<u64>,
    /// Whether a decision or the policy set its branch aside.
    pub set_aside: bool,
    /// Whether it is beyond what was asked for, or not known not to be.
    pub beyond: bool,
    /// Whether nothing else that may be chosen is known to hold all of its writes.
    pub contends: bool,
}

/// The furthest position that was seen, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub position: Position,
    pub node: NodeName,
    pub seen_at: Timestamp,
}

/// What would be lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Missing {
    pub bytes: ByteCount,
    /// At most this much time of writes; `None` where no master was seen at such an offset.
    pub seconds: Option<f64>,
}

/// A place where the candidates' histories part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    pub parent: ReplicationId,
    /// The last offset of `parent` that the branches share.
    pub offset: Offset,
    /// The histories by which it goes on, ordered. Holds `parent` itself if that went on as well.
    pub children: Vec<ReplicationId>,
    /// The one that was taken.
    pub accepted: Option<ReplicationId>,
}

/// Who or what decided between branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// An operator: an index into [`crate::ShardView::accepted`].
    Operator(usize),
    /// [`crate::OnFork::FollowMaster`]: the node whose branch was taken.
    FollowMaster(NodeName),
}

/// The least comes first.
pub(crate) fn order<'a>(view: &'a ShardView, verdict: Verdict, judged: &Judged) -> impl Ord + use<'a> {
    let rank = match judged.standing {
        Standing::Canonical => 0,
        Standing::Ahead => 1,
        Standing::Equal => 2,
        Standing::Behind => 3,
        Standing::Suspect => 4,
        Standing::Divergent => 5,
        Standing::Unrelated => 6,
        Standing::Ineligible => 7,
    };
    // What is beyond the point that was asked for comes last. Without a choice, what contends comes first,
    // and one copy of it before its equals.
    let group = match verdict == Verdict::Ambiguous {
        _ if judged.beyond => 3,
        true if !judged.contends => 2,
        true if judged.standing == Standing::Equal => 1,
        _ => 0,
    };
    let candidate = &view.candidates[judged.candidate];
    (
        group,
        rank,
        judged.missing_bytes.unwrap_or(u64::MAX),
        Reverse(judged.excess_bytes),
        Reverse(candidate.verified),
        Reverse(candidate.received_at),
        &candidate.node,
        candidate.source,
    )
}
