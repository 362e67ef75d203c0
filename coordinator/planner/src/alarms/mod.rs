//! What selection notices and a person should know: what holds at this moment, and no more. The caller
//! turns what comes and goes into events.

mod lineage;
mod masters;
mod replicas;
mod scheduled;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use urtext_types::{DataDigest, Timestamp};

use crate::{
    chart::{Bearings, Place},
    data_as_of::DataAsOf,
    ground::Ground,
    selection::Selection,
    view::{NodeSeen, Policy, ShardView, Source},
    wording::{duration, history, name, sentence},
};

pub use scheduled::{ScheduledWork, scheduled_alarm};

/// A clock that is further off than this is worth a look. Times are corrected by it all the same.
const SKEW_WORTH_SAYING: Duration = Duration::from_secs(1);

/// What a node lost is said for so long, unless a person decides about it before.
const SAID_FOR: Duration = Duration::from_secs(86_400);

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub kind: AlarmKind,
    /// What it is about: together with the kind, what tells one alarm from another.
    pub subject: String,
    /// A whole sentence.
    pub sentence: String,
    /// What to do.
    pub hint: String,
}

/// The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// Two backups at the same position hold different data. Subject: the position.
    SilentDivergence,
    /// The histories part, and nobody has decided. Subject: where.
    Fork,
    /// A master holds less than it was seen to hold. Subject: the node.
    MasterOlder,
    /// A master holds far fewer keys than there were. Subject: the node.
    MasterEmptier,
    /// A master goes on under a history of which no beginning is known. Subject: the node.
    LineageLost,
    /// A master changed its id without a promotion; what it wrote around that has no positions.
    /// Subject: the node.
    LineageInferred,
    /// Statements about a history contradict each other. Subject: the history.
    LineageContradicted,
    /// A replica is cut off from its master. Subject: the node.
    ReplicaStale,
    /// A replica's link is up, and its data is old all the same. Subject: the node.
    ReplicaBehindStale,
    /// A scheduled snapshot failed. Subject: the deployment.
    SnapshotFailed,
    /// A scheduled snapshot does not come to its end. Subject: the deployment.
    SnapshotOverdue,
    /// Other work that should happen by itself failed. Subject: the deployment, and what failed.
    JobFailed,
    /// An agent's clock is off. Subject: the node.
    ClockSkew,
}

impl AlarmKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SilentDivergence => "silent-divergence",
            Self::Fork => "fork",
            Self::MasterOlder => "master-older",
            Self::MasterEmptier => "master-emptier",
            Self::LineageLost => "lineage-lost",
            Self::LineageInferred => "lineage-inferred",
            Self::LineageContradicted => "lineage-contradicted",
            Self::ReplicaStale => "replica-stale",
            Self::ReplicaBehindStale => "replica-behind-stale",
            Self::SnapshotFailed => "snapshot-failed",
            Self::SnapshotOverdue => "snapshot-overdue",
            Self::JobFailed => "job-failed",
            Self::ClockSkew => "clock-skew",
        }
    }
}

/// Everything that is wrong at this moment, the worst first; the same for any order of the view.
///
/// `selection` was made from this `view`. Of nodes that cannot be asked nothing is said: what they were
/// is not what they are.
pub fn alarms(view: &ShardView, policy: &Policy, selection: &Selection) -> Vec<Alarm> {
    let ground = Ground::new(view, selection);
    let now = Scene { view, policy, selection, data_as_of: selection.data_as_of(view), ground };
    let mut alarms = silent_divergences(&now);
    alarms.extend(forks(selection));
    alarms.extend(lineage::contradicted(view));
    for seen in view.nodes.iter().filter(|seen| seen.reachable) {
        alarms.extend(masters::older(&now, seen));
        alarms.extend(masters::emptier(&now, seen));
        alarms.extend(lineage::lost(&now, seen));
        alarms.extend(lineage::inferred(&now, seen));
        alarms.extend(replicas::stale(&now, seen));
        alarms.extend(replicas::behind_stale(&now, seen));
        alarms.extend(clock_skew(seen));
    }
    alarms.sort_by(|a, b| (a.kind, &a.subject, &a.sentence).cmp(&(b.kind, &b.subject, &b.sentence)));
    alarms
}

/// What alarms are judged by.
struct Scene<'a> {
    view: &'a ShardView,
    policy: &'a Policy,
    selection: &'a Selection,
    ground: Ground<'a>,
    data_as_of: DataAsOf<'a>,
}

impl Scene<'_> {
    fn place(&self, seen: &NodeSeen) -> Option<Place> {
        self.ground.place(seen.observation.position()?)
    }

    fn bearings(&self, place: Place) -> Bearings {
        Bearings::new(self.ground.chart, place)
    }

    /// Whether what happened then is still news: recent, and nobody has decided since.
    fn is_news(&self, at: Timestamp) -> bool {
        self.view.now.since(at) <= SAID_FOR && self.view.accepted.iter().all(|decision| decision.at < at)
    }
}

fn silent_divergences(now: &Scene<'_>) -> Vec<Alarm> {
    let mut at: BTreeMap<Place, Vec<(DataDigest, usize)>> = BTreeMap::new();
    let places = &now.selection.situation.copies.places;
    for (i, candidate) in now.view.candidates.iter().enumerate() {
        if let Some((place, digest)) = places[i].zip(candidate.content_digest) {
            at.entry(place).or_default().push((digest, i));
        }
    }
    let mut alarms = Vec::new();
    for (place, mut copies) in at {
        copies.sort_unstable_by_key(|&(_, i)| (now.view.candidates[i].source, &now.view.candidates[i].node));
        let disagree = copies.iter().enumerate().find_map(|(n, (a, i))| {
            let other = copies[n + 1..].iter().find(|(b, _)| a.agrees_with(b) == Some(false));
            other.map(|(_, j)| (*i, *j))
        });
        if let Some((a, b)) = disagree {
            let position = now.ground.chart.position(place);
            let at = format!("offset {} of {}", position.offset, history(position.history));
            let (a, b) = (&now.view.candidates[a], &now.view.candidates[b]);
            alarms.push(Alarm {
                kind: AlarmKind::SilentDivergence,
                subject: position.to_string(),
                sentence: format!(
                    "{} and {} were both taken at {at} and hold different data.",
                    sentence(&name(a)).trim_end_matches('.'),
                    name(b)
                ),
                hint: "`urtext diff` shows the keys that differ; a replica that accepts writes (replica-read-only no) \
                       makes such copies"
                    .to_owned(),
            });
        }
    }
    alarms
}

fn forks(selection: &Selection) -> Vec<Alarm> {
    let undecided = selection.forks.iter().filter(|fork| fork.accepted.is_none());
    undecided
        .map(|fork| {
            let ways: Vec<_> = fork.children.iter().map(|child| child.short()).collect();
            Alarm {
                kind: AlarmKind::Fork,
                subject: format!("{}:{}", fork.parent, fork.offset),
                sentence: format!(
                    "After offset {} of {} the histories part, each with writes that the others lack: {}.",
                    fork.offset,
                    history(fork.parent),
                    ways.join(", ")
                ),
                hint: "`urtext canonical` says what each of them holds; decide with `urtext accept-lineage`".to_owned(),
            }
        })
        .collect()
}

fn clock_skew(seen: &NodeSeen) -> Option<Alarm> {
    let skew = Duration::from_millis(seen.clock?.ahead_ms.unsigned_abs());
    let direction = if seen.clock?.ahead_ms > 0 { "ahead of" } else { "behind" };
    (skew > SKEW_WORTH_SAYING).then(|| Alarm {
        kind: AlarmKind::ClockSkew,
        subject: seen.node.to_string(),
        sentence: format!(
            "The clock of node {} is {} {direction} the coordinator's; times are corrected by that.",
            seen.node,
            duration(skew.as_secs_f64())
        ),
        hint: format!("see to the time service on the host of {}", seen.node),
    })
}

/// The source of a candidate that is a backup.
fn is_backup(source: Source) -> bool {
    matches!(source, Source::Backup(_))
}
