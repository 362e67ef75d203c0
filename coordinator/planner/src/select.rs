//! The verdict: the most complete backup on the accepted lineage, or why there is none.
//!
//! 1. What cannot be restored is ineligible. What is far smaller than the backups before it is
//!    suspect, and is never chosen silently.
//! 2. Among the eligible copies, backups and live nodes alike, those contend whose writes no other
//!    one is known to hold. More than one is a fork: an operator's decision, else the policy, sets
//!    branches aside; if more than one is left, the verdict is ambiguous.
//! 3. With one contender, all copies on its path are in one line, and the furthest backup in it is
//!    canonical. If that is suspect, and no other one holds the same, the verdict is ambiguous.
//! 4. Among equal ones: rehearsed before verified before unverified, then the preferred site, then
//!    the one received last, then the greater id.
//!
//! What a [`Wish`] excludes does not contend: a fork after the time or the position that was asked for
//! needs no decision. A decision that was made holds all the same.
//!
//! Copies without a position prove nothing. Only where *all* copies come from one run of one server,
//! whose clocks agree on their order, does the latest one contain the others.

use std::borrow::Cow;

use crate::{
    judge::judge,
    selection::Selection,
    situation::Situation,
    view::{Policy, ShardView},
    wish::Wish,
};

/// Which backup is canonical, how every other copy stands to it, and why.
pub fn select(view: &ShardView, policy: &Policy, wish: &Wish) -> Selection {
    let lineage = if view.contradictions.is_empty() {
        Cow::Borrowed(&view.lineage)
    } else {
        Cow::Owned(view.lineage.trusted(&view.contradictions))
    };
    judge(view, &lineage, Situation::survey(view, policy, *wish, &lineage))
}
