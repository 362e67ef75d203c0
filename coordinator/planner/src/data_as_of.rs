//! Until when a copy is known to hold every write, and from when on it is known not to.
//!
//! While a master is seen at offset `x` at time `t`, every write that it accepted before `t` is at or
//! below `x`. So a copy at offset `b` holds every write up to the latest `t` with `x(t) <= b`, and lacks
//! something from the earliest `t` with `x(t) > b` on. The truth, the time of the first write that the
//! copy lacks, lies between the two.
//!
//! # Where histories part
//!
//! A position may be continued by several lines: by its own history, and by every history that left
//! exactly there. The first write that the copy lacks is the first one on any of them, so of the lines
//! that were seen to go on, the one that is known the least decides. A server that was restored and is
//! idle since does not make an old copy look current, if others went on from there.
//!
//! What was seen of a parent bounds its child as long as the parent was seen *below* the fork: it had to
//! write on before the child could begin. Seen exactly at the fork, it may have been the old master, cut
//! off and idle, while the child was written already.

use std::time::Duration;

use urtext_types::{Interval, Lineage, Position, Timestamp};

use crate::{
    chart::{Chart, Place},
    timeline::{Line, Packed, Timeline, spacing},
    wording::{duration, history, time},
};

/// An interval up to this wide needs no reason: two looks, a second apart.
const NARROW: Duration = Duration::from_secs(1);

const NO_LOOK: &str = "no look at a master of its history is known";

/// When masters had which offset, ready to be asked.
#[derive(Debug)]
pub struct DataAsOf<'a> {
    chart: ChartRef<'a>,
    lines: Vec<Option<&'a Line>>,
    /// For each history, the histories that left it, by where they left.
    left: Vec<Vec<(Place, usize)>>,
    /// For each history, by when it or one that descends from it was first seen.
    first: Vec<Option<Timestamp>>,
    /// For each history, until when the line that leads to it is complete where it begins.
    before: Vec<Option<Look>>,
}

#[derive(Debug)]
enum ChartRef<'a> {
    Own(Chart),
    Lent(&'a Chart),
}

/// A look on which one end of an interval rests.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// The end of the interval.
    time: Timestamp,
    within: Duration,
    /// In which history.
    history: usize,
}

impl Look {
    fn complete(history: usize, mark: Option<Packed>) -> Option<Self> {
        let mark = mark?;
        Some(Self { time: mark.complete()?, within: mark.within(), history })
    }

    fn reached(history: usize, mark: Option<Packed>) -> Option<Self> {
        let mark = mark?;
        Some(Self { time: mark.reached()?, within: mark.within(), history })
    }
}

/// Both ends, with what they rest on.
#[derive(Debug, Clone, Copy)]
struct Ends {
    from: Option<Look>,
    to: Option<Look>,
}

impl<'a> DataAsOf<'a> {
    pub fn new(lineage: &Lineage, timeline: &'a Timeline) -> Self {
        let known = lineage.edges().map(|edge| edge.child).chain(timeline.histories());
        Self::over(ChartRef::Own(Chart::new(lineage, known)), timeline)
    }

    /// The chart must have been made with every history of the lineage.
    pub(crate) fn on(chart: &'a Chart, timeline: &'a Timeline) -> Self {
        Self::over(ChartRef::Lent(chart), timeline)
    }

    fn over(chart: ChartRef<'a>, timeline: &'a Timeline) -> Self {
        let mut asked = Self { chart, lines: Vec::new(), left: Vec::new(), first: Vec::new(), before: Vec::new() };
        let len = asked.chart().len();
        asked.lines = (0..len).map(|history| timeline.line(asked.chart().id(history))).collect();
        asked.left = vec![Vec::new(); len];
        asked.first = asked.lines.iter().map(|line| line.and_then(Line::first).and_then(Packed::reached)).collect();
        // Children have greater numbers than their parents.
        for history in (0..len).rev() {
            let Some(up) = asked.chart().up(history) else { continue };
            asked.left[up.history].push((up, history));
            asked.first[up.history] = earlier(asked.first[up.history], asked.first[history]);
        }
        for left in &mut asked.left {
            left.sort_unstable();
        }
        for history in 0..len {
            let before = asked.chart().up(history).and_then(|up| {
                let line = asked.lines[up.history];
                let seen = match asked.chart().is_gapless(history) {
                    true => line.and_then(|line| line.below(up.offset)),
                    // One run of one server wrote both, one after the other.
                    false => line.and_then(|line| line.at_or_below(up.offset)),
                };
                Look::complete(up.history, seen).or(asked.before[up.history])
            });
            asked.before.push(before);
        }
        asked
    }

    fn chart(&self) -> &Chart {
        match &self.chart {
            ChartRef::Own(chart) => chart,
            ChartRef::Lent(chart) => chart,
        }
    }

    /// Complete up to `from`, not complete beyond `to`.
    pub fn of(&self, position: Position) -> Interval {
        match self.chart().place(position) {
            Some(place) => self.at(place),
            None => Interval { from: None, to: None },
        }
    }

    /// Why the interval is as wide as it is, as a clause; `None` if it is narrow. `now` decides how fine
    /// looks of that age are kept.
    pub fn reason(&self, position: Position, now: Timestamp) -> Option<String> {
        match self.chart().place(position) {
            Some(place) => self.reason_at(place, now),
            None => Some(NO_LOOK.to_owned()),
        }
    }

    /// The earliest time by which `position` is known to have been reached.
    pub fn reached(&self, position: Position) -> Option<Timestamp> {
        self.reached_at(self.chart().place(position)?)
    }

    /// At most how many seconds of writes lie between two positions of which the second holds more.
    pub fn seconds_between(&self, from: Position, to: Position) -> Option<f64> {
        self.seconds_from(self.chart().place(from)?, self.chart().place(to)?)
    }

    pub(crate) fn at(&self, place: Place) -> Interval {
        let Ends { from, to } = self.ends(place);
        let (from, to) = (from.map(|look| look.time), to.map(|look| look.time));
        // Clocks that were set can make the ends cross: then neither is believed beyond the other.
        Interval { from: from.map(|from| to.map_or(from, |to| from.min(to))), to }
    }

    pub(crate) fn reached_at(&self, place: Place) -> Option<Timestamp> {
        let own = self.lines[place.history].and_then(|line| line.at_or_above(place.offset)).and_then(Packed::reached);
        let left = &self.left[place.history];
        let later = left[left.partition_point(|(up, _)| up.offset < place.offset)..].iter();
        later.fold(own, |reached, &(_, child)| earlier(reached, self.first[child]))
    }

    /// See [`DataAsOf::seconds_between`].
    pub(crate) fn seconds_from(&self, from: Place, to: Place) -> Option<f64> {
        Some(self.reached_at(to)?.since(self.at(from).from?).as_secs_f64())
    }

    fn ends(&self, place: Place) -> Ends {
        let own = self.lines[place.history];
        let below = Look::complete(place.history, own.and_then(|line| line.at_or_below(place.offset)));
        let left = &self.left[place.history];
        let (_, from_here) = left.split_at(left.partition_point(|(up, _)| up.offset < place.offset));
        let (here, beyond) = from_here.split_at(from_here.partition_point(|(up, _)| up.offset == place.offset));
        let mut ends = Lines::default();
        ends.add(
            below.or(self.before[place.history]),
            Look::reached(place.history, own.and_then(|line| line.above(place.offset)))
                .into_iter()
                .chain(beyond.iter().filter_map(|&(_, child)| self.first_look(child)))
                .min_by_key(|look| look.time),
        );
        let mut lines: Vec<usize> = here.iter().map(|&(_, child)| child).collect();
        while let Some(child) = lines.pop() {
            ends.add(self.floor_of_child(child, place), self.beyond_of_child(child, place));
            // Over bridges a line may change its id more than once at the same number.
            let left = &self.left[child];
            let later = &left[left.partition_point(|(up, _)| up.offset < place.offset)..];
            lines.extend(later.iter().take_while(|(up, _)| up.offset == place.offset).map(|&(_, child)| child));
        }
        ends.both()
    }

    /// Until when the line that goes on as `child`, which left exactly at `place`, is complete there.
    fn floor_of_child(&self, child: usize, place: Place) -> Option<Look> {
        // What was written around a gap has no offset: what the child was seen at says nothing before it.
        let line = self.lines[child].filter(|_| self.chart().is_gapless(child));
        Look::complete(child, line.and_then(|line| line.at_or_below(place.offset))).or(self.before[child])
    }

    fn beyond_of_child(&self, child: usize, place: Place) -> Option<Look> {
        let own = Look::reached(child, self.lines[child].and_then(|line| line.above(place.offset)));
        let left = &self.left[child];
        let later = left[left.partition_point(|(up, _)| up.offset <= place.offset)..].iter();
        let later = later.filter_map(|&(_, grandchild)| self.first_look(grandchild));
        own.into_iter().chain(later).min_by_key(|look| look.time)
    }

    fn first_look(&self, history: usize) -> Option<Look> {
        Some(Look { time: self.first[history]?, within: Duration::ZERO, history })
    }

    /// Of each history, the greatest offset that is known to have been reached by `time`.
    pub(crate) fn reached_by(&self, time: Timestamp) -> Vec<Option<urtext_types::Offset>> {
        let own = self.lines.iter().map(|line| line.and_then(|line| line.reached_by(time)));
        let later = self.left.iter().map(|left| {
            let mut seen = left.iter().filter(|&&(_, child)| self.first[child].is_some_and(|first| first <= time));
            seen.next_back().map(|(up, _)| up.offset)
        });
        own.zip(later).map(|(own, later)| own.max(later)).collect()
    }

    pub(crate) fn reason_at(&self, place: Place, now: Timestamp) -> Option<String> {
        let Ends { from, to } = self.ends(place);
        let (from, to) = match (from, to) {
            (None, None) => return Some(NO_LOOK.to_owned()),
            (None, Some(to)) => return Some(format!("no look at a master is known from before {}", time(to.time))),
            (Some(_), None) => return Some("nobody has seen a master beyond it yet".to_owned()),
            (Some(from), Some(to)) => (from, to),
        };
        let width = to.time.since(from.time);
        if width <= NARROW {
            return None;
        }
        let clocks = (from.within + to.within) * 2;
        if width <= clocks + NARROW {
            let within = from.within.max(to.within).as_secs_f64();
            return Some(format!("the clocks of the agents are known to within {} only", duration(within)));
        }
        let (between, age) = (format!("between {} and {}", time(from.time), time(to.time)), now.since(to.time));
        let every = spacing(age);
        if width <= every * 2 + clocks {
            return Some(format!(
                "of looks that are {} old, one every {} is kept",
                duration(age.as_secs_f64()),
                duration(every.as_secs_f64())
            ));
        }
        let id = |number| self.chart().id(number);
        if from.history != to.history {
            let (old, new) = (history(id(from.history)), history(id(to.history)));
            return Some(format!("no look at a master {between}, while it went on from {old} to {new}"));
        }
        Some(format!("no look at the master {between}: its agent was silent, or the server was"))
    }
}

/// The lines by which a place is continued, one after the other.
#[derive(Default)]
struct Lines {
    /// Of the lines that were seen to go on: the least complete one, if all are known, and the first
    /// that went on.
    went_on: Option<(Option<Look>, Look)>,
    /// Of the others: the most complete one.
    idle: Option<Look>,
}

impl Lines {
    fn add(&mut self, floor: Option<Look>, beyond: Option<Look>) {
        match beyond {
            None => self.idle = self.idle.into_iter().chain(floor).max_by_key(|look| look.time),
            Some(beyond) => {
                let (least, first) = self.went_on.unwrap_or((floor, beyond));
                let least = least.zip(floor).map(|(a, b)| if b.time < a.time { b } else { a });
                self.went_on = Some((least, if beyond.time < first.time { beyond } else { first }));
            }
        }
    }

    fn both(self) -> Ends {
        match self.went_on {
            Some((least, first)) => Ends { from: least, to: Some(first) },
            None => Ends { from: self.idle, to: None },
        }
    }
}

/// The lesser of two times, where an unknown one bounds nothing.
fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests;
