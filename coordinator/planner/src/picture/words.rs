//! What a picture says of each history and each copy: the same words in every rendering.

use std::time::Duration;

use urtext_types::{ByteCount, Evidence, ForkEdge, Offset, Position, ReplicationId, Role, Timestamp};

use super::{
    Begins, Drawn, History, Item, Lane, Mark, Shape, Tree,
    layout::{Layout, What},
    survey::Survey,
};
use crate::{
    data_as_of::DataAsOf,
    selection::{Standing, Verdict},
    view::{Candidate, NodeSeen, Source, Verified},
    wording::time,
};

/// Digits by which a history is named, unless more are needed.
const DIGITS: usize = 8;

/// Of two times that are closer together than this, one is enough to say when something was.
const AT_ONCE: Duration = Duration::from_secs(60);

pub(super) struct Words<'a> {
    survey: &'a Survey<'a>,
    data_as_of: DataAsOf<'a>,
    digits: usize,
}

impl<'a> Words<'a> {
    pub(super) fn of(survey: &'a Survey<'a>) -> Self {
        let data_as_of = DataAsOf::new(&survey.lineage, &survey.view.timeline);
        let ids = (0..survey.chart.len()).map(|history| survey.chart.id(history).to_string());
        Self { survey, data_as_of, digits: digits_that_tell_apart(ids.collect()) }
    }

    /// The lanes that can be reached from the trunk, each after the one that it leaves.
    pub(super) fn tree(&self, layout: &Layout, &trunk: &usize) -> Tree {
        let mut lanes = Vec::new();
        let mut reached = vec![trunk];
        while let Some(&lane) = reached.get(lanes.len()) {
            let items = layout.lanes[lane].items.iter().map(|laid| {
                let drawn = match laid.what {
                    What::History { history, is_rest } => Drawn::History(self.history(history, is_rest)),
                    What::Copy(i) => Drawn::Mark(self.copy(i)),
                    What::Head(i) => Drawn::Mark(self.head(i)),
                    What::Branch(branch) => {
                        reached.push(branch);
                        Drawn::Branch(reached.len() - 1)
                    }
                    What::Folded(folded) => Drawn::Folded(folded),
                };
                Item { offset: laid.offset, way: laid.way, drawn }
            });
            let items = items.collect();
            lanes.push(Lane { items });
        }
        Tree { lanes }
    }

    /// Where nothing else is known, nothing has to be told apart from it.
    pub(super) fn name_only_root(&self, tree: &mut Tree) {
        if let Some(Item { drawn: Drawn::History(root), .. }) = tree.lanes[0].items.first_mut() {
            root.words = "the oldest history that is known".to_owned();
        }
    }

    pub(super) fn name(&self, id: ReplicationId) -> String {
        let mut name = id.to_string();
        name.truncate(self.digits);
        name
    }

    fn history(&self, history: usize, is_rest: bool) -> History {
        let id = self.survey.chart.id(history);
        let (begins, words, (when, ago)) = match self.survey.lineage.edge_of(id) {
            _ if is_rest => (Begins::GoesOn, "went on beside it".to_owned(), Default::default()),
            None => (Begins::Unknown, "no path to the others is known".to_owned(), Default::default()),
            Some(edge) => {
                let begins = Begins::Forked { is_exact: edge.evidence.is_exact() };
                (begins, self.origin(edge), self.fork_time(edge.parent))
            }
        };
        History { id, name: self.name(id), begins, words, when, ago }
    }

    /// How a history came to be.
    fn origin(&self, edge: &ForkEdge) -> String {
        let parent = self.name(edge.parent.history);
        match edge.evidence {
            Evidence::PromotedMaster => format!("promoted from {parent}"),
            Evidence::Restore => format!("restored from {parent} by Urtext"),
            Evidence::FollowingReplica => {
                format!("promoted from {parent} here or later: only a replica's word, a lower bound")
            }
            Evidence::InferredSameRun => {
                format!("inferred: the same run as {parent}, its id changed without a promotion")
            }
        }
    }

    /// When a fork was made, in full and in short.
    fn fork_time(&self, fork: Position) -> (String, String) {
        let seen = self.data_as_of.of(fork);
        let ago = |at| format!("{} ago", self.age(at));
        match (seen.from, seen.to) {
            (Some(from), Some(to)) if to.since(from) <= AT_ONCE => (self.since(to), ago(to)),
            (Some(from), Some(to)) => (format!("between {} and {}", time(from), self.since(to)), ago(to)),
            (Some(from), None) => (format!("after {}", self.since(from)), format!("at most {}", ago(from))),
            (None, Some(to)) => (format!("before {}", self.since(to)), format!("at least {}", ago(to))),
            (None, None) => (String::new(), String::new()),
        }
    }

    /// `2026-11-22T11:59:31Z, 31 min ago`
    pub(super) fn since(&self, at: Timestamp) -> String {
        format!("{}, {} ago", time(at), self.age(at))
    }

    fn age(&self, at: Timestamp) -> String {
        age(self.survey.view.now.since(at))
    }

    pub(super) fn copy(&self, i: usize) -> Mark {
        let candidate = &self.survey.view.candidates[i];
        let judged = self.survey.judged[i];
        let is_doubtful = matches!(judged.standing, Standing::Suspect | Standing::Ineligible);
        let mut remarks = Vec::new();
        match judged.standing {
            Standing::Canonical => remarks.push("canonical".to_owned()),
            Standing::Equal => remarks.push("equal to the canonical one".to_owned()),
            Standing::Suspect => remarks.push("suspect".to_owned()),
            Standing::Ineligible => remarks.push("ineligible".to_owned()),
            Standing::Ahead | Standing::Behind | Standing::Divergent | Standing::Unrelated => {}
        }
        if self.survey.selection.verdict == Verdict::Ambiguous && judged.contends {
            remarks.push("contends".to_owned());
        }
        if let (Standing::Ahead, Some(excess)) = (judged.standing, judged.excess_bytes) {
            remarks.push(format!("{} ahead", ByteCount::new(excess)));
        }
        remarks.extend(candidate.ineligible.as_deref().map(clean));
        remarks.extend(
            candidate
                .out_of_reach
                .as_deref()
                .map(|repository| format!("repository {} cannot be asked", clean(repository))),
        );
        match candidate.source {
            Source::Backup(id) => {
                remarks.extend(candidate.stale.as_deref().map(clean));
                match candidate.verified {
                    Verified::Never => {}
                    Verified::Stored => remarks.push("verified".to_owned()),
                    Verified::Rehearsed => remarks.push("rehearsed".to_owned()),
                }
                let shape = match judged.standing {
                    Standing::Canonical => Shape::Canonical,
                    _ if is_doubtful => Shape::Doubtful,
                    _ => Shape::Backup,
                };
                let place = format!("{} ({})", candidate.node, candidate.site);
                Mark { shape, name: id.to_string(), place, remarks, age: self.age_of_backup(candidate) }
            }
            Source::Node => {
                let seen = self.survey.view.nodes.iter().find(|seen| seen.node == candidate.node);
                let is_silent = seen.is_some_and(|seen| !seen.reachable);
                remarks.insert(0, seen.map_or_else(|| "live".to_owned(), role));
                if is_silent {
                    remarks.insert(0, "silent".to_owned());
                }
                Mark {
                    shape: if is_silent { Shape::Silent } else { Shape::Live },
                    name: candidate.node.to_string(),
                    place: candidate.site.to_string(),
                    remarks,
                    age: format!("seen {} ago", self.age(candidate.received_at)),
                }
            }
        }
    }

    fn age_of_backup(&self, candidate: &Candidate) -> String {
        match candidate.position.and_then(|position| self.data_as_of.of(position).from) {
            Some(from) => format!("data {} old", self.age(from)),
            None => format!("file {} old", self.age(candidate.taken_at)),
        }
    }

    fn head(&self, i: usize) -> Mark {
        let head = &self.survey.view.heads[i];
        Mark {
            shape: Shape::Remembered,
            name: head.node.to_string(),
            place: String::new(),
            remarks: vec!["no copy is known to hold this".to_owned()],
            age: format!("seen {} ago", self.age(head.seen_at)),
        }
    }

    /// `75d1dd8a:615`
    pub(super) fn position(&self, position: Position) -> String {
        format!("{}:{}", self.name(position.history), position.offset)
    }
}

fn role(seen: &NodeSeen) -> String {
    match &seen.observation.replication.role {
        Role::Master { replicas } => match replicas.len() {
            0 => "master without replicas".to_owned(),
            1 => "master of 1 replica".to_owned(),
            n => format!("master of {n} replicas"),
        },
        Role::Replica { link, .. } if link.up => "replica".to_owned(),
        Role::Replica { link, .. } => match link.down_since_seconds {
            Some(seconds) => format!("replica, its link down for {}", age(Duration::from_secs(seconds))),
            None => "replica, its link down".to_owned(),
        },
    }
}

/// `12 s`, `29 min`, `3 h 20 min`, `2 d 4 h`: what a person needs to know of a long time.
pub(super) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Text from elsewhere, without what would move a cursor, turn the direction of writing or end a
/// document.
pub(super) fn clean(text: &str) -> String {
    let is_harmless = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            && !matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if is_harmless(c) { c } else { ' ' }).collect()
}

/// An even number of leading digits that no two of the ids share, at least [`DIGITS`].
fn digits_that_tell_apart(mut ids: Vec<String>) -> usize {
    ids.sort_unstable();
    let shared = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let most = ids.windows(2).map(|pair| shared(&pair[0], &pair[1])).max();
    most.map_or(DIGITS, |most| (most / 2 * 2 + 2).max(DIGITS))
}

/// How far `offset` is from the one before it: `+54 B`.
pub(super) fn step(before: Offset, offset: Offset) -> String {
    format!("+{}", offset.bytes_since(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_as_long_as_a_person_needs() {
        let check = |seconds, expect: &str| assert_eq!(age(Duration::from_secs(seconds)), expect);
        check(0, "0 s");
        check(59, "59 s");
        check(1799, "29 min");
        check(12_000, "3 h 20 min");
        check(187_200, "2 d 4 h");
    }

    #[test]
    fn histories_have_names_that_tell_them_apart() {
        let check = |ids: &[&str], digits| {
            assert_eq!(digits_that_tell_apart(ids.iter().map(|&id| id.to_owned()).collect()), digits);
        };
        check(&[], 8);
        check(&["aaaaaaaaaa"], 8);
        check(&["bbbbbbbbbb", "aaaaaaaaaa"], 8);
        check(&["aaaaaaaab0", "cccccccccc", "aaaaaaaac0"], 10);
    }

    #[test]
    fn foreign_text_moves_no_cursor() {
        assert_eq!(clean("we \u{1b}[2Jrun\non\u{202e} nyc: Zürich, 東京"), "we  [2Jrun on  nyc: Zürich, 東京");
    }
}
