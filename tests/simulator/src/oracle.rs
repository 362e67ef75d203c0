//! Holds the planner's answers against the truth.
//!
//! Every check asks only what the copies hold ([`crate::truth`]), never how the planner found its answer.

mod edges;
mod need;
mod standing;
mod times;
mod wishes;

use urtext_planner::{Holder, Judged, OnFork, Policy, Selection, Source, Standing, Verdict, Wish, loss_guard, select};

use crate::{truth::Point, watch::Question, world::World};

/// What must hold of every answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Never A over B if both may be chosen and B holds all of A and more.
    MostComplete,
    /// The answer does not depend on the order of what is put in.
    AnyOrder,
    /// Every candidate is in the answer exactly once, with a reason.
    EachOnce,
    /// What is said of a candidate is true of what it holds.
    StandingIsTrue,
    /// With everything known, the answer is ambiguous only if the copies really are.
    NotAmbiguousWithoutNeed,
    /// What is known of the histories is true.
    LineageIsTrue,
    /// The times between which the data is said to end are such.
    DataAsOfIsTrue,
    /// What holds more and cannot be asked is named.
    GuardNamesTheLoss,
    /// What was decided stays decided.
    DecisionHolds,
    /// Nothing beyond the point that was asked for is chosen.
    WishIsKept,
    /// Copies that are far smaller than those before are not chosen silently, and no others are held back.
    ShrunkenIsSuspect,
    /// The planner itself must not fail.
    NoPanic,
}

impl Invariant {
    pub const ALL: [Self; 12] = [
        Self::MostComplete,
        Self::AnyOrder,
        Self::EachOnce,
        Self::StandingIsTrue,
        Self::NotAmbiguousWithoutNeed,
        Self::LineageIsTrue,
        Self::DataAsOfIsTrue,
        Self::GuardNamesTheLoss,
        Self::DecisionHolds,
        Self::WishIsKept,
        Self::ShrunkenIsSuspect,
        Self::NoPanic,
    ];

    /// Whether a failure is a wrong choice, and not only something wrong that is said about it.
    pub fn is_a_choice(self) -> bool {
        matches!(self, Self::MostComplete | Self::DecisionHolds | Self::WishIsKept | Self::ShrunkenIsSuspect)
    }
}

/// An answer that is not right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub invariant: Invariant,
    pub what: String,
}

pub(crate) type Checked = Result<(), Wrong>;

pub(crate) fn wrong(invariant: Invariant, what: String) -> Checked {
    Err(Wrong { invariant, what })
}

/// A verdict that was asked for, with all that the checks need.
pub(crate) struct Case<'a> {
    pub(crate) world: &'a World,
    pub(crate) question: &'a Question,
    pub(crate) selection: &'a Selection,
}

/// What a round of questions counted, for the summary.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub verdicts: [u64; 3],
    pub standings: [u64; 8],
    pub wishes: u64,
    pub wishes_granted: u64,
    pub guards: u64,
    pub everything_known: u64,
    pub bracketed: u64,
}

pub const VERDICTS: [&str; 3] = ["canonical", "ambiguous", "none"];
pub const STANDINGS: [&str; 8] =
    ["canonical", "equal", "ahead", "behind", "divergent", "unrelated", "suspect", "ineligible"];

impl Tally {
    fn count(&mut self, selection: &Selection) {
        self.verdicts[match selection.verdict {
            Verdict::Canonical => 0,
            Verdict::Ambiguous => 1,
            Verdict::None => 2,
        }] += 1;
        for judged in &selection.candidates {
            self.standings[match judged.standing {
                Standing::Canonical => 0,
                Standing::Equal => 1,
                Standing::Ahead => 2,
                Standing::Behind => 3,
                Standing::Divergent => 4,
                Standing::Unrelated => 5,
                Standing::Suspect => 6,
                Standing::Ineligible => 7,
            }] += 1;
        }
    }
}

/// The policy of a story.
pub fn policy(world: &World) -> Policy {
    let on_fork = if world.shape.follow_master { OnFork::FollowMaster } else { OnFork::Refuse };
    Policy { on_fork, ..Policy::default() }
}

/// Asks the planner, and checks everything that it says. `decided_for` is what the copy holds that the last decision
/// was made for, if it can still be chosen; `seed` decides about the order of things and about the wishes.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(
    world: &World,
    question: &Question,
    decided_for: Option<Point>,
    seed: u32,
    tally: &mut Tally,
) -> Result<Selection, Wrong> {
    let policy = policy(world);
    let selection = select(&question.view, &policy, &Wish::default());
    tally.count(&selection);
    let case = Case { world, question, selection: &selection };
    edges::lineage_is_true(&case)?;
    case.each_once()?;
    case.most_complete()?;
    standing::standings_are_true(&case)?;
    standing::shrunken_is_suspect(&case)?;
    tally.everything_known += u64::from(need::not_ambiguous_without_need(&case)?);
    tally.guards += case.guard_names_the_loss()?;
    case.decision_holds(decided_for)?;
    let mut rng = fastrand::Rng::with_seed(u64::from(seed));
    if rng.bool() {
        case.any_order(&policy, &mut rng)?;
    }
    wishes::wish_is_kept(&case, &policy, &mut rng, tally)?;
    tally.bracketed += times::data_as_of_is_true(&case)?;
    Ok(selection)
}

/// A decision for one of the backups that contend was made just now: it must be chosen, or what goes on from it.
///
/// # Errors
/// It is not.
pub fn check_decision(world: &World, question: &Question, decided_for: Point) -> Result<(), Wrong> {
    let selection = select(&question.view, &policy(world), &Wish::default());
    // Or what goes on from it was emptied, and waits for another word.
    let is_held_back = selection.candidates.iter().any(|judged| {
        judged.standing == Standing::Suspect && world.truth.holds(question.truths[judged.candidate], decided_for)
    });
    let chosen = selection.canonical.map(|i| question.truths[i]);
    if chosen.is_some_and(|chosen| world.truth.holds(chosen, decided_for)) || is_held_back {
        return Ok(());
    }
    let case = Case { world, question, selection: &selection };
    let left: Vec<String> = selection.contending().map(|judged| case.name(judged.candidate)).collect();
    let decision = question.view.accepted.last();
    let what = format!("{decision:?} was made for a backup; {:?}, contending are {left:?}", selection.verdict);
    wrong(Invariant::DecisionHolds, what)
}

impl Case<'_> {
    pub(crate) fn holds(&self, outer: usize, inner: usize) -> bool {
        self.world.truth.holds(self.question.truths[outer], self.question.truths[inner])
    }

    /// Whether the node behind a candidate without a position holds it all now: what is said of such a node is
    /// said of what it can be asked for, not of what it held when it was last seen. If that was before the other
    /// copy was taken, nothing can be held against it.
    pub(crate) fn holds_by_now(&self, outer: usize, inner: usize) -> bool {
        let (candidate, other) = (&self.question.view.candidates[outer], &self.question.view.candidates[inner]);
        let node = self.world.nodes().find(|&node| self.world.shape.name(node) == candidate.node.as_str());
        let holds = |node| self.world.truth.holds(self.world.server(node).data, self.question.truths[inner]);
        candidate.source == Source::Node
            && candidate.position.is_none()
            && (candidate.taken_at < other.taken_at || node.is_some_and(holds))
    }

    pub(crate) fn is_backup(&self, i: usize) -> bool {
        self.question.view.candidates[i].source != Source::Node
    }

    /// Those that could be chosen, were they the most complete, and the living nodes that could be saved. A
    /// node that says nothing of its position is none of them, unless no other copy does either.
    pub(crate) fn open(&self) -> impl Iterator<Item = usize> {
        let candidates = &self.question.view.candidates;
        let is_open =
            |judged: &Judged| candidates[judged.candidate].is_eligible() && !judged.set_aside && !judged.beyond;
        let any_placed = self
            .selection
            .candidates
            .iter()
            .any(|judged| is_open(judged) && candidates[judged.candidate].position.is_some());
        let open = move |judged: &&Judged| {
            let candidate = &candidates[judged.candidate];
            is_open(judged) && (!any_placed || candidate.position.is_some() || candidate.source != Source::Node)
        };
        self.selection.candidates.iter().filter(open).map(|judged| judged.candidate)
    }

    /// A candidate for a person.
    pub(crate) fn name(&self, i: usize) -> String {
        let candidate = &self.question.view.candidates[i];
        let position = candidate
            .position
            .map_or("no position".to_owned(), |position| format!("{}:{}", position.history.short(), position.offset));
        match candidate.source {
            Source::Backup(id) => format!("backup {id} of {} at {position}", candidate.node),
            Source::Node => format!("live {} at {position}", candidate.node),
        }
    }

    fn each_once(&self) -> Checked {
        let candidates = &self.question.view.candidates;
        let mut times = vec![0; candidates.len()];
        let may_set_aside = self.world.shape.follow_master || !self.question.view.accepted.is_empty();
        let reasons = self.selection.reasons(&self.question.view);
        for judged in &self.selection.candidates {
            times[judged.candidate] += 1;
            if reasons.of(judged).trim().is_empty() {
                return wrong(Invariant::EachOnce, format!("{} has no reason", self.name(judged.candidate)));
            }
            if judged.set_aside && !may_set_aside {
                let what = format!("{} is set aside, and nobody decided so", self.name(judged.candidate));
                return wrong(Invariant::DecisionHolds, what);
            }
            let is_ineligible = judged.standing == Standing::Ineligible;
            if is_ineligible == candidates[judged.candidate].is_eligible() {
                let standing = judged.standing;
                return wrong(Invariant::EachOnce, format!("{} is {standing:?}", self.name(judged.candidate)));
            }
        }
        match times.iter().position(|&times| times != 1) {
            Some(i) => wrong(Invariant::EachOnce, format!("{} is {} times in the answer", self.name(i), times[i])),
            None => Ok(()),
        }
    }

    pub(crate) fn most_complete(&self) -> Checked {
        let Some(canonical) = self.selection.canonical else {
            let is_right = self.selection.verdict != Verdict::Canonical;
            let any = self.open().any(|i| self.is_backup(i));
            return if is_right && (self.selection.verdict == Verdict::None) != any {
                Ok(())
            } else {
                wrong(Invariant::MostComplete, format!("the verdict is {:?}", self.selection.verdict))
            };
        };
        if self.selection.verdict != Verdict::Canonical
            || !self.is_backup(canonical)
            || !self.open().any(|i| i == canonical)
        {
            return wrong(Invariant::MostComplete, format!("{} must not be chosen", self.name(canonical)));
        }
        for other in self.open() {
            let may_be_ahead =
                !self.is_backup(other) && (self.holds(other, canonical) || self.holds_by_now(other, canonical));
            if !self.holds(canonical, other) && !may_be_ahead {
                let (canonical, other) = (self.name(canonical), self.name(other));
                return wrong(Invariant::MostComplete, format!("{canonical} was chosen, and lacks what {other} holds"));
            }
        }
        Ok(())
    }

    /// After a decision for one copy, what is chosen holds all of it.
    fn decision_holds(&self, decided_for: Option<Point>) -> Checked {
        let (Some(point), Some(canonical)) = (decided_for, self.selection.canonical) else { return Ok(()) };
        if self.world.truth.holds(self.question.truths[canonical], point) {
            return Ok(());
        }
        let what = format!("{} was chosen, and is not of the branch that was accepted", self.name(canonical));
        wrong(Invariant::DecisionHolds, what)
    }

    /// A silent node that was seen to hold more than what was chosen, and has not lost it, is named.
    /// Returns how many are.
    fn guard_names_the_loss(&self) -> Result<u64, Wrong> {
        let (view, truth) = (&self.question.view, &self.world.truth);
        let guard = loss_guard(view, self.selection);
        for more in &guard {
            let (Some(position), Some(bytes), Some(canonical)) =
                (more.position, more.bytes_more, self.selection.canonical)
            else {
                continue;
            };
            let Some(held) = self.data_at(position) else { continue };
            let chosen = self.question.truths[canonical];
            let common = truth.common(chosen, held).map_or(0, |common| truth.total(common));
            let truly = truth.total(held) - common;
            if self.all_edges_are_exact() && bytes != truly {
                let what = format!("the guard says {bytes} bytes instead of {truly}: {}", more.sentence);
                return Err(Wrong { invariant: Invariant::GuardNamesTheLoss, what });
            }
        }
        let Some(canonical) = self.selection.canonical else { return Ok(guard.len() as u64) };
        // What a decision set aside was given up on record.
        if self.selection.decided.is_some() || !view.accepted.is_empty() {
            return Ok(guard.len() as u64);
        }
        for seen in view.nodes.iter().filter(|seen| !seen.reachable) {
            let node = self.world.nodes().find(|&node| self.world.shape.name(node) == seen.node.as_str());
            let Some(node) = node else { continue };
            let Some(held) = seen.observation.position().and_then(|position| self.data_at(position)) else { continue };
            let at_hand = || self.open().any(|i| truth.holds(self.question.truths[i], truth.solid(held)));
            let still_holds = truth.holds(self.world.server(node).data, held);
            let is_named = guard.iter().any(|more| more.who == Holder::Node(seen.node.clone()));
            if still_holds && !is_named && !at_hand() {
                let what =
                    format!("{} is silent, holds what {} lacks, and is not named", seen.node, self.name(canonical));
                return Err(Wrong { invariant: Invariant::GuardNamesTheLoss, what });
            }
        }
        Ok(guard.len() as u64)
    }

    fn any_order(&self, policy: &Policy, rng: &mut fastrand::Rng) -> Checked {
        let view = &self.question.view;
        let mut order: Vec<usize> = (0..view.candidates.len()).collect();
        rng.shuffle(&mut order);
        let mut shuffled = view.clone();
        shuffled.candidates = order.iter().map(|&i| view.candidates[i].clone()).collect();
        rng.shuffle(&mut shuffled.nodes);
        rng.shuffle(&mut shuffled.heads);
        rng.shuffle(&mut shuffled.ended);
        rng.shuffle(&mut shuffled.contradictions);
        let other = select(&shuffled, policy, &Wish::default());
        let mut said: Vec<_> = Case { selection: &other, ..*self }.said(&shuffled, &order);
        said.sort_unstable_by_key(|(candidate, ..)| *candidate);
        let same: Vec<usize> = (0..order.len()).collect();
        let is_same = said == self.said(view, &same)
            && other.canonical.map(|i| order[i]) == self.selection.canonical
            && (&other.head, other.missing, &other.forks)
                == (&self.selection.head, self.selection.missing, &self.selection.forks)
            && (&other.explanation, &other.decided) == (&self.selection.explanation, &self.selection.decided)
            && loss_guard(&shuffled, &other) == loss_guard(view, self.selection);
        if is_same {
            return Ok(());
        }
        let name = |i: Option<usize>| i.map_or("nothing".to_owned(), |i| self.name(i));
        let what = format!(
            "{:?} {} in one order, {:?} {} in another",
            self.selection.verdict,
            name(self.selection.canonical),
            other.verdict,
            name(other.canonical.map(|i| order[i]))
        );
        wrong(Invariant::AnyOrder, what)
    }

    /// Everything that is said of each candidate, under the number that `order` gives it.
    fn said(&self, view: &urtext_planner::ShardView, order: &[usize]) -> Vec<(usize, Judged, String)> {
        let reasons = self.selection.reasons(view);
        let said = |judged: &Judged| {
            let candidate = order[judged.candidate];
            (candidate, Judged { candidate, ..*judged }, reasons.of(judged))
        };
        self.selection.candidates.iter().map(said).collect()
    }
}
