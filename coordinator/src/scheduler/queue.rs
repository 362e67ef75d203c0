//! Captures that nobody waits for take turns on each host: [`urtext_planner::stagger`].

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::watch;
use urtext_planner::{Go, Host, Turn, stagger};

use crate::{app::App, fleet::Node, shard::NodeKey};

/// At most so many scheduled captures run at once: each sends as fast as it can, into one coordinator at most.
const AT_ONCE: usize = 8;

/// A snapshot by hand that ends wakes nobody: it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who is being captured by the scheduler, and who waits.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Turn>,
    busy: Vec<Turn>,
}

/// A place on a host; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    app: Arc<App>,
    turn: Turn,
}

impl Drop for Place {
    fn drop(&mut self) {
        let queue = &self.app.scheduler.queue;
        let mut state = queue.lock();
        state.busy.retain(|turn| *turn != self.turn);
        state.waiting.retain(|turn| *turn != self.turn);
        drop(state);
        queue.changed.send_replace(());
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the queue")
    }
}

impl App {
    /// Waits for a place on the host of `turn`.
    ///
    /// # Cancel safety
    /// The place in the queue is given up.
    pub(super) async fn take_turn(self: &Arc<Self>, turn: Turn) -> Place {
        let queue = &self.scheduler.queue;
        let mut changed = queue.changed.subscribe();
        queue.lock().waiting.push(turn.clone());
        let place = Place { app: Arc::clone(self), turn };
        loop {
            changed.mark_unchanged();
            if self.may_begin(&place.turn) {
                return place;
            }
            let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
        }
    }

    fn may_begin(&self, turn: &Turn) -> bool {
        let others = self.captured_by_others();
        let mut state = self.scheduler.queue.lock();
        let busy = all_busy(&state, others);
        let Some(own) = state.waiting.iter().position(|waiting| waiting == turn) else { return false };
        if stagger(&state.waiting, &busy, AT_ONCE)[own] != Go::Now {
            return false;
        }
        let turn = state.waiting.remove(own);
        state.busy.push(turn);
        true
    }

    /// Those of a deployment that wait, each with the reason.
    pub(super) fn waiting(&self, is_meant: impl Fn(&Turn) -> bool) -> Vec<(Turn, String)> {
        let others = self.captured_by_others();
        let state = self.scheduler.queue.lock();
        let answers = stagger(&state.waiting, &all_busy(&state, others), AT_ONCE);
        let waiting = state.waiting.iter().zip(answers).filter(|(turn, _)| is_meant(turn));
        waiting
            .map(|(turn, go)| {
                let reason = match go {
                    Go::Now => "Begins.".to_owned(),
                    Go::Waits(reason) => reason,
                };
                (turn.clone(), reason)
            })
            .collect()
    }

    /// Whatever is captured now, by hand as well.
    fn captured_by_others(&self) -> Vec<Turn> {
        let agents = self.tasks.captured_now();
        let nodes = agents.iter().filter_map(|agent| self.fleet.node(&NodeKey::of(agent)));
        nodes.map(|node| turn_of(&node)).collect()
    }
}

fn all_busy(state: &State, others: Vec<Turn>) -> Vec<Turn> {
    let mut busy = state.busy.clone();
    for other in others {
        if busy.iter().all(|turn| (&turn.deployment, &turn.node) != (&other.deployment, &other.node)) {
            busy.push(other);
        }
    }
    busy
}

/// The turn of one node.
pub(super) fn turn_of(node: &Node) -> Turn {
    Turn { deployment: node.identity.deployment.clone(), node: node.identity.node.clone(), host: host_of(node) }
}

/// Where the server runs: where its agent says that it is, or, if it says "here", where the agent comes from.
fn host_of(node: &Node) -> Host {
    match &node.session {
        Some(session) => Host(host_name(&session.server_address, &session.remote)),
        None => Host(format!("the host of {}", node.identity)),
    }
}

/// `server` is as agents write it: `redis://user@host:port`, `unix:///path`.
fn host_name(server: &str, remote: &str) -> String {
    let without_port = |address: &str| {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    };
    let (scheme, rest) = server.split_once("://").unwrap_or(("", server));
    let host = without_port(rest.rsplit_once('@').map_or(rest, |(_, host)| host));
    let is_beside = scheme == "unix"
        || host.is_empty()
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    if is_beside { without_port(remote) } else { host }
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn a_server_beside_its_agent_is_on_the_host_that_the_agent_comes_from() {
        let check = |server: &str, expect: &str| assert_eq!(host_name(server, "10.0.0.7:51000"), expect, "{server}");
        check("redis://127.0.0.1:6379", "10.0.0.7");
        check("rediss://backup@localhost:6380", "10.0.0.7");
        check("redis://[::1]:6379", "10.0.0.7");
        check("unix:///run/redis.sock?user=backup", "10.0.0.7");
        check("", "10.0.0.7");
        check("redis://backup@db-3.example:6379", "db-3.example");
        check("redis://[fd00::7]:6379", "fd00::7");
        assert_eq!(host_name("redis://127.0.0.1:6379", "[fd00::9]:51000"), "fd00::9");
    }
}
