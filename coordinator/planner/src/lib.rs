//! Which copy is canonical, and why: pure functions over values. No clock, no randomness, no I/O.
//!
//! Everything that enters is a value ([`ShardView`], [`Policy`], [`Wish`]); everything that leaves is a
//! value that explains itself ([`Selection`], [`MayHoldMore`], [`Alarm`], [`Choice`]). What is seen becomes
//! what is known in [`ShardHistories`]. The same view gives the same answer, in any
//! order of its parts, today and in a test.
//!
//! Copies are compared by position along the known lineage ([`urtext_types::Lineage`]), never by
//! wall clock and never by bare offset. What is not known makes an answer ambiguous, never wrong.

mod view;
mod wish;

mod histories;
mod timeline;

mod branches;
mod chart;
mod copies;
mod explain;
mod hasher;
mod head;
mod judge;
mod outcome;
mod reasons;
mod select;
mod selection;
mod situation;
mod suspect;
mod wording;

mod alarms;
mod ground;
mod guard;

mod capture;
mod schedule;
mod stagger;

mod retention;

mod data_as_of;

mod picture;
mod print;

pub use alarms::{Alarm, AlarmKind, ScheduledWork, alarms, scheduled_alarm};
pub use branches::{AcceptRefusal, set_aside_by};
pub use capture::{Choice, Tried, choose_copies, choose_nodes};
pub use data_as_of::DataAsOf;
pub use guard::{Holder, MayHoldMore, loss_guard};
pub use histories::{Learned, ShardHistories};
pub use picture::{Detail, Picture};
pub use print::print_selection;
pub use reasons::Reasons;
pub use retention::{
    Held, LetGo, Period, Retention, RetentionPolicy, RetentionReason, RetentionVerdict, RetentionView, StoredBackup,
    print_retention, retention,
};
pub use schedule::{InvalidSchedule, Memory, Run, RunState, Schedule, Step, Why, retry_after, shift};
pub use select::select;
pub use selection::{Decided, Fork, Head, Judged, Missing, Selection, Standing, Verdict};
pub use stagger::{Go, Host, Turn, stagger};
pub use timeline::{ClockSkew, Mark, Sample, Timeline, Witness};
pub use view::{
    AcceptedLineage, AcceptedLoss, Candidate, HeadSeen, NodeSeen, OnFork, Policy, RepositorySeen, RunSeen, ShardView,
    Source, Verified,
};
pub use wish::{Until, Wish};
