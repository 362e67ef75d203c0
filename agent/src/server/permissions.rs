//! What the agent's user must be allowed, and whether it is: asked without doing any of it.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use urtext_types::{Role, Secret, Timestamp};

use super::{Connection, ServerError};

/// All that observing and capturing use. Add a name, a password and `on`:
/// `ACL SETUSER urtext on >PASSWORD` and these.
pub const CAPTURE_RIGHTS: &str =
    "+ping +info +psync +replconf +config|get +bgsave +acl|list +acl|whoami +module|list +cluster|nodes";

/// What restoring needs on top of it.
pub const RESTORE_RIGHTS: &str = "+replicaof";

/// One command that the agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// As `ACL SETUSER` wants it.
    pub rule: &'static str,
    /// What does not work without it.
    pub needed_for: &'static str,
    /// Backups are impossible without it.
    pub essential: bool,
    /// A call that changes nothing: at most the server finds the arguments wrong.
    probe: Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// Safe to run.
    Run(&'static [&'static str]),
    /// Would start a full copy: asked about in other ways.
    Psync,
}

const RIGHTS: [Right; 10] = [
    Right { rule: "+info", needed_for: "observing", essential: true, probe: Probe::Run(&["INFO", "server"]) },
    Right { rule: "+psync", needed_for: "capture by replication", essential: true, probe: Probe::Psync },
    Right {
        rule: "+replconf",
        needed_for: "capture by replication",
        essential: true,
        probe: Probe::Run(&["REPLCONF", "capa", "eof"]),
    },
    Right { rule: "+ping", needed_for: "this check", essential: false, probe: Probe::Run(&["PING"]) },
    Right {
        rule: "+config|get",
        needed_for: "capture by file, and the configuration in backups",
        essential: false,
        probe: Probe::Run(&["CONFIG", "GET", "dir"]),
    },
    // With an argument that it does not know, BGSAVE answers with a syntax error and saves nothing.
    Right {
        rule: "+bgsave",
        needed_for: "capture by file",
        essential: false,
        probe: Probe::Run(&["BGSAVE", "URTEXT-CHECK"]),
    },
    Right {
        rule: "+acl|list",
        needed_for: "the ACL users in backups",
        essential: false,
        probe: Probe::Run(&["ACL", "LIST"]),
    },
    Right {
        rule: "+module|list",
        needed_for: "the module list in backups",
        essential: false,
        probe: Probe::Run(&["MODULE", "LIST"]),
    },
    Right {
        rule: "+cluster|nodes",
        needed_for: "the cluster's slots in backups",
        essential: false,
        probe: Probe::Run(&["CLUSTER", "NODES"]),
    },
    // The port is looked at first, and is no number (`replication.c:replicaofCommand`).
    Right {
        rule: "+replicaof",
        needed_for: "restore",
        essential: false,
        probe: Probe::Run(&["REPLICAOF", "urtext-check", "not-a-port"]),
    },
];

/// Whether the user may run a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Granted,
    Denied,
    /// The command is renamed or disabled for everybody.
    Unknown,
    /// It could not be found out without doing harm.
    NotTested {
        reason: &'static str,
    },
}

/// What the agent's user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionReport {
    pub user: String,
    pub rights: Vec<(Right, Access)>,
}

impl PermissionReport {
    /// The command that grants what is missing, if anything is.
    pub fn grant(&self) -> Option<String> {
        let missing: Vec<&str> = self.denied().map(|right| right.rule).collect();
        (!missing.is_empty()).then(|| format!("ACL SETUSER {} {}", self.user, missing.join(" ")))
    }

    /// The rights that backups are impossible without, and that are missing.
    pub fn missing_essentials(&self) -> Vec<&'static str> {
        self.denied().filter(|right| right.essential).map(|right| right.rule).collect()
    }

    fn denied(&self) -> impl Iterator<Item = &Right> {
        self.rights.iter().filter(|(_, access)| *access == Access::Denied).map(|(right, _)| right)
    }
}

/// Tries each command that the agent uses, in a way that changes nothing on the server.
///
/// # Errors
/// The connection failed; a right that is missing is part of the report.
pub async fn check_permissions(connection: &mut Connection) -> Result<PermissionReport, ServerError> {
    let user = match connection.query::<String>(&["ACL", "WHOAMI"]).await {
        Ok(user) => user,
        Err(error) if error.is_about_rights() => connection.server().address().user().to_owned(),
        Err(error) => return Err(error),
    };
    let mut rights = Vec::new();
    for right in RIGHTS {
        let access = match right.probe {
            Probe::Run(words) => judge(connection.query::<redis::Value>(words).await)?,
            Probe::Psync => match dry_run(connection, &user).await? {
                Some(access) => access,
                None => probe_psync(connection).await?,
            },
        };
        rights.push((right, access));
    }
    Ok(PermissionReport { user, rights })
}

fn judge<T>(answer: Result<T, ServerError>) -> Result<Access, ServerError> {
    match answer {
        Err(ServerError::NotPermitted { .. }) => Ok(Access::Denied),
        Err(ServerError::CommandUnknown { .. }) => Ok(Access::Unknown),
        Err(error) if error.breaks_connection() => Err(error),
        // Any other answer comes from the command itself, so it was allowed to run.
        Ok(_) | Err(_) => Ok(Access::Granted),
    }
}

/// `ACL DRYRUN` (7.0): the server's own word, where the user may ask.
async fn dry_run(connection: &mut Connection, user: &str) -> Result<Option<Access>, ServerError> {
    match connection.query::<String>(&["ACL", "DRYRUN", user, "PSYNC", "?", "-1"]).await {
        Ok(answer) if answer == "OK" => Ok(Some(Access::Granted)),
        Ok(_) => Ok(Some(Access::Denied)),
        Err(error) if error.breaks_connection() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Asks to continue exactly where the server stands: it has nothing to send and makes no copy. Only where
/// a backlog exists, since without one the answer would be a full copy and, on a master, a new history.
async fn probe_psync(connection: &mut Connection) -> Result<Access, ServerError> {
    const NOT_TESTED: Access =
        Access::NotTested { reason: "the server has no backlog yet, so that trying would start a full copy" };
    let info = connection.info().await?;
    let (Some(history), Some(offset)) = (info.get("master_replid"), info.number("master_repl_offset")) else {
        return Ok(NOT_TESTED);
    };
    let is_attachable = match info.observation(Timestamp::from_millis(0)).map(|o| o.replication.role) {
        Ok(Role::Replica { link, .. }) => link.up,
        Ok(Role::Master { .. }) => true,
        Err(_) => false,
    };
    if !info.flag("repl_backlog_active") || !is_attachable {
        return Ok(NOT_TESTED);
    }
    let server = connection.server().clone();
    let mut socket = server.dial().await?;
    let mut words: Vec<Vec<String>> = Vec::new();
    if let Some(credentials) = server.credentials()? {
        let user = credentials.user.clone().into_iter();
        words
            .push(["AUTH".to_owned()].into_iter().chain(user).chain([credentials.password.expose().clone()]).collect());
    }
    // A port that Sentinel cannot parse, so that it makes no entry for us.
    words.push(["REPLCONF", "listening-port", "-1"].map(str::to_owned).to_vec());
    words.push(["REPLCONF", "capa", "psync2"].map(str::to_owned).to_vec());
    words.push(vec!["PSYNC".to_owned(), history.to_owned(), (offset + 1).to_string()]);
    // One at a time: the answer to PSYNC is written past the buffer in which the others wait
    // (`replication.c:masterTryPartialResynchronization`).
    let mut answer = String::new();
    for command in words {
        let mut bytes = Secret::new(format!("*{}\r\n", command.len()).into_bytes());
        for word in &command {
            bytes = Secret::new([bytes.expose(), format!("${}\r\n{word}\r\n", word.len()).as_bytes()].concat());
        }
        let asked = timeout(PROBE_LIMIT, async {
            socket.write_all(bytes.expose()).await?;
            read_line(&mut socket).await
        });
        answer = match asked.await {
            Ok(Ok(line)) => line,
            Ok(Err(_)) | Err(_) => return Ok(Access::NotTested { reason: "the server did not answer" }),
        };
    }
    Ok(match answer.as_str() {
        line if line.starts_with("+CONTINUE") => Access::Granted,
        line if line.starts_with("-NOPERM") => Access::Denied,
        line if line.starts_with("-ERR unknown command") => Access::Unknown,
        _ => Access::NotTested { reason: "the server gave no clear answer" },
    })
}

/// How long one step of the probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Longer than any answer to a handshake.
const LINE_LIMIT: usize = 4096;

/// The next line that is not empty, without its end. Empty ones are keepalives.
async fn read_line(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        match socket.read_u8().await? {
            b'\n' if line.iter().all(u8::is_ascii_whitespace) => line.clear(),
            b'\n' => return Ok(String::from_utf8_lossy(&line).trim_end().to_owned()),
            _ if line.len() == LINE_LIMIT => return Err(io::ErrorKind::InvalidData.into()),
            byte => line.push(byte),
        }
    }
}
