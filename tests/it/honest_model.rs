//! The model of replication behind the simulator is honest: the same stories, played on real servers, show the
//! same histories, forks, offsets and links after every event, and a backup that is chosen holds what it must.
//!
//! ```sh
//! tests/run honest                            # a few stories, spread over the five servers
//! URTEXT_HONEST_STORIES=300 tests/run honest  # the long form, some ten minutes
//! URTEXT_HONEST_SEED=4711 tests/run honest    # one story again
//! ```
//!
//! What happens to servers is played, and so are looks, captures and questions to the planner. Left to the
//! simulator: agents that are late, silent or have wrong clocks, damage, verification, lies, and decisions,
//! none of which a server can feel; and backlogs too small for what was missed, since servers have none below
//! 16 KiB.

mod agents;
mod scene;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use scene::Scene;
use urtext_simulator::{
    generate,
    story::{KINDS, Story, Version},
};
use urtext_tests::say;

/// As many as fit beside the other tests.
const STORIES: usize = 10;

/// Most of a story is waiting for servers that try again once a second.
const AT_ONCE: usize = 5;

/// What was played, over all stories.
#[derive(Debug, Default)]
struct Counts {
    events: BTreeMap<&'static str, u64>,
    comparisons: u64,
    histories: u64,
    /// Fork edges that were compared, at each question anew.
    forks: u64,
    backups: u64,
    verdicts: BTreeMap<String, u64>,
    restored: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        let Self { events, comparisons, histories, forks, backups, verdicts, restored } = other;
        events.into_iter().for_each(|(kind, count)| *self.events.entry(kind).or_default() += count);
        verdicts.into_iter().for_each(|(verdict, count)| *self.verdicts.entry(verdict).or_default() += count);
        self.comparisons += comparisons;
        self.histories += histories;
        self.forks += forks;
        self.backups += backups;
        self.restored += restored;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Seeds from the first one on, in turn for each version of the server.
fn seeds(first: u64, count: usize) -> Vec<u64> {
    let mut next = [first; Version::ALL.len()];
    (0..count)
        .map(|i| {
            let turn = i % Version::ALL.len();
            let seed = (next[turn]..).find(|&seed| generate::story(seed).shape.version == Version::ALL[turn]);
            let seed = seed.expect("every version has stories");
            next[turn] = seed + 1;
            seed
        })
        .collect()
}

#[test]
fn the_model_is_honest() {
    let seeds = match number("URTEXT_HONEST_SEED") {
        Some(seed) => vec![seed],
        None => seeds(1, number("URTEXT_HONEST_STORIES").map_or(STORIES, |stories| stories as usize)),
    };
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let (counts, wrong) = (Mutex::new(Counts::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, SeqCst)) {
                    let story = generate::story(seed);
                    let (version, began) = (story.shape.version, Instant::now());
                    // A wait that was in vain is a difference too.
                    let played = catch_unwind(AssertUnwindSafe(|| play(story))).unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        Err(text.unwrap_or_else(|| "a panic without words".to_owned()))
                    });
                    let seconds = began.elapsed().as_secs_f64();
                    match played {
                        Ok(played) => {
                            say(&format!(
                                "seed {seed}: {version:?}, {} comparisons, {seconds:.1} s",
                                played.comparisons
                            ));
                            counts.lock().expect("nobody panics with it").add(played);
                        }
                        Err(why) => {
                            say(&format!("seed {seed}: {version:?}, not as the model says:\n{why}"));
                            wrong.lock().expect("nobody panics with it").push(seed);
                        }
                    }
                }
            });
        }
    });
    let counts = counts.into_inner().expect("nobody panics with it");
    let kinds = KINDS.iter().filter_map(|kind| Some(format!("{kind} {}", counts.events.get(kind)?)));
    say(&format!(
        "{} stories in {:.0} s, {} differ; {} comparisons of all servers, {} histories, {} fork edges; events: {}; {} backups; verdicts {:?}; {} restored",
        seeds.len(),
        began.elapsed().as_secs_f64(),
        wrong.lock().expect("nobody panics with it").len(),
        counts.comparisons,
        counts.histories,
        counts.forks,
        kinds.collect::<Vec<_>>().join(", "),
        counts.backups,
        counts.verdicts,
        counts.restored,
    ));
    let wrong = wrong.into_inner().expect("nobody panics with it");
    assert!(wrong.is_empty(), "URTEXT_HONEST_SEED=… of {wrong:?}: the model and the servers do not agree");
}

/// One story; an error says where the model and the servers part.
fn play(story: Story) -> Result<Counts, String> {
    let Story { shape, steps } = story;
    let mut scene = Scene::set(shape)?;
    for step in &steps {
        scene.play(step)?;
    }
    scene.end()
}
