//! A real server in a temporary folder, and as much of a client as these tests need.

use std::{
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use urtext_replication::{
    AnnouncePort, Credentials, ReplicationError, SnapshotRequest, command::encode, request_snapshot,
};
use urtext_types::{Position, Secret};

/// The most that any wait may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A server program and the version that it calls itself.
pub(crate) struct Program {
    path: PathBuf,
    pub(crate) version: &'static str,
}

impl Program {}

macro_rules! programs {
    ($($name:ident = $path:literal, $version:literal;)*) => {
        $(pub(crate) fn $name() -> Program {
            let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let servers = set("URTEXT_TEST_SERVERS").unwrap_or_else(|| {
                let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
                cache.unwrap_or_else(|| "/root/.cache".into()).join("urtext-test-servers")
            });
            let path = servers.join($path);
            assert!(path.exists(), "{} is not installed: run tests/install-servers", path.display());
            Program { path, version: $version }
        })*
    };
}

programs! {
    redis_6_2 = "redis-6.2/redis-server", "6.2.14";
    redis_7_0 = "redis-7.0/redis-server", "7.0.15";
    redis_8_2 = "redis-8.2/redis-server", "8.2.3";
    valkey_8_1 = "valkey-8.1/valkey-server", "8.1.8";
    valkey_9_1 = "valkey-9.1/valkey-server", "9.1.2";
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    _folder: TempDir,
}

impl Server {
    /// Starts an empty server and waits until it answers.
    pub(crate) async fn start(program: &Program, settings: &[&str]) -> Self {
        let deadline = Instant::now() + LIMIT;
        loop {
            let folder = tempfile::tempdir().expect("make a folder");
            let probe = TcpListener::bind(("127.0.0.1", 0)).await.expect("find a free port");
            let port = probe.local_addr().expect("it is bound").port();
            drop(probe);
            let process = Command::new(&program.path)
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
                .arg(folder.path())
                .args(["--save", "", "--repl-diskless-sync-delay", "0"])
                .args(settings)
                .stdout(Stdio::null())
                .spawn()
                .expect("start a server");
            let mut server = Self { port, process, _folder: folder };
            // Another process may have taken the port in between: then it ends, and another is tried.
            while server.process.try_wait().expect("our child").is_none() {
                if server.try_ask(&["PING"]).await.is_ok() {
                    return server;
                }
                assert!(Instant::now() < deadline, "the server does not answer");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(Instant::now() < deadline, "the server does not start");
        }
    }

    /// Sends one command; the reply as text, arrays one line for each element.
    pub(crate) async fn ask(&self, words: &[&str]) -> String {
        self.try_ask(words).await.expect("the server answers")
    }

    pub(crate) async fn try_ask(&self, words: &[&str]) -> io::Result<String> {
        let mut socket = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
        socket.write_all(&encode(words)).await?;
        let mut lines = Vec::new();
        let mut wanted = 1;
        while wanted > 0 {
            wanted -= 1;
            let mut line = String::new();
            if socket.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            match line.split_at(1) {
                ("*", count) => wanted += count.parse::<usize>().expect("a count"),
                ("$", "-1") => lines.push("(nil)".to_owned()),
                ("$", length) => {
                    let mut bytes = vec![0; length.parse::<usize>().expect("a length") + 2];
                    socket.read_exact(&mut bytes).await?;
                    lines.push(String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned());
                }
                (":" | "+", text) => lines.push(text.to_owned()),
                _ => lines.push(line.to_owned()),
            }
        }
        Ok(lines.join("\n"))
    }

    /// A field of INFO; empty if the server does not print it.
    pub(crate) async fn info(&self, field: &str) -> String {
        let info = self.ask(&["INFO"]).await;
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }

    pub(crate) async fn position(&self) -> Position {
        let (history, offset) = (self.info("master_replid").await, self.info("master_repl_offset").await);
        format!("{history}:{offset}").parse().expect("a position")
    }

    pub(crate) async fn wait_for(&self, field: &str, value: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let now = self.info(field).await;
            if now == value {
                return;
            }
            assert!(Instant::now() < deadline, "{field} is {now:?} and does not become {value:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes this server a replica of another and waits until it has caught up.
    pub(crate) async fn follow(&self, master: &Self) {
        assert_eq!(self.ask(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]).await, "OK");
        self.wait_for("master_link_status", "up").await;
    }

    /// Ends being a replica. A target that loads from its master's connection answers `-LOADING` until it
    /// has noticed that the connection is cut.
    pub(crate) async fn promote(&self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let reply = self.ask(&["REPLICAOF", "NO", "ONE"]).await;
            if reply == "OK" {
                return;
            }
            assert!(reply.starts_with("-LOADING") && Instant::now() < deadline, "{reply}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Fills databases 0 and 5 with as many strings.
    pub(crate) async fn fill(&self, keys: usize) {
        let script = "for db = 0, 5, 5 do redis.call('SELECT', db) \
                      for i = 1, ARGV[1] do redis.call('SET', 'key:' .. i, string.rep(ARGV[2] .. i, 20)) end end";
        self.ask(&["EVAL", script, "0", &keys.to_string(), "value"]).await;
    }

    /// Ends the server as an operator would; says how long it took.
    pub(crate) async fn shut_down(mut self) -> Duration {
        let start = Instant::now();
        let _ = self.try_ask(&["SHUTDOWN", "NOSAVE"]).await;
        while self.process.try_wait().expect("our child").is_none() {
            assert!(start.elapsed() < LIMIT, "the server does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        start.elapsed()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("our child").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn request(program: &Program) -> SnapshotRequest {
    SnapshotRequest {
        credentials: None,
        announce_version: Some(program.version.to_owned()),
        announce_port: AnnouncePort::None,
        idle_timeout: LIMIT,
    }
}

pub(crate) fn credentials(user: Option<&str>, password: &str) -> Option<Credentials> {
    Some(Credentials { user: user.map(str::to_owned), password: Secret::new(password.to_owned()) })
}

/// A whole snapshot, in pieces.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    pub(crate) length: Option<u64>,
    pub(crate) pieces: Vec<Bytes>,
}

impl Snapshot {
    pub(crate) fn rdb(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

pub(crate) async fn snapshot(server: &Server, request: &SnapshotRequest) -> Result<Snapshot, ReplicationError> {
    let socket = TcpStream::connect(("127.0.0.1", server.port)).await.expect("connect");
    let mut stream = request_snapshot(socket, request).await?;
    let (position, length) = (stream.position(), stream.length());
    let mut pieces = Vec::new();
    while let Some(bytes) = stream.next().await? {
        pieces.push(bytes);
    }
    Ok(Snapshot { position, length, pieces })
}
