//! Wall-clock time attached to positions: until when a copy is known to hold every write.
//!
//! While a master is seen at offset `x` at time `t`, every write that it accepted before `t` is at
//! or below `x`. So a copy at offset `b` holds every write up to the latest `t` with `x(t) <= b`,
//! and lacks something from the earliest `t` with `x(t) > b` on. Time never orders copies; it is
//! shown to people.

use std::collections::BTreeMap;

use urtext_types::{Interval, Lineage, Offset, Position, ReplicationId, Timestamp};

use crate::timeline::{Sample, Timeline};

/// When masters had which offset, ready to be asked.
#[derive(Debug)]
pub struct DataAsOf<'a> {
    lineage: &'a Lineage,
    histories: BTreeMap<ReplicationId, Vec<Step>>,
}

/// One sample, with what follows from those on either side of it.
#[derive(Debug, Clone, Copy)]
struct Step {
    offset: Offset,
    /// The latest time at which a writer was at or below this offset.
    latest_so_far: Option<Timestamp>,
    /// The earliest time by which this offset or a greater one had been reached.
    earliest_from_here: Option<Timestamp>,
}

impl Step {
    fn of(sample: &Sample, offset: Offset) -> Self {
        Self {
            offset,
            latest_so_far: sample.witness.proves_complete().then(|| sample.earliest()),
            earliest_from_here: sample.witness.proves_reached().then(|| sample.latest()),
        }
    }
}

/// The lesser of two times, where an unknown one bounds nothing.
fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

impl<'a> DataAsOf<'a> {
    pub fn new(lineage: &'a Lineage, timeline: &Timeline) -> Self {
        let mut histories: BTreeMap<ReplicationId, Vec<Step>> = BTreeMap::new();
        for sample in timeline.samples() {
            let at = lineage.normalize(sample.position);
            histories.entry(at.history).or_default().push(Step::of(&sample, at.offset));
        }
        for steps in histories.values_mut() {
            steps.sort_unstable_by_key(|step| (step.offset, step.latest_so_far));
            for i in 1..steps.len() {
                steps[i].latest_so_far = steps[i].latest_so_far.max(steps[i - 1].latest_so_far);
            }
            for i in (1..steps.len()).rev() {
                steps[i - 1].earliest_from_here = earlier(steps[i - 1].earliest_from_here, steps[i].earliest_from_here);
            }
        }
        Self { lineage, histories }
    }

    /// Complete up to `from`, not complete beyond `to`.
    pub fn of(&self, position: Position) -> Interval {
        let to = self.first_seen(position, |offset, at| offset > at);
        // A restored server that is idle goes on holding what the others have long left behind: what
        // somebody was seen to hold beyond it bounds how new the data can be.
        let from = self.complete_up_to(position).map(|from| to.map_or(from, |to| from.min(to)));
        Interval { from, to }
    }

    /// The earliest time at which a master was seen to hold `position`: it had been reached by then.
    pub fn reached(&self, position: Position) -> Option<Timestamp> {
        self.first_seen(position, |offset, at| offset >= at)
    }

    /// At most how many seconds of writes lie between two positions of which the second holds more.
    pub fn seconds_between(&self, from: Position, to: Position) -> Option<f64> {
        Some(self.reached(to)?.since(self.complete_up_to(from)?).as_secs_f64())
    }

    /// Every write before this time is included.
    pub(crate) fn complete_up_to(&self, position: Position) -> Option<Timestamp> {
        self.lineage.path(position).find_map(|at| self.complete_in_history(at))
    }

    /// The same by the samples of the position's own history alone. The position is normalized.
    pub(crate) fn complete_in_history(&self, at: Position) -> Option<Timestamp> {
        let steps = self.histories.get(&at.history)?;
        let below = steps.partition_point(|step| step.offset <= at.offset);
        steps[below.checked_sub(1)?].latest_so_far
    }

    fn first_seen(&self, position: Position, is_past: impl Fn(Offset, Offset) -> bool) -> Option<Timestamp> {
        let position = self.lineage.normalize(position);
        let in_history = |history: ReplicationId, is_past: &dyn Fn(Offset) -> bool| {
            let steps = self.histories.get(&history)?;
            steps.get(steps.partition_point(|step| !is_past(step.offset)))?.earliest_from_here
        };
        let own = in_history(position.history, &|offset| is_past(offset, position.offset));
        // A later history that left after the position has everything of it below its own bytes.
        let later = self.histories.keys().filter(|&&history| history != position.history).filter_map(|&history| {
            let far = Position::new(history, Offset::MAX);
            // Offsets fall on the way up: what is below the position's cannot be followed by it.
            let mut up = self.lineage.path(far).skip(1).take_while(|at| at.offset >= position.offset);
            up.find(|at| at.history == position.history).and_then(|_| in_history(history, &|_| true))
        });
        own.into_iter().chain(later).min()
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::{Evidence, ForkEdge};

    use super::*;
    use crate::timeline::Witness;

    fn at(n: u8, offset: u64) -> Position {
        let history = ReplicationId::from_bytes([n; 20]).expect("not zero");
        Position::new(history, Offset::new(offset).expect("small"))
    }

    /// History 1 from 0 s to 20 s; promoted at 200 as 2, which is seen from 31 s on.
    #[track_caller]
    fn check(position: Position, from: Option<i64>, to: Option<i64>) {
        let mut lineage = Lineage::new();
        let edge = ForkEdge { child: at(2, 0).history, parent: at(1, 200), evidence: Evidence::PromotedMaster };
        lineage.learn(edge).expect("first");
        let timeline: Timeline =
            [(at(1, 100), 0), (at(2, 300), 40), (at(1, 150), 10), (at(1, 200), 20), (at(2, 250), 31)]
                .into_iter()
                .map(|(position, second)| Sample {
                    position,
                    at: Timestamp::from_millis(second * 1000),
                    within: std::time::Duration::ZERO,
                    witness: Witness::Master,
                })
                .collect();
        let second = |time: Option<i64>| time.map(|s| Timestamp::from_millis(s * 1000));
        let interval = DataAsOf::new(&lineage, &timeline).of(position);
        assert_eq!(interval, Interval { from: second(from), to: second(to) });
    }

    #[test]
    fn a_position_lies_between_the_samples_around_it() {
        check(at(1, 100), Some(0), Some(10));
        check(at(1, 149), Some(0), Some(10));
        check(at(1, 150), Some(10), Some(20));
    }

    #[test]
    fn before_the_first_and_after_the_last_sample_one_end_is_open() {
        check(at(1, 99), None, Some(0));
        check(at(2, 300), Some(40), None);
    }

    #[test]
    fn time_goes_on_across_a_fork() {
        check(at(1, 200), Some(20), Some(31));
        check(at(2, 220), Some(20), Some(31));
        // The old master went on alone: nothing that is known of its successor bounds it.
        check(at(1, 201), Some(20), None);
    }

    #[test]
    fn nothing_is_known_of_another_history() {
        check(at(9, 100), None, None);
    }
}
