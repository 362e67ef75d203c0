//! Small random deployments with ground truth: every copy carries the set of writes that it holds, so
//! that a verdict can be checked without lineage, offsets or any idea that the planner may have.

use std::collections::BTreeSet;

use proptest::prelude::*;
use urtext_planner::{
    AcceptedLineage, Candidate, HeadSeen, Holder, Policy, ShardView, Source, Standing, Until, Verdict, Verified, Wish,
    loss_guard, select, set_aside_by,
};
use urtext_types::{ByteCount, Evidence, ForkEdge, NodeName, Offset, Position, ReplicationId, SiteName, Timestamp};

use crate::fleet::{backup_id, empty_view};

/// One write: the byte at which it stands, unlike every other one ever made.
type Writes = BTreeSet<u32>;

/// What happens, with two dice for where and how much.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A master accepts writes.
    Write,
    /// A replica receives some of what its history has and it lacks.
    Replicate,
    /// A node is promoted; whether the coordinator sees the edge is up to the dice.
    Promote,
    /// A node takes over a promoted one's history from where it is itself: a lower bound.
    Follow,
    /// A full resynchronization.
    Resync,
    /// A restart that loses the replication id, and the data that was not saved.
    Restart,
    /// The backlog expires: writes that nobody counts, a new id, the same offset.
    Uncounted,
    Backup,
}

#[derive(Debug, Clone)]
struct Server {
    history: usize,
    offset: u64,
    writes: Writes,
    is_master: bool,
}

/// The stream of one history: its first offset, what came before, and a write for each byte.
#[derive(Debug, Clone)]
struct Stream {
    parent: Option<(usize, u64)>,
    start: u64,
    before: Writes,
    bytes: Vec<u32>,
}

#[derive(Debug)]
struct World {
    servers: Vec<Server>,
    streams: Vec<Stream>,
    next_write: u32,
    /// For each candidate of the view, what it holds in truth.
    truth: Vec<Writes>,
    view: ShardView,
    /// No edge was missed, and none is vague.
    knows_all: bool,
}

impl World {
    fn new() -> Self {
        let stream = Stream { parent: None, start: 0, before: Writes::new(), bytes: Vec::new() };
        let server = Server { history: 0, offset: 0, writes: Writes::new(), is_master: false };
        let mut servers = vec![server; 3];
        servers[0].is_master = true;
        Self { servers, streams: vec![stream], next_write: 0, truth: Vec::new(), view: empty_view(), knows_all: true }
    }

    fn fresh(&mut self) -> u32 {
        self.next_write += 1;
        self.next_write
    }

    /// A new history that begins with what `server` holds; the server is its master.
    fn begin(&mut self, server: usize, parent: Option<(usize, u64)>) {
        let Server { offset, writes, .. } = self.servers[server].clone();
        self.streams.push(Stream { parent, start: offset, before: writes, bytes: Vec::new() });
        self.servers[server].history = self.streams.len() - 1;
        self.servers[server].is_master = true;
    }

    fn learn(&mut self, evidence: Evidence, child: usize, parent: usize, offset: u64) {
        let edge = ForkEdge { child: id(child), parent: at(parent, offset), evidence };
        self.view.lineage.learn(edge).expect("what really happened does not contradict itself");
    }

    fn play(&mut self, event: Event, a: u8, b: u8) {
        let i = a as usize % self.servers.len();
        let (history, offset) = (self.servers[i].history, self.servers[i].offset);
        let amount = u64::from(b % 4) + 1;
        match event {
            Event::Write if self.servers[i].is_master => {
                for _ in 0..amount {
                    let write = self.fresh();
                    self.streams[history].bytes.push(write);
                    self.servers[i].writes.insert(write);
                }
                self.servers[i].offset += amount;
            }
            Event::Replicate if !self.servers[i].is_master => {
                let stream = &self.streams[history];
                let from = (offset.saturating_sub(stream.start)) as usize;
                let next: Vec<u32> = stream.bytes.iter().skip(from).take(amount as usize).copied().collect();
                // What a follower lacks of the time before the fork comes first.
                if offset >= stream.start {
                    self.servers[i].offset += next.len() as u64;
                    self.servers[i].writes.extend(next);
                } else {
                    self.servers[i].offset = stream.start;
                    self.servers[i].writes = stream.before.clone();
                }
            }
            Event::Promote => {
                self.begin(i, Some((history, offset)));
                if b.is_multiple_of(3) {
                    self.knows_all = false;
                } else {
                    self.learn(Evidence::PromotedMaster, self.servers[i].history, history, offset);
                }
            }
            Event::Follow if !self.servers[i].is_master => {
                // The first history that continues this one from where the server is, or later.
                let continues = |stream: &Stream| stream.parent.is_some_and(|(p, f)| p == history && f >= offset);
                if let Some(child) = self.streams.iter().position(continues) {
                    self.servers[i].history = child;
                    self.learn(Evidence::FollowingReplica, child, history, offset);
                }
            }
            Event::Resync => {
                let other = self.servers[b as usize % self.servers.len()].clone();
                self.servers[i] = Server { is_master: false, ..other };
            }
            Event::Restart => {
                self.servers[i].offset = 0;
                self.servers[i].writes.retain(|write| write % 5 != u32::from(b) % 5);
                self.begin(i, None);
                self.knows_all = false;
            }
            Event::Uncounted if self.servers[i].is_master => {
                for _ in 0..amount {
                    let write = self.fresh();
                    self.servers[i].writes.insert(write);
                }
                self.begin(i, None);
                self.knows_all = false;
                if b.is_multiple_of(2) {
                    self.learn(Evidence::InferredSameRun, self.servers[i].history, history, offset);
                }
            }
            Event::Backup if self.truth.len() < 200 => {
                let number = self.truth.len() as u8;
                // Wall clock is no help: agents' clocks are wherever they are.
                let taken_at = Timestamp::from_millis(i64::from(b) * 1000);
                self.add(i, Source::Backup(backup_id(number, taken_at)), taken_at);
            }
            _ => {}
        }
    }

    fn add(&mut self, server: usize, source: Source, taken_at: Timestamp) {
        let Server { history, offset, writes, .. } = self.servers[server].clone();
        let node: NodeName = format!("node-{server}").parse().expect("valid");
        let site: SiteName = format!("site-{server}").parse().expect("valid");
        self.truth.push(writes);
        self.view.candidates.push(Candidate {
            source,
            node,
            site,
            position: Some(at(history, offset)),
            taken_at,
            received_at: taken_at,
            verified: Verified::Never,
            ineligible: None,
            out_of_reach: None,
            stale: None,
            keys: 1000,
            bytes: ByteCount::new(1000),
            run_id: String::new(),
            content_digest: None,
        });
    }
}

fn id(history: usize) -> ReplicationId {
    let mut bytes = [1; 20];
    bytes[..8].copy_from_slice(&(history as u64 + 1).to_be_bytes());
    ReplicationId::from_bytes(bytes).expect("not zero")
}

fn at(history: usize, offset: u64) -> Position {
    Position::new(id(history), Offset::new(offset).expect("small"))
}

fn world() -> impl Strategy<Value = World> {
    use Event::{Backup, Follow, Promote, Replicate, Restart, Resync, Uncounted, Write};
    let event = prop_oneof![
        6 => Just(Write), 6 => Just(Replicate), 5 => Just(Backup), 2 => Just(Promote), 2 => Just(Follow),
        2 => Just(Resync), 1 => Just(Uncounted),
    ];
    let event = prop_oneof![20 => event, 1 => Just(Restart)];
    let events = proptest::collection::vec((event, any::<u8>(), any::<u8>()), 0..60);
    (events, any::<bool>()).prop_map(|(events, with_nodes)| {
        let mut world = World::new();
        for (event, a, b) in events {
            world.play(event, a, b);
        }
        if with_nodes {
            (0..world.servers.len()).for_each(|i| world.add(i, Source::Node, Timestamp::from_millis(500_000)));
        }
        world
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_of_a_copy_is_true_of_its_writes(world in world()) {
        let selection = select(&world.view, &Policy::default(), &Wish::default());
        let Some(canonical) = selection.canonical else { return Ok(()) };
        let chosen = &world.truth[canonical];
        for judged in &selection.candidates {
            let other = &world.truth[judged.candidate];
            let is_node = world.view.candidates[judged.candidate].source == Source::Node;
            prop_assert!(is_node || !(chosen.is_subset(other) && chosen != other), "a better backup was passed over");
            let holds = match judged.standing {
                Standing::Canonical | Standing::Equal => chosen == other,
                Standing::Behind => other.is_subset(chosen),
                Standing::Ahead => chosen.is_subset(other),
                _ => false,
            };
            prop_assert!(holds, "{:?} is not true of {:?} and {:?}", judged, other, chosen);
            let lacks = chosen.difference(other).count() as u64;
            prop_assert!(judged.missing_bytes.is_some_and(|bytes| bytes <= lacks), "{judged:?}");
            prop_assert!(!world.knows_all || judged.missing_bytes == Some(lacks), "{judged:?}");
        }
    }

    /// With everything known, a verdict is ambiguous only if the writes really are.
    #[test]
    fn nothing_is_ambiguous_without_need(world in world()) {
        let selection = select(&world.view, &Policy::default(), &Wish::default());
        let all = world.truth.iter().flatten().copied().collect::<Writes>();
        let is_one_line = world.truth.contains(&all);
        let any_backup = world.view.candidates.iter().any(|c| c.source != Source::Node);
        prop_assert_eq!(selection.verdict == Verdict::None, !any_backup);
        if world.knows_all && any_backup {
            prop_assert_eq!(selection.verdict == Verdict::Canonical, is_one_line);
        }
    }

    /// Whichever backup a person decides for, the decision gives that one or its equal.
    #[test]
    fn a_decision_gives_what_was_decided_for(mut world in world(), pick in any::<prop::sample::Index>()) {
        let undecided = select(&world.view, &Policy::default(), &Wish::default());
        let lineage = world.view.lineage.clone();
        let own = |i: usize| world.view.candidates[i].position.map(|position| lineage.normalize(position));
        let contending: Vec<_> = undecided
            .contending()
            .map(|judged| judged.candidate)
            .filter(|&i| world.view.candidates[i].source != Source::Node)
            .collect();
        if contending.is_empty() {
            return Ok(());
        }
        let picked = contending[pick.index(contending.len())];
        let history = own(picked).expect("every copy has a position").history;
        let over = set_aside_by(&world.view, history).expect("it contends");
        let at = Timestamp::from_millis(1_000_000);
        world.view.accepted.push(AcceptedLineage { history, over, at, by: "alice".into(), reason: "right".into() });
        let decided = select(&world.view, &Policy::default(), &Wish::default());
        let canonical = decided.canonical.expect("decided");
        prop_assert_eq!(&world.truth[canonical], &world.truth[picked]);
        prop_assert!(decided.forks.iter().all(|fork| fork.accepted.is_some() || fork.parent != history));
    }

    /// As far as a copy: nothing beyond it, and nothing better that is not.
    #[test]
    fn a_wish_is_met_and_no_better_copy_passed_over(world in world(), pick in any::<prop::sample::Index>()) {
        if world.truth.is_empty() {
            return Ok(());
        }
        let wished = pick.index(world.truth.len());
        let until = world.view.candidates[wished].position.expect("every copy has a position");
        let selection = select(&world.view, &Policy::default(), &Wish::until(Until::Position(until)));
        for judged in &selection.candidates {
            let other = &world.truth[judged.candidate];
            prop_assert!(judged.beyond || other.is_subset(&world.truth[wished]), "{judged:?}");
            prop_assert!(!judged.beyond || !world.knows_all || !other.is_subset(&world.truth[wished]), "{judged:?}");
        }
        let Some(canonical) = selection.canonical else {
            let is_within = |judged: &&urtext_planner::Judged| {
                !judged.beyond && world.view.candidates[judged.candidate].source != Source::Node
            };
            prop_assert!(selection.candidates.iter().find(is_within).is_none(), "what is within lies on one line");
            return Ok(());
        };
        let chosen = &world.truth[canonical];
        prop_assert!(chosen.is_subset(&world.truth[wished]));
        for judged in selection.candidates.iter().filter(|judged| !judged.beyond) {
            let (other, source) = (&world.truth[judged.candidate], world.view.candidates[judged.candidate].source);
            prop_assert!(source == Source::Node || other.is_subset(chosen), "{judged:?} was passed over");
        }
    }

    /// What only a silent server holds is named before it is lost.
    #[test]
    fn the_guard_names_every_server_that_holds_more(mut world in world(), silent in any::<u8>()) {
        world.view.candidates.retain(|candidate| candidate.source != Source::Node);
        for i in (0..world.servers.len()).filter(|i| silent >> i & 1 == 1) {
            let Server { history, offset, .. } = world.servers[i];
            let position = at(history, offset);
            let is_head = |head: &HeadSeen| head.position.history == position.history;
            match world.view.heads.iter().position(is_head) {
                Some(known) if world.view.heads[known].position.offset >= position.offset => {}
                known => {
                    let node: NodeName = format!("node-{i}").parse().expect("valid");
                    let head = HeadSeen { position, node, seen_at: Timestamp::from_millis(0) };
                    known.into_iter().for_each(|known| drop(world.view.heads.remove(known)));
                    world.view.heads.push(head);
                }
            }
        }
        let selection = select(&world.view, &Policy::default(), &Wish::default());
        let guard = loss_guard(&world.view, &selection);
        for head in &world.view.heads {
            let server = &world.servers[head.node.as_str()[5..].parse::<usize>().expect("a number")];
            let is_held = world.truth.iter().take(world.view.candidates.len()).any(|held| server.writes.is_subset(held));
            let is_named = guard.iter().any(|more| more.who == Holder::Node(head.node.clone()));
            prop_assert!(is_held || is_named, "{head:?} is not in {guard:?}");
            prop_assert!(!is_held || !is_named || !world.knows_all, "{head:?} is in {guard:?} without need");
        }
    }
}
