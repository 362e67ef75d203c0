//! Several servers, and the links between them: every event of a story that servers can feel.
//!
//! The model is prompt: what can be said over a link that is up and flows has been said when an event
//! is over. A replica lags only where its link is cut, stalled or its master out of reach, so that a
//! story can be played on real servers by whoever holds their links.

use urtext_types::ReplicationId;

use crate::{
    server::{HistoryNumber, Link, Role, Server, Spot},
    story::{Event, Node, Shape, Site},
    truth::{Change, Point, Truth},
};

/// `SELECT 0` in the stream.
pub const SELECT_BYTES: u64 = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n".len() as u64;
/// `PING` in the stream.
pub const PING_BYTES: u64 = "*1\r\n$4\r\nPING\r\n".len() as u64;
/// `FLUSHALL` in the stream.
pub const FLUSHALL_BYTES: u64 = "*1\r\n$8\r\nFLUSHALL\r\n".len() as u64;

/// The length of `SET w<number> <value>` in the stream.
pub fn set_bytes(number: u32, value_bytes: u16) -> u64 {
    let digits = |n: u32| u64::from(n.checked_ilog10().unwrap_or(0) + 1);
    let key = 1 + digits(number);
    let bulk = |length: u64| 1 + digits(length as u32) + 2 + length + 2;
    "*3\r\n$3\r\nSET\r\n".len() as u64 + bulk(key) + bulk(u64::from(value_bytes))
}

/// How a replication id came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// A server started without one that it could go on from.
    Started,
    /// A promotion, or an RDB that a master loaded: the new history goes on from that position.
    GoesOn(Spot),
    /// The backlog was freed, or made anew for a first replica: the server went on, under another id.
    Renamed,
}

/// One replication id.
#[derive(Debug, Clone, Copy)]
pub struct History {
    pub id: ReplicationId,
    pub birth: Birth,
    /// What it begins with, and the offset there.
    pub start: Point,
    pub offset: u64,
    /// The end of what its master wrote under it.
    pub end: Point,
    /// Whether its master had a backlog when it began, and so counted what it wrote.
    pub is_counted: bool,
}

#[derive(Debug)]
pub struct World {
    pub shape: Shape,
    pub now: i64,
    pub truth: Truth,
    pub servers: Vec<Server>,
    pub histories: Vec<History>,
    isolated: [bool; Site::NAMES.len()],
    writes: u32,
    runs: u32,
}

/// Spreads small numbers over all of them, so that the order of ids says nothing (splitmix64).
pub(crate) fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl World {
    /// Everything is as the shape says, and the replicas are in sync.
    pub fn new(shape: Shape, now: i64) -> Self {
        let mut world = Self {
            now,
            truth: Truth::default(),
            servers: Vec::with_capacity(shape.nodes.len()),
            histories: Vec::new(),
            isolated: [false; Site::NAMES.len()],
            writes: 0,
            runs: 0,
            shape,
        };
        world.begin();
        world
    }

    /// Begins another story in the memory of this one.
    pub fn restart(&mut self, shape: Shape, now: i64) {
        self.now = now;
        self.truth.clear();
        self.servers.clear();
        self.histories.clear();
        self.isolated = [false; Site::NAMES.len()];
        (self.writes, self.runs) = (0, 0);
        self.shape = shape;
        self.begin();
    }

    fn begin(&mut self) {
        for index in 0..self.shape.nodes.len() {
            let place = self.shape.nodes[index];
            let keys = if place.master.is_none() { self.shape.keys } else { 0 };
            let data = self.truth.root(keys, self.now);
            let history = self.born(Birth::Started, data, 0, false);
            self.runs += 1;
            let role = match place.master {
                None => Role::Master,
                Some(of) => Role::Replica { of: Some(of), link: Link::Down { since: None } },
            };
            self.servers.push(Server {
                is_up: true,
                run: self.runs,
                role,
                history,
                offset: 0,
                second: None,
                backlog: None,
                has_cached_master: false,
                select_sent: false,
                data,
                rdb: None,
                has_aof: self.shape.aof,
                is_cut: false,
                is_stalled: false,
                alone_since: self.now,
            });
        }
        self.settle();
    }

    fn born(&mut self, birth: Birth, start: Point, offset: u64, is_counted: bool) -> HistoryNumber {
        let number = self.histories.len() as u64;
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&mix(number).to_be_bytes());
        bytes[8..16].copy_from_slice(&mix(!number).to_be_bytes());
        let id = ReplicationId::from_bytes(bytes).expect("the mixture is never all zero");
        self.histories.push(History { id, birth, start, offset, end: start, is_counted });
        HistoryNumber(number as u32)
    }

    pub fn server(&self, node: Node) -> &Server {
        &self.servers[node.index()]
    }

    pub fn history(&self, number: HistoryNumber) -> &History {
        &self.histories[number.0 as usize]
    }

    /// The history with this id.
    pub fn number_of(&self, id: ReplicationId) -> Option<HistoryNumber> {
        self.histories.iter().position(|history| history.id == id).map(|number| HistoryNumber(number as u32))
    }

    /// What a copy holds that is truly at `spot`.
    pub fn data_at(&self, spot: Spot) -> Point {
        let history = self.history(spot.history);
        let total = (self.truth.total(history.start) + spot.offset).saturating_sub(history.offset);
        self.truth.up_to(history.end, total)
    }

    pub fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        self.shape.all()
    }

    /// Those whose link to `node` is up.
    pub fn replicas_of(&self, node: Node) -> impl Iterator<Item = Node> + '_ {
        self.nodes().filter(move |&replica| {
            matches!(self.server(replica).role, Role::Replica { of: Some(of), link: Link::Up } if of == node)
        })
    }

    fn crosses_a_border(&self, a: Node, b: Node) -> bool {
        let site = |node: Node| self.shape.nodes[node.index()].site;
        let is_isolated = |site: Site| self.isolated[usize::from(site.0)];
        site(a) != site(b) && (is_isolated(site(a)) || is_isolated(site(b)))
    }

    pub fn is_isolated(&self, site: Site) -> bool {
        self.isolated[usize::from(site.0)]
    }

    /// Whether `replica` can talk to `master`.
    fn reaches(&self, replica: Node, master: Node) -> bool {
        let (a, b) = (self.server(replica), self.server(master));
        a.is_up && b.is_up && !a.is_cut && !self.crosses_a_border(replica, master)
    }

    /// What a server does, and what follows from it. Events that it cannot feel do nothing.
    /// Returns whether anything happened.
    pub fn play(&mut self, event: &Event) -> bool {
        let happened = self.act(event);
        if happened {
            self.settle();
        }
        happened
    }

    fn act(&mut self, event: &Event) -> bool {
        match *event {
            Event::Write { node, value_bytes, count } => {
                let is_master = self.server(node).is_master();
                for _ in 0..if is_master { count } else { 0 } {
                    self.writes += 1;
                    let bytes = set_bytes(self.writes, value_bytes);
                    self.command(node, bytes, Change::Key);
                }
                is_master
            }
            Event::Flush { node } => {
                let is_master = self.server(node).is_master();
                if is_master {
                    self.command(node, FLUSHALL_BYTES, Change::Flush);
                }
                is_master
            }
            Event::Ping { node } => {
                let has_replicas = self.server(node).is_master() && self.replicas_of(node).next().is_some();
                if has_replicas {
                    self.append(node, PING_BYTES, Change::Nothing);
                }
                has_replicas
            }
            Event::Cut { node } => !std::mem::replace(&mut self.servers[node.index()].is_cut, true),
            Event::Mend { node } => std::mem::replace(&mut self.servers[node.index()].is_cut, false),
            Event::Stall { node } => !std::mem::replace(&mut self.servers[node.index()].is_stalled, true),
            Event::Flow { node } => std::mem::replace(&mut self.servers[node.index()].is_stalled, false),
            Event::Trickle { node, commands } => self.trickle(node, usize::from(commands)),
            Event::Isolate { site } => !std::mem::replace(&mut self.isolated[usize::from(site.0)], true),
            Event::Rejoin { site } => std::mem::replace(&mut self.isolated[usize::from(site.0)], false),
            Event::Promote { node } => self.promote(node),
            Event::Follow { node, master } => self.follow(node, master),
            Event::Failover { to } => self.failover(to),
            Event::AbortFailover { node } => self.abort_failover(node),
            Event::ExpireBacklog { node } => self.expire_backlog(node),
            Event::Save { node } => {
                let server = &mut self.servers[node.index()];
                if server.is_up {
                    server.save();
                }
                server.is_up
            }
            Event::Stop { node, save } => self.stop(node, save),
            Event::Start { node, master } => self.start(node, master),
            Event::Wipe { node } => {
                let server = &mut self.servers[node.index()];
                let happens = !server.is_up && (server.rdb.is_some() || server.has_aof);
                if happens {
                    (server.rdb, server.has_aof) = (None, false);
                }
                happens
            }
            Event::CopyFile { from, to } => {
                let file = self.server(from).rdb;
                let happens = !self.server(to).is_up && from != to && file.is_some();
                if happens {
                    self.servers[to.index()].rdb = file;
                }
                happens
            }
            Event::Look { .. }
            | Event::Silence { .. }
            | Event::Hear { .. }
            | Event::Backup { .. }
            | Event::Damage { .. }
            | Event::Verify { .. }
            | Event::Vouch { .. }
            | Event::Claim { .. }
            | Event::Accept { .. }
            | Event::Ask { .. }
            | Event::Wait => false,
        }
    }

    /// One command of a client (`replicationFeedSlaves`).
    fn command(&mut self, node: Node, bytes: u64, change: Change) {
        let server = &self.servers[node.index()];
        if server.backlog.is_none() {
            let counts = self.shape.aof && self.shape.version.counts_commands_without_backlog();
            self.append(node, u64::from(counts), change);
            return;
        }
        if !server.select_sent {
            self.append(node, SELECT_BYTES, Change::Nothing);
            self.servers[node.index()].select_sent = true;
        }
        self.append(node, bytes, change);
    }

    fn append(&mut self, node: Node, bytes: u64, change: Change) {
        let server = &mut self.servers[node.index()];
        server.data = self.truth.write(server.data, bytes, change, self.now);
        self.histories[server.history.0 as usize].end = server.data;
        server.advance(bytes, self.shape.backlog_bytes);
    }

    fn trickle(&mut self, node: Node, commands: usize) -> bool {
        let server = self.server(node);
        let (true, true, Some(of)) = (server.is_stalled, server.link_is_up(), server.upstream()) else {
            return false;
        };
        let data = self.truth.further(server.data, self.server(of).data, commands);
        self.receive(node, data)
    }

    /// The replica has applied everything up to `data`.
    fn receive(&mut self, node: Node, data: Point) -> bool {
        let server = &mut self.servers[node.index()];
        let bytes = self.truth.total(data) - self.truth.total(server.data);
        server.data = data;
        server.advance(bytes, self.shape.backlog_bytes);
        bytes > 0
    }

    /// A new id that goes on from the present one (`shiftReplicationId`).
    fn shift_id(&mut self, node: Node) {
        let Server { data, offset, .. } = *self.server(node);
        let (parent, is_counted) = (self.server(node).spot(), self.server(node).backlog.is_some());
        let history = self.born(Birth::GoesOn(parent), data, offset, is_counted);
        let server = &mut self.servers[node.index()];
        server.second = Some(parent);
        server.history = history;
        server.select_sent = false;
        self.disconnect_replicas(node);
    }

    /// A new id without a past (`changeReplicationId`, `clearReplicationId2`).
    fn rename(&mut self, node: Node, is_counted: bool) {
        let Server { data, offset, .. } = *self.server(node);
        let history = self.born(Birth::Renamed, data, offset, is_counted);
        let server = &mut self.servers[node.index()];
        server.second = None;
        server.history = history;
    }

    fn disconnect_replicas(&mut self, node: Node) {
        let now = self.now;
        self.servers[node.index()].alone_since = now;
        for server in &mut self.servers {
            if server.upstream() == Some(node) {
                server.lose_link(now);
            }
        }
    }

    /// `replicationUnsetMaster`.
    fn promote(&mut self, node: Node) -> bool {
        let server = &mut self.servers[node.index()];
        if !server.is_up || server.role == Role::Master {
            return false;
        }
        server.role = Role::Master;
        server.has_cached_master = false;
        server.alone_since = self.now;
        self.shift_id(node);
        true
    }

    /// `replicationSetMaster`.
    fn follow(&mut self, node: Node, master: Option<Node>) -> bool {
        let now = self.now;
        let server = &mut self.servers[node.index()];
        let is_same = matches!(server.role, Role::Replica { of, .. } if of == master);
        if !server.is_up || master == Some(node) || is_same {
            return false;
        }
        let since = match server.role {
            // It may continue from its own position.
            Role::Master => {
                server.has_cached_master = true;
                None
            }
            Role::Replica { of, link: Link::Up } => {
                server.lose_link(now);
                if let Some(of) = of {
                    self.servers[of.index()].alone_since = now;
                }
                Some(now)
            }
            Role::Replica { link: Link::Down { since }, .. } => since,
        };
        let server = &mut self.servers[node.index()];
        server.role = Role::Replica { of: master, link: Link::Down { since } };
        if self.shape.version.drops_replicas_when_it_follows() {
            self.disconnect_replicas(node);
        }
        true
    }

    fn failover(&mut self, to: Node) -> bool {
        let Some(master) = self.server(to).upstream() else { return false };
        let (target, old) = (self.server(to), self.server(master));
        // The master waits until the replica has everything, and gives up otherwise.
        let is_ready = target.link_is_up() && old.is_master() && target.offset == old.offset;
        if !is_ready || !self.reaches(master, to) {
            return false;
        }
        self.promote(to) && self.follow(master, Some(to))
    }

    fn abort_failover(&mut self, node: Node) -> bool {
        if !self.server(node).is_master() || self.replicas_of(node).next().is_none() {
            return false;
        }
        self.shift_id(node);
        true
    }

    /// `replicationCron`.
    fn expire_backlog(&mut self, node: Node) -> bool {
        let server = self.server(node);
        if !server.is_master() || server.backlog.is_none() || self.replicas_of(node).next().is_some() {
            return false;
        }
        // The servers' clocks go on for all of them.
        let due = server.alone_since + i64::from(self.shape.backlog_ttl_ms);
        self.now = self.now.max(due + 1);
        self.rename(node, false);
        self.servers[node.index()].backlog = None;
        true
    }

    /// An agent that captures by replication is the first replica of a master without a backlog.
    pub fn attach_for_a_snapshot(&mut self, node: Node) {
        self.accept_replica(node);
        self.settle();
    }

    /// What a server does before it serves a full resynchronization (`syncCommand`).
    fn accept_replica(&mut self, node: Node) {
        if self.server(node).backlog.is_none() {
            self.rename(node, true);
            let server = &mut self.servers[node.index()];
            server.backlog = Some(server.offset + 1);
        }
        let through_its_file = self.shape.version.syncs_through_its_file();
        let server = &mut self.servers[node.index()];
        server.select_sent = false;
        server.alone_since = self.now;
        if through_its_file {
            server.save();
        }
    }

    fn stop(&mut self, node: Node, save: bool) -> bool {
        let now = self.now;
        let server = &mut self.servers[node.index()];
        if !server.is_up {
            return false;
        }
        if save {
            server.save();
        }
        server.lose_link(now);
        server.is_up = false;
        self.disconnect_replicas(node);
        true
    }

    /// `loadDataFromDisk`.
    fn start(&mut self, node: Node, master: Option<Node>) -> bool {
        let Server { is_up, rdb, has_aof, data, offset, .. } = *self.server(node);
        if is_up || master == Some(node) {
            return false;
        }
        let (is_master, version) = (master.is_none(), self.shape.version);
        let loads_aof = self.shape.aof && has_aof;
        // With append-only files on, the RDB is not even looked at.
        let rdb = rdb.filter(|_| !self.shape.aof);
        let aux = rdb.and_then(|rdb| rdb.aux);
        let (history, offset, second, data) = match (rdb, aux) {
            _ if loads_aof => {
                let offset = if version.aof_keeps_the_offset() { offset } else { 0 };
                (self.born(Birth::Started, data, offset, false), offset, None, data)
            }
            (Some(rdb), Some(aux)) if is_master && version.masters_keep_their_lineage() => {
                (self.born(Birth::GoesOn(aux), rdb.data, aux.offset, true), aux.offset, Some(aux), rdb.data)
            }
            (Some(rdb), Some(aux)) if !is_master => (aux.history, aux.offset, None, rdb.data),
            (Some(rdb), _) => (self.born(Birth::Started, rdb.data, 0, false), 0, None, rdb.data),
            (None, _) => {
                let data = self.truth.root(0, self.now);
                (self.born(Birth::Started, data, 0, false), 0, None, data)
            }
        };
        self.runs += 1;
        let server = &mut self.servers[node.index()];
        server.is_up = true;
        server.run = self.runs;
        (server.history, server.offset, server.second, server.data) = (history, offset, second, data);
        server.backlog = second.map(|_| offset + 1);
        server.has_cached_master = !is_master && !loads_aof && aux.is_some();
        server.select_sent = false;
        server.has_aof = self.shape.aof;
        server.is_stalled = false;
        server.alone_since = self.now;
        server.role = match master {
            None => Role::Master,
            Some(_) => Role::Replica { of: master, link: Link::Down { since: None } },
        };
        true
    }

    /// Links that cannot be break, those that can be come up, and what flows arrives.
    fn settle(&mut self) {
        let now = self.now;
        for replica in self.nodes() {
            if let Some(of) = self.server(replica).upstream()
                && self.server(replica).link_is_up()
                && !self.reaches(replica, of)
            {
                self.servers[replica.index()].lose_link(now);
                self.servers[of.index()].alone_since = now;
            }
        }
        // A replica serves others only when it is in sync itself: so from the masters down.
        while self.nodes().any(|replica| self.connect(replica)) {}
        while self.nodes().any(|replica| self.flow(replica)) {}
    }

    /// Brings the link of `replica` up, if that can be done now.
    fn connect(&mut self, replica: Node) -> bool {
        let Some(of) = self.server(replica).upstream() else { return false };
        let (own, master) = (self.server(replica), self.server(of));
        let serves = master.role == Role::Master || master.link_is_up();
        if own.link_is_up() || !serves || !self.reaches(replica, of) {
            return false;
        }
        let disconnects = if own.has_cached_master && master.can_continue(own.spot()) {
            let upstream = master.clone();
            self.servers[replica.index()].continue_from(of, &upstream, &self.truth)
        } else {
            self.accept_replica(of);
            let upstream = self.server(of).clone();
            self.servers[replica.index()].copy_from(of, &upstream);
            true
        };
        if disconnects {
            self.disconnect_replicas(replica);
        }
        true
    }

    fn flow(&mut self, replica: Node) -> bool {
        let server = self.server(replica);
        let (true, false, Some(of)) = (server.link_is_up(), server.is_stalled, server.upstream()) else {
            return false;
        };
        let data = self.server(of).data;
        data != server.data && self.receive(replica, data)
    }
}
