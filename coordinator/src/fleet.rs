//! The agents that are connected, and the last that was seen of every node.
//!
//! Everything is in memory and behind one lock that is never held across a wait. What must survive a
//! restart goes to the catalog a few seconds later ([`Fleet::take_unsaved`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use urtext_identity::{AgentIdentity, CertificateSerial};
use urtext_planner::ClockSkew;
use urtext_proto::pb;
use urtext_types::{DeploymentName, ErrorKind, NodeObservation, Timestamp};

use crate::{
    Fault,
    catalog::LastSeen,
    shard::{NodeKey, ShardKey},
};

/// An agent that says nothing for so long is taken for gone: it sends an observation every second.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);

/// Messages that wait for an agent that does not read. Tasks and pings are few; an agent that lets so
/// many pile up is gone, and its session is ended.
pub const OUTBOX_MESSAGES: usize = 64;

/// What goes down to an agent.
pub type Outbox = mpsc::Sender<Result<pb::CoordinatorMessage, Status>>;

/// One connected agent.
#[derive(Debug, Clone)]
pub struct Session {
    /// Tells two sessions of one node apart.
    pub id: u64,
    /// The run of the agent's process.
    pub boot_id: String,
    pub serial: CertificateSerial,
    /// Where it connects from.
    pub remote: String,
    pub agent_version: String,
    pub server_address: String,
    /// Its own age recipient.
    pub recipient: String,
    pub outbox: Outbox,
    /// Ends the session from our side.
    pub stop: CancellationToken,
    pub last_message_at: Timestamp,
    /// How the agent's clock stands to ours, once that was measured.
    pub clock: Option<ClockSkew>,
}

/// The newest look at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub observation: NodeObservation,
    /// The coordinator's clock.
    pub received_at: Timestamp,
}

/// One node as it is known now.
#[derive(Debug, Clone)]
pub struct Node {
    pub identity: AgentIdentity,
    pub session: Option<Session>,
    pub last_seen: Option<Timestamp>,
    pub seen: Option<Seen>,
    /// Why the newest look failed, if it did.
    pub trouble: Option<pb::Failure>,
}

impl Node {
    /// The session, if its agent is not silent.
    pub fn live_session(&self, now: Timestamp) -> Option<&Session> {
        self.session.as_ref().filter(|session| now.since(session.last_message_at) <= SILENT_AFTER)
    }

    /// The newest observation, if the server answered then and it was just now.
    pub fn fresh(&self, now: Timestamp) -> Option<&Seen> {
        self.live_session(now)?;
        self.seen.as_ref().filter(|seen| self.trouble.is_none() && now.since(seen.received_at) <= SILENT_AFTER)
    }
}

/// Every node that is known.
#[derive(Debug, Default)]
pub struct Fleet {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeKey, Node>,
    unsaved: BTreeSet<NodeKey>,
    sessions: u64,
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the fleet")
    }

    /// Makes a node known, connected or not.
    pub fn know(&self, identity: &AgentIdentity) {
        self.lock().node(identity);
    }

    /// Makes a node known with what was last seen of it.
    pub fn recall(&self, last: LastSeen) {
        let mut state = self.lock();
        let node = state.node(&last.identity);
        node.last_seen = node.last_seen.max(Some(last.received_at));
        node.seen = Some(Seen { observation: last.observation, received_at: last.received_at });
    }

    /// A number for a new session.
    pub fn next_session(&self) -> u64 {
        let mut state = self.lock();
        state.sessions += 1;
        state.sessions
    }

    /// Opens a session; an earlier one of the same run of the same agent, or one that fell silent, ends.
    ///
    /// # Errors
    /// Another agent is connected for the same node, and alive.
    pub fn open(&self, identity: &AgentIdentity, session: Session, now: Timestamp) -> Result<(), Fault> {
        let mut state = self.lock();
        let node = state.node(identity);
        if let Some(earlier) = node.live_session(now)
            && earlier.boot_id != session.boot_id
        {
            let message = format!(
                "another agent for {identity} is already connected, from {}; this one comes from {}",
                earlier.remote, session.remote
            );
            return Err(Fault::new(ErrorKind::Conflict, message).with_hint(
                "one node has one agent: stop the other, or give this node its own name with a new `urtext invite`",
            ));
        }
        // The site may be another one since a new invitation.
        node.identity = identity.clone();
        node.last_seen = Some(now);
        if let Some(earlier) = node.session.replace(session) {
            earlier.stop.cancel();
        }
        Ok(())
    }

    /// Ends what [`Fleet::open`] began, unless another session has taken over since.
    pub fn close(&self, key: &NodeKey, session: u64) {
        if let Some(node) = self.lock().nodes.get_mut(key)
            && node.session.as_ref().is_some_and(|open| open.id == session)
        {
            node.session = None;
        }
    }

    /// Ends the session that was opened with any other certificate than `serial`.
    pub fn end_others(&self, key: &NodeKey, serial: &CertificateSerial) {
        if let Some(session) = self.lock().nodes.get(key).and_then(|node| node.session.as_ref())
            && session.serial != *serial
        {
            session.stop.cancel();
        }
    }

    /// The agent is alive.
    pub fn heard(&self, key: &NodeKey, session: u64, now: Timestamp) {
        if let Some(node) = self.lock().nodes.get_mut(key) {
            node.last_seen = Some(now);
            if let Some(open) = node.session.as_mut().filter(|open| open.id == session) {
                open.last_message_at = now;
            }
        }
    }

    pub fn set_clock(&self, key: &NodeKey, session: u64, clock: ClockSkew) {
        if let Some(node) = self.lock().nodes.get_mut(key)
            && let Some(open) = node.session.as_mut().filter(|open| open.id == session)
        {
            open.clock = Some(clock);
        }
    }

    /// The server answered. Returns what was seen before.
    pub fn observed(&self, key: &NodeKey, observation: NodeObservation, now: Timestamp) -> Option<Seen> {
        let mut state = self.lock();
        state.unsaved.insert(key.clone());
        let node = state.nodes.get_mut(key)?;
        node.trouble = None;
        node.seen.replace(Seen { observation, received_at: now })
    }

    /// The server did not answer: what was seen before stands.
    pub fn failed(&self, key: &NodeKey, failure: pb::Failure) {
        if let Some(node) = self.lock().nodes.get_mut(key) {
            node.trouble = Some(failure);
        }
    }

    /// One node.
    pub fn node(&self, key: &NodeKey) -> Option<Node> {
        self.lock().nodes.get(key).cloned()
    }

    /// Every node, or those of one deployment, ordered by name.
    pub fn nodes(&self, deployment: Option<&DeploymentName>) -> Vec<Node> {
        let state = self.lock();
        let wanted = |node: &&Node| deployment.is_none_or(|deployment| node.identity.deployment == *deployment);
        state.nodes.values().filter(wanted).cloned().collect()
    }

    /// The nodes of one shard.
    pub fn shard(&self, shard: &ShardKey) -> Vec<Node> {
        let mut nodes = self.nodes(Some(&shard.deployment));
        nodes.retain(|node| node.identity.shard == shard.shard);
        nodes
    }

    /// Which other node shows the same run of a server, if any does: two agents beside one server.
    pub fn same_run(&self, key: &NodeKey, run_id: &str) -> Option<AgentIdentity> {
        let state = self.lock();
        let same = |seen: &Seen| !run_id.is_empty() && seen.observation.server.run_id == run_id;
        let other = |(other, node): &(&NodeKey, &Node)| {
            *other != key && node.session.is_some() && node.seen.as_ref().is_some_and(same)
        };
        state.nodes.iter().find(other).map(|(_, node)| node.identity.clone())
    }

    /// Observations that came in since the last call.
    pub fn take_unsaved(&self) -> Vec<LastSeen> {
        let mut state = self.lock();
        let unsaved = std::mem::take(&mut state.unsaved);
        unsaved
            .iter()
            .filter_map(|key| {
                let Node { identity, seen: Some(seen), .. } = state.nodes.get(key)? else { return None };
                let (observation, received_at) = (seen.observation.clone(), seen.received_at);
                Some(LastSeen { identity: identity.clone(), received_at, observation })
            })
            .collect()
    }
}

impl State {
    fn node(&mut self, identity: &AgentIdentity) -> &mut Node {
        self.nodes.entry(NodeKey::of(identity)).or_insert_with(|| Node {
            identity: identity.clone(),
            session: None,
            last_seen: None,
            seen: None,
            trouble: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::Explain;

    use super::*;

    fn identity() -> AgentIdentity {
        AgentIdentity {
            deployment: "orders".parse().expect("a name"),
            shard: "0".parse().expect("a name"),
            site: "fra".parse().expect("a name"),
            node: "fra-1".parse().expect("a name"),
        }
    }

    fn session(fleet: &Fleet, boot_id: &str, remote: &str, now: Timestamp) -> Session {
        Session {
            id: fleet.next_session(),
            boot_id: boot_id.to_owned(),
            serial: "01".parse().expect("a serial"),
            remote: remote.to_owned(),
            agent_version: "1".to_owned(),
            server_address: String::new(),
            recipient: String::new(),
            outbox: mpsc::channel(1).0,
            stop: CancellationToken::new(),
            last_message_at: now,
            clock: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_second_agent_for_a_node_is_refused_while_the_first_is_alive() {
        let fleet = Fleet::default();
        fleet.open(&identity(), session(&fleet, "a", "10.0.0.1:1", at(0)), at(0)).expect("the first");
        let refused =
            fleet.open(&identity(), session(&fleet, "b", "10.0.0.2:2", at(3)), at(3)).expect_err("the second");
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(
            refused.to_string(),
            "another agent for orders/0/fra/fra-1 is already connected, from 10.0.0.1:1; this one comes from 10.0.0.2:2"
        );
        fleet.open(&identity(), session(&fleet, "b", "10.0.0.2:2", at(6)), at(6)).expect("the first fell silent");
    }

    #[test]
    fn a_reconnect_takes_over_and_the_old_session_cannot_close_the_new_one() {
        let fleet = Fleet::default();
        let (first, second) = (session(&fleet, "a", "x", at(0)), session(&fleet, "a", "x", at(1)));
        let (key, old) = (NodeKey::of(&identity()), first.clone());
        fleet.open(&identity(), first, at(0)).expect("the first");
        fleet.open(&identity(), second, at(1)).expect("the same agent");
        assert!(old.stop.is_cancelled());
        fleet.close(&key, old.id);
        assert!(fleet.node(&key).expect("known").live_session(at(1)).is_some());
    }
}
