//! A server that nobody else sees, in a folder that goes with it.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tracing::warn;
use urtext_replication::ask_info;
use urtext_types::{ErrorKind, Timestamp};

use crate::{Fault, clock::entropy};

/// Folders are called this, then the process that made them, then something that nobody guesses.
const PREFIX: &str = "urtext-rehearsal-";

/// What the server loads, and writes when it ends.
const LOADED: &str = "dump.rdb";
/// What the server is given; it stays as it is.
const GIVEN: &str = "backup.rdb";
const LOG: &str = "server.log";
/// Short: the path of a socket has 107 bytes.
const SOCKET: &str = "s";

/// The server is asked so often whether it has loaded everything.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// For one answer; a server that loads answers between two keys.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A server that writes this slowly would not have been able to load: 1 MiB a second, and a minute.
const SLOWEST_BYTES: u64 = 1024 * 1024;

/// A private folder, and the server that runs in it. Dropping it kills the server and removes the folder.
#[derive(Debug)]
pub struct Sandbox {
    folder: PathBuf,
    server: Option<Child>,
}

impl Sandbox {
    /// Makes the folder below `parent`, and removes what rehearsals that were killed left there.
    pub fn make(parent: &Path) -> Result<Self, Fault> {
        sweep(parent);
        let name = format!("{PREFIX}{}-{}", std::process::id(), hex::encode(entropy::<8>()));
        let folder = parent.join(name);
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            Fault::new(ErrorKind::Unavailable, format!("make {}: {error}", folder.display()))
                .with_hint("TMPDIR says where rehearsals take place")
        })?;
        Ok(Self { folder, server: None })
    }

    /// Where the backup's RDB is to be written.
    pub fn given(&self) -> PathBuf {
        self.folder.join(GIVEN)
    }

    /// What the server wrote in the end.
    pub fn written(&self) -> PathBuf {
        self.folder.join(LOADED)
    }

    /// Starts a server that loads what was given.
    ///
    /// It listens on a socket in its folder alone, keeps no log of changes, and has a save point that is never reached:
    /// so it saves by itself when it is told to end, and only then.
    pub fn start(&mut self, program: &Path, databases: u32) -> Result<(), Fault> {
        let failed = |error: io::Error| {
            let message = format!("start {} in {}: {error}", program.display(), self.folder.display());
            Fault::new(ErrorKind::Unavailable, message)
        };
        fs::hard_link(self.given(), self.written()).map_err(failed)?;
        let databases = databases.to_string();
        let socket = self.folder.join(SOCKET);
        let options: [(&str, &str); 10] = [
            ("--port", "0"),
            ("--bind", "127.0.0.1"),
            ("--unixsocketperm", "700"),
            ("--dbfilename", LOADED),
            ("--appendonly", "no"),
            ("--maxmemory", "0"),
            ("--databases", &databases),
            ("--logfile", LOG),
            ("--daemonize", "no"),
            ("--loglevel", "notice"),
        ];
        let server = Command::new(program)
            .args(options.iter().flat_map(|(option, value)| [*option, *value]))
            .args(["--save", "2000000000", "2000000000", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(&self.folder)
            .current_dir(&self.folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        self.server = Some(server);
        Ok(())
    }

    /// Waits until the server has loaded everything.
    ///
    /// # Errors
    /// It ended before, with the end of its log; or it does not answer.
    pub async fn wait_until_loaded(&mut self, now: impl Fn() -> Timestamp) -> Result<(), Fault> {
        let socket = self.folder.join(SOCKET);
        loop {
            self.check_runs()?;
            // Until it has made its socket there is nobody to ask.
            if let Ok(mut stream) = UnixStream::connect(&socket).await {
                match ask_info(&mut stream, None, ANSWER_LIMIT).await {
                    Ok(info) => {
                        let seen = info.observation(now()).map_err(Fault::while_doing("ask the rehearsing server"))?;
                        if !seen.persistence.loading {
                            return Ok(());
                        }
                    }
                    // It may just have ended.
                    Err(error) => {
                        self.check_runs()?;
                        return Err(Fault::while_doing("ask the rehearsing server")(error));
                    }
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the server, which writes down what it holds.
    pub async fn end(&mut self, bytes: u64) -> Result<(), Fault> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let attempt = "end the rehearsing server";
        if let Some(pid) = server.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) {
            let told = kill_process(pid, Signal::TERM);
            told.map_err(|error| Fault::new(ErrorKind::Internal, format!("{attempt}: {error}")))?;
        }
        let limit = Duration::from_secs(60 + bytes / SLOWEST_BYTES);
        match timeout(limit, server.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                let message = format!("the rehearsing server ended with {status}: {}", self.last_words());
                Err(Fault::new(ErrorKind::Integrity, message))
            }
            Ok(Err(error)) => Err(Fault::new(ErrorKind::Internal, format!("{attempt}: {error}"))),
            Err(_) => {
                let message = format!("{attempt}: it did not write its data within {} s", limit.as_secs());
                Err(Fault::new(ErrorKind::Unavailable, message))
            }
        }
    }

    fn check_runs(&mut self) -> Result<(), Fault> {
        let ended = match &mut self.server {
            Some(server) => server.try_wait(),
            None => return Err(Fault::new(ErrorKind::Internal, "no rehearsing server was started")),
        };
        match ended {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let message =
                    format!("the server did not load the backup, and ended with {status}: {}", self.last_words());
                Err(Fault::new(ErrorKind::Integrity, message)
                    .with_hint("another server may: name its program with --server PATH"))
            }
            Err(error) => Err(Fault::new(ErrorKind::Internal, format!("look after the rehearsing server: {error}"))),
        }
    }

    /// The end of the server's log.
    fn last_words(&self) -> String {
        const BYTES: u64 = 2000;
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(self.folder.join(LOG))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
            let mut tail = Vec::new();
            file.take(BYTES).read_to_end(&mut tail)?;
            Ok(String::from_utf8_lossy(&tail).into_owned())
        };
        let tail = read().unwrap_or_default();
        let lines: Vec<&str> = tail.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        if lines.is_empty() {
            "it logged nothing".to_owned()
        } else {
            lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It holds nothing that anybody needs.
            let _ = server.start_kill();
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            warn!(folder = %self.folder.display(), %error, "could not remove what a rehearsal left");
        }
    }
}

/// Removes the folders of rehearsals whose process is gone, and stops the servers that run in them.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        let Some(owner) = owner else { continue };
        if Path::new("/proc").join(owner.to_string()).exists() {
            continue;
        }
        let folder = entry.path();
        for pid in running_in(&folder) {
            // Whoever cannot be stopped belongs to another user, and so does the folder.
            let _ = kill_process(pid, Signal::KILL);
        }
        if fs::remove_dir_all(&folder).is_ok() {
            warn!(folder = %folder.display(), "removed what a rehearsal that was killed had left");
        }
    }
}

/// The processes whose working directory that is.
fn running_in(folder: &Path) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|number| fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|cwd| cwd == folder))
        .filter_map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_rehearsal_left_goes_and_what_a_running_one_has_stays() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        // The largest process id that Linux gives is far below this.
        let dead = parent.path().join(format!("{PREFIX}4294967295-aa"));
        let foreign = parent.path().join(format!("{PREFIX}notes"));
        for folder in [&dead, &foreign] {
            fs::create_dir(folder).expect("a folder");
            fs::write(folder.join(GIVEN), "REDIS").expect("a file");
        }
        let running = Sandbox::make(parent.path()).expect("made");
        let other = Sandbox::make(parent.path()).expect("made");
        assert!(!dead.exists() && foreign.exists() && running.given().parent().expect("a folder").exists());
        let folder = other.folder.clone();
        drop(other);
        assert!(!folder.exists());
    }
}
