//! Several servers, and the links between them: every event of a story that servers can feel.
//!
//! The model is prompt: what can be said over a link that is up and flows has been said when an event
//! is over. A replica lags only where its link is cut, stalled or its master out of reach, so that a
//! story can be played on real servers by whoever holds their links.

mod changes;
mod links;

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
                    self.ping(node);
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

    /// The master pings whoever is attached, be it an agent that is there for a moment.
    pub fn ping(&mut self, node: Node) {
        self.append(node, PING_BYTES, Change::Nothing);
        self.settle();
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
}
