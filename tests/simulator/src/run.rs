//! One story, played: the servers, those who watch them, and the oracle beside them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use urtext_planner::Source;

use crate::{
    oracle::{Invariant, Tally, Wrong, check, check_decision},
    story::{BackupNumber, Event, KINDS, Shape, Step, Story},
    truth::Point,
    watch::Watch,
    world::World,
};

/// When every story begins: no time of any importance.
pub const BEGINNING: i64 = 1_790_000_000_000;

/// What was counted while stories were played.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Events that had an effect, by their place in [`KINDS`].
    pub events: [u64; KINDS.len()],
    pub backups: u64,
    pub answers: Tally,
}

impl Default for Counts {
    fn default() -> Self {
        Self { events: [0; KINDS.len()], backups: 0, answers: Tally::default() }
    }
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        let Self { events, backups, answers } = other;
        add(&mut self.events, events);
        self.backups += backups;
        let Tally { verdicts, standings, wishes, wishes_granted, guards, everything_known, bracketed } = answers;
        let own = &mut self.answers;
        add(&mut own.verdicts, verdicts);
        add(&mut own.standings, standings);
        own.wishes += wishes;
        own.wishes_granted += wishes_granted;
        own.guards += guards;
        own.everything_known += everything_known;
        own.bracketed += bracketed;
    }
}

fn add(to: &mut [u64], from: &[u64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

#[derive(Debug)]
pub struct Run {
    pub world: World,
    pub watch: Watch,
    pub counts: Counts,
    /// The backup that the last decision was made for, and what it holds.
    decided_for: Option<(BackupNumber, Point)>,
}

impl Run {
    pub fn new(shape: Shape) -> Self {
        let world = World::new(shape, BEGINNING);
        let watch = Watch::new(&world);
        Self { world, watch, counts: Counts::default(), decided_for: None }
    }

    /// The time passes, and the event happens, if it can.
    ///
    /// # Errors
    /// The event is a question, and something about the answer is wrong.
    pub fn play(&mut self, step: &Step) -> Result<(), Wrong> {
        self.world.now += i64::from(step.after_ms);
        self.watch.hear(self.world.now);
        let happened = match step.event {
            Event::Ask { shuffle } => {
                self.ask(shuffle)?;
                true
            }
            Event::Accept { pick } => self.accept(usize::from(pick))?,
            event if event.is_of_servers() => self.world.play(&event),
            Event::Wait => true,
            event => self.watch.play(&mut self.world, &event),
        };
        self.counts.events[step.event.kind()] += u64::from(happened);
        Ok(())
    }

    fn ask(&mut self, seed: u32) -> Result<(), Wrong> {
        let question = self.watch.question(&self.world);
        let backups = &self.watch.backups;
        // A decision holds while the copy that it was made for can be chosen; a policy may go on from there.
        let decided_for = self.decided_for.filter(|(number, _)| {
            let backup = backups.iter().find(|backup| backup.number == *number);
            !self.world.shape.follow_master && backup.is_some_and(|backup| backup.candidate.is_eligible())
        });
        let decided_for = decided_for.map(|(_, point)| point);
        check(&self.world, &question, decided_for, seed, &mut self.counts.answers).map(drop)
    }

    fn accept(&mut self, pick: usize) -> Result<bool, Wrong> {
        let question = self.watch.question(&self.world);
        let selection = urtext_planner::select(
            &question.view,
            &crate::oracle::policy(&self.world),
            &urtext_planner::Wish::default(),
        );
        let contending: Vec<usize> = selection.contending().map(|judged| judged.candidate).collect();
        if contending.is_empty() {
            return Ok(false);
        }
        let picked = contending[pick % contending.len()];
        let candidate = &question.view.candidates[picked];
        let Some(position) = candidate.position else { return Ok(false) };
        if !self.watch.accept(&question.view, position) {
            return Ok(false);
        }
        let backup = self.watch.backups.iter().find(|backup| backup.candidate.source == candidate.source);
        let backup = backup.filter(|_| candidate.source != Source::Node);
        self.decided_for = backup.map(|backup| (backup.number, backup.holds));
        if let Some((_, holds)) = self.decided_for {
            check_decision(&self.world, &self.watch.question(&self.world), holds)?;
        }
        Ok(true)
    }
}

/// Plays one step; a panic is something wrong as well.
///
/// # Errors
/// See [`Run::play`]. After a panic the run is of no use any more.
pub fn play_step(run: &mut Run, step: &Step) -> Result<(), Wrong> {
    catch_unwind(AssertUnwindSafe(|| run.play(step))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let what = text.unwrap_or("a panic without words").to_owned();
        Err(Wrong { invariant: Invariant::NoPanic, what })
    })
}

/// Plays a story to its end, or to the first answer that is wrong.
///
/// # Errors
/// That answer.
pub fn play(story: &Story) -> Result<Counts, Wrong> {
    let mut run = Run::new(story.shape.clone());
    for step in &story.steps {
        play_step(&mut run, step)?;
    }
    run.counts.backups = run.watch.backups.len() as u64;
    Ok(run.counts)
}
