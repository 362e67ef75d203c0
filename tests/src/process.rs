//! Real processes: run to the end, or in the background with a log; stopped by process id.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::eventually::{SOON, eventually};

/// What a command that ended has left.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The exit code; -1 if a signal ended the process.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "exit code of: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        assert!(!self.stderr.contains("panicked at"), "{} panicked:\n{}", self.command, self.stderr);
        self
    }

    /// Fails the test unless standard error holds each of `words`, in any case and however it is wrapped: what a
    /// message must say.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let message = self.stderr.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        for word in words {
            assert!(message.contains(&word.to_lowercase()), "{} does not say {word:?}:\n{}", self.command, self.stderr);
        }
        self
    }

    /// Fails the test unless standard output holds each of `words`, however it is wrapped.
    #[track_caller]
    pub fn prints(self, words: &[&str]) -> Self {
        let printed = self.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(printed.contains(word), "{} does not print {word:?}:\n{}", self.command, self.stdout);
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("{} printed no JSON ({error}):\n{}\n{}", self.command, self.stdout, self.stderr),
        }
    }
}

/// Runs a command to its end, at most `limit`; a command that takes longer is killed and fails the test.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Output {
    let line = format!("{command:?}");
    let scratch = tempfile::tempdir().expect("make a scratch folder");
    let (out, err) = (scratch.path().join("stdout"), scratch.path().join("stderr"));
    // Files, not pipes: a grandchild that keeps a pipe open cannot hold us.
    command.stdin(Stdio::null()).stdout(create(&out)).stderr(create(&err));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    let give_up = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            break status;
        }
        if Instant::now() > give_up {
            kill(&mut child);
            panic!("{line} did not end within {limit:?}:\n{}\n{}", read_lossy(&out), read_lossy(&err));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Output { command: line, status, stdout: read_lossy(&out), stderr: read_lossy(&err) }
}

/// A process in the background. Dropping it kills it; a log that holds a panic fails the test.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where this process's own lines begin: a restarted daemon goes on in the same file.
    log_start: u64,
}

impl Daemon {
    /// Starts `command` with both outputs appended to the file `log`.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("open a log file");
        let log_start = file.metadata().expect("size of a log file").len();
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("share a log file")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), log_start }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that this process has printed so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.log_start as usize..).unwrap_or_default()).into_owned()
    }

    /// Waits until a line of the log holds `text`; gives that line.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) -> String {
        eventually(&format!("{} to print {text:?}", self.name), SOON, || {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = self.child.try_wait().expect("wait for a child") {
                panic!("{} ended ({status}) before it printed {text:?}:\n{log}", self.name);
            }
            Err(log)
        })
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child").is_none()
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        eventually(&format!("{} to end", self.name), limit, || {
            self.child.try_wait().expect("wait for a child").ok_or_else(|| self.log())
        })
    }

    /// SIGKILL: no goodbye of any kind.
    pub fn kill9(&mut self) {
        kill(&mut self.child);
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.wait(limit)
    }

    /// The most memory that the process ever had resident, in bytes (`VmHWM` of /proc/PID/status).
    pub fn peak_memory(&self) -> u64 {
        peak_memory(self.pid())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        kill(&mut self.child);
        let log = self.log();
        if std::thread::panicking() {
            crate::say(&format!("--- {} said last:\n{}", self.name, tail(&log, 30)));
        } else {
            assert!(!log.contains("panicked at"), "{} panicked:\n{log}", self.name);
        }
    }
}

/// Sends a signal by name (`TERM`, `STOP`, `CONT`) to one process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().expect("run sh");
    assert!(status.success(), "kill -{name} {pid}: {status}");
}

/// See [`Daemon::peak_memory`].
#[track_caller]
pub fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status of a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a VmHWM line");
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("VmHWM is a number of kB");
    kib * 1024
}

fn kill(child: &mut Child) {
    // An error means that it has ended already, and `wait` gives its status again.
    child.kill().and_then(|()| child.wait().map(drop)).unwrap_or_default();
}

fn create(path: &Path) -> File {
    File::create(path).expect("make an output file")
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str, lines: usize) -> String {
    let skip = text.lines().count().saturating_sub(lines);
    text.lines().skip(skip).collect::<Vec<_>>().join("\n")
}
