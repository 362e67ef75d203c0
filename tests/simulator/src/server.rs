//! One Redis or Valkey server, as far as replication goes: what `replication.c`, `server.c` and `rdb.c`
//! keep, under the servers' own names where they have one.

use crate::{
    story::Node,
    truth::{Point, Truth},
};

/// A replication id, by its number in [`crate::World::histories`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryNumber(pub u32);

/// `(history, offset)`, as a server says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spot {
    pub history: HistoryNumber,
    pub offset: u64,
}

/// `dump.rdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdbFile {
    /// `repl-id` and `repl-offset`.
    pub aux: Option<Spot>,
    pub data: Point,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Master,
    /// `None`: of an address where nobody answers.
    Replica {
        of: Option<Node>,
        link: Link,
    },
}

/// A replica's link to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Up,
    /// `None`: it was never up since the server became a replica.
    Down {
        since: Option<i64>,
    },
}

#[derive(Debug, Clone)]
pub struct Server {
    pub is_up: bool,
    /// Which process this is: a new number with each start.
    pub run: u32,
    pub role: Role,
    /// `master_replid`.
    pub history: HistoryNumber,
    /// `master_repl_offset`.
    pub offset: u64,
    /// `master_replid2` and `second_repl_offset - 1`.
    pub second: Option<Spot>,
    /// `repl_backlog_first_byte_offset`; `None` without a backlog.
    pub backlog: Option<u64>,
    /// Whether it has a cached master, and so asks for a partial resynchronization.
    pub has_cached_master: bool,
    /// Whether the stream has said which database is meant (`slaveseldb`).
    pub select_sent: bool,
    pub data: Point,
    pub rdb: Option<RdbFile>,
    /// Whether there is an append-only file to be loaded; it holds what `data` holds.
    pub has_aof: bool,
    /// Its link to its master is broken until it is mended.
    pub is_cut: bool,
    /// Nothing arrives through its link although that is up.
    pub is_stalled: bool,
    /// Since when it has had no replica, if it has none (`repl_no_slaves_since`).
    pub alone_since: i64,
}

impl Server {
    pub fn is_master(&self) -> bool {
        self.is_up && self.role == Role::Master
    }

    pub fn spot(&self) -> Spot {
        Spot { history: self.history, offset: self.offset }
    }

    pub fn link_is_up(&self) -> bool {
        matches!(self.role, Role::Replica { link: Link::Up, .. })
    }

    /// Whose replica it is.
    pub fn upstream(&self) -> Option<Node> {
        match self.role {
            Role::Replica { of, .. } => of,
            Role::Master => None,
        }
    }

    /// Takes in `bytes` more of its stream, and drops from the backlog what is too old.
    pub fn advance(&mut self, bytes: u64, backlog_bytes: u64) {
        self.offset += bytes;
        if let Some(first) = &mut self.backlog {
            *first = (*first).max((self.offset + 1).saturating_sub(backlog_bytes));
        }
    }

    /// What an RDB of now says of its position (`rdb.c`, `rdbPopulateSaveInfo`).
    pub fn aux(&self) -> Option<Spot> {
        let is_said = match self.role {
            Role::Master => self.backlog.is_some(),
            Role::Replica { link: Link::Up, .. } => true,
            Role::Replica { link: Link::Down { .. }, .. } => self.has_cached_master,
        };
        is_said.then(|| self.spot())
    }

    pub fn save(&mut self) {
        self.rdb = Some(RdbFile { aux: self.aux(), data: self.data });
    }

    /// Its master is gone; what it had of it is kept, so that it can continue (`replicationCacheMaster`).
    pub fn lose_link(&mut self, now: i64) {
        if let Role::Replica { link, .. } = &mut self.role
            && *link == Link::Up
        {
            *link = Link::Down { since: Some(now) };
            self.has_cached_master = true;
        }
    }

    /// Whether it answers `PSYNC asked.history asked.offset+1` with `+CONTINUE`
    /// (`masterTryPartialResynchronization`).
    pub fn can_continue(&self, asked: Spot) -> bool {
        let next = asked.offset + 1;
        let is_ours = asked.history == self.history
            || self.second.is_some_and(|second| second.history == asked.history && next <= second.offset + 1);
        is_ours && self.backlog.is_some_and(|first| first <= next && next <= self.offset + 1)
    }

    /// `+CONTINUE` from `upstream` (`slaveTryPartialResynchronization`). Returns whether the id changed.
    pub fn continue_from(&mut self, of: Node, upstream: &Self, truth: &Truth) -> bool {
        assert!(
            truth.holds(upstream.data, self.data),
            "the model lets a replica continue from a server that does not hold what it holds"
        );
        let is_new = self.history != upstream.history;
        if is_new {
            self.second = Some(self.spot());
            self.history = upstream.history;
        }
        self.backlog.get_or_insert(self.offset + 1);
        self.role = Role::Replica { of: Some(of), link: Link::Up };
        is_new
    }

    /// `+FULLRESYNC` from `upstream` (`readSyncBulkPayload`).
    pub fn copy_from(&mut self, of: Node, upstream: &Self) {
        self.data = upstream.data;
        self.history = upstream.history;
        self.offset = upstream.offset;
        self.second = None;
        self.backlog = Some(self.offset + 1);
        self.role = Role::Replica { of: Some(of), link: Link::Up };
        self.has_aof = true;
        // What it received is its file now, with the position in it.
        self.rdb = Some(RdbFile { aux: Some(self.spot()), data: self.data });
    }
}
