//! A long story that goes wrong becomes a short one that goes wrong in the same way.

use crate::{
    oracle::{Invariant, Wrong},
    run::play,
    story::{Event, Step, Story},
};

/// What is wrong with a story, if anything is.
pub fn verdict(story: &Story) -> Option<Wrong> {
    play(story).err()
}

/// Drops from the story whatever it goes wrong without.
pub fn shrink(story: &Story, invariant: Invariant) -> Story {
    let fails = |story: &Story| verdict(story).is_some_and(|wrong| wrong.invariant == invariant);
    let mut best = story.clone();
    loop {
        let before = best.steps.len();
        let mut piece = (best.steps.len() / 2).max(1);
        loop {
            let mut at = 0;
            while at < best.steps.len() {
                let mut shorter = best.clone();
                let removed: Vec<Step> = shorter.steps.drain(at..(at + piece).min(best.steps.len())).collect();
                // The time that passed then still passes.
                let passed = removed.iter().fold(0_u32, |sum, step| sum.saturating_add(step.after_ms));
                if let Some(next) = shorter.steps.get_mut(at) {
                    next.after_ms = next.after_ms.saturating_add(passed);
                }
                if fails(&shorter) {
                    best = shorter;
                } else {
                    at += piece;
                }
            }
            if piece == 1 {
                break;
            }
            piece /= 2;
        }
        simplify(&mut best, &fails);
        if best.steps.len() == before {
            return best;
        }
    }
}

/// Simpler steps, and a simpler deployment.
fn simplify(best: &mut Story, fails: &dyn Fn(&Story) -> bool) {
    let mut attempt = |change: &dyn Fn(&mut Story)| {
        let mut simpler = best.clone();
        change(&mut simpler);
        if simpler != *best && fails(&simpler) {
            *best = simpler;
        }
    };
    attempt(&|story| story.shape.follow_master = false);
    attempt(&|story| story.shape.aof = false);
    attempt(&|story| story.shape.backlog_bytes = 1 << 20);
    attempt(&|story| {
        for place in &mut story.shape.nodes {
            (place.skew_ms, place.skew_error_ms) = (0, 0);
        }
    });
    attempt(&|story| {
        for step in &mut story.steps {
            step.after_ms = 1000;
        }
    });
    for _ in 0..8 {
        attempt(&|story| {
            let last = story.shape.nodes.len() - 1;
            let is_master = |place: &crate::story::Place| place.master.is_some_and(|of| of.index() == last);
            let mut named = story.steps.iter().flat_map(|step| step.event.nodes()).flatten();
            let is_named = named.any(|node| node.index() == last);
            if last > 0 && !is_named && !story.shape.nodes.iter().any(is_master) {
                story.shape.nodes.pop();
            }
        });
    }
    for i in 0..best.steps.len() {
        attempt_step(best, i, fails);
    }
}

fn attempt_step(best: &mut Story, i: usize, fails: &dyn Fn(&Story) -> bool) {
    let step = best.steps[i];
    let event = match step.event {
        Event::Write { node, .. } => Event::Write { node, value_bytes: 1, count: 1 },
        Event::Look { node, .. } => Event::Look { node, after_ms: 0 },
        Event::Backup { number, node, .. } => Event::Backup {
            number,
            node,
            method: crate::story::Method::Auto,
            allow_stale: true,
            fate: crate::story::Fate::Committed { after_ms: 0 },
        },
        event => event,
    };
    if event != step.event {
        let mut simpler = best.clone();
        simpler.steps[i].event = event;
        if fails(&simpler) {
            *best = simpler;
        }
    }
}
