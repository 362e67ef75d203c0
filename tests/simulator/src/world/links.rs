//! Links break, come up, and carry what there is to carry.

use crate::{server::Role, story::Node, world::World};

impl World {
    /// Links that cannot be break, those that can be come up, and what flows arrives.
    pub(super) fn settle(&mut self) {
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
        // A replica serves others only when it is in sync itself: so from the masters down. What was missed comes
        // right behind the answer, and so is there before anybody else tries again, which is once a second.
        loop {
            while self.nodes().any(|replica| self.flow(replica)) {}
            if !self.nodes().any(|replica| self.connect(replica)) {
                break;
            }
        }
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
