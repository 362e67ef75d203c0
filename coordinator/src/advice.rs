//! What somebody could do about a verdict, in sentences with the commands.

use urtext_planner::{AlarmKind, DataAsOf, Holder, Judged, MayHoldMore, Source, Standing, Verdict, alarms, loss_guard};
use urtext_types::{BackupId, ByteCount, Interval, Position, Relation, ReplicationId, Role, Timestamp};

use crate::verdict::Judgement;

/// A branch that a decision or the policy set aside.
#[derive(Debug, Clone, PartialEq)]
pub struct SetAside {
    pub history: ReplicationId,
    /// The most complete backup on it.
    pub backup: BackupId,
    /// What it holds that the canonical backup lacks.
    pub excess: ByteCount,
    /// At most this much time of writes, where that is known.
    pub seconds: Option<f64>,
}

/// Until when a copy is known to hold every write, and why that is not known better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsOf {
    pub interval: Interval,
    /// A clause; `None` where the interval is narrow.
    pub reason: Option<String>,
}

impl Judgement {
    /// When masters had which offset, ready to be asked.
    pub fn times(&self) -> DataAsOf<'_> {
        self.selection.data_as_of(&self.view)
    }

    /// What may hold more than the canonical backup and cannot be asked now.
    pub fn may_hold_more(&self) -> Vec<MayHoldMore> {
        let mut found = loss_guard(&self.view, &self.selection);
        found.extend(self.selection.candidates.iter().filter_map(|judged| self.unreadable(judged)));
        found
    }

    /// A backup that is there, cannot be read now, and would be better.
    fn unreadable(&self, judged: &Judged) -> Option<MayHoldMore> {
        let entry = self.entry_of(judged.candidate)?;
        let reason = entry.unreadable()?;
        let is_more = judged.excess_bytes.is_none_or(|more| more > 0) && !judged.set_aside && !judged.beyond;
        let more = judged.excess_bytes.map_or(String::new(), |more| format!(" and holds {more} bytes more"));
        is_more.then(|| MayHoldMore {
            who: Holder::Repository(format!("backup {}", entry.id)),
            position: entry.position,
            bytes_more: judged.excess_bytes,
            seen_at: Some(entry.received_at),
            sentence: format!(
                "Backup {} of {} is stored{more}, but cannot be read now: {reason}.",
                entry.id, entry.node
            ),
            hint: "try again when it can be read, or go on without it: --accept-loss --reason TEXT".to_owned(),
            accepted: None,
        })
    }

    /// Live nodes that hold more than the canonical backup, each with what saves it.
    pub fn unsaved(&self) -> Vec<String> {
        let sentence = |judged: &Judged| {
            let node = &self.view.candidates[judged.candidate].node;
            format!("the live node {node}: {}", self.selection.reason(&self.view, judged))
        };
        self.ahead().into_iter().map(sentence).collect()
    }

    fn ahead(&self) -> Vec<&Judged> {
        let is_ahead = |judged: &&Judged| {
            judged.standing == Standing::Ahead && self.view.candidates[judged.candidate].source == Source::Node
        };
        self.selection.ranked(&self.view).into_iter().filter(is_ahead).collect()
    }

    /// What somebody could do now, the most urgent first.
    pub fn advice(&self) -> Vec<String> {
        let mut advice = self.dragged_down();
        let deployment = &self.shard.deployment;
        if self.selection.verdict == Verdict::Ambiguous {
            for judged in self.selection.candidates.iter().filter(|judged| judged.standing == Standing::Suspect) {
                if let (Source::Backup(id), true) = (self.view.candidates[judged.candidate].source, judged.contends) {
                    advice.push(format!(
                        "If what is gone was deleted on purpose: `urtext vouch {deployment} {id} --reason TEXT` says that \
                         backup {id} is right."
                    ));
                }
            }
        }
        advice.extend(self.set_aside().into_iter().map(|branch| {
            let time = branch.seconds.map_or(String::new(), |seconds| format!(" (at most {seconds:.1} s of writes)"));
            let history = branch.history.short();
            format!(
                "The branch of history {history} was set aside, and holds {} bytes{time} that the canonical backup \
                 lacks: `urtext restore {deployment} --lineage {history} --to-dir DIR` restores it beside, so that \
                 nothing is lost by the decision.",
                branch.excess.get()
            )
        }));
        advice
    }

    /// Replicas that hold more than their master has, which came back with less.
    fn dragged_down(&self) -> Vec<String> {
        let alarms = alarms(&self.view, &self.policy, &self.selection);
        let Some(master) = alarms
            .into_iter()
            .find(|alarm| matches!(alarm.kind, AlarmKind::MasterOlder | AlarmKind::MasterEmptier))
            .map(|alarm| alarm.subject)
        else {
            return Vec::new();
        };
        let replicas = self.ahead().into_iter().filter_map(|judged| {
            let name = &self.view.candidates[judged.candidate].node;
            let seen = self.view.nodes.iter().find(|seen| seen.node == *name)?;
            let Role::Replica { .. } = seen.observation.replication.role else { return None };
            Some(format!(
                "The master {master} is back with older data, and {name} loses what it holds beyond that when it \
                 follows it: save it first. Until then `REPLICAOF NO ONE`, said to {name}, keeps it apart; Urtext does \
                 not do that by itself."
            ))
        });
        replicas.collect()
    }

    /// The branches that were set aside, each with its most complete backup, ordered by what is lost without it.
    pub fn set_aside(&self) -> Vec<SetAside> {
        let Some(canonical) = self.canonical().and_then(|entry| entry.position) else { return Vec::new() };
        let times = self.times();
        let mut branches: Vec<SetAside> = Vec::new();
        for judged in self.selection.candidates.iter().filter(|judged| judged.set_aside) {
            let candidate = &self.view.candidates[judged.candidate];
            let (Source::Backup(backup), Some(position)) = (candidate.source, candidate.position) else { continue };
            let Some(excess @ 1..) = judged.excess_bytes else { continue };
            let seconds = match self.view.lineage.relate(position, canonical) {
                Relation::Divergent { common, .. } => {
                    let complete = times.of(common).from;
                    times.reached(position).zip(complete).map(|(reached, from)| reached.since(from).as_secs_f64())
                }
                _ => None,
            };
            let branch = SetAside { history: position.history, backup, excess: ByteCount::new(excess), seconds };
            match branches.iter_mut().find(|known| known.history == branch.history) {
                Some(known) if known.excess < branch.excess => *known = branch,
                Some(_) => {}
                None => branches.push(branch),
            }
        }
        branches.sort_by_key(|branch| (std::cmp::Reverse(branch.excess), branch.history));
        branches
    }
}

/// Until when a copy at `position` is known to hold every write.
pub fn as_of(times: &DataAsOf<'_>, position: Option<Position>, now: Timestamp) -> AsOf {
    let Some(position) = position else {
        let interval = Interval { from: None, to: None };
        return AsOf { interval, reason: Some("its server counted no positions".to_owned()) };
    };
    AsOf { interval: times.of(position), reason: times.reason(position, now) }
}
