//! Real Redis and Valkey servers, one folder and one port each.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use redis::{Connection, FromRedisValue, Value};
use tempfile::TempDir;

use crate::{
    eventually::{SOON, eventually},
    ports::free_port,
    process::{Daemon, signal},
    tls::Certificates,
};

/// Which server program. All of them are installed by `tests/install-servers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Redis62,
    Redis70,
    Redis82,
    Valkey81,
    Valkey91,
}

impl Version {
    pub const ALL: [Self; 5] = [Self::Redis62, Self::Redis70, Self::Redis82, Self::Valkey81, Self::Valkey91];

    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis62 => "redis-6.2",
            Self::Redis70 => "redis-7.0",
            Self::Redis82 => "redis-8.2",
            Self::Valkey81 => "valkey-8.1",
            Self::Valkey91 => "valkey-9.1",
        }
    }

    /// The program; fails the test with the remedy if it is not installed.
    pub fn program(self) -> PathBuf {
        let program = match self {
            Self::Redis62 | Self::Redis70 | Self::Redis82 => "redis-server",
            Self::Valkey81 | Self::Valkey91 => "valkey-server",
        };
        let path = servers_dir().join(self.name()).join(program);
        assert!(path.exists(), "{} is not installed: run tests/install-servers", path.display());
        path
    }

    /// Everything but 6.2: functions, `DEBUG` behind a setting, identity kept over a master's restart.
    pub fn is_7_or_later(self) -> bool {
        self != Self::Redis62
    }

    /// Whether hash fields can have an expiry of their own (`HPEXPIRE`): Redis 7.4, Valkey 9.0.
    pub fn has_field_expiry(self) -> bool {
        matches!(self, Self::Redis82 | Self::Valkey91)
    }
}

/// Where `tests/install-servers` puts the programs.
pub(crate) fn servers_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("URTEXT_TEST_SERVERS").unwrap_or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        cache.unwrap_or_else(|| "/root/.cache".into()).join("urtext-test-servers")
    })
}

/// How a server is to start, beyond the defaults.
#[derive(Debug, Clone, Default)]
pub struct Options {
    args: Vec<String>,
    tls: bool,
}

impl Options {
    /// One setting, as on the command line: `.set("appendonly", "yes")`.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.args.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Speaks TLS and nothing else, with a certificate of its own authority. Redis 7.0 only: the other
    /// programs are built without TLS.
    pub fn tls_only(mut self) -> Self {
        self.tls = true;
        self
    }
}

/// One running server. Stopped by process id when dropped.
#[derive(Debug)]
pub struct Server {
    version: Version,
    port: u16,
    options: Options,
    certificates: Option<Certificates>,
    daemon: Daemon,
    folder: TempDir,
}

impl Server {
    /// Starts an empty server and waits until it answers.
    #[track_caller]
    pub fn start(version: Version) -> Self {
        Self::with(version, Options::default())
    }

    /// [`Server::start`], with settings.
    #[track_caller]
    pub fn with(version: Version, options: Options) -> Self {
        Self::in_folder(version, options, tempfile::tempdir().expect("make a server's folder"))
    }

    /// [`Server::with`], in a folder that may hold files to load.
    #[track_caller]
    pub fn in_folder(version: Version, options: Options, folder: TempDir) -> Self {
        let port = free_port();
        let certificates = options.tls.then(|| Certificates::make(folder.path()));
        let daemon = spawn(version, port, &options, certificates.as_ref(), folder.path());
        let server = Self { version, port, options, certificates, daemon, folder };
        server.wait_until_ready();
        server
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that holds its files.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Where it listens: `redis://127.0.0.1:PORT`, or `rediss://…` if it speaks TLS only.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// [`Server::url`] with a user in it.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.url().replace("://", &format!("://{user}:{password}@"))
    }

    /// The authority that signed its certificate, if it speaks TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|certificates| certificates.ca_file.as_path())
    }

    /// A new connection to database 0.
    pub fn connect(&self) -> Result<Connection, redis::RedisError> {
        let client = match &self.certificates {
            None => redis::Client::open(self.url())?,
            Some(certificates) => redis::Client::build_with_tls(self.url(), certificates.for_client())?,
        };
        client.get_connection_with_timeout(Duration::from_secs(5))
    }

    /// One command, its answer or its error.
    pub fn try_call(&self, command: &[&str]) -> Result<Value, redis::RedisError> {
        let mut wire = redis::Cmd::new();
        for argument in command {
            wire.arg(argument);
        }
        wire.query(&mut self.connect()?)
    }

    /// One command that must succeed.
    #[track_caller]
    pub fn call(&self, command: &[&str]) -> Value {
        self.try_call(command).unwrap_or_else(|error| panic!("{} on {}: {error}", command.join(" "), self.url()))
    }

    /// [`Server::call`], with the answer as a type of yours.
    #[track_caller]
    pub fn get<T: FromRedisValue>(&self, command: &[&str]) -> T {
        redis::from_redis_value(self.call(command))
            .unwrap_or_else(|error| panic!("answer to {}: {error}", command.join(" ")))
    }

    /// One section of INFO.
    #[track_caller]
    pub fn info(&self, section: &str) -> BTreeMap<String, String> {
        let text: String = self.get(&["INFO", section]);
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// One field of INFO.
    #[track_caller]
    pub fn info_field(&self, section: &str, field: &str) -> String {
        self.info(section).remove(field).unwrap_or_else(|| panic!("INFO {section} has no field {field}"))
    }

    /// `master_replid`: the history that its data set belongs to.
    #[track_caller]
    pub fn history(&self) -> String {
        self.info_field("replication", "master_replid")
    }

    /// `master_repl_offset`: how far in that history.
    #[track_caller]
    pub fn offset(&self) -> u64 {
        self.info_field("replication", "master_repl_offset").parse().expect("an offset is a number")
    }

    /// `REPLICAOF` another server, and waits until the link is up.
    #[track_caller]
    pub fn replicate(&self, master: &Self) {
        self.replicate_port(master.port);
    }

    /// [`Server::replicate`], through a port of your choice on loopback: a [`crate::link::Link`].
    #[track_caller]
    pub fn replicate_port(&self, port: u16) {
        self.call(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
        self.wait_for_link("up");
    }

    /// `REPLICAOF NO ONE`.
    #[track_caller]
    pub fn promote(&self) {
        self.call(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Waits until `master_link_status` is `up` or `down`.
    #[track_caller]
    pub fn wait_for_link(&self, state: &str) {
        eventually(&format!("link of {} {state}", self.url()), SOON, || {
            let seen = self.info_field("replication", "master_link_status");
            if seen == state { Ok(()) } else { Err(seen) }
        });
    }

    /// Waits until this replica has applied everything that `master` has written.
    #[track_caller]
    pub fn catch_up_with(&self, master: &Self) {
        eventually(&format!("{} to catch up with {}", self.url(), master.url()), SOON, || {
            let (theirs, ours) = (master.offset(), self.offset());
            if self.history() == master.history() && ours >= theirs {
                Ok(())
            } else {
                Err(format!("at {ours} of {theirs}"))
            }
        });
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.daemon.kill9();
    }

    /// SIGTERM; gives how long it took to end.
    #[track_caller]
    pub fn terminate(&mut self) -> Duration {
        let begin = std::time::Instant::now();
        self.daemon.terminate(SOON);
        begin.elapsed()
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    /// Starts it again with the same port, folder and settings.
    #[track_caller]
    pub fn restart(&mut self) {
        self.daemon.kill9();
        self.daemon = spawn(self.version, self.port, &self.options, self.certificates.as_ref(), self.folder.path());
        self.wait_until_ready();
    }

    /// What the server itself logged.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        eventually(&format!("{} to answer", self.url()), SOON, || match self.try_call(&["PING"]) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}\n{}", self.log())),
        });
    }
}

fn spawn(version: Version, port: u16, options: &Options, tls: Option<&Certificates>, folder: &Path) -> Daemon {
    let mut command = Command::new(version.program());
    command.current_dir(folder);
    command.args(["--bind", "127.0.0.1", "--dir"]).arg(folder);
    // No save points: a test says itself when something is to be on disk. No wait before a diskless sync.
    command.args(["--save", "", "--repl-diskless-sync-delay", "0"]);
    if version.is_7_or_later() {
        command.args(["--enable-debug-command", "yes"]);
    }
    match tls {
        None => {
            command.args(["--port", &port.to_string()]);
        }
        Some(tls) => {
            command.args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(&tls.cert_file);
            command.arg("--tls-key-file").arg(&tls.key_file);
            command.arg("--tls-ca-cert-file").arg(&tls.ca_file);
        }
    }
    command.args(&options.args);
    Daemon::start(&format!("{} on port {port}", version.name()), &mut command, &folder.join("server.log"))
}
