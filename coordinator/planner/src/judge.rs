//! Where each candidate stands, with its reason.

use std::collections::{HashMap, HashSet};

use urtext_types::Timestamp;

use crate::{
    chart::{Bearing, Bearings, Place},
    data_as_of::DataAsOf,
    explain::explain,
    head::{find_head, find_missing},
    selection::{Decided, Judged, Selection, Standing},
    situation::{Contender, Outcome, Situation},
    view::Source,
    wording::{bytes, bytes_and_time, duration, history, how_to_save, keys, name, sentence, time},
};

/// The selection that follows from the situation.
pub(crate) fn judge(situation: &Situation<'_>) -> Selection {
    let judge = Judge::new(situation);
    let candidates: Vec<Judged> = (0..situation.places.len()).map(|i| judge.one(i)).collect();
    let canonical = match situation.outcome {
        Outcome::Canonical(canonical) => Some(canonical),
        _ => None,
    };
    let bearings = judge.reference.as_ref().and_then(|reference| reference.bearings.as_ref());
    let head = bearings.filter(|_| canonical.is_some()).and_then(|bearings| find_head(situation, bearings));
    let missing = bearings.zip(head.as_ref()).map(|(bearings, head)| {
        let from = situation.chart.position(bearings.place());
        find_missing(&judge.data_as_of, from, head)
    });
    let mut roots: Vec<_> =
        situation.extents.tips().map(|tip| situation.chart.id(situation.chart.root(tip.history))).collect();
    roots.sort_unstable();
    roots.dedup();
    let mut selection = Selection {
        verdict: situation.outcome.verdict(),
        wish: situation.wish,
        canonical,
        head,
        missing,
        candidates,
        forks: situation.forks.clone(),
        unrelated: if roots.len() > 1 { roots } else { Vec::new() },
        decided: situation.decided.clone(),
        explanation: Vec::new(),
    };
    selection.explanation = explain(situation, &selection);
    selection
}

struct Judge<'a> {
    situation: &'a Situation<'a>,
    data_as_of: DataAsOf<'a>,
    /// What the others are compared with: the canonical backup, or the suspect one in its place.
    reference: Option<Reference>,
    /// For each tip, the best candidate there, and by when it had been reached.
    tips: HashMap<Place, (usize, Option<Timestamp>)>,
    /// Of each run of copies without positions, the last.
    latest_of_runs: HashSet<usize>,
    /// For each history, until when a copy is complete that has only what came before it.
    complete_before: Vec<Option<Timestamp>>,
}

struct Reference {
    candidate: usize,
    bearings: Option<Bearings>,
    /// By when the position had been reached.
    reached: Option<Timestamp>,
}

/// A standing before it becomes a [`Judged`].
struct Finding {
    standing: Standing,
    text: String,
    missing: Option<u64>,
    excess: Option<u64>,
}

impl Finding {
    fn new(standing: Standing, text: String) -> Self {
        Self { standing, text, missing: None, excess: None }
    }
}

impl<'a> Judge<'a> {
    fn new(situation: &'a Situation<'a>) -> Self {
        let data_as_of = DataAsOf::new(situation.lineage, &situation.view.timeline);
        let reference = match situation.outcome {
            Outcome::Canonical(i) | Outcome::OnlySuspect(i) => {
                let place = situation.places[i];
                Some(Reference {
                    candidate: i,
                    bearings: place.map(|place| Bearings::new(&situation.chart, place)),
                    reached: place.and_then(|place| data_as_of.reached(situation.chart.position(place))),
                })
            }
            Outcome::Forked
            | Outcome::ClocksDisagree(_)
            | Outcome::NoBackup
            | Outcome::AllSetAside
            | Outcome::AllBeyond => None,
        };
        let reached = |tip: Place| data_as_of.reached(situation.chart.position(tip));
        let tips = situation.best_at_tips().into_iter().map(|(tip, best)| (tip, (best, reached(tip)))).collect();
        let latest_of_runs = situation.contenders.iter().filter_map(|contender| match contender {
            Contender::Run(copies) => copies.last().copied(),
            Contender::Tip(_) => None,
        });
        let latest_of_runs = latest_of_runs.collect();
        let mut judge = Self { situation, data_as_of, reference, tips, latest_of_runs, complete_before: Vec::new() };
        for history in 0..situation.chart.len() {
            let before = situation.chart.up(history).and_then(|up| judge.complete_up_to(up));
            judge.complete_before.push(before);
        }
        judge
    }

    /// See [`DataAsOf::complete_up_to`]; in constant time for any number of histories.
    fn complete_up_to(&self, place: Place) -> Option<Timestamp> {
        let own = self.data_as_of.complete_in_history(self.situation.chart.position(place));
        own.or(self.complete_before[place.history])
    }

    /// At most how many seconds of writes lie between `from` and what had been reached by `to`.
    fn seconds(&self, from: Place, to: Option<Timestamp>) -> Option<f64> {
        Some(to?.since(self.complete_up_to(from)?).as_secs_f64())
    }

    fn one(&self, i: usize) -> Judged {
        let candidate = self.situation.candidate(i);
        let mut finding = self.compare(i);
        let lacking = candidate.ineligible.clone().or_else(|| {
            let repository = candidate.out_of_reach.as_ref()?;
            Some(format!("the repository {repository} cannot be reached now"))
        });
        if let Some(why) = lacking {
            let would = match finding {
                Finding { excess: Some(more @ 1..), .. } => format!(" It would hold {} more.", bytes(more)),
                _ => String::new(),
            };
            finding.text = format!("{}{would}", sentence(&format!("cannot be restored: {why}")));
            finding.standing = Standing::Ineligible;
        } else if let Some(shrunken) = self.situation.shrunken[i] {
            finding.text = format!(
                "Holds only {} where {} before it held {}: emptied or expired, a person must say whether that is right.",
                keys(candidate.keys),
                name(self.situation.candidate(shrunken.from)),
                shrunken.from_keys,
            );
            finding.standing = Standing::Suspect;
        }
        let set_aside = self.situation.aside[i];
        if set_aside {
            finding.text = format!("{} {}", finding.text, self.set_aside()).trim().to_owned();
        }
        let beyond = self.situation.beyond[i].zip(self.situation.wish.until);
        if let Some((beyond, until)) = beyond.filter(|_| candidate.is_eligible()) {
            finding.text = format!("{} {}", finding.text, beyond.sentence(until)).trim().to_owned();
        }
        if let Some(stale) = &candidate.stale {
            finding.text = format!("{} {}", finding.text, sentence(stale));
        }
        Judged {
            candidate: i,
            standing: finding.standing,
            reason: finding.text,
            missing_bytes: finding.missing,
            excess_bytes: finding.excess,
            set_aside,
            beyond: beyond.is_some(),
            contends: self.contends(i),
        }
    }

    fn contends(&self, i: usize) -> bool {
        let situation = self.situation;
        situation.open[i]
            && match situation.places[i] {
                Some(place) => self.tips.contains_key(&place),
                None => self.latest_of_runs.contains(&i),
            }
    }

    fn compare(&self, i: usize) -> Finding {
        match (&self.reference, self.situation.places[i]) {
            (Some(reference), _) if reference.candidate == i => self.chosen(i),
            (Some(Reference { candidate, bearings: Some(bearings), reached }), Some(place)) => {
                self.beside(i, place, *candidate, bearings, *reached)
            }
            (Some(reference), None) if reference.bearings.is_none() => self.by_time(i, reference.candidate),
            (None, Some(place)) if self.situation.open[i] => self.among_tips(i, place),
            (_, _) => self.unrelated(i),
        }
    }

    fn chosen(&self, i: usize) -> Finding {
        let text = match self.situation.places[i] {
            Some(_) => "Holds every write that any backup on the accepted lineage holds.".to_owned(),
            None => format!(
                "Taken last of all, in the same run of {}, whose writes have no positions.",
                self.situation.candidate(i).node
            ),
        };
        Finding { missing: Some(0), excess: Some(0), ..Finding::new(Standing::Canonical, text) }
    }

    /// `i` at `place`, beside the canonical backup.
    fn beside(
        &self,
        i: usize,
        place: Place,
        canonical: usize,
        bearings: &Bearings,
        reached: Option<Timestamp>,
    ) -> Finding {
        let situation = self.situation;
        let candidate = situation.candidate(i);
        let the_other = match situation.outcome {
            Outcome::Canonical(_) => "the canonical backup",
            _ => "the most complete backup",
        };
        let mut finding = match bearings.of(place) {
            Bearing::Equal => Finding {
                missing: Some(0),
                excess: Some(0),
                ..Finding::new(
                    Standing::Equal,
                    format!("Holds exactly the same writes as {the_other}; {}.", self.tie(i, canonical)),
                )
            },
            Bearing::Behind { missing } => {
                let seconds = self.seconds(place, reached);
                let text = match missing {
                    0 => format!("Lacks what {the_other} holds after a stretch that the server did not count."),
                    _ => format!("Lacks {} that {the_other} holds.", bytes_and_time(missing, seconds)),
                };
                Finding { missing: Some(missing), excess: Some(0), ..Finding::new(Standing::Behind, text) }
            }
            Bearing::Ahead { excess } => {
                let more = match excess {
                    0 => "writes that its server did not count".to_owned(),
                    _ => {
                        let reached = self.data_as_of.reached(situation.chart.position(place));
                        let seconds = self.seconds(bearings.place(), reached);
                        format!("{} more than {the_other}", bytes_and_time(excess, seconds))
                    }
                };
                let text = match candidate.source {
                    Source::Node if situation.open[i] => {
                        format!("Holds {more}: {}.", how_to_save(situation.view, candidate))
                    }
                    Source::Node | Source::Backup(_) => format!("Holds {more}."),
                };
                Finding { missing: Some(0), excess: Some(excess), ..Finding::new(Standing::Ahead, text) }
            }
            Bearing::Divergent { common, missing, excess } => {
                let text = format!(
                    "Holds {} that {the_other} lacks, and lacks {} that it holds: they part after offset {} of {}.",
                    bytes(excess),
                    bytes(missing),
                    common.offset,
                    history(situation.chart.id(common.history)),
                );
                Finding { missing: Some(missing), excess: Some(excess), ..Finding::new(Standing::Divergent, text) }
            }
            Bearing::Unrelated => self.unrelated(i),
        };
        if finding.standing == Standing::Ahead && situation.aside[i] {
            // What was set aside is not a continuation, even where nothing else goes on.
            finding.standing = Standing::Divergent;
            finding.text = format!("Holds {} more than {the_other}.", bytes(finding.excess.unwrap_or(0)));
        }
        finding
    }

    fn set_aside(&self) -> String {
        match &self.situation.decided {
            Some(Decided::Operator(decision)) => {
                let decision = &self.situation.view.accepted[*decision];
                format!("Its branch was set aside by {} on {}.", decision.by, time(decision.at))
            }
            Some(Decided::FollowMaster(master)) => {
                format!("Its branch is not that of the master {master}, which the policy follows.")
            }
            None => String::new(),
        }
    }

    /// Why one of two equal copies comes after the other.
    fn tie(&self, i: usize, canonical: usize) -> String {
        let (a, b) = (self.situation.candidate(i), self.situation.candidate(canonical));
        if a.source == Source::Node {
            return "nothing would be gained by a snapshot of it now".to_owned();
        }
        if a.verified != b.verified {
            return "that one is better verified".to_owned();
        }
        if a.site != b.site && self.situation.prefers(&b.site) {
            return format!("that one is at the preferred site {}", b.site);
        }
        if a.received_at != b.received_at {
            return "that one was received later".to_owned();
        }
        "that one has the greater id".to_owned()
    }

    /// Copies of one run of one server, without positions.
    fn by_time(&self, i: usize, canonical: usize) -> Finding {
        let (candidate, other) = (self.situation.candidate(i), self.situation.candidate(canonical));
        let is_one_run = candidate.node == other.node && candidate.run_id == other.run_id;
        if !is_one_run || !self.situation.open[i] {
            return self.unrelated(i);
        }
        match candidate.source {
            Source::Node => Finding::new(
                Standing::Ahead,
                format!(
                    "Holds everything that the latest backup holds, and what was written since; its writes have no \
                     positions, so nobody can say how much: {}.",
                    how_to_save(self.situation.view, candidate)
                ),
            ),
            Source::Backup(_) => {
                let earlier = other.taken_at.since(candidate.taken_at).as_secs_f64();
                let text = format!("Taken {} earlier, in the same run of {}.", duration(earlier), candidate.node);
                Finding { excess: Some(0), ..Finding::new(Standing::Behind, text) }
            }
        }
    }

    /// No copy is chosen: `i` beside those that contend.
    fn among_tips(&self, i: usize, place: Place) -> Finding {
        let situation = self.situation;
        let candidate = situation.candidate(i);
        let tip = situation.extents.tip_over(place).expect("an open candidate is below a tip");
        let (best, reached) = self.tips[&tip];
        if place != tip {
            let missing = tip.offset.bytes_since(place.offset).get();
            let seconds = self.seconds(place, reached);
            let text = format!(
                "Lacks {} that {} holds, and holds nothing of its own.",
                bytes_and_time(missing, seconds),
                name(situation.candidate(best))
            );
            return Finding { missing: Some(missing), excess: Some(0), ..Finding::new(Standing::Behind, text) };
        }
        if best != i {
            let text = format!("Holds exactly the same writes as {}.", name(situation.candidate(best)));
            return Finding { missing: Some(0), excess: Some(0), ..Finding::new(Standing::Equal, text) };
        }
        if situation.contenders.len() == 1 {
            // Only live nodes are left, or a backup would have been chosen.
            let none = match situation.outcome {
                Outcome::AllSetAside => "No backup is on its branch",
                Outcome::AllBeyond => "No backup is as old as was asked for",
                _ => "No backup can be restored",
            };
            let save = how_to_save(situation.view, candidate);
            let text = format!("{none}, and this live node holds the most: {save}.");
            return Finding { missing: Some(0), ..Finding::new(Standing::Ahead, text) };
        }
        let save = match candidate.source {
            Source::Node => format!(" {}", sentence(&how_to_save(situation.view, candidate))),
            Source::Backup(_) => String::new(),
        };
        match situation.extents.shared(&situation.chart, tip) {
            Some(shared) => {
                let excess = tip.offset.bytes_since(shared.offset).get();
                let text = format!(
                    "Holds {} after offset {} of {} that no other branch holds.{save}",
                    bytes(excess),
                    shared.offset,
                    history(situation.chart.id(shared.history)),
                );
                Finding { excess: Some(excess), ..Finding::new(Standing::Divergent, text) }
            }
            None => {
                let root = situation.chart.id(situation.chart.root(tip.history));
                let text = format!(
                    "The most complete copy of {}, of which nobody knows how it relates to the others.{save}",
                    history(root)
                );
                Finding::new(Standing::Unrelated, text)
            }
        }
    }

    fn unrelated(&self, i: usize) -> Finding {
        let candidate = self.situation.candidate(i);
        let is_aside = self.situation.aside[i];
        let text = match (candidate.position, candidate.source) {
            (Some(position), _) if self.reference.is_some() || !is_aside => format!(
                "No path is known between its {} and the others: nothing is proved about it.",
                history(position.history)
            ),
            (Some(_), _) => String::new(),
            (None, Source::Backup(_)) => "It has no position: its server did not count its writes when it was taken, \
                                          so nothing is proved about what it holds."
                .to_owned(),
            (None, Source::Node) => "It has no position: it has not been in sync with a master, or does not count \
                                     its writes, so nothing is proved about what it holds."
                .to_owned(),
        };
        let root = |place: Place| self.situation.chart.root(place.history);
        let is_related = self.reference.is_none()
            && self.situation.places[i].is_some_and(|place| self.tips.keys().any(|&tip| root(tip) == root(place)));
        Finding::new(if is_related { Standing::Divergent } else { Standing::Unrelated }, text)
    }
}
