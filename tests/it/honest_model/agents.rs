//! Those who watch the real servers: what the agent's own parser reads of them goes to the planner, and what
//! the planner chooses is restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use tokio::net::TcpStream;
use urtext_planner::{
    Candidate, ClockSkew, NodeSeen, Policy, Selection, ShardHistories, ShardView, Source, Verdict, Verified, Wish,
    select,
};
use urtext_rdb::{Depth, Event as RdbEvent};
use urtext_replication::{AnnouncePort, SnapshotRequest, request_snapshot};
use urtext_simulator::{
    World,
    story::{Event, Fate, Method, Node},
    truth::Point,
    world::Birth,
};
use urtext_tests::servers::{Options, Server};
use urtext_types::{
    BackupId, ByteCount, Engine, Evidence, ForkEdge, NodeName, NodeObservation, Position, Role, SiteName, Timestamp,
    may_capture, staleness,
};

use super::scene::{Scene, program};
use crate::rdb_contents::events;

/// Clocks are right here: what wrong ones do is the simulator's.
const RIGHT: ClockSkew = ClockSkew { ahead_ms: 0, within: Duration::ZERO };

struct Backup {
    candidate: Candidate,
    rdb: Vec<u8>,
    /// What it holds in truth.
    holds: Point,
    is_restored: bool,
}

pub(super) struct Agents {
    names: Vec<NodeName>,
    sites: Vec<SiteName>,
    known: ShardHistories,
    seen: Vec<Option<NodeObservation>>,
    backups: Vec<Backup>,
}

impl Agents {
    pub(super) fn new(world: &World) -> Self {
        let nodes = || world.nodes().map(|node| (world.shape.name(node), world.shape.nodes[node.index()].site));
        Self {
            names: nodes().map(|(name, _)| name.parse().expect("a name")).collect(),
            sites: nodes().map(|(_, site)| site.name().parse().expect("a name")).collect(),
            known: ShardHistories::default(),
            seen: vec![None; world.servers.len()],
            backups: Vec::new(),
        }
    }

    pub(super) fn play(&mut self, scene: &mut Scene, event: &Event) -> Result<bool, String> {
        match *event {
            Event::Look { node, .. } if scene.world.server(node).is_up => {
                let now = scene.look(node);
                let (name, before) = (&self.names[node.index()], self.seen[node.index()].as_ref());
                self.known.observe(name, before, &now, now.observed_at, RIGHT);
                self.seen[node.index()] = Some(now);
                Ok(true)
            }
            Event::Backup { node, method, allow_stale, fate, .. } if scene.world.server(node).is_up => {
                self.capture(scene, node, method, allow_stale, fate)
            }
            Event::Ask { .. } => self.ask(scene).map(|()| true),
            _ => Ok(false),
        }
    }

    /// As the agent does it, see `urtext_agent::capture`.
    fn capture(
        &mut self,
        scene: &mut Scene,
        node: Node,
        method: Method,
        allow_stale: bool,
        fate: Fate,
    ) -> Result<bool, String> {
        let before = scene.look(node);
        if may_capture(&before, allow_stale, Policy::default().max_link_down).is_err() {
            return Ok(false);
        }
        let is_uncounted = before.replication.role.is_master() && !before.replication.backlog_active;
        let link_is_down = matches!(&before.replication.role, Role::Replica { link, .. } if !link.up);
        let by_file = match method {
            Method::File => true,
            Method::Auto => is_uncounted || link_is_down,
            Method::Replication if link_is_down => return Ok(false),
            Method::Replication => false,
        };
        let (rdb, announced) = if by_file {
            scene.stage.call::<()>(node.index(), &["SAVE"]);
            scene.world.servers[node.index()].save();
            (std::fs::read(scene.stage.rdb_file(node.index())).expect("read what the server saved"), None)
        } else {
            let (rdb, position) = attach(scene.stage.address(node.index()), &before)?;
            scene.world.attach_for_a_snapshot(node);
            (rdb, Some(position))
        };
        scene.settle()?;
        let (after, holds) = (scene.look(node), scene.world.server(node).data);
        let (written, keys) = contents(&rdb);
        // The model knows what the file says, and the truth what it holds.
        let aux = scene.world.server(node).aux().map(|spot| scene.world.position(spot));
        let said = written.and_then(|at| Some(Position::new(scene.model_id(at.history)?, at.offset)));
        if said != aux || announced.is_some_and(|announced| Some(announced) != written) {
            return Err(format!(
                "the file says {written:?}, known as {said:?}, the model {aux:?}, PSYNC {announced:?}"
            ));
        }
        same_keys("a backup", &scene.keys(holds), &keys)?;
        if fate == Fate::Lost {
            return Ok(true);
        }
        scene.counts.backups += 1;
        let position = if by_file { written.filter(|_| before.position().is_some()) } else { announced };
        let renamed =
            position.filter(|position| position.history != before.replication.history).map(|position| ForkEdge {
                child: position.history,
                parent: Position::new(before.replication.history, before.replication.offset),
                evidence: Evidence::InferredSameRun,
            });
        for edge in [before.fork_edge(), after.fork_edge(), renamed].into_iter().flatten() {
            self.known.learn_edge(edge);
        }
        self.known.observe(&self.names[node.index()], None, &after, after.observed_at, RIGHT);
        let number = self.backups.len() as u8;
        let candidate = Candidate {
            source: Source::Backup(BackupId::new(after.observed_at, [number; 10])),
            node: self.names[node.index()].clone(),
            site: self.sites[node.index()].clone(),
            position,
            taken_at: before.observed_at,
            received_at: after.observed_at,
            verified: Verified::Never,
            ineligible: None,
            out_of_reach: None,
            stale: staleness(&before).map(|why| format!("captured while {why}")),
            keys: keys.len() as u64,
            bytes: ByteCount::new(rdb.len() as u64),
            run_id: before.server.run_id.clone(),
            content_digest: None,
        };
        self.backups.push(Backup { candidate, rdb, holds, is_restored: false });
        Ok(true)
    }

    /// Asks the planner, and restores what it chooses.
    fn ask(&mut self, scene: &mut Scene) -> Result<(), String> {
        self.forks_are_true(scene)?;
        let view = self.view(scene);
        let selection = select(&view, &Policy::default(), &Wish::default());
        *scene.counts.verdicts.entry(format!("{:?}", selection.verdict).to_lowercase()).or_default() += 1;
        let Some(chosen) = selection.canonical.filter(|_| selection.verdict == Verdict::Canonical) else {
            return Ok(());
        };
        self.is_most_complete(scene, &selection, chosen)?;
        let backup = &mut self.backups[chosen];
        if !std::mem::replace(&mut backup.is_restored, true) {
            let held = restored(program(scene.world.shape.version), &backup.rdb);
            same_keys("what was chosen, restored", &scene.keys(backup.holds), &held)?;
            scene.counts.restored += 1;
        }
        Ok(())
    }

    /// What the servers say of their forks is what the model knows of them.
    fn forks_are_true(&self, scene: &mut Scene) -> Result<(), String> {
        for edge in self.known.lineage.edges().filter(|edge| edge.evidence.is_exact()) {
            let ids = (scene.model_id(edge.child), scene.model_id(edge.parent.history));
            let (Some(child), Some(parent)) = ids else { return Err(format!("{edge:?} is of nobody's history")) };
            let birth = scene.world.number_of(child).map(|number| scene.world.history(number).birth);
            let Some(Birth::GoesOn(from)) = birth else { return Err(format!("{edge:?}, and in the model {birth:?}")) };
            if scene.world.position(from) != Position::new(parent, edge.parent.offset) {
                return Err(format!("{edge:?}, and in the model from {from:?}"));
            }
            scene.counts.forks += 1;
        }
        Ok(())
    }

    /// No other backup holds a key that the chosen one lacks, unless a person would have to look first.
    fn is_most_complete(&self, scene: &Scene, selection: &Selection, chosen: usize) -> Result<(), String> {
        let chosen = &self.backups[chosen];
        for judged in &selection.candidates {
            let Some(other) = self.backups.get(judged.candidate) else { continue };
            if !judged.set_aside && !scene.world.truth.holds(chosen.holds, scene.world.truth.solid(other.holds)) {
                let name = |backup: &Backup| format!("{} at {:?}", backup.candidate.node, backup.candidate.position);
                return Err(format!("{} was chosen, and lacks what {} holds", name(chosen), name(other)));
            }
        }
        Ok(())
    }

    fn view(&self, scene: &Scene) -> ShardView {
        let now = Timestamp::from_millis(scene.world.now);
        let seen = self.seen.iter().enumerate().filter_map(|(index, observation)| {
            let observation = observation.clone()?;
            Some(NodeSeen {
                node: self.names[index].clone(),
                site: self.sites[index].clone(),
                received_at: observation.observed_at,
                observation,
                reachable: scene.world.servers[index].is_up,
                agent_connected: true,
                clock: Some(RIGHT),
            })
        });
        let nodes: Vec<NodeSeen> = seen.collect();
        let backups = self.backups.iter().map(|backup| backup.candidate.clone());
        let candidates = backups.chain(nodes.iter().filter(|seen| seen.reachable).map(Candidate::live)).collect();
        ShardView {
            deployment: "orders".parse().expect("a name"),
            shard: Default::default(),
            lineage: self.known.lineage.clone(),
            contradictions: self.known.contradictions.clone(),
            accepted: Vec::new(),
            candidates,
            nodes,
            heads: self.known.heads(),
            ended: self.known.ended(),
            timeline: self.known.timeline.clone(),
            repositories: Vec::new(),
            vouched: BTreeSet::new(),
            losses: Vec::new(),
            now,
        }
    }
}

/// The RDB as a replica that wants nothing else gets it.
fn attach(address: SocketAddr, before: &NodeObservation) -> Result<(Vec<u8>, Position), String> {
    let is_master = before.replication.role.is_master();
    let request = SnapshotRequest {
        credentials: None,
        announce_version: (before.server.engine == Engine::Valkey).then(|| before.server.version.clone()),
        announce_port: if is_master { AnnouncePort::Unroutable } else { AnnouncePort::None },
        idle_timeout: Duration::from_secs(30),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let mut stream = request_snapshot(socket, &request).await.map_err(|error| error.to_string())?;
        let mut rdb = Vec::new();
        while let Some(piece) = stream.next().await.map_err(|error| error.to_string())? {
            rdb.extend_from_slice(&piece);
        }
        Ok((rdb, stream.position()))
    })
}

/// The position that a file says it has, and its keys.
fn contents(rdb: &[u8]) -> (Option<Position>, BTreeSet<String>) {
    let (mut aux, mut keys) = (BTreeMap::new(), BTreeSet::new());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    events(rdb, Depth::Frame, &mut |event| match event {
        RdbEvent::Aux { key, value } => {
            aux.insert(text(key), text(value));
        }
        RdbEvent::Key(key) => {
            keys.insert(text(key.key));
        }
        _ => {}
    });
    let position = aux
        .get("repl-id")
        .zip(aux.get("repl-offset"))
        .map(|(id, offset)| Position::new(id.parse().expect("a replication id"), offset.parse().expect("an offset")));
    (position, keys)
}

/// The keys of a new server that has loaded the file.
fn restored(version: urtext_tests::servers::Version, rdb: &[u8]) -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("make a server's folder");
    std::fs::write(folder.path().join("dump.rdb"), rdb).expect("write an RDB file");
    let server = Server::in_folder(version, Options::default(), folder);
    server.get::<Vec<String>>(&["KEYS", "*"]).into_iter().collect()
}

fn same_keys(what: &str, truth: &BTreeSet<String>, held: &BTreeSet<String>) -> Result<(), String> {
    if truth == held {
        return Ok(());
    }
    let missing: Vec<_> = truth.difference(held).take(5).collect();
    let added: Vec<_> = held.difference(truth).take(5).collect();
    Err(format!("{what} holds {} keys and not {}: without {missing:?}, with {added:?}", held.len(), truth.len()))
}
