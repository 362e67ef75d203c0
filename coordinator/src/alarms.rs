//! What is wrong is looked for regularly, and soon after anything that matters has changed; what came and what
//! went is told, and kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::watch;
use tracing::{info, warn};
use urtext_planner::{Alarm, alarms};
use urtext_types::{Chain, NodeObservation, Role, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{Present, What},
    shard::ShardKey,
};

/// How often shards in which something changed are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often each shard is looked at although nothing changed: some things are wrong only after a while.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// So many times as long as a look at every shard takes, there is none after it: of very many backups that is seconds.
const PAUSE_FACTOR: u32 = 10;

/// What is wrong now, in every shard.
#[derive(Debug)]
pub struct Alarms {
    state: Mutex<State>,
    /// Counts up whenever an event was written.
    told: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    present: BTreeMap<ShardKey, Vec<Present>>,
    changed: BTreeSet<ShardKey>,
}

impl Alarms {
    /// As the last coordinator left it, so that a restart raises nothing again.
    pub fn recall(present: BTreeMap<ShardKey, Vec<Present>>) -> Self {
        Self { state: Mutex::new(State { present, changed: BTreeSet::new() }), told: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the alarms")
    }

    /// What is wrong in one shard, the worst first.
    pub fn of(&self, shard: &ShardKey) -> Vec<Present> {
        self.lock().present.get(shard).cloned().unwrap_or_default()
    }

    /// Something happened that may change what is wrong.
    pub fn look_at(&self, shard: &ShardKey) {
        self.lock().changed.insert(shard.clone());
    }

    /// Wakes whenever events were written.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }
}

/// Whether one look at a node tells another story than the look before.
pub fn is_other_story(before: Option<&NodeObservation>, now: &NodeObservation) -> bool {
    let Some(before) = before else { return true };
    let story = |seen: &NodeObservation| {
        let link = match &seen.replication.role {
            Role::Master { .. } => None,
            Role::Replica { link, master, .. } => Some((link.up, master.clone())),
        };
        (seen.server.run_id.clone(), seen.replication.history, link)
    };
    story(before) != story(now)
}

/// What came and what went between two looks; and what is wrong now, each since when.
fn compare(before: &[Present], found: Vec<Alarm>, now: Timestamp) -> (Vec<Present>, Vec<(What, Present)>) {
    let mut changes = Vec::new();
    let mut present: Vec<Present> = Vec::new();
    for Alarm { kind, subject, sentence, hint } in found {
        let is_same = |other: &&Present| other.kind == kind.as_str() && other.subject == subject;
        let known = before.iter().find(is_same);
        let is_listed = present.iter().any(|other| is_same(&other));
        if is_listed {
            continue;
        }
        let since = known.map_or(now, |known| known.since);
        let alarm = Present { kind: kind.as_str().to_owned(), subject, sentence, hint, since };
        if known.is_none() {
            changes.push((What::Raised, alarm.clone()));
        }
        present.push(alarm);
    }
    let is_gone =
        |old: &&Present| !present.iter().any(|alarm| (&alarm.kind, &alarm.subject) == (&old.kind, &old.subject));
    let gone: Vec<_> = before.iter().filter(is_gone).map(|old| (What::Cleared, old.clone())).collect();
    changes.extend(gone);
    (present, changes)
}

impl App {
    /// Goes on looking until the coordinator stops.
    pub async fn keep_watching(self: Arc<Self>) {
        let (mut looked, mut pause) = (tokio::time::Instant::now(), LOOK_AGAIN_AFTER);
        while self.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let mut due = std::mem::take(&mut self.alarms.lock().changed);
            let begun = tokio::time::Instant::now();
            let is_everything = looked.elapsed() >= pause;
            if is_everything {
                due.extend(self.shards(None));
            }
            for shard in due {
                if let Err(error) = self.look_for_alarms(&shard).await {
                    warn!(%shard, error = %Chain(&error), "could not look for what is wrong; trying again");
                    self.alarms.look_at(&shard);
                }
            }
            if is_everything {
                (looked, pause) = (begun, LOOK_AGAIN_AFTER.max(begun.elapsed() * PAUSE_FACTOR));
            }
        }
    }

    /// Looks at one shard, and tells what came and what went.
    pub async fn look_for_alarms(&self, shard: &ShardKey) -> Result<(), Fault> {
        let judgement = self.judge_known(shard, &crate::verdict::Ask::default()).await?;
        let policy = self.planner_policy(&shard.deployment, None);
        let mut found = alarms(&judgement.view, &policy, &judgement.selection);
        found.extend(self.schedule_alarms(shard, judgement.view.now));
        found.sort_by_key(|alarm| alarm.kind);
        let before = self.alarms.of(shard);
        let now = self.clock.now();
        let (present, changes) = compare(&before, found, now);
        if present == before {
            return Ok(());
        }
        self.catalog
            .put_alarms(shard, &present, &changes, now)
            .await
            .map_err(Fault::while_doing("keep what is wrong"))?;
        self.alarms.lock().present.insert(shard.clone(), present);
        for (what, alarm) in &changes {
            match what {
                What::Raised => warn!(%shard, kind = %alarm.kind, alarm = %alarm.sentence, "raised"),
                What::Cleared => info!(%shard, kind = %alarm.kind, alarm = %alarm.sentence, "cleared"),
            }
        }
        if !changes.is_empty() {
            self.alarms.told.send_modify(|told| *told += 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use urtext_planner::AlarmKind;

    use super::*;

    fn alarm(kind: AlarmKind, subject: &str, sentence: &str) -> Alarm {
        Alarm { kind, subject: subject.to_owned(), sentence: sentence.to_owned(), hint: String::new() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    #[test]
    fn an_alarm_is_raised_once_and_cleared_once_however_its_sentence_changes() {
        let stale = |sentence| alarm(AlarmKind::ReplicaStale, "nyc-1", sentence);
        let (first, raised) = compare(&[], vec![stale("for 31 s")], at(1));
        assert_eq!(raised.iter().map(|(what, _)| *what).collect::<Vec<_>>(), [What::Raised]);
        let (second, nothing) = compare(&first, vec![stale("for 61 s")], at(31));
        assert_eq!(nothing, []);
        assert_eq!((second[0].sentence.as_str(), second[0].since), ("for 61 s", at(1)));
        let (third, cleared) = compare(&second, vec![alarm(AlarmKind::Fork, "a:1", "")], at(60));
        let what: Vec<_> = cleared.iter().map(|(what, alarm)| (*what, alarm.kind.as_str())).collect();
        assert_eq!(what, [(What::Raised, "fork"), (What::Cleared, "replica-stale")]);
        assert_eq!(third.len(), 1);
    }

    #[test]
    fn what_a_planner_says_twice_is_one_alarm() {
        let twice = vec![alarm(AlarmKind::Fork, "a:1", "one"), alarm(AlarmKind::Fork, "a:1", "two")];
        assert_eq!(compare(&[], twice, at(1)).0.len(), 1);
    }
}
