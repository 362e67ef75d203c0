//! Those who watch: an agent beside each server, and a coordinator that hears of what they saw late, not
//! at all, or by clocks that are wrong. What it makes of that is the product's own code.

use std::collections::BTreeSet;

use urtext_planner::{
    AcceptedLineage, Candidate, ClockSkew, NodeSeen, ShardHistories, ShardView, Source, Verified, set_aside_by,
};
use urtext_types::{
    BackupId, ByteCount, Evidence, ForkEdge, NodeName, NodeObservation, Offset, Position, SiteName, Timestamp,
    may_capture, staleness,
};

use crate::{
    story::{BackupNumber, Event, Fate, Lie, Method, Node},
    truth::Point,
    world::{Birth, World, mix},
};

/// As in the coordinator: an agent that says nothing for so long is taken for gone.
const SILENT_AFTER_MS: i64 = 5000;

/// What the coordinator allows for a clock that nobody measured.
const UNMEASURED: std::time::Duration = std::time::Duration::from_secs(30);

/// The last that was seen of one node, and what its server held then.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub observation: NodeObservation,
    /// When, in truth.
    pub at: i64,
    pub received_at: i64,
    pub held: Point,
}

/// A backup with what it holds in truth.
#[derive(Debug, Clone)]
pub struct Backup {
    pub number: BackupNumber,
    pub candidate: Candidate,
    pub holds: Point,
    /// What its manifest says.
    lineage: Vec<ForkEdge>,
    observed: NodeObservation,
    at: i64,
    /// Whether its agent's clock was compared with the coordinator's.
    is_clock_known: bool,
    /// Whether the coordinator knows of it.
    pub is_listed: bool,
}

#[derive(Debug)]
enum News {
    Look { node: Node, sighting: Box<Sighting> },
    Manifest(usize),
}

#[derive(Debug)]
pub struct Watch {
    names: Vec<NodeName>,
    sites: Vec<SiteName>,
    clocks: Vec<ClockSkew>,
    is_heard: Vec<bool>,
    pub known: ShardHistories,
    pub seen: Vec<Option<Sighting>>,
    pub backups: Vec<Backup>,
    /// On its way to the coordinator, with the time at which it arrives.
    under_way: Vec<(i64, News)>,
    vouched: BTreeSet<BackupId>,
    /// Every position that the coordinator has heard of from agents whose clocks it knows, and when it was
    /// seen in truth.
    noticed: Vec<(Position, i64)>,
}

/// What the planner is asked, with what every candidate holds in truth.
#[derive(Debug)]
pub struct Question {
    pub view: ShardView,
    pub truths: Vec<Point>,
    /// As in [`Watch`].
    pub noticed: Vec<(Position, i64)>,
}

fn time(at: i64) -> Timestamp {
    Timestamp::from_millis(at)
}

impl Watch {
    pub fn new(world: &World) -> Self {
        let places = &world.shape.nodes;
        Self {
            names: world.nodes().map(|node| world.shape.name(node).parse().expect("a name")).collect(),
            sites: places.iter().map(|place| place.site.name().parse().expect("a name")).collect(),
            clocks: places
                .iter()
                .map(|place| ClockSkew {
                    ahead_ms: place.skew_ms + place.skew_error_ms,
                    within: std::time::Duration::from_millis(place.skew_error_ms.unsigned_abs()),
                })
                .collect(),
            is_heard: vec![true; places.len()],
            known: ShardHistories::default(),
            seen: vec![None; places.len()],
            backups: Vec::new(),
            under_way: Vec::new(),
            vouched: BTreeSet::new(),
            noticed: Vec::new(),
        }
    }

    pub fn name(&self, node: Node) -> &NodeName {
        &self.names[node.index()]
    }

    fn agents_time(&self, world: &World, node: Node) -> Timestamp {
        time(world.now + world.shape.nodes[node.index()].skew_ms)
    }

    /// Everything that has arrived by now, in the order of its arrival.
    pub fn hear(&mut self, now: i64) {
        while let Some(next) =
            (0..self.under_way.len()).filter(|&i| self.under_way[i].0 <= now).min_by_key(|&i| self.under_way[i].0)
        {
            let (at, news) = self.under_way.remove(next);
            match news {
                News::Look { node, mut sighting } => {
                    sighting.received_at = at;
                    self.take_in(node, *sighting);
                }
                News::Manifest(index) => self.list(index, at),
            }
        }
    }

    fn take_in(&mut self, node: Node, sighting: Sighting) {
        let index = node.index();
        if !self.is_heard[index] {
            return;
        }
        let before = self.seen[index].take();
        let before = before.as_ref().map(|before| &before.observation);
        self.noticed.extend(sighting.observation.position().map(|position| (position, sighting.at)));
        let (now, received_at) = (&sighting.observation, time(sighting.received_at));
        self.known.observe(&self.names[index], before, now, received_at, self.clocks[index]);
        self.seen[index] = Some(sighting);
    }

    /// A manifest has become known, with all that it says.
    fn list(&mut self, index: usize, at: i64) {
        let backup = &mut self.backups[index];
        backup.is_listed = true;
        let node = self.names.iter().position(|name| *name == backup.candidate.node).expect("a node of the story");
        let clock = if backup.is_clock_known {
            backup.candidate.received_at = time(at);
            self.clocks[node]
        } else {
            // As for a manifest that is found: judged by the id, which the coordinator made.
            let Source::Backup(id) = backup.candidate.source else { return };
            let skew = backup.candidate.taken_at.as_millis() - id.timestamp().as_millis();
            ClockSkew { ahead_ms: if skew.abs() > 30_000 { skew } else { 0 }, within: UNMEASURED }
        };
        for edge in &backup.lineage {
            self.known.learn_edge(*edge);
        }
        if backup.is_clock_known {
            self.noticed.extend(backup.observed.position().map(|position| (position, backup.at)));
        }
        let (name, received_at) = (&backup.candidate.node, backup.candidate.received_at);
        self.known.observe(name, None, &backup.observed, received_at, clock);
    }

    /// What those who watch do. Returns whether anything happened.
    pub fn play(&mut self, world: &mut World, event: &Event) -> bool {
        match *event {
            Event::Look { node, after_ms } => {
                let Some(observation) = world.observe(node, self.agents_time(world, node)) else { return false };
                let (received_at, held) = (world.now + i64::from(after_ms), world.server(node).data);
                // One stream: what was sent first arrives first.
                let own = self.under_way.iter().filter_map(|(at, news)| match news {
                    News::Look { node: sender, .. } if *sender == node => Some(*at),
                    _ => None,
                });
                let at = own.max().unwrap_or(0).max(received_at);
                let sighting = Sighting { observation, at: world.now, received_at: at, held };
                if at <= world.now {
                    self.take_in(node, sighting);
                } else {
                    self.under_way.push((at, News::Look { node, sighting: Box::new(sighting) }));
                }
                self.is_heard[node.index()]
            }
            Event::Silence { node } => std::mem::replace(&mut self.is_heard[node.index()], false),
            Event::Hear { node } => !std::mem::replace(&mut self.is_heard[node.index()], true),
            Event::Backup { number, node, method, allow_stale, fate } => {
                self.capture(world, number, node, method, allow_stale, fate)
            }
            Event::Damage { number } => {
                let Some(backup) = self.backup(number) else { return false };
                backup.candidate.ineligible.replace("part 3 is missing".to_owned()).is_none()
            }
            Event::Verify { number, rehearsed } => {
                let Some(backup) = self.backup(number) else { return false };
                backup.candidate.verified = if rehearsed { Verified::Rehearsed } else { Verified::Stored };
                true
            }
            Event::Vouch { number } => {
                let Some(Source::Backup(id)) = self.backup(number).map(|backup| backup.candidate.source) else {
                    return false;
                };
                self.vouched.insert(id)
            }
            Event::Claim { pick, lie, lie_first } => self.claim(world, usize::from(pick), lie, lie_first),
            _ => false,
        }
    }

    fn backup(&mut self, number: BackupNumber) -> Option<&mut Backup> {
        self.backups.iter_mut().find(|backup| backup.number == number && backup.is_listed)
    }

    /// A snapshot as the agent takes it: what it refuses, which method it chooses, which position it gives.
    fn capture(
        &mut self,
        world: &mut World,
        number: BackupNumber,
        node: Node,
        method: Method,
        allow_stale: bool,
        fate: Fate,
    ) -> bool {
        let at = self.agents_time(world, node);
        let max_link_down = std::time::Duration::from_secs(30);
        let Some(before) = world.observe(node, at) else { return false };
        if may_capture(&before, allow_stale, max_link_down).is_err() {
            return false;
        }
        let server = world.server(node);
        let link_is_down = !server.is_master() && !server.link_is_up();
        let renames = server.is_master() && server.backlog.is_none();
        let by_file = match method {
            Method::File => true,
            Method::Auto => renames || link_is_down,
            Method::Replication => false,
        };
        if !by_file && link_is_down {
            return false;
        }
        let mut lineage: Vec<ForkEdge> = before.fork_edge().into_iter().collect();
        let position = if by_file {
            world.servers[node.index()].save();
            let aux = world.server(node).aux().map(|spot| world.position(spot));
            aux.filter(|_| before.position().is_some())
        } else {
            world.attach_for_a_snapshot(node);
            Some(world.position(world.server(node).spot()))
        };
        let observed = world.observe(node, at).expect("it answered just now");
        lineage.extend(observed.fork_edge());
        if let Some(position) = position.filter(|position| position.history != before.replication.history) {
            let parent = Position::new(before.replication.history, before.replication.offset);
            lineage.push(ForkEdge { child: position.history, parent, evidence: Evidence::InferredSameRun });
        }
        lineage.dedup();
        let (after_ms, is_clock_known) = match fate {
            Fate::Lost => return true,
            Fate::Committed { after_ms } => (after_ms, true),
            Fate::Found { after_ms } => (after_ms, false),
        };
        let entropy: [u8; 10] = std::array::from_fn(|i| (mix(u64::from(number.0)) >> (6 * i)) as u8);
        let holds = world.server(node).data;
        let keys = u64::from(world.truth.keys(holds));
        let candidate = Candidate {
            source: Source::Backup(BackupId::new(time(world.now), entropy)),
            node: self.names[node.index()].clone(),
            site: self.sites[node.index()].clone(),
            position,
            taken_at: at,
            received_at: time(world.now),
            verified: Verified::Never,
            ineligible: None,
            out_of_reach: None,
            stale: staleness(&before).map(|why| format!("captured while {why}")),
            keys,
            bytes: ByteCount::new(100 + keys * 50),
            run_id: if before.uncounted_run() == observed.uncounted_run() {
                before.uncounted_run()
            } else {
                String::new()
            },
            content_digest: None,
        };
        self.backups.push(Backup {
            number,
            candidate,
            holds,
            lineage,
            observed,
            at: world.now,
            is_clock_known,
            is_listed: false,
        });
        let arrives = world.now + i64::from(after_ms);
        if arrives <= world.now {
            self.list(self.backups.len() - 1, arrives);
        } else {
            self.under_way.push((arrives, News::Manifest(self.backups.len() - 1)));
        }
        true
    }

    /// Two statements about one fork, of which nobody knew: one is right.
    fn claim(&mut self, world: &World, pick: usize, lie: Lie, lie_first: bool) -> bool {
        let unknown = world.histories.iter().filter_map(|history| match history.birth {
            Birth::GoesOn(parent) if history.is_counted && self.known.lineage.edge_of(history.id).is_none() => {
                Some((history, parent))
            }
            _ => None,
        });
        let unknown: Vec<_> = unknown.collect();
        if unknown.is_empty() {
            return false;
        }
        let (history, parent) = unknown[pick % unknown.len()];
        let right = ForkEdge { child: history.id, parent: world.position(parent), evidence: Evidence::PromotedMaster };
        let offset = match lie {
            Lie::Later(bytes) => parent.offset + u64::from(bytes) + 1,
            Lie::Earlier(bytes) => parent.offset.saturating_sub(u64::from(bytes) + 1),
            Lie::Parent => parent.offset,
        };
        let other = world
            .histories
            .iter()
            .map(|history| history.id)
            .find(|&id| id != right.parent.history && id != right.child);
        let history = match lie {
            Lie::Parent => other.unwrap_or(right.parent.history),
            Lie::Later(_) | Lie::Earlier(_) => right.parent.history,
        };
        let wrong = Position::new(history, Offset::new(offset).expect("small"));
        if wrong == right.parent {
            return false;
        }
        let wrong = ForkEdge { parent: wrong, ..right };
        for edge in if lie_first { [wrong, right] } else { [right, wrong] } {
            self.known.learn_edge(edge);
        }
        true
    }

    /// Everything that the coordinator knows now.
    pub fn question(&self, world: &World) -> Question {
        let listed = self.backups.iter().filter(|backup| backup.is_listed);
        let (mut candidates, mut truths): (Vec<_>, Vec<_>) =
            listed.map(|backup| (backup.candidate.clone(), backup.holds)).unzip();
        let mut nodes = Vec::new();
        for (index, sighting) in self.seen.iter().enumerate() {
            let Some(Sighting { observation, received_at, held, .. }) = sighting else { continue };
            let seen = NodeSeen {
                node: self.names[index].clone(),
                site: self.sites[index].clone(),
                observation: observation.clone(),
                received_at: time(*received_at),
                reachable: self.is_heard[index] && world.now - received_at <= SILENT_AFTER_MS,
                agent_connected: self.is_heard[index],
                clock: Some(self.clocks[index]),
            };
            if seen.reachable {
                candidates.push(Candidate::live(&seen));
                truths.push(*held);
            }
            nodes.push(seen);
        }
        let view = ShardView {
            deployment: "orders".parse().expect("a name"),
            shard: Default::default(),
            lineage: self.known.lineage.clone(),
            contradictions: self.known.contradictions.clone(),
            accepted: self.known.decisions.clone(),
            candidates,
            nodes,
            heads: self.known.heads(),
            ended: self.known.ended(),
            timeline: self.known.timeline.clone(),
            repositories: Vec::new(),
            vouched: self.vouched.clone(),
            losses: Vec::new(),
            now: time(world.now),
        };
        Question { view, truths, noticed: self.noticed.clone() }
    }

    /// An operator accepts the history of one of the copies in `contending`.
    pub fn accept(&mut self, view: &ShardView, position: Position) -> bool {
        let history = view.lineage.trusted(&view.contradictions).normalize(position).history;
        let Ok(over) = set_aside_by(view, history) else { return false };
        let decision =
            AcceptedLineage { history, over, at: view.now, by: "alice".to_owned(), reason: "she knows".to_owned() };
        self.known.decisions.push(decision);
        true
    }

    /// Whether the coordinator hears the node's agent.
    pub fn is_heard(&self, node: Node) -> bool {
        self.is_heard[node.index()]
    }
}
