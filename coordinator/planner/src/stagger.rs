//! Which of the captures that are due may begin now. A server forks to save, and a fork may cost as much memory
//! as it has: two at once on one host are how a backup brings a host down. So captures that nobody waits for
//! take turns on each host, and only so many run in all.

use std::collections::BTreeMap;

use urtext_types::{DeploymentName, NodeName};

/// Where a server runs, as far as that can be told: an address. Hosts that are seen under one address count as
/// one, which costs time and no safety.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub String);

/// A node that is captured, or waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    pub deployment: DeploymentName,
    pub node: NodeName,
    pub host: Host,
}

/// Whether a capture may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Go {
    Now,
    /// A whole sentence.
    Waits(String),
}

/// Who of `queue`, which is in order of arrival, may begin while `busy` are being captured, with at most
/// `at_once` in all. One answer for each.
pub fn stagger(queue: &[Turn], busy: &[Turn], at_once: usize) -> Vec<Go> {
    let mut on_host: BTreeMap<&Host, &Turn> = busy.iter().map(|turn| (&turn.host, turn)).collect();
    let mut running = busy.len();
    let mut answers = Vec::new();
    for turn in queue {
        answers.push(if let Some(other) = on_host.get(&turn.host) {
            let Turn { deployment, node, host: Host(host) } = other;
            Go::Waits(format!("Waits for node {node} of {deployment}: a host saves one server at a time ({host})."))
        } else if running >= at_once {
            Go::Waits(format!("Waits: {running} servers are being captured already."))
        } else {
            running += 1;
            Go::Now
        });
        // Whoever came first goes first: nobody slips in before a capture that waits for its host.
        on_host.entry(&turn.host).or_insert(turn);
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(text: &str) -> Vec<Turn> {
        let turn = |word: &str| {
            let (node, host) = word.split_once('@').expect("NODE@HOST");
            Turn {
                deployment: "orders".parse().expect("a name"),
                node: node.parse().expect("a name"),
                host: Host(host.to_owned()),
            }
        };
        text.split_whitespace().map(turn).collect()
    }

    #[track_caller]
    fn check(busy: &str, queue: &str, at_once: usize, expect: &[&str]) {
        let answers = stagger(&turns(queue), &turns(busy), at_once);
        let said: Vec<&str> = answers
            .iter()
            .map(|go| match go {
                Go::Now => "now",
                Go::Waits(reason) => reason,
            })
            .collect();
        assert_eq!(said, expect);
    }

    #[test]
    fn a_host_saves_one_server_at_a_time() {
        let waits = "Waits for node a of orders: a host saves one server at a time (h1).";
        check("", "a@h1 b@h2", 8, &["now", "now"]);
        check("", "a@h1 b@h1 c@h2", 8, &["now", waits, "now"]);
        check("a@h1", "b@h1 c@h2", 8, &[waits, "now"]);
    }

    #[test]
    fn only_so_many_are_captured_at_once_and_none_is_passed_over() {
        let full = "Waits: 2 servers are being captured already.";
        check("a@h1", "b@h2 c@h3 d@h4", 2, &["now", full, full]);
        // `d` came after `c`, which waits for room: it does not take the host from it.
        let waits = "Waits for node c of orders: a host saves one server at a time (h3).";
        check("a@h1 b@h2", "c@h3 d@h3", 2, &[full, waits]);
    }
}
