//! Chance: one seed makes one story.
//!
//! A story is made by playing it, so that most of what happens can happen, and so that what goes wrong in
//! practice, a failover with all that belongs to it, is common.

use fastrand::Rng;

use crate::{
    oracle::Wrong,
    run::{Run, play_step},
    server::Role,
    story::{BackupNumber, Event, Fate, Lie, Method, Node, Place, Shape, Site, Step, Story, Version},
};

/// Plays the story of a seed while it is being made.
///
/// # Errors
/// The first answer that is wrong. The story ends with the question.
pub fn play_seed(seed: u64) -> (Run, Vec<Step>, Result<(), Wrong>) {
    let mut rng = Rng::with_seed(seed);
    let shape = shape(&mut rng);
    let mut maker = Maker { run: Run::new(shape), rng, steps: Vec::new(), backups: 0 };
    let result = maker.make();
    maker.run.counts.backups = maker.run.watch.backups.len() as u64;
    (maker.run, maker.steps, result)
}

/// The story of a seed, as far as it can be played.
pub fn story(seed: u64) -> Story {
    let (run, steps, _) = play_seed(seed);
    Story { shape: run.world.shape, steps }
}

fn shape(rng: &mut Rng) -> Shape {
    let sites = rng.u8(1..=5);
    let replicas = match rng.u8(..20) {
        0 => 0,
        1..=4 => 1,
        5..=11 => 2,
        12..=15 => 3,
        16..=18 => rng.u8(4..=6),
        _ => rng.u8(7..=8),
    };
    let nodes = (0..=replicas).map(|number| {
        let skew_ms = match rng.u8(..10) {
            0..=5 => rng.i64(-20..=20),
            6..=7 => rng.i64(-5000..=5000),
            8 => rng.i64(-600_000..=600_000),
            _ => rng.i64(-40_000_000..=40_000_000),
        };
        Place {
            site: Site(rng.u8(..sites)),
            // Most replicas are the master's own; some are in a chain.
            master: (number > 0).then(|| Node(if rng.u8(..10) < 7 { 0 } else { rng.u8(..number) })),
            skew_ms,
            skew_error_ms: if rng.u8(..4) == 0 { rng.i64(-400..=400) } else { rng.i64(-5..=5) },
        }
    });
    let nodes = nodes.collect();
    Shape {
        version: *rng.choice(Version::ALL.iter()).expect("there are some"),
        aof: rng.u8(..8) == 0,
        backlog_bytes: if rng.u8(..4) == 0 { 300 } else { 1 << 20 },
        backlog_ttl_ms: *rng.choice([60_000, 600_000, 3_600_000].iter()).expect("there are some"),
        keys: *rng.choice([0, 1, 20, 150, 5000].iter()).expect("there are some"),
        follow_master: rng.u8(..5) == 0,
        nodes,
    }
}

struct Maker {
    run: Run,
    rng: Rng,
    steps: Vec<Step>,
    backups: u16,
}

type Made = Result<(), Wrong>;

impl Maker {
    fn make(&mut self) -> Made {
        let length = match self.rng.u8(..10) {
            0..=1 => self.rng.usize(5..20),
            2..=7 => self.rng.usize(20..50),
            _ => self.rng.usize(50..90),
        };
        while self.steps.len() < length {
            self.something()?;
        }
        self.look_around()?;
        self.ask()
    }

    fn go(&mut self, event: Event) -> Made {
        let after_ms = match self.rng.u8(..100) {
            0..=59 => self.rng.u32(0..400),
            60..=94 => self.rng.u32(0..4000),
            95..=98 => self.rng.u32(0..90_000),
            _ => self.rng.u32(0..5_000_000),
        };
        self.soon(after_ms, event)
    }

    fn soon(&mut self, after_ms: u32, event: Event) -> Made {
        let step = Step { after_ms, event };
        self.steps.push(step);
        play_step(&mut self.run, &step)
    }

    fn node(&mut self) -> Node {
        Node(self.rng.u8(..self.run.world.shape.nodes.len() as u8))
    }

    fn some(&mut self, which: impl Fn(&Run, Node) -> bool) -> Option<Node> {
        let all: Vec<Node> = self.run.world.nodes().filter(|&node| which(&self.run, node)).collect();
        self.rng.choice(all)
    }

    fn master(&mut self) -> Option<Node> {
        self.some(|run, node| run.world.server(node).is_master())
    }

    fn replica(&mut self) -> Option<Node> {
        self.some(|run, node| run.world.server(node).is_up && run.world.server(node).role != Role::Master)
    }

    fn stopped(&mut self) -> Option<Node> {
        self.some(|run, node| !run.world.server(node).is_up)
    }

    fn site(&mut self) -> Site {
        let node = self.node();
        self.run.world.shape.nodes[node.index()].site
    }

    fn something(&mut self) -> Made {
        match self.rng.u8(..100) {
            0..=24 => self.write(),
            25..=29 => self.ping(),
            30..=44 => self.look(),
            45..=54 => self.backup(),
            55..=60 => self.lag(),
            61..=64 => self.link(),
            65..=66 => self.border(),
            67..=68 => self.switchover(),
            69..=72 => self.promotion(),
            73..=74 => self.sentinel(),
            75 => self.split_brain(),
            76..=77 => self.follow(),
            78..=82 => self.restart(),
            83..=84 => self.save(),
            85..=86 => self.alone(),
            87 => self.empty(),
            88..=90 => self.agent(),
            91..=93 => self.keeping(),
            94 => self.claim(),
            95..=96 => self.accept(),
            97 => self.swap_files(),
            _ => {
                self.look_around()?;
                self.ask()
            }
        }
    }

    fn write(&mut self) -> Made {
        let Some(node) = self.master() else { return self.go(Event::Wait) };
        let value_bytes = if self.rng.u8(..4) == 0 { self.rng.u16(..200) } else { self.rng.u16(..8) };
        let count = self.rng.u8(1..=3);
        self.go(Event::Write { node, value_bytes, count })
    }

    fn ping(&mut self) -> Made {
        let Some(node) = self.master() else { return Ok(()) };
        self.go(Event::Ping { node })
    }

    fn look(&mut self) -> Made {
        if self.rng.u8(..4) == 0 {
            return self.look_around();
        }
        let node = self.node();
        let after_ms = self.delay();
        self.go(Event::Look { node, after_ms })
    }

    fn delay(&mut self) -> u32 {
        match self.rng.u8(..10) {
            0..=6 => 0,
            7..=8 => self.rng.u32(..1500),
            _ => self.rng.u32(..20_000),
        }
    }

    /// A round of looks, of which some are missed.
    fn look_around(&mut self) -> Made {
        for node in self.run.world.nodes() {
            if self.run.world.server(node).is_up && self.rng.u8(..5) > 0 {
                let after_ms = if self.rng.u8(..6) == 0 { self.delay() } else { 0 };
                let soon = self.rng.u32(..100);
                self.soon(soon, Event::Look { node, after_ms })?;
            }
        }
        Ok(())
    }

    fn backup(&mut self) -> Made {
        let Some(node) = self.some(|run, node| run.world.server(node).is_up) else { return Ok(()) };
        self.backups += 1;
        let method = match self.rng.u8(..10) {
            0..=6 => Method::Auto,
            7..=8 => Method::File,
            _ => Method::Replication,
        };
        let fate = match self.rng.u8(..10) {
            0..=6 => Fate::Committed { after_ms: self.delay() },
            7..=8 => Fate::Found { after_ms: self.rng.u32(..60_000) },
            _ => Fate::Lost,
        };
        let (number, allow_stale) = (BackupNumber(self.backups), self.rng.bool());
        self.go(Event::Backup { number, node, method, allow_stale, fate })
    }

    fn lag(&mut self) -> Made {
        let stalled = self.some(|run, node| run.world.server(node).is_stalled);
        match (stalled, self.rng.u8(..4)) {
            (Some(node), 0..=1) => {
                let commands = self.rng.u8(1..=4);
                self.go(Event::Trickle { node, commands })
            }
            (Some(node), 2) => self.go(Event::Flow { node }),
            _ => {
                let Some(node) = self.replica() else { return Ok(()) };
                self.go(Event::Stall { node })?;
                self.write()
            }
        }
    }

    fn link(&mut self) -> Made {
        let cut = self.some(|run, node| run.world.server(node).is_cut);
        match cut.filter(|_| self.rng.bool()) {
            Some(node) => self.go(Event::Mend { node }),
            None => {
                let Some(node) = self.replica() else { return Ok(()) };
                self.go(Event::Cut { node })
            }
        }
    }

    fn border(&mut self) -> Made {
        let site = self.site();
        let isolated = self.run.world.is_isolated(site);
        self.go(if isolated { Event::Rejoin { site } } else { Event::Isolate { site } })
    }

    fn switchover(&mut self) -> Made {
        if self.rng.u8(..6) == 0 {
            let Some(node) = self.master() else { return Ok(()) };
            return self.go(Event::AbortFailover { node });
        }
        let Some(to) = self.replica() else { return Ok(()) };
        self.go(Event::Failover { to })
    }

    fn promotion(&mut self) -> Made {
        let Some(node) = self.replica() else { return Ok(()) };
        self.go(Event::Promote { node })?;
        self.others_follow(node)
    }

    /// Some of the others become replicas of a new master.
    fn others_follow(&mut self, master: Node) -> Made {
        for node in self.run.world.nodes() {
            if node != master && self.run.world.server(node).is_up && self.rng.u8(..3) == 0 {
                let soon = self.rng.u32(..500);
                self.soon(soon, Event::Follow { node, master: Some(master) })?;
            }
        }
        Ok(())
    }

    /// The master dies, a replica is promoted, though it may have the lower offset; the old master
    /// comes back, as a replica or as what it was.
    fn sentinel(&mut self) -> Made {
        let Some(old) = self.master() else { return Ok(()) };
        let save = self.rng.u8(..4) == 0;
        self.go(Event::Stop { node: old, save })?;
        let followers =
            |run: &Run, node| run.world.server(node).upstream() == Some(old) && run.world.server(node).is_up;
        let Some(new) = self.some(followers) else { return Ok(()) };
        self.go(Event::Promote { node: new })?;
        self.others_follow(new)?;
        self.write()?;
        let master = match self.rng.u8(..4) {
            0..=1 => Some(new),
            2 => None,
            _ => return Ok(()),
        };
        self.go(Event::Start { node: old, master })
    }

    fn split_brain(&mut self) -> Made {
        let Some(old) = self.master() else { return Ok(()) };
        let site = self.run.world.shape.nodes[old.index()].site;
        self.go(Event::Isolate { site })?;
        let elsewhere = |run: &Run, node: Node| {
            run.world.shape.nodes[node.index()].site != site && run.world.server(node).upstream() == Some(old)
        };
        let Some(new) = self.some(elsewhere) else { return self.go(Event::Rejoin { site }) };
        self.go(Event::Promote { node: new })?;
        self.others_follow(new)?;
        for _ in 0..3 {
            self.write()?;
        }
        if self.rng.bool() {
            self.go(Event::Rejoin { site })?;
            if self.rng.bool() {
                self.go(Event::Follow { node: old, master: Some(new) })?;
            }
        }
        Ok(())
    }

    fn follow(&mut self) -> Made {
        let (node, master) = (self.node(), self.node());
        let master = (self.rng.u8(..8) > 0).then_some(master);
        self.go(Event::Follow { node, master })
    }

    fn restart(&mut self) -> Made {
        if let Some(node) = self.stopped().filter(|_| self.rng.bool()) {
            return self.start(node);
        }
        let node = self.node();
        let save = self.rng.bool();
        self.go(Event::Stop { node, save })?;
        if self.rng.u8(..6) == 0 {
            self.go(Event::Wipe { node })?;
        }
        if self.rng.u8(..3) > 0 { self.start(node) } else { Ok(()) }
    }

    fn start(&mut self, node: Node) -> Made {
        let was = self.run.world.server(node).upstream();
        let master = match self.rng.u8(..6) {
            0..=2 => was,
            3 => None,
            _ => Some(self.node()),
        };
        self.go(Event::Start { node, master })
    }

    fn save(&mut self) -> Made {
        let node = self.node();
        self.go(Event::Save { node })
    }

    /// A master is left alone until its backlog is gone.
    fn alone(&mut self) -> Made {
        let Some(node) = self.master() else { return Ok(()) };
        let replicas: Vec<Node> = self.run.world.replicas_of(node).collect();
        if replicas.len() > 2 {
            return Ok(());
        }
        for &node in &replicas {
            self.go(Event::Cut { node })?;
        }
        self.go(Event::ExpireBacklog { node })?;
        self.write()?;
        if self.rng.bool() {
            self.backup()?;
        }
        for node in replicas {
            if self.rng.u8(..3) > 0 {
                self.go(Event::Mend { node })?;
            }
        }
        Ok(())
    }

    fn empty(&mut self) -> Made {
        let Some(node) = self.master() else { return Ok(()) };
        if self.rng.bool() {
            return self.go(Event::Flush { node });
        }
        self.go(Event::Stop { node, save: false })?;
        self.go(Event::Wipe { node })?;
        self.go(Event::Start { node, master: None })
    }

    fn agent(&mut self) -> Made {
        let silent = self.some(|run, node| !run.watch.is_heard(node));
        match silent.filter(|_| self.rng.bool()) {
            Some(node) => self.go(Event::Hear { node }),
            None => {
                let node = self.node();
                self.go(Event::Silence { node })
            }
        }
    }

    /// What happens to backups later.
    fn keeping(&mut self) -> Made {
        if self.backups == 0 {
            return Ok(());
        }
        let number = BackupNumber(self.rng.u16(1..=self.backups));
        let rehearsed = self.rng.bool();
        let event = match self.rng.u8(..5) {
            0..=1 => Event::Damage { number },
            2..=3 => Event::Verify { number, rehearsed },
            _ => Event::Vouch { number },
        };
        self.go(event)
    }

    fn claim(&mut self) -> Made {
        let lie = match self.rng.u8(..3) {
            0 => Lie::Later(self.rng.u16(..100)),
            1 => Lie::Earlier(self.rng.u16(..100)),
            _ => Lie::Parent,
        };
        let (pick, lie_first) = (self.rng.u8(..), self.rng.bool());
        self.go(Event::Claim { pick, lie, lie_first })
    }

    fn accept(&mut self) -> Made {
        let pick = self.rng.u8(..);
        self.go(Event::Accept { pick })
    }

    /// A server is given the file of another one.
    fn swap_files(&mut self) -> Made {
        let (from, to) = (self.node(), self.node());
        self.go(Event::Save { node: from })?;
        self.go(Event::Stop { node: to, save: false })?;
        self.go(Event::CopyFile { from, to })?;
        self.start(to)
    }

    fn ask(&mut self) -> Made {
        let shuffle = self.rng.u32(..);
        let soon = self.rng.u32(..50);
        self.soon(soon, Event::Ask { shuffle })
    }
}
