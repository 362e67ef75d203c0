//! A story: the deployment at its beginning, and everything that happens to it, in order.
//!
//! Nothing in a story is left to chance: chance is in [`crate::generate`], which resolves it. So a story
//! can be played again, by the model or on real servers, be cut shorter, and be kept as lines of text
//! ([`crate::script`]).

/// A server of the story, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u8);

impl Node {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A place that fails as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(pub u8);

impl Site {
    pub const NAMES: [&'static str; 5] = ["fra", "nyc", "sgp", "syd", "gru"];

    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0) % Self::NAMES.len()]
    }
}

/// A backup of the story, by its number, which stays its own when other backups are cut from the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupNumber(pub u16);

/// What the servers run: it decides what survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    Redis62,
    Redis70,
    Redis82,
    Valkey81,
    Valkey91,
}

impl Version {
    pub const ALL: [Self; 5] = [Self::Redis62, Self::Redis70, Self::Redis82, Self::Valkey81, Self::Valkey91];

    /// Whether a master that loads an RDB takes over its replication id as its second one
    /// (`server.c`, `loadDataFromDisk`, since Redis 7.0).
    pub fn masters_keep_their_lineage(self) -> bool {
        self != Self::Redis62
    }

    /// Whether a start from the append-only file takes the offset from it (Redis 8.0).
    pub fn aof_keeps_the_offset(self) -> bool {
        self == Self::Redis82
    }

    /// Whether a server with an append-only file and without a backlog adds one to its offset for each
    /// write (`replication.c`, `replicationFeedSlaves`, since Redis 7.2).
    pub fn counts_commands_without_backlog(self) -> bool {
        matches!(self, Self::Redis82 | Self::Valkey81 | Self::Valkey91)
    }

    /// Whether a server that is made a replica of another master drops its own replicas at once
    /// (`replication.c`, `replicationSetMaster`, up to Redis 6.2); later ones keep them until its id changes.
    pub fn drops_replicas_when_it_follows(self) -> bool {
        self == Self::Redis62
    }

    /// Whether a master writes its own RDB file when it serves a full resynchronization
    /// (`repl-diskless-sync` is off by default before Redis 7.0).
    pub fn syncs_through_its_file(self) -> bool {
        self == Self::Redis62
    }
}

/// One node at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub site: Site,
    /// `None`: the master.
    pub master: Option<Node>,
    /// How far the agent's clock is ahead, ms.
    pub skew_ms: i64,
    /// How far the coordinator's idea of that is off: at most half a round trip, ms.
    pub skew_error_ms: i64,
}

/// The deployment at its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub version: Version,
    pub aof: bool,
    /// `repl-backlog-size`.
    pub backlog_bytes: u64,
    /// `repl-backlog-ttl`.
    pub backlog_ttl_ms: u32,
    /// Keys that the master holds before its first replica comes.
    pub keys: u32,
    pub follow_master: bool,
    pub nodes: Vec<Place>,
}

impl Shape {
    /// `fra-1`: the site, and a number of its own there.
    pub fn name(&self, node: Node) -> String {
        let site = self.nodes[node.index()].site;
        let number = self.nodes[..=node.index()].iter().filter(|place| place.site == site).count();
        format!("{}-{number}", site.name())
    }

    pub fn all(&self) -> impl Iterator<Item = Node> + use<> {
        (0..self.nodes.len() as u8).map(Node)
    }

    pub fn at(&self, site: Site) -> impl Iterator<Item = Node> + '_ {
        self.all().filter(move |node| self.nodes[node.index()].site == site)
    }
}

/// How a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// As the agent chooses.
    Auto,
    /// By replication, on request: gives a master without a backlog a new id.
    Replication,
    /// By the file of a BGSAVE.
    File,
}

/// What becomes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Committed through the coordinator after so many ms.
    Committed { after_ms: u32 },
    /// Found in the repository after so many ms, with nobody there who knows the agent's clock.
    Found { after_ms: u32 },
    /// Its objects never become a backup.
    Lost,
}

/// What is claimed of a history although it is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lie {
    /// The fork lies so many bytes further.
    Later(u16),
    /// The fork lies so many bytes earlier.
    Earlier(u16),
    /// It left another history.
    Parent,
}

/// One thing that happens. What cannot happen when its turn comes does not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// `SET w<number> <value of so many bytes>`, so many times.
    Write {
        node: Node,
        value_bytes: u16,
        count: u8,
    },
    /// `FLUSHALL`.
    Flush {
        node: Node,
    },
    /// The master's `PING` to its replicas.
    Ping {
        node: Node,
    },
    /// The node's link to its master breaks, and stays broken until it is mended.
    Cut {
        node: Node,
    },
    Mend {
        node: Node,
    },
    /// The link stays up, but nothing arrives until it flows again.
    Stall {
        node: Node,
    },
    /// So many commands get through a stalled link.
    Trickle {
        node: Node,
        commands: u8,
    },
    Flow {
        node: Node,
    },
    /// Nothing crosses the border of the site.
    Isolate {
        site: Site,
    },
    Rejoin {
        site: Site,
    },
    /// `REPLICAOF NO ONE`.
    Promote {
        node: Node,
    },
    /// `REPLICAOF master`; `None` is an address where nobody answers.
    Follow {
        node: Node,
        master: Option<Node>,
    },
    /// `FAILOVER TO replica`, on its master.
    Failover {
        to: Node,
    },
    /// `FAILOVER`, then `FAILOVER ABORT`: the master goes on under a new id.
    AbortFailover {
        node: Node,
    },
    /// The master goes without a replica until `repl-backlog-ttl` has passed: time passes with it.
    ExpireBacklog {
        node: Node,
    },
    /// `BGSAVE` into the server's own file.
    Save {
        node: Node,
    },
    /// `SHUTDOWN`, with `SAVE` or with `NOSAVE`.
    Stop {
        node: Node,
        save: bool,
    },
    /// Starts what is stopped, as a master or as a replica.
    Start {
        node: Node,
        master: Option<Node>,
    },
    /// What a stopped server would load is gone.
    Wipe {
        node: Node,
    },
    /// A stopped server is given another one's file.
    CopyFile {
        from: Node,
        to: Node,
    },
    /// The agent looks at its server; the coordinator hears of it so much later.
    Look {
        node: Node,
        after_ms: u32,
    },
    /// The agent dies, or its session is cut.
    Silence {
        node: Node,
    },
    Hear {
        node: Node,
    },
    Backup {
        number: BackupNumber,
        node: Node,
        method: Method,
        allow_stale: bool,
        fate: Fate,
    },
    /// A later check finds the backup damaged.
    Damage {
        number: BackupNumber,
    },
    /// It is verified, or even rehearsed.
    Verify {
        number: BackupNumber,
        rehearsed: bool,
    },
    /// An operator says that a shrunken backup is right.
    Vouch {
        number: BackupNumber,
    },
    /// Of a history whose fork nobody has seen yet, somebody says something wrong, and somebody else
    /// what is right: the first one first, or the other way round.
    Claim {
        pick: u8,
        lie: Lie,
        lie_first: bool,
    },
    /// An operator decides for one of the branches that contend.
    Accept {
        pick: u8,
    },
    /// The planner is asked, and its answer is held against the truth.
    Ask {
        shuffle: u32,
    },
    /// Time passes.
    Wait,
}

/// The kinds of events, for counting them.
pub const KINDS: [&str; 31] = [
    "write",
    "flush",
    "ping",
    "cut",
    "mend",
    "stall",
    "trickle",
    "flow",
    "isolate",
    "rejoin",
    "promote",
    "follow",
    "failover",
    "abort-failover",
    "expire-backlog",
    "save",
    "stop",
    "start",
    "wipe",
    "copy-file",
    "look",
    "silence",
    "hear",
    "backup",
    "damage",
    "verify",
    "vouch",
    "claim",
    "accept",
    "ask",
    "wait",
];

impl Event {
    /// Its place in [`KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Self::Write { .. } => 0,
            Self::Flush { .. } => 1,
            Self::Ping { .. } => 2,
            Self::Cut { .. } => 3,
            Self::Mend { .. } => 4,
            Self::Stall { .. } => 5,
            Self::Trickle { .. } => 6,
            Self::Flow { .. } => 7,
            Self::Isolate { .. } => 8,
            Self::Rejoin { .. } => 9,
            Self::Promote { .. } => 10,
            Self::Follow { .. } => 11,
            Self::Failover { .. } => 12,
            Self::AbortFailover { .. } => 13,
            Self::ExpireBacklog { .. } => 14,
            Self::Save { .. } => 15,
            Self::Stop { .. } => 16,
            Self::Start { .. } => 17,
            Self::Wipe { .. } => 18,
            Self::CopyFile { .. } => 19,
            Self::Look { .. } => 20,
            Self::Silence { .. } => 21,
            Self::Hear { .. } => 22,
            Self::Backup { .. } => 23,
            Self::Damage { .. } => 24,
            Self::Verify { .. } => 25,
            Self::Vouch { .. } => 26,
            Self::Claim { .. } => 27,
            Self::Accept { .. } => 28,
            Self::Ask { .. } => 29,
            Self::Wait => 30,
        }
    }

    /// The nodes that it names.
    pub fn nodes(&self) -> [Option<Node>; 2] {
        match *self {
            Self::Write { node, .. }
            | Self::Flush { node }
            | Self::Ping { node }
            | Self::Cut { node }
            | Self::Mend { node }
            | Self::Stall { node }
            | Self::Trickle { node, .. }
            | Self::Flow { node }
            | Self::Promote { node }
            | Self::Failover { to: node }
            | Self::AbortFailover { node }
            | Self::ExpireBacklog { node }
            | Self::Save { node }
            | Self::Stop { node, .. }
            | Self::Wipe { node }
            | Self::Look { node, .. }
            | Self::Silence { node }
            | Self::Hear { node }
            | Self::Backup { node, .. } => [Some(node), None],
            Self::Follow { node, master } | Self::Start { node, master } => [Some(node), master],
            Self::CopyFile { from, to } => [Some(to), Some(from)],
            Self::Isolate { .. }
            | Self::Rejoin { .. }
            | Self::Damage { .. }
            | Self::Verify { .. }
            | Self::Vouch { .. }
            | Self::Claim { .. }
            | Self::Accept { .. }
            | Self::Ask { .. }
            | Self::Wait => [None, None],
        }
    }

    /// Whether it happens to a server, and not to those who watch it: what can be played on real ones.
    pub fn is_of_servers(&self) -> bool {
        self.kind() <= 19
    }
}

/// An event, and the time since the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    pub after_ms: u32,
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    pub shape: Shape,
    pub steps: Vec<Step>,
}
