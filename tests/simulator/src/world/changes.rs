//! What happens to the identity of a server, and to its data as a whole.

use crate::{
    server::{Link, Role, Server},
    story::Node,
    world::{Birth, World},
};

impl World {
    /// A new id that goes on from the present one (`shiftReplicationId`).
    pub(super) fn shift_id(&mut self, node: Node) {
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
    pub(super) fn rename(&mut self, node: Node, is_counted: bool) {
        let Server { data, offset, .. } = *self.server(node);
        let history = self.born(Birth::Renamed, data, offset, is_counted);
        let server = &mut self.servers[node.index()];
        server.second = None;
        server.history = history;
    }

    pub(super) fn disconnect_replicas(&mut self, node: Node) {
        let now = self.now;
        self.servers[node.index()].alone_since = now;
        for server in &mut self.servers {
            if server.upstream() == Some(node) {
                server.lose_link(now);
            }
        }
    }

    /// `replicationUnsetMaster`.
    pub(super) fn promote(&mut self, node: Node) -> bool {
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
    pub(super) fn follow(&mut self, node: Node, master: Option<Node>) -> bool {
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

    pub(super) fn failover(&mut self, to: Node) -> bool {
        let Some(master) = self.server(to).upstream() else { return false };
        let (target, old) = (self.server(to), self.server(master));
        // The master waits until the replica has everything, and gives up otherwise.
        let is_ready = target.link_is_up() && old.is_master() && target.offset == old.offset;
        if !is_ready || !self.reaches(master, to) {
            return false;
        }
        self.promote(to) && self.follow(master, Some(to))
    }

    pub(super) fn abort_failover(&mut self, node: Node) -> bool {
        if !self.server(node).is_master() || self.replicas_of(node).next().is_none() {
            return false;
        }
        self.shift_id(node);
        true
    }

    /// `replicationCron`.
    pub(super) fn expire_backlog(&mut self, node: Node) -> bool {
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
    pub(super) fn accept_replica(&mut self, node: Node) {
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

    pub(super) fn stop(&mut self, node: Node, save: bool) -> bool {
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
    pub(super) fn start(&mut self, node: Node, master: Option<Node>) -> bool {
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
}
