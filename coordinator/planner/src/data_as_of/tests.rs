use urtext_types::{Evidence, ForkEdge, Offset, ReplicationId};

use super::*;
use crate::timeline::{Sample, Witness};

fn at(n: u8, offset: u64) -> Position {
    let history = ReplicationId::from_bytes([n; 20]).expect("not zero");
    Position::new(history, Offset::new(offset).expect("small"))
}

fn edge(child: u8, parent: Position, evidence: Evidence) -> ForkEdge {
    ForkEdge { child: at(child, 0).history, parent, evidence }
}

fn look(position: Position, second: i64) -> Sample {
    let at = Timestamp::from_millis(second * 1000);
    Sample { position, at, within: Duration::ZERO, witness: Witness::Master }
}

fn lineage(edges: &[ForkEdge]) -> Lineage {
    let mut lineage = Lineage::new();
    edges.iter().for_each(|&edge| assert_eq!(lineage.learn(edge), Ok(true)));
    lineage
}

#[track_caller]
fn check(edges: &[ForkEdge], looks: &[Sample], position: Position, from: Option<i64>, to: Option<i64>) {
    let timeline: Timeline = looks.iter().rev().copied().collect();
    let lineage = lineage(edges);
    let asked = DataAsOf::new(&lineage, &timeline);
    let second = |time: Option<i64>| time.map(|s| Timestamp::from_millis(s * 1000));
    assert_eq!(asked.of(position), Interval { from: second(from), to: second(to) });
}

/// History 1 from 0 s to 20 s; promoted at 200 as 2, which is seen from 31 s on.
fn one_failover() -> (Vec<ForkEdge>, Vec<Sample>) {
    let looks = vec![
        look(at(1, 100), 0),
        look(at(1, 150), 10),
        look(at(1, 200), 20),
        look(at(2, 250), 31),
        look(at(2, 300), 40),
    ];
    (vec![edge(2, at(1, 200), Evidence::PromotedMaster)], looks)
}

#[test]
fn a_position_lies_between_the_looks_around_it() {
    let (edges, looks) = one_failover();
    check(&edges, &looks, at(1, 100), Some(0), Some(10));
    check(&edges, &looks, at(1, 149), Some(0), Some(10));
    check(&edges, &looks, at(1, 150), Some(10), Some(20));
    // Nobody saw 1 go on, so nothing that 2 wrote before is in question.
    check(&edges, &looks, at(1, 160), Some(10), Some(20));
}

#[test]
fn before_the_first_and_after_the_last_look_one_end_is_open() {
    let (edges, looks) = one_failover();
    check(&edges, &looks, at(1, 99), None, Some(0));
    check(&edges, &looks, at(2, 300), Some(40), None);
    check(&edges, &looks, at(9, 100), None, None);
}

/// At 20 s the old master may have been cut off and idle, and the new one written already.
#[test]
fn an_old_master_at_the_fork_says_nothing_about_the_new_one() {
    let (edges, mut looks) = one_failover();
    check(&edges, &looks, at(1, 200), Some(10), Some(31));
    check(&edges, &looks, at(2, 220), Some(10), Some(31));
    // The old master went on alone: nothing that is known of its successor bounds it.
    check(&edges, &looks, at(1, 201), Some(20), None);
    // Who was promoted was no master yet at 28 s.
    looks.push(Sample { witness: Witness::Beginning, ..look(at(2, 200), 28) });
    check(&edges, &looks, at(1, 200), Some(28), Some(31));
    check(&edges, &looks, at(2, 220), Some(28), Some(31));
    // That says nothing about when its last offset had been reached.
    let timeline: Timeline = looks.iter().copied().collect();
    let asked = DataAsOf::new(&lineage(&edges), &timeline).reached(at(1, 200));
    assert_eq!(asked, Some(Timestamp::from_millis(20_000)));
}

#[test]
fn a_restored_server_that_is_idle_does_not_make_an_old_copy_current() {
    let edges = [edge(2, at(1, 200), Evidence::Restore)];
    let mut looks = vec![look(at(1, 100), 0), look(at(1, 200), 10), look(at(2, 200), 50)];
    check(&edges, &looks, at(1, 200), Some(50), None);
    check(&edges, &looks, at(2, 200), Some(50), None);
    looks.push(look(at(1, 260), 12));
    check(&edges, &looks, at(1, 200), Some(10), Some(12));
    check(&edges, &looks, at(2, 200), Some(10), Some(12));
    // It goes on, long after the other one did.
    looks.push(look(at(2, 210), 55));
    check(&edges, &looks, at(2, 200), Some(10), Some(12));
    check(&edges, &looks, at(2, 210), Some(55), None);
    check(&edges, &looks, at(2, 205), Some(50), Some(55));
}

#[test]
fn what_was_not_counted_is_in_question_on_both_sides_of_a_bridge() {
    let edges = [edge(2, at(1, 200), Evidence::InferredSameRun)];
    let looks = [look(at(1, 150), 5), look(at(1, 200), 10), look(at(2, 200), 30), look(at(2, 250), 40)];
    // 2 at 200 holds writes without an offset, of which nobody knows when they were made.
    check(&edges, &looks, at(1, 200), Some(10), Some(40));
    check(&edges, &looks, at(2, 200), Some(30), Some(40));
}

#[test]
fn an_id_that_changed_twice_at_one_number_is_followed() {
    let bridge = |child, parent| edge(child, at(parent, 200), Evidence::InferredSameRun);
    let edges = [bridge(2, 1), bridge(3, 2), edge(4, at(1, 200), Evidence::Restore)];
    let looks = [look(at(1, 200), 10), look(at(3, 260), 30), look(at(4, 200), 50)];
    check(&edges, &looks, at(1, 200), Some(10), Some(30));
}

#[test]
fn a_replica_shows_what_was_reached_and_not_what_was_complete() {
    let replica = |position, second| Sample { witness: Witness::Replica, ..look(position, second) };
    let looks = [look(at(1, 100), 0), replica(at(1, 150), 5), replica(at(1, 180), 8)];
    check(&[], &looks, at(1, 150), Some(0), Some(8));
    check(&[], &looks, at(1, 180), Some(0), None);
}

#[test]
fn clocks_that_are_not_known_well_widen_both_ends() {
    let vague = |position, second| Sample { within: Duration::from_secs(2), ..look(position, second) };
    check(&[], &[vague(at(1, 100), 10), vague(at(1, 150), 20)], at(1, 120), Some(8), Some(22));
}

#[test]
fn clocks_that_were_set_back_make_no_interval_that_ends_before_it_begins() {
    let looks = [look(at(1, 100), 50), look(at(1, 150), 20)];
    check(&[], &looks, at(1, 100), Some(20), Some(20));
    check(&[], &looks, at(1, 99), None, Some(20));
    check(&[], &looks, at(1, 150), Some(50), None);
}

#[track_caller]
fn says(looks: &[Sample], now: i64, position: Position, expect: Option<&str>) {
    let (edges, _) = one_failover();
    let timeline: Timeline = looks.iter().copied().collect();
    let now = Timestamp::from_millis(now * 1000);
    assert_eq!(DataAsOf::new(&lineage(&edges), &timeline).reason(position, now).as_deref(), expect);
}

#[test]
fn a_wide_interval_has_a_reason() {
    let (_, looks) = one_failover();
    says(&[look(at(1, 100), 0), look(at(1, 150), 1)], 2, at(1, 120), None);
    let silent = "no look at the master between 1970-01-01T00:00:00Z and 1970-01-01T00:00:10Z: its agent was silent, or the server was";
    says(&looks, 60, at(1, 120), Some(silent));
    let failover = "no look at a master between 1970-01-01T00:00:10Z and 1970-01-01T00:00:31Z, while it went on from \
                    history 01010101 to history 02020202";
    says(&looks, 60, at(2, 220), Some(failover));
    says(&looks, 7200, at(1, 120), Some("of looks that are 1 h 59 min old, one every 10.0 s is kept"));
    says(&looks, 60, at(1, 50), Some("no look at a master is known from before 1970-01-01T00:00:00Z"));
    says(&looks, 60, at(2, 300), Some("nobody has seen a master beyond it yet"));
    let vague = |position, second| Sample { within: Duration::from_secs(2), ..look(position, second) };
    let looks = [vague(at(1, 100), 10), vague(at(1, 150), 11)];
    says(&looks, 60, at(1, 120), Some("the clocks of the agents are known to within 2.0 s only"));
}
