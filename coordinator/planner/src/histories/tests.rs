use std::time::Duration;

use urtext_types::{
    Engine, Evidence, MasterLink, NodeAddress, Offset, PersistenceView, ReplicationView, Role, ServerIdentity,
};

use super::*;

fn history(n: u8) -> ReplicationId {
    ReplicationId::from_bytes([n; 20]).expect("not zero")
}

fn at(n: u8, offset: u64) -> Position {
    Position::new(history(n), Offset::new(offset).expect("small"))
}

fn master(position: Position, parent: Option<Position>, second: i64) -> NodeObservation {
    NodeObservation {
        observed_at: Timestamp::from_millis(second * 1000),
        server: ServerIdentity {
            engine: Engine::Redis,
            version: "7.0.15".to_owned(),
            run_id: "run".to_owned(),
            cluster_enabled: false,
        },
        replication: ReplicationView {
            history: position.history,
            offset: position.offset,
            parent,
            backlog_active: true,
            failover_in_progress: false,
            role: Role::Master { replicas: Vec::new() },
        },
        persistence: PersistenceView {
            loading: false,
            async_loading: false,
            bgsave_in_progress: false,
            last_bgsave_ok: true,
            last_save_at: None,
            saves: None,
            changes_since_last_save: 0,
            aof_enabled: false,
        },
        keyspace: BTreeMap::new(),
        used_memory: 0,
    }
}

fn node() -> NodeName {
    "fra-1".parse().expect("a name")
}

#[test]
fn a_promotion_is_learned_once() {
    let mut histories = ShardHistories::default();
    let seen = master(at(2, 700), Some(at(1, 615)), 1);
    let first = histories.observe(&node(), None, &seen, Timestamp::from_millis(0), ClockSkew::default());
    let edge = ForkEdge { child: history(2), parent: at(1, 615), evidence: Evidence::PromotedMaster };
    assert_eq!(first.edges, [edge]);
    let again = histories.observe(&node(), Some(&seen), &seen, Timestamp::from_millis(0), ClockSkew::default());
    assert_eq!((again.edges, again.head), (vec![], None));
}

#[test]
fn a_master_whose_id_changed_without_a_promotion_is_bridged() {
    let (before, mut now) = (master(at(1, 500), None, 0), master(at(2, 500), None, 1));
    now.replication.backlog_active = false;
    let mut histories = ShardHistories::default();
    let learned = histories.observe(&node(), Some(&before), &now, Timestamp::from_millis(0), ClockSkew::default());
    let edge = ForkEdge { child: history(2), parent: at(1, 500), evidence: Evidence::InferredSameRun };
    assert_eq!(learned.edges, [edge]);
    assert_eq!(learned.head, None, "its offset counts nothing");
}

#[test]
fn a_restarted_master_is_not_bridged() {
    let (before, mut now) = (master(at(1, 500), None, 0), master(at(2, 600), None, 1));
    now.server.run_id = "another".to_owned();
    assert_eq!(same_run_bridge(&before, &now), None);
    let emptied = master(at(2, 0), None, 1);
    assert_eq!(same_run_bridge(&before, &emptied), None);
}

/// In between it may have been a replica, with another data set, and have lost its second id with its backlog.
#[test]
fn a_master_that_nobody_looked_at_for_long_is_not_bridged() {
    let before = master(at(1, 500), None, 0);
    assert!(same_run_bridge(&before, &master(at(2, 600), None, 30)).is_some());
    assert_eq!(same_run_bridge(&before, &master(at(2, 600), None, 31)), None);
}

/// A replica that was started from its file and never linked up has no backlog: as a master it counts nothing.
#[test]
fn a_promotion_without_a_backlog_is_no_exact_copy_of_its_parent() {
    let mut now = master(at(2, 500), Some(at(1, 500)), 0);
    now.replication.backlog_active = false;
    let mut histories = ShardHistories::default();
    histories.observe(&node(), None, &now, Timestamp::from_millis(0), ClockSkew::default());
    assert_ne!(histories.lineage.normalize(at(2, 500)), at(1, 500));
    assert_eq!(histories.lineage.normalize(at(2, 499)), at(1, 499), "below the fork nothing is in doubt");
}

#[test]
fn a_server_that_is_started_anew_is_remembered_as_it_was() {
    let (mut before, mut now) = (master(at(1, 500), None, 0), master(at(2, 480), Some(at(1, 480)), 9));
    now.server.run_id = "another".to_owned();
    before.keyspace.insert(0, urtext_types::Keyspace { keys: 7, expires: 0 });
    let mut histories = ShardHistories::default();
    let noticed_at = Timestamp::from_millis(9000);
    let learned = histories.observe(&node(), Some(&before), &now, noticed_at, ClockSkew::default());
    let ended = RunSeen {
        node: node(),
        run_id: "run".to_owned(),
        position: Some(at(1, 500)),
        keys: 7,
        was_master: true,
        seen_at: Timestamp::from_millis(0),
        noticed_at,
    };
    assert_eq!(learned.ended, Some(ended.clone()));
    assert_eq!(histories.ended(), [ended]);
}

#[test]
fn a_promotion_that_was_watched_bounds_when_the_history_began() {
    let mut before = master(at(1, 600), None, 10);
    let link = MasterLink { up: true, last_io_seconds: Some(0), down_since_seconds: None, sync_in_progress: false };
    let master_at = NodeAddress { host: "10.0.0.1".to_owned(), port: 6379 };
    before.replication.role = Role::Replica { master: master_at, link, read_only: true, priority: 100 };
    let now = master(at(2, 700), Some(at(1, 615)), 12);
    let mut histories = ShardHistories::default();
    let learned = histories.observe(&node(), Some(&before), &now, Timestamp::from_millis(12_000), ClockSkew::default());
    let second = |second: i64| Some(Timestamp::from_millis(second * 1000));
    let times = |learned: &Learned| -> Vec<_> {
        learned.marks.iter().map(|mark| (mark.position, mark.complete_up_to, mark.reached_by)).collect()
    };
    assert_eq!(times(&learned), [(at(2, 615), second(10), None), (at(2, 700), second(12), second(12))]);
    // Another run may have had the history for long.
    let mut another = before.clone();
    another.server.run_id = "another".to_owned();
    let mut histories = ShardHistories::default();
    let learned = histories.observe(&node(), Some(&another), &now, Timestamp::from_millis(0), ClockSkew::default());
    assert_eq!(times(&learned), [(at(2, 700), second(12), second(12))]);
}

#[test]
fn a_contradiction_becomes_one_finding_and_changes_nothing() {
    let mut histories = ShardHistories::default();
    let known = ForkEdge { child: history(2), parent: at(1, 615), evidence: Evidence::PromotedMaster };
    histories.learn_edge(known);
    let claim = ForkEdge { parent: at(3, 615), ..known };
    assert_eq!(histories.learn_edge(claim).findings.len(), 1);
    assert_eq!(histories.learn_edge(claim), Learned::default());
    assert_eq!(
        histories.findings,
        ["history 02020202 is said to have left 03030303 at offset 615, but it is known that 02020202 left \
          01010101 at offset 615; neither is relied on"]
    );
    assert_eq!(histories.lineage.edge_of(history(2)), Some(&known));
}

#[test]
fn samples_are_corrected_by_the_skew_of_the_clock() {
    let mut histories = ShardHistories::default();
    let seen = master(at(1, 500), None, 3605);
    let clock = ClockSkew { ahead_ms: 3_600_000, within: Duration::from_millis(20) };
    let learned = histories.observe(&node(), None, &seen, Timestamp::from_millis(5000), clock);
    let times: Vec<_> = learned.marks.iter().map(|mark| (mark.complete_up_to, mark.reached_by)).collect();
    let millis = |millis| Some(Timestamp::from_millis(millis));
    assert_eq!(times, [(millis(4980), millis(5020))]);
}

#[test]
fn an_idle_master_does_not_pile_up_samples() {
    let mut histories = ShardHistories::default();
    for second in 0..100 {
        histories.observe(
            &node(),
            None,
            &master(at(1, 500), None, second),
            Timestamp::from_millis(0),
            ClockSkew::default(),
        );
    }
    let marks: Vec<_> = histories.timeline.marks().map(|mark| (mark.reached_by, mark.complete_up_to)).collect();
    let second = |second: i64| Some(Timestamp::from_millis(second * 1000));
    assert_eq!(marks, [(second(0), second(99))]);
}
