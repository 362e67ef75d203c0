//! Which backups stay and which may go, and why: for every backup, in words.
//!
//! # What counts
//!
//! Only a *good* backup counts: its stored objects were read again and were right
//! ([`Verified::Stored`] or better), and it is neither damaged nor suspect. What was not verified
//! yet stays until it is, and does not push anything out. So does one that is suspect (far smaller than those
//! before it), until somebody vouches for it: an emptied server must not push out what it once held.
//!
//! Time is the time of receipt, by the coordinator's clock. What an agent says about time does not enter:
//! [`StoredBackup`] has no room for it. A backup that was received at a time that has not come yet (a clock
//! was put back) stays and does not count.
//!
//! # What pushes out what
//!
//! The rules are applied to each node by itself and to each branch of the lineage by itself. A branch is
//! everything on the way to a copy whose writes no other one holds; what lies before a fork lies on several, and
//! stays if one of them keeps it. Backups without a position are compared within one run of one server, so
//! each run is a branch. A branch that was set aside by a decision is kept whole until an operator
//! lets go of it ([`LetGo`]).
//!
//! # What never goes
//!
//! The canonical one, those on hold, and the most complete good one of each branch. Of a shard that has any
//! good backup, one stays whatever was let go.
//!
//! A *damaged* backup does not count and is no reason for another one to go. It goes when the rules would let it go
//! if it were good, and a good one on its branch was received after it; so a verification that
//! was wrong about everything costs nothing that would not have gone anyway.

mod branch;
mod policy;
mod print;
mod reason;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use chrono::TimeZone;
use urtext_types::{
    BackupId, ByteCount, Contradiction, DeploymentName, Lineage, NodeName, Position, ReplicationId, ShardName,
    Timestamp,
};

use self::{
    branch::{Branch, Branches},
    policy::{Claim, claims},
};
pub use self::{
    policy::RetentionPolicy,
    print::print_retention,
    reason::{Period, RetentionReason},
};
use crate::view::{AcceptedLineage, Verified};

/// A shard's backups in one repository, and what was decided about them.
#[derive(Debug, Clone)]
pub struct RetentionView {
    pub deployment: DeploymentName,
    pub shard: ShardName,
    pub lineage: Lineage,
    /// Statements that do not fit `lineage`. An edge that is contradicted proves nothing.
    pub contradictions: Vec<Contradiction>,
    /// Every decision about forks that an operator has recorded; the latest one holds.
    pub accepted: Vec<AcceptedLineage>,
    /// In any order.
    pub backups: Vec<StoredBackup>,
    /// The backup to restore, by everything that is known.
    pub canonical: Option<BackupId>,
    pub holds: Vec<Held>,
    pub let_go: Vec<LetGo>,
    /// The coordinator's clock.
    pub now: Timestamp,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBackup {
    pub id: BackupId,
    pub node: NodeName,
    pub position: Option<Position>,
    /// As in [`crate::Candidate::run_id`].
    pub run_id: String,
    /// The coordinator's clock.
    pub received_at: Timestamp,
    /// As stored.
    pub bytes: ByteCount,
    /// What was proved about this copy.
    pub verified: Verified,
    /// Why this copy cannot be restored, as a clause.
    pub damaged: Option<String>,
    /// Why its manifest could not be read when it was last tried, as a clause.
    pub unreadable: Option<String>,
    /// Far smaller than those before it, and nobody has vouched for it.
    pub suspect: bool,
    /// The policy took another branch, see [`crate::OnFork::FollowMaster`].
    pub set_aside: bool,
}

/// An operator wants a backup to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub backup: BackupId,
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

/// An operator lets go of what is set aside of a history, and of what descends from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetGo {
    pub history: ReplicationId,
    pub by: String,
    pub at: Timestamp,
    pub reason: String,
}

/// What becomes of each backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    pub deployment: DeploymentName,
    pub shard: ShardName,
    pub policy: RetentionPolicy,
    /// Every backup exactly once, the last received first.
    pub backups: Vec<RetentionVerdict>,
}

/// What becomes of one backup, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionVerdict {
    pub backup: StoredBackup,
    pub keep: bool,
    /// At least one.
    pub reasons: Vec<RetentionReason>,
}

impl Retention {
    /// The backups that go.
    pub fn removed(&self) -> impl Iterator<Item = &RetentionVerdict> {
        self.backups.iter().filter(|verdict| !verdict.keep)
    }

    /// The backups that stay.
    pub fn kept(&self) -> impl Iterator<Item = &RetentionVerdict> {
        self.backups.iter().filter(|verdict| verdict.keep)
    }
}

impl StoredBackup {
    /// Whether it counts at `now`.
    fn is_good(&self, now: Timestamp) -> bool {
        self.is_sound(now) && self.damaged.is_none() && self.unreadable.is_none() && self.verified >= Verified::Stored
    }

    /// Whether it would count if it were not damaged.
    fn is_sound(&self, now: Timestamp) -> bool {
        !self.suspect && self.received_at <= now
    }
}

/// Decides about every backup of a shard. Days, weeks, months and years are those of `zone`.
pub fn retention<Z: TimeZone>(view: &RetentionView, policy: &RetentionPolicy, zone: &Z) -> Retention {
    let mut order: Vec<&StoredBackup> = view.backups.iter().collect();
    order.sort_unstable_by_key(|backup| Reverse((backup.received_at, backup.id)));
    let branches = Branches::of(view, &order);
    let mut reasons: Vec<BTreeSet<RetentionReason>> = vec![BTreeSet::new(); order.len()];
    let rules = Rules { order: &order, policy, zone, now: view.now };
    for branch in &branches.living {
        // With only one, nobody needs to be told which.
        let named = branch.history.filter(|_| branches.living.len() > 1);
        rules.apply(branch, named, &mut reasons);
    }
    for (i, backup) in order.iter().enumerate() {
        reasons[i].extend(orders(view, backup));
        reasons[i].extend(doubts(view.now, backup, branches.is_aside(i)));
        if let Some(history) = branches.aside[i]
            && branches.let_go(i).is_none()
        {
            reasons[i].insert(RetentionReason::SetAside { history });
        }
    }
    let mut verdicts: Vec<RetentionVerdict> = order
        .iter()
        .zip(reasons)
        .enumerate()
        .map(|(i, (&backup, kept_by))| {
            let keep = !kept_by.is_empty();
            let reasons =
                if keep { kept_by.into_iter().collect() } else { vec![why_not(&branches, i, backup, policy)] };
            RetentionVerdict { backup: backup.clone(), keep, reasons }
        })
        .collect();
    keep_one(&mut verdicts, view.now);
    Retention {
        deployment: view.deployment.clone(),
        shard: view.shard.clone(),
        policy: policy.clone(),
        backups: verdicts,
    }
}

/// What the branches are judged by.
struct Rules<'a, Z> {
    /// The last received first.
    order: &'a [&'a StoredBackup],
    policy: &'a RetentionPolicy,
    zone: &'a Z,
    now: Timestamp,
}

impl<Z: TimeZone> Rules<'_, Z> {
    /// Adds what the rules, and the promise about the last good one, say within one branch.
    fn apply(&self, branch: &Branch, named: Option<ReplicationId>, reasons: &mut [BTreeSet<RetentionReason>]) {
        let Self { order, policy, zone, now } = *self;
        let is_good = |i: &usize| order[*i].is_good(now);
        let mut by_node: BTreeMap<&NodeName, Vec<usize>> = BTreeMap::new();
        for &i in branch.members.iter().filter(|&&i| order[i].is_sound(now)) {
            by_node.entry(&order[i].node).or_default().push(i);
        }
        for members in by_node.values() {
            let good: Vec<usize> = members.iter().copied().filter(is_good).collect();
            for (i, Claim { period, nth, of, label }) in claims(policy, zone, &good, |i| order[i].received_at) {
                reasons[i].insert(RetentionReason::Rule { period, nth, of, label, branch: named });
            }
            // Damaged ones are weighed beside the good ones, so that they take no place of theirs.
            let spoilt: Vec<usize> =
                members.iter().copied().filter(|&i| order[i].damaged.is_some() || is_good(&i)).collect();
            if spoilt.len() == good.len() {
                continue;
            }
            let would_stay: BTreeSet<usize> =
                claims(policy, zone, &spoilt, |i| order[i].received_at).into_iter().map(|(i, _)| i).collect();
            for &i in spoilt.iter().filter(|&&i| order[i].damaged.is_some()) {
                let has_newer = branch.members.iter().take_while(|&&other| other != i).any(is_good);
                if would_stay.contains(&i) || !has_newer {
                    let reason = order[i].damaged.clone().unwrap_or_default();
                    reasons[i].insert(RetentionReason::Damaged { reason, has_newer });
                }
            }
        }
        if let Some(&i) = branch.best_first.iter().find(|i| is_good(i)) {
            reasons[i].insert(RetentionReason::LastGood { branch: named });
        }
    }
}

/// What a person, or the verdict, says about a backup.
fn orders(view: &RetentionView, backup: &StoredBackup) -> Vec<RetentionReason> {
    let mut reasons: Vec<_> = view
        .holds
        .iter()
        .filter(|held| held.backup == backup.id)
        .map(|held| RetentionReason::Held { by: held.by.clone(), at: held.at, reason: held.reason.clone() })
        .collect();
    if view.canonical == Some(backup.id) {
        reasons.push(RetentionReason::Canonical);
    }
    reasons
}

/// Why a backup does not count, where that is a reason for it to stay. On a branch that was set aside
/// nothing counts, and the branch goes or stays as a whole.
fn doubts(now: Timestamp, backup: &StoredBackup, is_aside: bool) -> Option<RetentionReason> {
    if is_aside {
        None
    } else if backup.received_at > now {
        Some(RetentionReason::FromTheFuture { received_at: backup.received_at })
    } else if backup.suspect {
        Some(RetentionReason::Suspect)
    } else if backup.damaged.is_some() {
        None
    } else if let Some(reason) = &backup.unreadable {
        Some(RetentionReason::Unreadable { reason: reason.clone() })
    } else if backup.verified < Verified::Stored {
        Some(RetentionReason::NotVerified)
    } else {
        None
    }
}

fn why_not(branches: &Branches<'_>, i: usize, backup: &StoredBackup, policy: &RetentionPolicy) -> RetentionReason {
    if let Some((history, let_go)) = branches.let_go(i) {
        let LetGo { by, at, reason, .. } = let_go;
        return RetentionReason::LetGo { history, by: by.clone(), at: *at, reason: reason.clone() };
    }
    match &backup.damaged {
        Some(reason) => RetentionReason::DamagedAndOld { reason: reason.clone() },
        None => RetentionReason::NoRule { node: backup.node.clone(), policy: policy.to_string() },
    }
}

/// Of a shard that has a good backup, one stays.
fn keep_one(verdicts: &mut [RetentionVerdict], now: Timestamp) {
    if verdicts.iter().any(|verdict| verdict.keep && verdict.backup.is_good(now)) {
        return;
    }
    if let Some(last) = verdicts.iter_mut().find(|verdict| verdict.backup.is_good(now)) {
        last.keep = true;
        last.reasons = vec![RetentionReason::OnlyGood];
    }
}
