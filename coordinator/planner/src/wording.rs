//! Numbers, times and names as a tired person reads them.

use urtext_types::{ByteCount, ReplicationId, Timestamp};

use crate::view::{Candidate, NodeSeen, ShardView, Source};

/// `1 byte`, `766 bytes`, `14889123 bytes (14.2 MiB)`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        1 => "1 byte".to_owned(),
        0..1024 => format!("{n} bytes"),
        _ => format!("{n} bytes ({})", ByteCount::new(n)),
    }
}

/// `766 bytes`, or `766 bytes (at most 3.1 s of writes)`.
pub(crate) fn bytes_and_time(n: u64, seconds: Option<f64>) -> String {
    match seconds {
        Some(seconds) => format!("{} (at most {} of writes)", bytes(n), duration(seconds)),
        None => bytes(n),
    }
}

/// `3.1 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    match whole {
        0..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// `1 key`, `12 keys`.
pub(crate) fn keys(n: u64) -> String {
    if n == 1 { "1 key".to_owned() } else { format!("{n} keys") }
}

/// `1 branch`, `3 branches` and the like.
pub(crate) fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// `backup 01K… of fra-2`, `the live node fra-1`.
pub(crate) fn name(candidate: &Candidate) -> String {
    match candidate.source {
        Source::Backup(id) => format!("backup {id} of {}", candidate.node),
        Source::Node => format!("the live node {}", candidate.node),
    }
}

/// To the second: what a person compares.
pub(crate) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// A history as a person tells it apart; the whole id where it must be typed.
pub(crate) fn history(id: ReplicationId) -> String {
    format!("history {}", id.short())
}

/// The command that saves what only a living node holds.
fn snapshot_command(view: &ShardView, candidate: &Candidate) -> String {
    format!("`urtext snapshot {} --node {}`", view.deployment, candidate.node)
}

/// How to save what only a living node holds, or why that cannot be done now: a clause.
pub(crate) fn how_to_save(view: &ShardView, candidate: &Candidate) -> String {
    match view.nodes.iter().find(|seen| seen.node == candidate.node) {
        Some(seen) if !seen.reachable => {
            format!("{}, and it was last seen on {}", silence(Some(seen)), time(seen.received_at))
        }
        _ => format!("{} saves it", snapshot_command(view, candidate)),
    }
}

/// Whether the agent of a node that cannot be asked is there, and its server is not.
pub(crate) fn is_server_gone(seen: Option<&NodeSeen>) -> bool {
    seen.is_some_and(|seen| seen.agent_connected)
}

/// Why a node cannot be asked, as a clause.
pub(crate) fn silence(seen: Option<&NodeSeen>) -> &'static str {
    match seen {
        Some(_) if is_server_gone(seen) => "its server does not answer its agent",
        Some(_) => "its agent is not connected",
        None => "it cannot be asked now",
    }
}

/// The sentence with a capital letter and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let check = |seconds, expect: &str| assert_eq!(duration(seconds), expect);
        check(0.0, "0.0 s");
        check(3.12, "3.1 s");
        check(59.9, "59.9 s");
        check(725.0, "12 min 5 s");
        check(12_000.0, "3 h 20 min");
        check(187_200.0, "2 d 4 h");
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(14_889_123), "14889123 bytes (14.2 MiB)");
        assert_eq!(keys(1), "1 key");
        assert_eq!(count(3, "branch", "branches"), "3 branches");
    }

    #[test]
    fn a_clause_becomes_a_sentence() {
        assert_eq!(sentence("part 3 is missing"), "Part 3 is missing.");
        assert_eq!(sentence("part 3 is missing."), "Part 3 is missing.");
    }
}
