//! What a person asks for, beyond "the most complete copy".

use std::fmt;

use urtext_types::{Position, Timestamp};

use crate::{chart::Bearing, data_as_of::DataAsOf, situation::Case, wording};

/// What is asked for. The default is the most complete copy there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Nothing beyond this is chosen.
    pub until: Option<Until>,
}

impl Wish {
    /// The most complete copy that is not beyond a point.
    pub fn until(until: Until) -> Self {
        Self { until: Some(until) }
    }
}

/// A point that a copy must not be beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// `--as-of TIME`. A copy is not beyond it if its position was seen to be reached by then, or if
    /// the coordinator had received it by then. One of which neither is known counts as beyond.
    Time(Timestamp),
    /// `--at HISTORY:OFFSET`. A copy is not beyond it if it is known to hold nothing that the position
    /// does not hold.
    Position(Position),
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => f.write_str(&wording::time(*time)),
            Self::Position(at) => write!(f, "offset {} of {}", at.offset, wording::history(at.history)),
        }
    }
}

/// Why a copy counts as beyond the point that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Its position was first seen to be reached then, which is later.
    ReachedAt(Timestamp),
    /// Nobody saw by when its position had been reached.
    ReachedUnseen,
    /// How it stands to the position that was asked for.
    Bearing(Bearing),
    /// It has no position.
    NoPosition,
}

impl Beyond {
    /// Why candidate `i`, which is beyond `until`, is.
    pub(crate) fn of(case: &Case<'_>, data_as_of: &DataAsOf<'_>, i: usize, until: Until) -> Self {
        let Some(place) = case.place(i) else { return Self::NoPosition };
        match until {
            Until::Time(_) => {
                let reached = data_as_of.reached_at(place).map(|at| at.min(case.candidate(i).received_at));
                reached.map_or(Self::ReachedUnseen, Self::ReachedAt)
            }
            Until::Position(_) => {
                Self::Bearing(case.wished.as_ref().map_or(Bearing::Unrelated, |wished| wished.of(place)))
            }
        }
    }

    /// A whole sentence.
    pub(crate) fn sentence(self, until: Until) -> String {
        match self {
            Self::ReachedAt(at) => {
                format!("Not chosen as of {until}: it was first seen to be reached on {}.", wording::time(at))
            }
            Self::ReachedUnseen | Self::NoPosition if matches!(until, Until::Time(_)) => {
                format!("Not chosen as of {until}: nobody knows whether what it holds had been written by then.")
            }
            Self::Bearing(Bearing::Ahead { excess }) => {
                format!("Not chosen at {until}: it goes {} beyond that.", wording::bytes(excess))
            }
            Self::Bearing(Bearing::Divergent { excess, .. }) => {
                format!("Not chosen at {until}: it holds {} that are not in that.", wording::bytes(excess))
            }
            Self::ReachedUnseen | Self::NoPosition | Self::Bearing(_) => {
                format!("Not chosen at {until}: nobody knows whether it is beyond that.")
            }
        }
    }
}
