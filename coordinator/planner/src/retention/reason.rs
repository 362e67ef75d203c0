//! Why a backup stays, or goes.

use std::fmt;

use urtext_types::{NodeName, ReplicationId, Timestamp};

use crate::wording::{history as history_words, time};

/// What a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    Last,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Within,
    /// There is no rule.
    Everything,
}

impl Period {
    /// The rule's name in the settings.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
            Self::Within => "within",
            Self::Everything => "everything",
        }
    }
}

/// One reason. Those for staying come first, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetentionReason {
    Held { by: String, at: Timestamp, reason: String },
    Canonical,
    LastGood { branch: Option<ReplicationId> },
    OnlyGood,
    SetAside { history: ReplicationId },
    FromTheFuture { received_at: Timestamp },
    Suspect,
    NotVerified,
    Unreadable { reason: String },
    Damaged { reason: String, has_newer: bool },
    Rule { period: Period, nth: u32, of: u32, label: String, branch: Option<ReplicationId> },
    LetGo { history: ReplicationId, by: String, at: Timestamp, reason: String },
    DamagedAndOld { reason: String },
    NoRule { node: NodeName, policy: String },
}

impl RetentionReason {
    /// A word for machines.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Canonical => "canonical",
            Self::LastGood { .. } => "last-good",
            Self::OnlyGood => "only-good",
            Self::SetAside { .. } => "set-aside",
            Self::FromTheFuture { .. } => "from-the-future",
            Self::Suspect => "suspect",
            Self::NotVerified => "not-verified",
            Self::Unreadable { .. } => "unreadable",
            Self::Damaged { .. } => "damaged",
            Self::Rule { period, .. } => period.rule(),
            Self::LetGo { .. } => "let-go",
            Self::DamagedAndOld { .. } => "damaged-and-old",
            Self::NoRule { .. } => "no-rule",
        }
    }
}

/// A clause.
impl fmt::Display for RetentionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |branch: &Option<ReplicationId>| {
            branch.map_or(String::new(), |id| format!(" on the branch of {}", history_words(id)))
        };
        match self {
            Self::Held { by, at, reason } => write!(f, "on hold by {by} since {}: “{reason}”", time(*at)),
            Self::Canonical => f.write_str("canonical"),
            Self::LastGood { branch: None } => f.write_str("the most complete good one"),
            Self::LastGood { branch } => write!(f, "the most complete good one{}", on(branch)),
            Self::OnlyGood => f.write_str("no other good one would be left"),
            Self::SetAside { history } => {
                write!(
                    f,
                    "its branch, {}, was set aside, and is kept whole until it is let go",
                    history_words(*history)
                )
            }
            Self::FromTheFuture { received_at } => write!(
                f,
                "received on {}, which has not come yet: the coordinator's clock was off; it does not count",
                time(*received_at)
            ),
            Self::Suspect => {
                f.write_str("far smaller than those before it: it does not count until somebody vouches for it")
            }
            Self::NotVerified => f.write_str("not verified yet: it does not count until it is"),
            Self::Unreadable { reason } => write!(f, "cannot be read now: {reason}"),
            Self::Damaged { reason, has_newer: true } => {
                write!(f, "damaged ({reason}): it does not count, and is not old enough to go")
            }
            Self::Damaged { reason, has_newer: false } => {
                write!(f, "damaged ({reason}): it does not count, and stays until there is a good one after it")
            }
            Self::Rule { period: Period::Everything, .. } => f.write_str("no rule lets anything go"),
            Self::Rule { period: Period::Within, label, branch, .. } => {
                write!(f, "within {label} before the newest{}", on(branch))
            }
            Self::Rule { period: Period::Last, nth, of, branch, .. } => write!(f, "last {nth} of {of}{}", on(branch)),
            Self::Rule { period, nth, of, label, branch } => {
                write!(f, "{} {nth} of {of}, {label}{}", period.rule(), on(branch))
            }
            Self::LetGo { history, by, at, reason } => {
                write!(f, "{by} let go of its branch, {}, on {}: “{reason}”", history_words(*history), time(*at))
            }
            Self::DamagedAndOld { reason } => {
                write!(f, "damaged ({reason}), no rule would keep it, and there is a good one after it")
            }
            Self::NoRule { node, policy } => {
                write!(f, "node {node} has newer ones for everything that the rules ask for: {policy}")
            }
        }
    }
}
