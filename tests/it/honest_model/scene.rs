//! One story, on the model and on real servers beside it.

use std::{collections::HashMap, time::Instant};

use urtext_agent::server::Info;
use urtext_simulator::{
    World,
    run::BEGINNING,
    server::{Link, RdbFile, Role as ModelRole, Spot},
    story::{Event, KINDS, Node, Shape, Site, Step, Version},
    truth::Point,
    words::sentence,
    world::PING_BYTES,
};
use urtext_tests::{
    eventually::{SOON, eventually, until},
    servers,
    stage::Stage,
};
use urtext_types::{NodeObservation, Position, ReplicationId, Role, Timestamp};

use super::{Counts, agents::Agents};

/// What a command did to the data.
#[derive(Debug, Clone, Copy)]
enum Done {
    Write(u32),
    Flush,
}

pub(super) struct Scene {
    pub(super) world: World,
    pub(super) stage: Stage,
    agents: Option<Agents>,
    ids: Ids,
    /// Whether a server has not yet looked after its replicas for the first time, and will ping them then
    /// whatever its settings say. Most do that when they start, before there can be any; Valkey 9.1 when it first
    /// is in touch with another server.
    pings_anyway: Vec<bool>,
    /// Whose first look after replicas may still come, and pings those that were quicker than it.
    just_started: Vec<bool>,
    /// Since the servers agreed last.
    just_pinged: bool,
    /// What the master of the beginning held before anything happened.
    root: Point,
    /// Every write, with the data set that ends with it.
    done: Vec<(Point, Done)>,
    writes: u32,
    told: Vec<String>,
    pub(super) counts: Counts,
}

/// Which id of the model is which id of the servers: one to one, as they appear.
#[derive(Debug, Clone, Default)]
struct Ids {
    real: HashMap<ReplicationId, ReplicationId>,
    model: HashMap<ReplicationId, ReplicationId>,
}

impl Ids {
    fn are_one(&mut self, model: ReplicationId, real: ReplicationId) -> bool {
        *self.real.entry(model).or_insert(real) == real && *self.model.entry(real).or_insert(model) == model
    }
}

pub(super) fn program(version: Version) -> servers::Version {
    match version {
        Version::Redis62 => servers::Version::Redis62,
        Version::Redis70 => servers::Version::Redis70,
        Version::Redis82 => servers::Version::Redis82,
        Version::Valkey81 => servers::Version::Valkey81,
        Version::Valkey91 => servers::Version::Valkey91,
    }
}

impl Scene {
    pub(super) fn set(mut shape: Shape) -> Result<Self, String> {
        // Servers have none smaller than 16 KiB, and drop what is too old in blocks of that size.
        shape.backlog_bytes = 1 << 20;
        let backlog = shape.backlog_bytes.to_string();
        let settings = [("repl-backlog-size", backlog.as_str()), ("repl-backlog-ttl", "100000")];
        let places = shape.nodes.len();
        let stage = Stage::new(program(shape.version), places, &settings);
        let world = World::new(shape, BEGINNING);
        let root = world.server(Node(0)).data;
        let agents = Some(Agents::new(&world));
        let mut scene = Self {
            world,
            stage,
            agents,
            ids: Ids::default(),
            pings_anyway: vec![false; places],
            just_started: vec![false; places],
            just_pinged: false,
            root,
            done: Vec::new(),
            writes: 0,
            told: Vec::new(),
            counts: Counts::default(),
        };
        scene.begin();
        scene.settle()?;
        Ok(scene)
    }

    fn begin(&mut self) {
        let Shape { aof, keys, .. } = self.world.shape;
        self.stage.links().allow(|_, _| false);
        for node in self.world.nodes() {
            let master = self.world.shape.nodes[node.index()].master;
            if master.is_some() {
                self.start(node, master);
                continue;
            }
            // Its keys were there before anything was counted.
            self.launch(node, None, "no");
            for key in 0..keys {
                self.stage.call::<()>(node.index(), &["SET", &format!("root:{key}"), ""]);
            }
            if aof {
                self.stage.call::<()>(node.index(), &["CONFIG", "SET", "appendonly", "yes"]);
                until("the first append-only file", SOON, || !self.info(node).has_child());
            }
        }
        self.connect();
    }

    fn start(&mut self, node: Node, master: Option<Node>) {
        let aof = if self.world.shape.aof { "yes" } else { "no" };
        self.launch(node, master, aof);
    }

    fn launch(&mut self, node: Node, master: Option<Node>, aof: &str) {
        let master = master.map(|master| self.stage.front(master.index()));
        self.stage.start(node.index(), master, &[("appendonly", aof)]);
        self.pings_anyway[node.index()] = self.world.shape.version == Version::Valkey91;
        self.just_started[node.index()] = true;
    }

    /// The event happens to both, and afterwards they are the same.
    pub(super) fn play(&mut self, step: &Step) -> Result<(), String> {
        self.world.now += i64::from(step.after_ms);
        let happened = self.act(&step.event)?;
        if happened {
            *self.counts.events.entry(KINDS[step.event.kind()]).or_default() += 1;
            self.told.push(sentence(&self.world.shape, &step.event));
            self.settle()?;
        }
        Ok(())
    }

    fn act(&mut self, event: &Event) -> Result<bool, String> {
        match *event {
            Event::Write { node, value_bytes, count } => {
                let value = "v".repeat(usize::from(value_bytes));
                let mut happened = false;
                for _ in 0..count {
                    let one = Event::Write { node, value_bytes, count: 1 };
                    if !self.world.play(&one) {
                        break;
                    }
                    happened = true;
                    self.writes += 1;
                    self.stage.call::<()>(node.index(), &["SET", &format!("w{}", self.writes), &value]);
                    self.done.push((self.world.server(node).data, Done::Write(self.writes)));
                }
                Ok(happened)
            }
            Event::Ping { node } => {
                let pings = self.world.server(node).is_master() && self.world.replicas_of(node).next().is_some();
                if pings {
                    self.ping(node)?;
                }
                Ok(pings)
            }
            Event::Look { .. } | Event::Backup { .. } | Event::Ask { .. } => {
                let mut agents = self.agents.take().expect("it is put back");
                let happened = agents.play(self, event)?;
                self.agents = Some(agents);
                Ok(happened)
            }
            event if event.is_of_servers() => self.act_on_servers(&event),
            _ => Ok(false),
        }
    }

    fn act_on_servers(&mut self, event: &Event) -> Result<bool, String> {
        let master_of_target = match *event {
            Event::Failover { to } => self.world.server(to).upstream(),
            Event::AbortFailover { node } => self.world.replicas_of(node).next(),
            _ => None,
        };
        if !self.world.play(event) {
            return Ok(false);
        }
        self.connect();
        match *event {
            Event::Flush { node } => {
                self.stage.call::<()>(node.index(), &["FLUSHALL"]);
                self.done.push((self.world.server(node).data, Done::Flush));
            }
            Event::Trickle { node, commands } => {
                self.stage.links().let_through(node.index(), usize::from(commands));
                self.settle()?;
                self.stage.links().let_through(node.index(), 0);
            }
            Event::Promote { node } => self.stage.call(node.index(), &["REPLICAOF", "NO", "ONE"]),
            Event::Follow { node, master } => {
                let port = master.map_or(self.stage.nobody(), |master| self.stage.front(master.index()));
                self.stage.call(node.index(), &["REPLICAOF", "127.0.0.1", &port.to_string()])
            }
            Event::Failover { to } => {
                let master = master_of_target.expect("the model had one").index();
                let port = self.stage.front(to.index()).to_string();
                self.stage.call(master, &["FAILOVER", "TO", "127.0.0.1", &port])
            }
            Event::AbortFailover { node } => self.abort_failover(node, master_of_target.expect("the model had one")),
            Event::ExpireBacklog { node } => {
                self.stage.call::<()>(node.index(), &["CONFIG", "SET", "repl-backlog-ttl", "1"]);
                until("the backlog to expire", SOON, || !self.info(node).flag("repl_backlog_active"));
                self.stage.call(node.index(), &["CONFIG", "SET", "repl-backlog-ttl", "100000"])
            }
            Event::Save { node } => self.stage.call(node.index(), &["SAVE"]),
            Event::Stop { node, save } => self.stage.stop(node.index(), save),
            Event::Start { node, master } => {
                // Who comes before its first look after replicas, in the moment of its start, is pinged by that look.
                self.stage.links().allow(|replica, master| master != node.index() && self.may_pass(replica, master));
                self.start(node, master);
                until("its first look", SOON, || self.info(node).number("used_memory_rss").is_some_and(|rss| rss > 0));
                self.connect();
            }
            Event::Wipe { node } => self.stage.wipe(node.index()),
            Event::CopyFile { from, to } => self.stage.copy_file(from.index(), to.index()),
            _ => {}
        }
        Ok(true)
    }

    /// Links are as the model has them.
    fn connect(&self) {
        self.stage.links().allow(|replica, master| self.may_pass(replica, master));
        for node in self.world.nodes() {
            self.stage.links().stall(node.index(), self.world.server(node).is_stalled);
        }
    }

    fn may_pass(&self, replica: usize, master: usize) -> bool {
        let world = &self.world;
        let site = |number: usize| world.shape.nodes[number].site;
        let is_apart = |site: Site| world.is_isolated(site);
        let crosses = |a, b| site(a) != site(b) && (is_apart(site(a)) || is_apart(site(b)));
        !world.servers[replica].is_cut && !crosses(replica, master)
    }

    /// The server pings when it is time for it; the model follows.
    fn ping(&mut self, node: Node) -> Result<(), String> {
        let offset = |scene: &mut Self| scene.info(node).number("master_repl_offset").unwrap_or(0);
        let before = offset(self);
        self.stage.call::<()>(node.index(), &["CONFIG", "SET", "repl-ping-replica-period", "1"]);
        until("a ping", SOON, || offset(self) > before);
        self.stage.call::<()>(node.index(), &["CONFIG", "SET", "repl-ping-replica-period", "50000"]);
        let bytes = offset(self) - before;
        if bytes % PING_BYTES != 0 {
            return Err(format!("pings of {bytes} bytes"));
        }
        for _ in 0..bytes / PING_BYTES {
            self.world.play(&Event::Ping { node });
        }
        Ok(())
    }

    /// The target is out of reach when it is told to take over, so that the master waits for it.
    fn abort_failover(&mut self, node: Node, target: Node) {
        self.stage.links().allow(|replica, master| (replica, master) != (node.index(), target.index()));
        let port = self.stage.front(target.index()).to_string();
        let failover = ["FAILOVER", "TO", "127.0.0.1", &port, "FORCE", "TIMEOUT", "1"];
        self.stage.call::<()>(node.index(), &failover);
        let in_progress = Some("failover-in-progress");
        eventually("the failover in progress", SOON, || {
            let info = self.info(node);
            let (state, role) = (info.get("master_failover_state"), info.get("role"));
            if state == in_progress {
                Ok(())
            } else {
                Err(format!("{state:?} of {role:?}\n{}", self.stage.log(node.index(), 25)))
            }
        });
        self.stage.call::<()>(node.index(), &["FAILOVER", "ABORT"]);
        self.connect();
    }

    fn info(&mut self, node: Node) -> Info {
        Info::parse(&self.stage.call::<String>(node.index(), &["INFO", "everything"]))
    }

    /// What the agent reads of a server, at the time of the story: real seconds say nothing in it.
    pub(super) fn look(&mut self, node: Node) -> NodeObservation {
        let mut seen = self.observation(node);
        if let (Role::Replica { link, .. }, ModelRole::Replica { link: model, .. }) =
            (&mut seen.replication.role, self.world.server(node).role)
        {
            link.last_io_seconds = link.up.then_some(1);
            if let Link::Down { since: Some(since) } = model {
                link.down_since_seconds = Some(((self.world.now - since) / 1000) as u64);
            }
        }
        seen
    }

    fn observation(&mut self, node: Node) -> NodeObservation {
        let now = Timestamp::from_millis(self.world.now);
        self.info(node).observation(now).expect("INFO of a real server")
    }

    /// Waits until every server shows what the model says.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.counts.comparisons += 1;
        self.just_pinged = false;
        self.agree()?;
        while self.first_pings() {
            self.agree()?;
        }
        self.just_started.fill(false);
        Ok(())
    }

    /// Waits until every server shows what the model says, twice in a row.
    fn agree(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let mut agreed = None;
        loop {
            let (differences, ids) = self.compare();
            if differences.is_empty() {
                if agreed.as_ref() == Some(&ids.real) {
                    self.ids = ids;
                    return Ok(());
                }
                agreed = Some(ids.real);
            } else {
                agreed = None;
                for node in self.world.nodes() {
                    // Before all that were to come are there; or an agent was, in just that moment.
                    self.first_ping(node);
                }
                if self.just_pinged {
                    self.move_backlogs();
                }
                if began.elapsed() > SOON {
                    return Err(self.explain(&differences));
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits for what servers will ping anyway. Returns whether the model did so too.
    fn first_pings(&mut self) -> bool {
        let due = |scene: &Self, node: Node| {
            let server = scene.world.server(node);
            let has_replicas = scene.world.replicas_of(node).next().is_some();
            let is_busy = if server.is_master() { has_replicas } else { server.link_is_up() };
            scene.pings_anyway[node.index()] && server.is_up && is_busy
        };
        let waiting: Vec<Node> = self.world.nodes().filter(|&node| due(self, node)).collect();
        let uptime = |scene: &mut Self, node| scene.info(node).number("uptime_in_seconds").unwrap_or(0);
        let began: Vec<u64> = waiting.iter().map(|&node| uptime(self, node)).collect();
        let mut has_pinged = false;
        for (&node, began) in waiting.iter().zip(began) {
            // One that is a replica itself pings nobody, once and for all. Nothing shows it but the time.
            until("the first look after replicas", SOON, || self.first_ping(node) || uptime(self, node) >= began + 3);
            has_pinged |= !std::mem::replace(&mut self.pings_anyway[node.index()], false);
        }
        has_pinged
    }

    /// The model pings if the server has.
    fn first_ping(&mut self, node: Node) -> bool {
        let server = self.world.server(node);
        let expected = server.offset + PING_BYTES;
        let may_ping = self.pings_anyway[node.index()] || self.just_started[node.index()];
        let has_pinged =
            may_ping && server.is_master() && self.info(node).number("master_repl_offset") == Some(expected);
        if has_pinged {
            (self.pings_anyway[node.index()], self.just_started[node.index()]) = (false, false);
            self.world.ping(node);
            self.just_pinged = true;
        }
        has_pinged
    }

    /// Who attached after a first ping has a backlog that begins behind it, and a file with it: the model pings when
    /// all are there.
    fn move_backlogs(&mut self) {
        for node in self.world.nodes().filter(|&node| self.world.server(node).link_is_up()).collect::<Vec<_>>() {
            let (info, seen) = (self.info(node), self.observation(node).replication);
            let server = self.world.server(node);
            let (Some(first), Some(file)) = (server.backlog, server.rdb) else { continue };
            let history = server.history;
            // One whose link is stalled got the ping with all that it was given when it attached.
            let has_ping =
                server.is_stalled && server.offset + 1 == first && seen.offset.get() == server.offset + PING_BYTES;
            // One that has not attached yet shows the backlog that it had before.
            let is_attached = matches!(&seen.role, Role::Replica { link, .. } if link.up)
                && (has_ping || seen.offset.get() == server.offset)
                && self.model_id(seen.history).is_none_or(|id| id == self.world.history(history).id);
            let real = info.number("repl_backlog_first_byte_offset");
            if !is_attached || real != Some(first + PING_BYTES) {
                continue;
            }
            let at = |offset| Spot { history, offset };
            let moved = at(first - 1 + PING_BYTES);
            let received = RdbFile { aux: Some(moved), data: self.world.data_at(moved) };
            let is_received = file.aux == Some(at(first - 1));
            let server = &mut self.world.servers[node.index()];
            server.backlog = real;
            if is_received {
                server.rdb = Some(received);
            }
            if has_ping {
                (server.offset, server.data) = (moved.offset, received.data);
            }
        }
    }

    fn explain(&mut self, differences: &[(Node, String)]) -> String {
        let mut text: Vec<String> =
            self.told.iter().enumerate().map(|(i, told)| format!("{:>3}. {told}.", i + 1)).collect();
        for (node, difference) in differences {
            text.push(format!("  {}: {difference}", self.world.shape.name(*node)));
        }
        for node in self.world.nodes() {
            text.push(format!("--- {} ({}):", self.world.shape.name(node), self.stage.front(node.index())));
            text.push(self.stage.log(node.index(), 25));
        }
        text.join("\n")
    }

    /// What is not as the model says, and the ids as they are matched if everything is.
    fn compare(&mut self) -> (Vec<(Node, String)>, Ids) {
        let (mut ids, mut differences) = (self.ids.clone(), Vec::new());
        for node in self.world.nodes() {
            if self.world.server(node).is_up {
                let model = self.world.observe(node, Timestamp::from_millis(self.world.now)).expect("it is up");
                let (info, real) = (self.info(node), self.observation(node));
                self.compare_one(node, &model, &real, &info, &mut ids, &mut |difference| {
                    differences.push((node, difference));
                });
            }
        }
        (differences, ids)
    }

    fn compare_one(
        &self,
        node: Node,
        model: &NodeObservation,
        real: &NodeObservation,
        info: &Info,
        ids: &mut Ids,
        differs: &mut dyn FnMut(String),
    ) {
        let server = self.world.server(node);
        let mut same = |what: &str, model: &dyn std::fmt::Debug, real: &dyn std::fmt::Debug| {
            let (model, real) = (format!("{model:?}"), format!("{real:?}"));
            if model != real {
                differs(format!("{what}: the model says {model}, the server {real}"));
            }
        };
        let (m, r) = (&model.replication, &real.replication);
        same("busy", &false, &(real.persistence.loading || info.has_child() || r.failover_in_progress));
        same("offset", &m.offset.get(), &r.offset.get());
        same(
            "backlog from",
            &server.backlog,
            &info.number("repl_backlog_first_byte_offset").filter(|_| r.backlog_active),
        );
        same("keys", &model.keyspace, &real.keyspace);
        same("append-only", &model.persistence.aof_enabled, &real.persistence.aof_enabled);
        let fork = |position: &Position| position.offset.get();
        same("fork offset", &m.parent.as_ref().map(fork), &r.parent.as_ref().map(fork));
        let role = |role: &Role| match role {
            Role::Master { .. } => None,
            Role::Replica { link, .. } => Some((link.up, link.sync_in_progress, link.down_since_seconds.is_some())),
        };
        same("link (up, syncing, was up)", &role(&m.role), &role(&r.role));
        let attached = self.world.replicas_of(node).map(|replica| self.stage.front(replica.index()));
        let mut attached: Vec<_> = attached.map(|port| (port.to_string(), "online".to_owned())).collect();
        let mut seen: Vec<_> = (0..info.number("connected_slaves").unwrap_or(0))
            .map(|number| {
                let line = info.get(&format!("slave{number}")).unwrap_or_default();
                let value =
                    |name| line.split(',').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default().to_owned();
                (value("port="), value("state="))
            })
            .collect();
        attached.sort_unstable();
        seen.sort_unstable();
        same("replicas", &attached, &seen);
        if let Role::Replica { master, .. } = &r.role {
            let port = server.upstream().map_or(self.stage.nobody(), |of| self.stage.front(of.index()));
            same("master", &port, &master.port);
        }
        let parents = m.parent.zip(r.parent).map(|(m, r)| (m.history, r.history));
        for (model, real) in [(m.history, r.history)].into_iter().chain(parents) {
            if !ids.are_one(model, real) {
                differs(format!("the model's {} is not {}", model.short(), real.short()));
            }
        }
    }

    /// The keys of a data set, by the truth.
    pub(super) fn keys(&self, held: Point) -> std::collections::BTreeSet<String> {
        let truth = &self.world.truth;
        let root = if truth.holds(held, self.root) { self.world.shape.keys } else { 0 };
        let mut keys: std::collections::BTreeSet<_> = (0..root).map(|key| format!("root:{key}")).collect();
        for (_, done) in self.done.iter().filter(|(point, _)| truth.holds(held, *point)) {
            match done {
                Done::Write(number) => {
                    keys.insert(format!("w{number}"));
                }
                Done::Flush => keys.clear(),
            }
        }
        keys
    }

    /// The model's name for an id of the servers.
    pub(super) fn model_id(&self, real: ReplicationId) -> Option<ReplicationId> {
        self.ids.model.get(&real).copied()
    }

    pub(super) fn end(mut self) -> Result<Counts, String> {
        self.counts.histories = self.ids.real.len() as u64;
        Ok(self.counts)
    }
}
