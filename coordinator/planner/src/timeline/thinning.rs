//! How fine the past is remembered.
//!
//! A look each second is 31 million a year. The older a mark, the less a second matters: a year of one
//! history is some fifty thousand marks, beside the pinned ones.

use std::time::Duration;

use urtext_types::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Up to which age how many seconds lie between two marks. Each spacing is a multiple of the one before,
/// so that what is kept later was kept before: how often marks are thinned makes no difference.
const GRADES: [(u64, u64); 5] =
    [(HOUR, 0), (DAY, 10), (7 * DAY, MINUTE), (31 * DAY, 5 * MINUTE), (366 * DAY, 30 * MINUTE)];
const OLDER: u64 = 3 * HOUR;

/// How far apart marks of this age are; zero for those that are kept as they came.
pub(crate) fn spacing(age: Duration) -> Duration {
    let grade = GRADES.iter().find(|(up_to, _)| age.as_secs() < *up_to);
    Duration::from_secs(grade.map_or(OLDER, |&(_, every)| every))
}

/// Whether a mark of `time` is the first in its slot. `last` is the time of the one that was asked about
/// before, in whatever slot.
pub(super) fn is_kept(now: Timestamp, time: Timestamp, last: &mut Option<Timestamp>) -> bool {
    let every = spacing(now.since(time)).as_millis() as i64;
    let before = last.replace(time);
    let slot = |time: Timestamp| time.as_millis().div_euclid(every.max(1));
    every == 0 || before.is_none_or(|before| slot(before) != slot(time))
}
