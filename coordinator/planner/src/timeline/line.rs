//! The marks of one history.

use std::time::Duration;

use urtext_types::{Offset, Position, Timestamp};

use super::{Mark, thinning::is_kept};

/// Marks by offset. Both times never fall from one mark to the next: what proves that an offset had been
/// reached proves it of every one below, and what is complete at an offset is complete at every one above.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    marks: Vec<Packed>,
}

/// A mark in 32 bytes; there is one for each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    offset: Offset,
    complete_ms: i64,
    reached_ms: i64,
    within_ms: u32,
}

const NEVER_COMPLETE: i64 = i64::MIN;
const NEVER_REACHED: i64 = i64::MAX;

impl Packed {
    fn of(mark: Mark) -> Self {
        Self {
            offset: mark.position.offset,
            complete_ms: mark.complete_up_to.map_or(NEVER_COMPLETE, Timestamp::as_millis),
            reached_ms: mark.reached_by.map_or(NEVER_REACHED, Timestamp::as_millis),
            within_ms: u32::try_from(mark.within.as_millis()).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn at(self, position: Position) -> Mark {
        Mark { position, complete_up_to: self.complete(), reached_by: self.reached(), within: self.within() }
    }

    pub(crate) fn complete(self) -> Option<Timestamp> {
        (self.complete_ms != NEVER_COMPLETE).then(|| Timestamp::from_millis(self.complete_ms))
    }

    pub(crate) fn reached(self) -> Option<Timestamp> {
        (self.reached_ms != NEVER_REACHED).then(|| Timestamp::from_millis(self.reached_ms))
    }

    pub(crate) fn within(self) -> Duration {
        Duration::from_millis(u64::from(self.within_ms))
    }

    /// When somebody looked.
    fn time(self) -> Option<Timestamp> {
        self.reached().or(self.complete())
    }

    fn merge(&mut self, other: Self) {
        self.complete_ms = self.complete_ms.max(other.complete_ms);
        self.reached_ms = self.reached_ms.min(other.reached_ms);
        self.within_ms = self.within_ms.max(other.within_ms);
    }
}

impl Line {
    /// Adds what a mark says; returns all that is known of its offset.
    pub(super) fn put(&mut self, mark: Mark) -> Mark {
        let new = Packed::of(mark);
        // Nearly always at the end.
        let at = match self.marks.last() {
            Some(last) if last.offset < new.offset => self.marks.len(),
            _ => self.marks.partition_point(|known| known.offset < new.offset),
        };
        match self.marks.get_mut(at) {
            Some(known) if known.offset == new.offset => known.merge(new),
            _ => self.marks.insert(at, new),
        }
        if let Some(before) = at.checked_sub(1) {
            self.marks[at].complete_ms = self.marks[at].complete_ms.max(self.marks[before].complete_ms);
        }
        if let Some(after) = self.marks.get(at + 1) {
            self.marks[at].reached_ms = self.marks[at].reached_ms.min(after.reached_ms);
        }
        // Only clocks that were set back, or looks that come late, make more than one step here.
        let Packed { complete_ms, reached_ms, .. } = self.marks[at];
        for later in self.marks[at + 1..].iter_mut().take_while(|later| later.complete_ms < complete_ms) {
            later.complete_ms = complete_ms;
        }
        for earlier in self.marks[..at].iter_mut().rev().take_while(|earlier| earlier.reached_ms > reached_ms) {
            earlier.reached_ms = reached_ms;
        }
        self.marks[at].at(mark.position)
    }

    pub(super) fn marks(&self) -> impl Iterator<Item = (Offset, Packed)> {
        self.marks.iter().map(|mark| (mark.offset, *mark))
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.marks.capacity() * size_of::<Packed>()
    }

    /// The last mark at or below `offset`.
    pub(crate) fn at_or_below(&self, offset: Offset) -> Option<Packed> {
        self.before(self.marks.partition_point(|mark| mark.offset <= offset))
    }

    /// The last mark below `offset`.
    pub(crate) fn below(&self, offset: Offset) -> Option<Packed> {
        self.before(self.marks.partition_point(|mark| mark.offset < offset))
    }

    /// The first mark at or above `offset`.
    pub(crate) fn at_or_above(&self, offset: Offset) -> Option<Packed> {
        self.marks.get(self.marks.partition_point(|mark| mark.offset < offset)).copied()
    }

    /// The first mark above `offset`.
    pub(crate) fn above(&self, offset: Offset) -> Option<Packed> {
        self.marks.get(self.marks.partition_point(|mark| mark.offset <= offset)).copied()
    }

    pub(crate) fn first(&self) -> Option<Packed> {
        self.marks.first().copied()
    }

    /// The greatest offset that is known to have been reached by `time`.
    pub(crate) fn reached_by(&self, time: Timestamp) -> Option<Offset> {
        Some(self.before(self.marks.partition_point(|mark| mark.reached_ms <= time.as_millis()))?.offset)
    }

    fn before(&self, index: usize) -> Option<Packed> {
        Some(self.marks[index.checked_sub(1)?])
    }

    /// `pins` are in order.
    pub(super) fn thin(&mut self, now: Timestamp, pins: &[Offset], mut drop: impl FnMut(Offset)) {
        let len = self.marks.len();
        let mut is_pinned = vec![false; len];
        let mut pin = |index: usize| {
            if let Some(pinned) = is_pinned.get_mut(index) {
                *pinned = true;
            }
        };
        // How a history begins decides about the one before it, and how it ends about the one after.
        [0, 1, len.saturating_sub(1)].into_iter().for_each(&mut pin);
        for &offset in pins {
            let (from, to) = (
                self.marks.partition_point(|mark| mark.offset < offset),
                self.marks.partition_point(|mark| mark.offset <= offset),
            );
            // The last below it, the one at it, the first above it.
            (from.saturating_sub(1)..=to).for_each(&mut pin);
        }
        let mut last = None;
        let mut index = 0;
        self.marks.retain(|mark| {
            let is_fine = mark.time().is_none_or(|time| is_kept(now, time, &mut last));
            let keep = is_fine || is_pinned[index];
            index += 1;
            if !keep {
                drop(mark.offset);
            }
            keep
        });
        self.marks.shrink_to(self.marks.len() * 2);
    }
}
