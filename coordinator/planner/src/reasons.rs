//! Why each candidate stands where it does, in words.

use crate::{
    chart::{Bearing, Bearings, Place},
    data_as_of::DataAsOf,
    judge::{is_of_the_run, is_related},
    outcome::Outcome,
    selection::{Decided, Judged, Selection},
    situation::{Case, latest_decision},
    view::{ShardView, Source},
    wish::Beyond,
    wording::{bytes, bytes_and_time, duration, history, how_to_save, keys, name, sentence, time},
};

/// The reasons of one selection. Making one of them costs little, so that a table of ten backups out of
/// a million does too.
#[derive(Debug)]
pub struct Reasons<'a> {
    case: Case<'a>,
    data_as_of: DataAsOf<'a>,
}

impl<'a> Reasons<'a> {
    pub(crate) fn new(view: &'a ShardView, selection: &'a Selection) -> Self {
        let case = Case::new(view, &selection.situation);
        Self { case, data_as_of: DataAsOf::on(&selection.situation.chart, &view.timeline) }
    }

    /// Whole sentences about one candidate.
    pub fn of(&self, judged: &Judged) -> String {
        let (case, i) = (&self.case, judged.candidate);
        let candidate = case.candidate(i);
        let lacking = candidate.ineligible.clone().or_else(|| {
            let repository = candidate.out_of_reach.as_ref()?;
            Some(format!("the repository {repository} cannot be reached now"))
        });
        let mut text = if let Some(why) = lacking {
            let would = match judged.excess_bytes {
                Some(more @ 1..) => format!(" It would hold {} more.", bytes(more)),
                _ => String::new(),
            };
            format!("{}{would}", sentence(&format!("cannot be restored: {why}")))
        } else if let Some(shrunken) = case.shrunken.get(&i) {
            format!(
                "Holds only {} where {} before it held {}: emptied or expired, a person must say whether that is right.",
                keys(candidate.keys),
                name(case.candidate(shrunken.from)),
                shrunken.from_keys,
            )
        } else {
            self.compare(i)
        };
        let mut add = |sentence: String| text = format!("{text} {sentence}").trim().to_owned();
        if judged.set_aside {
            add(self.set_aside(i));
        }
        if let Some(until) = case.wish.until.filter(|_| judged.beyond && candidate.is_eligible()) {
            add(Beyond::of(case, &self.data_as_of, i, until).sentence(until));
        }
        if let Some(stale) = &candidate.stale {
            add(sentence(stale));
        }
        text
    }

    fn compare(&self, i: usize) -> String {
        let case = &self.case;
        match (&case.reference, case.place(i)) {
            (Some(reference), _) if reference.candidate == i => self.chosen(i),
            (Some(reference), Some(place)) if let Some(bearings) = &reference.bearings => {
                self.beside(i, place, reference.candidate, bearings)
            }
            (Some(reference), None) if reference.bearings.is_none() && is_of_the_run(case, i, reference.candidate) => {
                self.by_time(i, reference.candidate)
            }
            (None, Some(place)) if case.open[i] => self.among_tips(i, place),
            (_, _) => self.unrelated(i),
        }
    }

    fn chosen(&self, i: usize) -> String {
        match self.case.place(i) {
            Some(_) => match self.case.wish.until {
                None => "Holds every write that any backup on the accepted lineage holds.".to_owned(),
                Some(until) => format!(
                    "Holds every write that any backup on the accepted lineage holds that is not beyond {until}."
                ),
            },
            None => format!(
                "Taken last of all, in the same run of {}, whose writes have no positions.",
                self.case.candidate(i).node
            ),
        }
    }

    /// `i` at `place`, beside the canonical backup.
    fn beside(&self, i: usize, place: Place, canonical: usize, bearings: &Bearings) -> String {
        let case = &self.case;
        let candidate = case.candidate(i);
        let the_other = match case.outcome {
            Outcome::Canonical(_) => "the canonical backup",
            _ => "the most complete backup",
        };
        let chosen = bearings.place();
        match bearings.of(place) {
            Bearing::Equal => format!("Holds exactly the same writes as {the_other}; {}.", self.tie(i, canonical)),
            Bearing::Behind { missing: 0 } => {
                format!("Lacks what {the_other} holds after a stretch that the server did not count.")
            }
            Bearing::Behind { missing } => {
                let seconds = self.data_as_of.seconds_from(place, chosen);
                format!("Lacks {} that {the_other} holds.", bytes_and_time(missing, seconds))
            }
            Bearing::Ahead { excess } if case.aside[i] => format!("Holds {} more than {the_other}.", bytes(excess)),
            Bearing::Ahead { excess } => {
                let more = match excess {
                    0 => "writes that its server did not count".to_owned(),
                    _ => {
                        let seconds = self.data_as_of.seconds_from(chosen, place);
                        format!("{} more than {the_other}", bytes_and_time(excess, seconds))
                    }
                };
                match candidate.source {
                    Source::Node if case.open[i] => format!("Holds {more}: {}.", how_to_save(case.view, candidate)),
                    Source::Node | Source::Backup(_) => format!("Holds {more}."),
                }
            }
            Bearing::Divergent { common, missing, excess } => format!(
                "Holds {} that {the_other} lacks, and lacks {} that it holds: they part after offset {} of {}.",
                bytes(excess),
                bytes(missing),
                common.offset,
                history(case.chart.id(common.history)),
            ),
            Bearing::Unrelated => self.unrelated(i),
        }
    }

    fn set_aside(&self, i: usize) -> String {
        let (case, view) = (&self.case, self.case.view);
        let decision = match case.place(i) {
            Some(place) => case.decisions.against(place).map(|index| &view.accepted[index]),
            None => latest_decision(view).map(|(_, decision)| decision).filter(|decision| {
                // What was received later, nobody has weighed.
                case.candidate(i).received_at <= decision.at
            }),
        };
        match (decision, &case.decided) {
            (Some(decision), _) => {
                format!("Its branch was set aside by {} on {}.", decision.by, time(decision.at))
            }
            (None, Some(Decided::FollowMaster(master))) => {
                format!("Its branch is not that of the master {master}, which the policy follows.")
            }
            (None, Some(Decided::Operator(_)) | None) => String::new(),
        }
    }

    /// Why one of two equal copies comes after the other.
    fn tie(&self, i: usize, canonical: usize) -> String {
        let (a, b) = (self.case.candidate(i), self.case.candidate(canonical));
        if a.source == Source::Node {
            return "nothing would be gained by a snapshot of it now".to_owned();
        }
        if a.verified != b.verified {
            return "that one is better verified".to_owned();
        }
        if a.site != b.site && self.case.prefers(&b.site) {
            return format!("that one is at the preferred site {}", b.site);
        }
        if a.received_at != b.received_at {
            return "that one was received later".to_owned();
        }
        "that one has the greater id".to_owned()
    }

    /// Copies of one run of one server, without positions.
    fn by_time(&self, i: usize, canonical: usize) -> String {
        let (candidate, other) = (self.case.candidate(i), self.case.candidate(canonical));
        match candidate.source {
            Source::Node => format!(
                "Holds everything that the latest backup holds, and what was written since; its writes have no \
                 positions, so nobody can say how much: {}.",
                how_to_save(self.case.view, candidate)
            ),
            Source::Backup(_) => {
                let earlier = other.taken_at.since(candidate.taken_at).as_secs_f64();
                format!("Taken {} earlier, in the same run of {}.", duration(earlier), candidate.node)
            }
        }
    }

    /// No copy is chosen: `i` beside those that contend.
    fn among_tips(&self, i: usize, place: Place) -> String {
        let case = &self.case;
        let candidate = case.candidate(i);
        let tip = case.extents.tip_over(place).expect("an open candidate is below a tip");
        let best = case.tips[&tip];
        if place != tip {
            let missing = tip.offset.bytes_since(place.offset).get();
            let seconds = self.data_as_of.seconds_from(place, tip);
            return format!(
                "Lacks {} that {} holds, and holds nothing of its own.",
                bytes_and_time(missing, seconds),
                name(case.candidate(best))
            );
        }
        if best != i {
            return format!("Holds exactly the same writes as {}.", name(case.candidate(best)));
        }
        if case.contenders.len() == 1 {
            // Only live nodes are left, or a backup would have been chosen.
            let none = match case.outcome {
                Outcome::AllSetAside => "No backup is on its branch",
                Outcome::AllBeyond => "No backup is as old as was asked for",
                _ => "No backup can be restored",
            };
            let save = how_to_save(case.view, candidate);
            return format!("{none}, and this live node holds the most: {save}.");
        }
        let save = match candidate.source {
            Source::Node => format!(" {}", sentence(&how_to_save(case.view, candidate))),
            Source::Backup(_) => String::new(),
        };
        match case.extents.shared(&case.chart, tip) {
            Some(shared) => format!(
                "Holds {} after offset {} of {} that no other branch holds.{save}",
                bytes(tip.offset.bytes_since(shared.offset).get()),
                shared.offset,
                history(case.chart.id(shared.history)),
            ),
            None => {
                let root = case.chart.id(case.chart.root(tip.history));
                format!(
                    "The most complete copy of {}, of which nobody knows how it relates to the others.{save}",
                    history(root)
                )
            }
        }
    }

    fn unrelated(&self, i: usize) -> String {
        let candidate = self.case.candidate(i);
        match (candidate.position, candidate.source) {
            (Some(position), _) if self.case.reference.is_some() || !self.case.aside[i] => {
                // It may be related to what contends, or be compared with what was asked for instead.
                if self.case.is_beyond(i) && self.case.reference.is_none() || is_related(&self.case, i) {
                    return String::new();
                }
                format!(
                    "No path is known between its {} and the others: nothing is proved about it.",
                    history(position.history)
                )
            }
            (Some(_), _) => String::new(),
            (None, Source::Backup(_)) => "It has no position: its server did not count its writes when it was taken, \
                                          so nothing is proved about what it holds."
                .to_owned(),
            (None, Source::Node) => "It has no position: it has not been in sync with a master, or does not count \
                                     its writes, so nothing is proved about what it holds."
                .to_owned(),
        }
    }
}
