//! The loop's decisions, by a clock that the test turns.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use urtext_identity::AgentIdentity;
use urtext_planner::AlarmKind;
use urtext_types::{BackupId, TaskId};

use super::*;
use crate::{
    app::tests::{agent, app_at},
    catalog::{StoredTask, TaskWork},
    clock::Clock,
};

/// A coordinator with one shard, as `init` makes it: daily at 3, by jitter 139 s later.
struct Day {
    _dir: tempfile::TempDir,
    app: App,
    now: Arc<AtomicI64>,
    shard: ShardKey,
    key: JobKey,
}

impl Day {
    async fn begin(at: &str) -> Self {
        let now = Arc::new(AtomicI64::new(millis(at)));
        let shown = Arc::clone(&now);
        let clock = Clock::new(move || Timestamp::from_millis(shown.load(Ordering::Relaxed)));
        let (dir, app) = app_at(clock, |store, _| Arc::new(store)).await;
        app.fleet.know(&agent("orders", "fra-1"));
        let shard = ShardKey::of(&agent("orders", "fra-1"));
        let key = JobKey::snapshot(&shard);
        Self { _dir: dir, app, now, shard, key }
    }

    /// Looks at the schedule at that time.
    async fn look(&self, at: &str) -> Option<(String, u32)> {
        self.now.store(millis(at), Ordering::Relaxed);
        let begin = self.app.begin_if_due(&self.key).await.expect("looked at")?;
        let run = self.app.scheduled(&self.key).last_run.expect("a run");
        assert_eq!(run.slot, begin.slot);
        Some((begin.slot.to_string()[..16].to_owned(), run.attempts))
    }

    /// The next coordinator takes over.
    async fn restart(&mut self) {
        let memories = self.app.catalog.memories().await.expect("recalled");
        self.app.scheduler = Scheduler::recall(memories, self.app.clock.now());
    }

    fn alarm(&self) -> Option<AlarmKind> {
        self.app.schedule_alarms(&self.shard, self.app.clock.now()).first().map(|alarm| alarm.kind)
    }
}

fn millis(at: &str) -> i64 {
    at.parse::<Timestamp>().expect("a time").as_millis()
}

fn run_of(day: &str, attempt: u32) -> Option<(String, u32)> {
    Some((format!("{day}T03:00"), attempt))
}

#[tokio::test]
async fn a_run_begins_once_and_a_restart_neither_repeats_nor_loses_it() {
    let mut day = Day::begin("2027-01-15T08:00:00Z").await;
    assert_eq!(day.look("2027-01-15T08:00:01Z").await, None, "nothing is made up for that nobody asked for");
    assert_eq!(day.look("2027-01-16T03:02:18Z").await, None);
    assert_eq!(day.look("2027-01-16T03:02:19Z").await, run_of("2027-01-16", 1));
    assert_eq!(day.look("2027-01-16T03:02:20Z").await, None, "it runs");

    // Killed before its end: the same run goes on, as the same attempt, once the agents had time to come back.
    day.restart().await;
    assert_eq!(day.look("2027-01-16T03:02:30Z").await, None);
    assert_eq!(day.look("2027-01-16T03:02:35Z").await, run_of("2027-01-16", 1));
    day.app.end_run(&day.key, Ok(None)).await;
    day.restart().await;
    assert_eq!(day.look("2027-01-16T20:00:00Z").await, None, "it is done");
    assert_eq!(day.alarm(), None);

    // Down for three days: one run for all of them.
    day.restart().await;
    assert_eq!(day.look("2027-01-19T12:00:00Z").await, run_of("2027-01-19", 1));
    day.app.end_run(&day.key, Ok(None)).await;
    assert_eq!(day.look("2027-01-19T12:00:01Z").await, None);
    assert_eq!(day.look("2027-01-20T03:02:19Z").await, run_of("2027-01-20", 1));
}

#[tokio::test]
async fn what_failed_is_an_alarm_and_is_tried_again() {
    let mut day = Day::begin("2027-01-15T08:00:00Z").await;
    day.look("2027-01-15T08:00:01Z").await;
    day.look("2027-01-16T03:03:00Z").await.expect("begun");
    day.app.end_run(&day.key, Err("the disk is full".to_owned())).await;
    assert_eq!(day.alarm(), Some(AlarmKind::SnapshotFailed));
    assert_eq!(day.look("2027-01-16T03:03:29Z").await, None);
    day.restart().await;
    assert_eq!(day.look("2027-01-16T03:03:30Z").await, None, "the agents have not come back yet");
    assert_eq!(day.look("2027-01-16T03:04:00Z").await, run_of("2027-01-16", 2));
    assert_eq!(day.alarm(), Some(AlarmKind::SnapshotFailed), "nothing has succeeded yet");
    day.app.end_run(&day.key, Ok(None)).await;
    assert_eq!(day.alarm(), None);
    // The next one hangs.
    assert_eq!(day.look("2027-01-17T03:03:00Z").await, run_of("2027-01-17", 1));
    assert_eq!(day.alarm(), None);
    day.now.store(millis("2027-01-17T04:30:00Z"), Ordering::Relaxed);
    assert_eq!(day.alarm(), Some(AlarmKind::SnapshotOverdue));
}

#[tokio::test]
async fn a_run_without_a_node_that_can_be_captured_says_so() {
    let day = Day::begin("2027-01-15T08:00:00Z").await;
    day.look("2027-01-15T08:00:01Z").await;
    day.now.store(millis("2027-01-16T03:03:00Z"), Ordering::Relaxed);
    let begin = day.app.begin_if_due(&day.key).await.expect("looked at").expect("due");
    let Day { _dir, app, key, .. } = day;
    let app = Arc::new(app);
    run::run(Arc::clone(&app), key.clone(), begin).await;
    let run = app.scheduled(&key).last_run.expect("a run");
    let failure = run.failure.expect("failed");
    assert!(failure.starts_with("no node was captured: none can be now"), "{failure}");
}

#[tokio::test]
async fn what_another_coordinator_has_begun_is_not_asked_for_again() {
    let day = Day::begin("2027-01-15T08:00:00Z").await;
    day.look("2027-01-15T08:00:01Z").await;
    day.now.store(millis("2027-01-16T03:03:00Z"), Ordering::Relaxed);
    let begin = day.app.begin_if_due(&day.key).await.expect("looked at").expect("due");
    let given_at = day.app.clock.now();
    let task = |n: u8, slot: Option<Timestamp>| StoredTask {
        id: TaskId::new(given_at, [n; 10]),
        agent: agent("orders", "fra-1"),
        work: TaskWork::Capture { backup: BackupId::new(given_at, [n; 10]), hooked: true, slot },
        boot_id: None,
        given_at,
    };
    // By hand, of another run, and of this one.
    for task in [task(1, None), task(2, Some(Timestamp::from_millis(0))), task(3, Some(begin.slot))] {
        day.app.catalog.add_task(&task).await.expect("kept");
        day.app.catalog.end_task(task.id, given_at, None).await.expect("ended");
    }
    let captures = day.app.catalog.run_captures(&day.shard, begin.slot, begin.begun_at).await.expect("listed");
    assert_eq!(captures.iter().map(|capture| capture.task).collect::<Vec<_>>(), [task(3, None).id]);
    assert!(captures[0].is_committed());
    // So the run is done, although no node can be captured now.
    let Day { _dir, app, key, .. } = day;
    let app = Arc::new(app);
    run::run(Arc::clone(&app), key.clone(), begin).await;
    let run = app.scheduled(&key).last_run.expect("a run");
    assert_eq!((run.failure, run.ended_at), (None, Some(given_at)));
}

#[tokio::test]
async fn another_schedule_begins_anew() {
    let mut day = Day::begin("2027-01-15T08:00:00Z").await;
    day.look("2027-01-15T08:00:01Z").await;
    let text = std::fs::read_to_string(day.app.directory.settings()).expect("the settings");
    let path = day.app.directory.settings();
    let other = text.replace("\"0 3 * * *\"", "\"0 7 * * *\"");
    day.app.settings = crate::settings::Settings::parse(&other, &path).expect("valid");
    // 7 has passed today, but nobody had asked for it then.
    assert_eq!(day.look("2027-01-15T20:00:00Z").await, None);
    assert_eq!(day.look("2027-01-16T07:02:19Z").await, Some(("2027-01-16T07:00".to_owned(), 1)));
    let never = text.replace("\"0 3 * * *\"", "\"never\"");
    day.app.settings = crate::settings::Settings::parse(&never, &path).expect("valid");
    assert_eq!(day.look("2027-01-19T07:02:19Z").await, None);
}

#[tokio::test]
async fn what_is_of_a_whole_deployment_runs_once_for_all_its_shards() {
    let day = Day::begin("2027-01-15T08:00:00Z").await;
    day.app.fleet.know(&AgentIdentity { shard: "1".parse().expect("a name"), ..agent("orders", "fra-2") });
    let keys: Vec<String> = day.app.jobs(None).iter().map(ToString::to_string).collect();
    assert_eq!(keys, ["orders/0 snapshot", "orders/1 snapshot", "orders verify", "orders prune", "orders rehearse"]);
    // On Sundays at 5, by jitter some minutes later; never prunes unless the settings say so.
    let [verify, prune] = [Job::Verify, Job::Prune].map(|job| JobKey { job, shard: None, ..day.key.clone() });
    assert_eq!(day.app.begin_if_due(&verify).await.expect("looked at"), None);
    day.now.store(millis("2027-01-17T05:10:00Z"), Ordering::Relaxed);
    assert_eq!(day.app.begin_if_due(&prune).await.expect("looked at"), None);
    let begin = day.app.begin_if_due(&verify).await.expect("looked at").expect("due");
    let app = Arc::new(day.app);
    run::run(Arc::clone(&app), verify.clone(), begin).await;
    let shown = app.scheduled(&verify).last_run.expect("a run");
    assert_eq!((shown.outcome.as_deref(), shown.failure.as_deref()), (Some("nothing to verify yet"), None));
    // A catalog that is opened again knows it.
    let memories = app.catalog.memories().await.expect("recalled");
    assert_eq!(memories[&verify].run, Some(shown));
}
