//! Data as of, against a truth: when every byte was written.

use std::time::Duration;

use proptest::prelude::*;
use urtext_planner::{ClockSkew, DataAsOf, Mark, Sample, ShardHistories, Timeline, Witness};
use urtext_types::{Interval, Lineage, Offset, Position, ReplicationId, Timestamp};

fn at(offset: u64) -> Position {
    let history = ReplicationId::from_bytes([7; 20]).expect("not zero");
    Position::new(history, Offset::new(offset).expect("small"))
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// When each byte of a history was written, in order: bursts and pauses.
fn written() -> impl Strategy<Value = Vec<i64>> {
    let pause = prop_oneof![5 => Just(0_i64), 5 => 1..50_i64, 1 => 5000..50_000_i64];
    proptest::collection::vec(pause, 1..60).prop_map(|pauses| {
        pauses
            .into_iter()
            .scan(1_000_000, |now, pause| {
                *now += pause;
                Some(*now)
            })
            .collect()
    })
}

/// Looks at that history: when, how wrong the clock is, how wrong it may be, and how far a replica is behind.
fn looks() -> impl Strategy<Value = Vec<(i64, i64, u64, Option<u64>)>> {
    let look = (999_000..1_200_000_i64, -20..=20_i64, 20..40_u64, proptest::option::of(0..20_u64));
    proptest::collection::vec(look, 0..40)
}

fn sample(written: &[i64], (when, wrong, within, lag): (i64, i64, u64, Option<u64>)) -> Sample {
    let offset = written.partition_point(|&time| time <= when) as u64;
    let witness = if lag.is_some() { Witness::Replica } else { Witness::Master };
    let position = at(offset.saturating_sub(lag.unwrap_or(0)));
    Sample { position, at: millis(when + wrong), within: Duration::from_millis(within), witness }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]

    #[test]
    fn the_first_write_that_a_copy_lacks_lies_in_its_interval(written in written(), looks in looks()) {
        let timeline: Timeline = looks.into_iter().map(|look| sample(&written, look)).collect();
        let lineage = Lineage::new();
        let times = DataAsOf::new(&lineage, &timeline);
        for offset in 0..written.len() {
            let first_lacking = millis(written[offset]);
            let Interval { from, to } = times.of(at(offset as u64));
            prop_assert!(from.is_none_or(|from| from <= first_lacking), "{offset}: {from:?} > {first_lacking}");
            prop_assert!(to.is_none_or(|to| first_lacking <= to), "{offset}: {to:?} < {first_lacking}");
            if offset > 0 {
                let reached = times.reached(at(offset as u64));
                prop_assert!(reached.is_none_or(|reached| millis(written[offset - 1]) <= reached));
            }
        }
    }

    /// In whatever order looks come in, also when they are stored and read back on the way.
    #[test]
    fn the_order_of_the_looks_does_not_matter(written in written(), looks in looks(), pick in any::<u64>()) {
        let samples: Vec<_> = looks.into_iter().map(|look| sample(&written, look)).collect();
        let in_order: Timeline = samples.iter().copied().collect();
        let mut shuffled = samples.clone();
        shuffled.sort_by_key(|sample| (sample.at.as_millis() as u64).wrapping_mul(pick | 1));
        let mut stored: Timeline = shuffled.iter().take(10).copied().collect();
        stored = stored.marks().collect::<Vec<Mark>>().into_iter().collect();
        shuffled.iter().skip(10).for_each(|&sample| { stored.record(sample); });
        let lineage = Lineage::new();
        let (a, b) = (DataAsOf::new(&lineage, &in_order), DataAsOf::new(&lineage, &stored));
        for offset in 0..=written.len() as u64 {
            prop_assert_eq!((a.of(at(offset)), a.reached(at(offset))), (b.of(at(offset)), b.reached(at(offset))));
        }
    }

    #[test]
    fn the_intervals_of_known_backups_do_not_widen(
        written in written(), looks in looks(), pins in proptest::collection::vec(0..60_u64, 0..6), age in 0..400_i64,
    ) {
        let mut histories = ShardHistories::default();
        histories.timeline = looks.into_iter().map(|look| sample(&written, look)).collect();
        let lineage = Lineage::new();
        let all = |histories: &ShardHistories| -> Vec<Interval> {
            let times = DataAsOf::new(&lineage, &histories.timeline);
            pins.iter().map(|&pin| times.of(at(pin))).collect()
        };
        let before = all(&histories);
        let (now, len) = (millis(1_200_000 + age * 86_400_000), histories.timeline.len());
        let gone = histories.thin(now, pins.iter().map(|&pin| at(pin)));
        prop_assert_eq!(len, histories.timeline.len() + gone.len());
        prop_assert_eq!(before, all(&histories));
        // Once is enough, and a mark that is gone is not there.
        prop_assert_eq!(histories.thin(now, pins.iter().map(|&pin| at(pin))), vec![]);
        prop_assert!(histories.timeline.marks().all(|mark| !gone.contains(&mark.position)));
    }
}

/// A year of looks with a backup every six hours, in memory and as rows of a table. Of all but the last days one look
/// in ten seconds will do: no more is kept of them.
#[test]
fn a_year_takes_less_than_ten_megabytes() {
    const DAY: u64 = 86_400;
    /// A row: deployment, shard and history as text, three numbers and the key of it all once more.
    const ROW: usize = 2 * (20 + 2 + 40 + 9) + 3 * 9;
    let mut histories = ShardHistories::default();
    let clock = ClockSkew { ahead_ms: 0, within: Duration::from_millis(5) };
    for day in 0..365 {
        for second in (day * DAY..(day + 1) * DAY).step_by(if day < 363 { 10 } else { 1 }) {
            let time = millis(second as i64 * 1000);
            let sample = Sample {
                position: at(second * 100),
                at: clock.correct(time),
                within: clock.within,
                witness: Witness::Master,
            };
            histories.timeline.record(sample);
        }
        let backups = (0..=day * 4).map(|backup| at(backup * DAY / 4 * 100 + 50));
        histories.thin(millis(((day + 1) * DAY * 1000) as i64), backups);
    }
    let (marks, memory) = (histories.timeline.len(), histories.timeline.memory());
    assert!(marks * ROW < 10_000_000 && memory < 10_000_000, "{marks} marks, {memory} bytes");
    assert!(marks > 20_000, "{marks} marks: the past is coarser than it should be");
    // The last hour is as it came.
    let last = histories.timeline.marks().filter(|mark| mark.position.offset.get() > (365 * DAY - 3600) * 100).count();
    assert!(last >= 3599, "{last}");
}
