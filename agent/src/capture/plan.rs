//! By which method to capture. No I/O.

use thiserror::Error;
use urtext_replication::attaching_changes_history;
use urtext_repository::CaptureMethod;
use urtext_types::{ErrorKind, Explain, NodeObservation, Role};

/// Whether the file that BGSAVE writes can be read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAccess {
    Readable,
    NotReadable { reason: String },
}

/// The method, and why this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub method: CaptureMethod,
    pub reason: &'static str,
    /// Attaching gives the master a new replication id.
    pub changes_history: bool,
}

/// Why no method will do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoMethod {
    #[error("the server's files cannot be read by this agent: {reason}")]
    NoFile { reason: String },
    #[error(
        "the server is a master that never had a replica, or none for long: attaching to it would change its \
         replication id, and its files cannot be read by this agent: {reason}"
    )]
    WouldChangeHistory { reason: String },
    #[error("the server's link to its master is down, so that it gives its data to no replica")]
    LinkDown,
    #[error(
        "the server's link to its master is down, so that it gives its data to no replica, and its files cannot be \
         read by this agent: {reason}"
    )]
    LinkDownNoFile { reason: String },
}

impl Explain for NoMethod {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Refused
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoFile { .. } | Self::LinkDownNoFile { .. } => {
                "run the agent on the server's host as a user who may read its files, or name the file as rdb_file in \
                 agent.toml"
                    .to_owned()
            }
            Self::WouldChangeHistory { .. } => {
                "attach a replica, or let the agent read the server's files; asking for the method \"replication\" \
                 accepts the new replication id"
                    .to_owned()
            }
            Self::LinkDown => "ask for the method \"file\", or wait for master_link_status:up".to_owned(),
        })
    }
}

/// Chooses between replication, which needs no file and no disk, and the file of a BGSAVE.
///
/// A master without a backlog takes a new replication id when the first replica attaches, and an agent is
/// one (`replication.c:syncCommand`). A replica whose master link is down answers PSYNC with
/// `-NOMASTERLINK`, but saves.
pub fn choose(
    requested: Option<CaptureMethod>,
    server: &NodeObservation,
    file: FileAccess,
) -> Result<Choice, NoMethod> {
    let changes_history = attaching_changes_history(server);
    let link_is_down = matches!(&server.replication.role, Role::Replica { link, .. } if !link.up);
    let choice = |method, reason, changes_history| Ok(Choice { method, reason, changes_history });
    match (requested, file) {
        (Some(CaptureMethod::File), FileAccess::Readable) => choice(CaptureMethod::File, "it was asked for", false),
        (Some(CaptureMethod::File), FileAccess::NotReadable { reason }) => Err(NoMethod::NoFile { reason }),
        (Some(CaptureMethod::Replication), _) if link_is_down => Err(NoMethod::LinkDown),
        (Some(CaptureMethod::Replication), _) => {
            choice(CaptureMethod::Replication, "it was asked for", changes_history)
        }
        (None, FileAccess::Readable) if changes_history => {
            choice(CaptureMethod::File, "attaching would change the master's replication id", false)
        }
        (None, FileAccess::NotReadable { reason }) if changes_history => Err(NoMethod::WouldChangeHistory { reason }),
        (None, FileAccess::Readable) if link_is_down => {
            choice(CaptureMethod::File, "a replica without its master gives its data to nobody", false)
        }
        (None, FileAccess::NotReadable { reason }) if link_is_down => Err(NoMethod::LinkDownNoFile { reason }),
        (None, _) => choice(CaptureMethod::Replication, "it needs no file and no disk", false),
    }
}

#[cfg(test)]
mod tests {
    use urtext_types::Timestamp;

    use super::*;
    use crate::server::Info;

    const MASTER: &str = include_str!("../../../proto/replication/src/info/redis-7.0-master.txt");
    const REPLICA: &str = include_str!("../../../proto/replication/src/info/redis-7.0-replica.txt");
    const LINK_DOWN: &str = include_str!("../../../proto/replication/src/info/redis-7.0-replica-link-down.txt");

    #[track_caller]
    fn check(
        info: &str,
        requested: Option<CaptureMethod>,
        readable: bool,
        expect: Result<(CaptureMethod, bool), &str>,
    ) {
        let server = Info::parse(info).observation(Timestamp::from_millis(0)).expect("a server");
        let file = match readable {
            true => FileAccess::Readable,
            false => FileAccess::NotReadable { reason: "it is elsewhere".to_owned() },
        };
        match (choose(requested, &server, file), expect) {
            (Ok(choice), Ok(expect)) => assert_eq!((choice.method, choice.changes_history), expect),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (found, expect) => panic!("{found:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn the_method_follows_from_the_server_and_the_request() {
        use CaptureMethod::{File, Replication};
        let lone = MASTER.replace("repl_backlog_active:1", "repl_backlog_active:0");
        for (info, requested, readable, expect) in [
            (MASTER, None, true, Ok((Replication, false))),
            (REPLICA, None, false, Ok((Replication, false))),
            (MASTER, Some(File), true, Ok((File, false))),
            (MASTER, Some(File), false, Err("it is elsewhere")),
            (&lone, None, true, Ok((File, false))),
            (&lone, None, false, Err("would change its replication id")),
            (&lone, Some(Replication), false, Ok((Replication, true))),
            (LINK_DOWN, None, true, Ok((File, false))),
            (LINK_DOWN, None, false, Err("gives its data to no replica, and")),
            (LINK_DOWN, Some(Replication), true, Err("gives its data to no replica")),
            (LINK_DOWN, Some(File), true, Ok((File, false))),
        ] {
            check(info, requested, readable, expect);
        }
    }
}
