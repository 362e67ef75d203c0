//! The loss guard: what may hold more than the copy that was chosen, and cannot be asked now.
//!
//! A restore stops for each of these, and goes on only if a person accepts the loss. Living nodes that
//! are ahead and can be asked are no guard: they stand first in the answer, with the command that saves
//! what they hold. What a decision or the policy set aside is no guard either: it was given up on record.
//! A loss that was accepted before is named again, with who accepted it ([`AcceptedLoss`]): a restore goes
//! on without asking for the same once more.
//!
//! With a [`Wish`](crate::Wish) for less, only what could change *that* answer is named: a position
//! between the chosen copy and the point that was asked for. What is beyond the point would not have
//! been chosen had it been there. A backup that a person names by its id cannot be changed by anything:
//! the caller need not ask.

use std::cmp::Reverse;

use urtext_types::{NodeName, Position, Timestamp};

use crate::{
    chart::{Bearing, Bearings, Extents, Place},
    data_as_of::DataAsOf,
    ground::Ground,
    selection::Selection,
    view::{AcceptedLoss, HeadSeen, NodeSeen, RepositorySeen, ShardView, Source},
    wish::Until,
    wording::{bytes, history, is_server_gone, silence, time},
};

/// Something that may hold more than the chosen copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayHoldMore {
    pub who: Holder,
    /// The furthest that it is remembered to hold, where that is known.
    pub position: Option<Position>,
    /// How many bytes the chosen copy lacks against that; `None` where nobody can tell.
    pub bytes_more: Option<u64>,
    /// When it was last seen, by the coordinator's clock.
    pub seen_at: Option<Timestamp>,
    /// A whole sentence.
    pub sentence: String,
    /// What to do.
    pub hint: String,
    /// Who accepted this loss before, if somebody did: a restore need not stop for it.
    pub accepted: Option<AcceptedLoss>,
}

/// What cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Node(NodeName),
    Repository(String),
}

/// What may hold more than the canonical backup and cannot be asked now, the most first. Without a
/// canonical backup: what may hold anything that nothing at hand holds.
///
/// `selection` was made from this `view`.
pub fn loss_guard(view: &ShardView, selection: &Selection) -> Vec<MayHoldMore> {
    let guard = Guard::new(view, selection);
    let mut found = guard.heads();
    for seen in view.nodes.iter().filter(|seen| !seen.reachable) {
        let is_named = found.iter().any(|more| more.who == Holder::Node(seen.node.clone()));
        found.extend(guard.silent(seen).filter(|_| !is_named));
    }
    for more in &mut found {
        more.accepted = guard.accepted(more).cloned();
    }
    found.extend(view.repositories.iter().filter(|seen| !seen.reachable).map(|seen| guard.repository(seen)));
    found.sort_by_cached_key(|more| {
        (Reverse(more.bytes_more), more.who.clone(), more.position.map(|at| at.to_string()))
    });
    found
}

struct Guard<'a> {
    ground: Ground<'a>,
    selection: &'a Selection,
    /// What can be had now, and is not beyond what was asked for.
    at_hand: Extents,
    chosen: Option<Bearings>,
    until: Option<Limit<'a>>,
}

/// The point that was asked for, ready to be compared with.
enum Limit<'a> {
    Time(Timestamp, DataAsOf<'a>),
    Position(Bearings),
}

impl<'a> Guard<'a> {
    fn new(view: &'a ShardView, selection: &'a Selection) -> Self {
        let ground = Ground::new(view, selection);
        let wanted = |i: usize| ground.is_at_hand(i) && !selection.candidates[i].beyond;
        let places = &selection.situation.copies.places;
        let at_hand = (0..places.len()).filter(|&i| wanted(i)).filter_map(|i| places[i]);
        let at_hand = Extents::of(ground.chart, at_hand);
        let chosen = selection.canonical.and_then(|i| places[i]);
        let chosen = chosen.map(|place| Bearings::new(ground.chart, place));
        let until = selection.wish.until.map(|until| match until {
            Until::Time(at) => Limit::Time(at, selection.data_as_of(view)),
            // A point in a history that nothing is known of has nothing before it.
            Until::Position(at) => Limit::Position(ground.bearings(at)),
        });
        Self { ground, selection, at_hand, chosen, until }
    }

    /// The greatest positions that were ever seen.
    fn heads(&self) -> Vec<MayHoldMore> {
        let mut found = Vec::new();
        for head in &self.ground.view.heads {
            let Some(more) = self.more_at(head.position, head.seen_at) else { continue };
            match self.ground.seen(&head.node) {
                // It can be asked, and has lost what it held: others may have it.
                Some(seen) if seen.reachable => {
                    let silent = self.ground.view.nodes.iter().filter(|seen| !seen.reachable);
                    found.extend(silent.map(|seen| lost_by_another(head, seen, more)));
                }
                seen => found.push(remembered(head, seen, more, self.chosen.is_some())),
            }
        }
        found
    }

    /// A node whose agent is silent.
    fn silent(&self, seen: &NodeSeen) -> Option<MayHoldMore> {
        let (node, last_seen) = (&seen.node, time(seen.received_at));
        let sentence = match seen.observation.position() {
            Some(position) => {
                let more = self.more_at(position, seen.received_at)?;
                let head = HeadSeen { position, node: node.clone(), seen_at: seen.received_at };
                return Some(remembered(&head, Some(seen), more, self.chosen.is_some()));
            }
            None if seen.observation.keys() == 0 || self.until.is_some() => return None,
            None => format!(
                "The node {node} at {} does not count its writes, {}, and it was last seen on {last_seen}: nobody can \
                 say whether it holds more.",
                seen.site,
                silence(Some(seen))
            ),
        };
        Some(MayHoldMore {
            who: Holder::Node(node.clone()),
            position: None,
            bytes_more: None,
            seen_at: Some(seen.received_at),
            sentence,
            hint: node_hint(node, Some(seen)),
            accepted: None,
        })
    }

    fn repository(&self, seen: &RepositorySeen) -> MayHoldMore {
        let name = &seen.name;
        let held = self.ground.view.candidates.iter().zip(&self.selection.candidates).filter(|(candidate, judged)| {
            candidate.out_of_reach.as_ref() == Some(name) && candidate.ineligible.is_none() && !judged.beyond
        });
        let best = held
            .filter_map(|(candidate, _)| {
                let more = self.more_at(candidate.position?, candidate.received_at)?;
                Some((more, candidate.received_at, candidate.source, candidate))
            })
            .max_by_key(|&(more, received_at, source, _)| (more, received_at, source));
        let what = match best {
            Some((more, _, Source::Backup(id), candidate)) => {
                let more = more.map_or_else(String::new, |more| format!(", which holds {} more", bytes(more)));
                format!("it is remembered to hold backup {id} of {}{more}", candidate.node)
            }
            _ => match seen.listed_at {
                Some(at) => format!("it may hold backups that were made after it was last listed on {}", time(at)),
                None => "nobody knows what it holds".to_owned(),
            },
        };
        MayHoldMore {
            who: Holder::Repository(name.clone()),
            position: best.and_then(|(.., candidate)| candidate.position),
            bytes_more: best.and_then(|(more, ..)| more),
            seen_at: seen.listed_at,
            sentence: format!("The repository {name} cannot be reached: {what}."),
            hint: format!("bring the repository {name} back, or {ACCEPT}"),
            accepted: None,
        }
    }

    /// The latest acceptance of this very loss.
    fn accepted(&self, more: &MayHoldMore) -> Option<&'a AcceptedLoss> {
        let (Holder::Node(node), Some(lost)) = (&more.who, more.position.and_then(|at| self.ground.place(at))) else {
            return None;
        };
        let chosen = self.chosen.as_ref()?;
        // Agents repeat the last that they saw when they connect again: what counts is when they saw it.
        let looked = |seen: &NodeSeen| match seen.clock {
            Some(clock) => seen.received_at.min(clock.correct(seen.observation.observed_at).plus(clock.within)),
            None => seen.received_at,
        };
        let last_seen = self.ground.seen(node).map(looked).or(more.seen_at);
        let covers = |loss: &&AcceptedLoss| {
            let place = |position| self.ground.place(position);
            let came_back = last_seen.is_some_and(|at| at > loss.at);
            let is_no_more =
                place(loss.position).is_some_and(|given_up| Bearings::new(self.ground.chart, given_up).holds(lost));
            let is_instead = place(loss.restored).is_some_and(|restored| chosen.holds(restored));
            loss.node == *node && !came_back && is_no_more && is_instead
        };
        let losses = self.ground.view.losses.iter().filter(covers);
        losses.max_by(|a, b| (a.at, &a.by, &a.reason).cmp(&(b.at, &b.by, &b.reason)))
    }

    /// Whether what is at `position` could be better than what was chosen: if so, by how many bytes,
    /// where that is known.
    fn more_at(&self, position: Position, seen_at: Timestamp) -> Option<Option<u64>> {
        let place = self.ground.place(position)?;
        if self.ground.is_aside(place) || self.at_hand.hold(place) || self.is_beyond(place, seen_at) {
            return None;
        }
        match self.chosen.as_ref().map(|chosen| chosen.of(place)) {
            Some(Bearing::Equal | Bearing::Behind { .. }) => None,
            Some(Bearing::Ahead { excess } | Bearing::Divergent { excess, .. }) => Some(Some(excess)),
            Some(Bearing::Unrelated) | None => Some(None),
        }
    }

    fn is_beyond(&self, place: Place, seen_at: Timestamp) -> bool {
        match &self.until {
            None => false,
            Some(Limit::Time(until, data_as_of)) => {
                let reached = data_as_of.reached_at(place);
                reached.map_or(seen_at, |reached| reached.min(seen_at)) > *until
            }
            Some(Limit::Position(until)) => !until.holds(place),
        }
    }
}

const ACCEPT: &str = "go on without it: --accept-loss --reason TEXT";

fn node_hint(node: &NodeName, seen: Option<&NodeSeen>) -> String {
    let what = match seen {
        Some(_) if is_server_gone(seen) => "server",
        Some(_) => "agent",
        None => "server and the agent",
    };
    format!("start the {what} of {node} again, or {ACCEPT}")
}

/// `head` was seen at a node that cannot be asked.
fn remembered(head: &HeadSeen, seen: Option<&NodeSeen>, more: Option<u64>, anything_chosen: bool) -> MayHoldMore {
    let at = format!("offset {} of {}", head.position.offset, history(head.position.history));
    let than = match more {
        Some(more) => format!("{} more than the chosen copy holds", bytes(more)),
        None if anything_chosen => "which nobody can compare with the chosen copy".to_owned(),
        None => "which nothing at hand holds".to_owned(),
    };
    MayHoldMore {
        who: Holder::Node(head.node.clone()),
        position: Some(head.position),
        bytes_more: more,
        seen_at: Some(head.seen_at),
        sentence: format!(
            "The node {} was seen at {at} on {}, {than}, and {}.",
            head.node,
            time(head.seen_at),
            silence(seen)
        ),
        hint: node_hint(&head.node, seen),
        accepted: None,
    }
}

/// `head` was seen at a node that holds it no longer; `silent` may have received the same.
fn lost_by_another(head: &HeadSeen, silent: &NodeSeen, more: Option<u64>) -> MayHoldMore {
    let more_bytes = more.map_or_else(String::new, |more| format!(", {} more than the chosen copy holds", bytes(more)));
    MayHoldMore {
        who: Holder::Node(silent.node.clone()),
        position: Some(head.position),
        bytes_more: more,
        seen_at: Some(silent.received_at),
        sentence: format!(
            "The node {} was seen at offset {} of {} on {}{more_bytes}, and has lost that since; {} may still have \
             it, and {}.",
            head.node,
            head.position.offset,
            history(head.position.history),
            time(head.seen_at),
            silent.node,
            silence(Some(silent))
        ),
        hint: node_hint(&silent.node, Some(silent)),
        accepted: None,
    }
}
