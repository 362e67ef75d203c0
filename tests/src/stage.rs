//! The servers of one deployment, with links between them that are told what may pass, command by command.
//!
//! Replicas connect to a port in front of each server. Each server has a loopback address of its own, from which it
//! is recognized there before it has said a word: a link that is cut refuses, and breaks no handshake in the middle.
//! (Redis 6.2 forgets what it had of its master when that happens, and takes a failover for rejected.)

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use redis::{Connection, FromRedisValue, Value};
use tempfile::TempDir;

use crate::{
    eventually::{SOON, eventually},
    ports::{free_port, free_port_at},
    process::Daemon,
    servers::Version,
};

/// How soon a link that was stalled notices that it flows again.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// Servers by number, and the links between them.
pub struct Stage {
    version: Version,
    settings: Vec<String>,
    servers: Vec<Server>,
    links: Links,
    nobody: u16,
}

struct Server {
    port: u16,
    front: u16,
    /// Before its folder, so that its last words are still there when it is dropped.
    running: Option<Running>,
    folder: TempDir,
}

struct Running {
    daemon: Daemon,
    connection: Connection,
}

impl Stage {
    /// So many places for servers, none of which runs yet. `settings` are pairs, for each of them.
    pub fn new(version: Version, places: usize, settings: &[(&str, &str)]) -> Self {
        // Open from here on, so that nobody else can be given their ports.
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on a port of the kernel's choice");
        let listeners: Vec<TcpListener> = (0..places).map(|_| listen()).collect();
        let fronts = listeners.iter().map(|listener| listener.local_addr().expect("it listens").port());
        let servers: Vec<Server> = fronts
            .enumerate()
            .map(|(number, front)| Server {
                port: free_port_at(address_of(number)),
                front,
                folder: tempfile::tempdir().expect("make a server's folder"),
                running: None,
            })
            .collect();
        let links = Links::new(servers.iter().map(|server| server.front).collect());
        for (number, listener) in listeners.into_iter().enumerate() {
            links.stand_before(number, listener, SocketAddr::from((address_of(number), servers[number].port)));
        }
        let settings = settings.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]).collect();
        Self { version, settings, servers, links, nobody: free_port() }
    }

    /// What may pass between the servers.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Where others reach this server.
    pub fn front(&self, number: usize) -> u16 {
        self.servers[number].front
    }

    /// A port where nobody answers.
    pub fn nobody(&self) -> u16 {
        self.nobody
    }

    /// The server's own address, which no link stands before.
    pub fn address(&self, number: usize) -> SocketAddr {
        SocketAddr::from((address_of(number), self.servers[number].port))
    }

    pub fn rdb_file(&self, number: usize) -> PathBuf {
        self.servers[number].folder.path().join("dump.rdb")
    }

    /// Starts a server on the files that it has, as a master or as the replica of whoever listens there.
    #[track_caller]
    pub fn start(&mut self, number: usize, master: Option<u16>, settings: &[(&str, &str)]) {
        let server = &self.servers[number];
        let (folder, address) = (server.folder.path(), self.address(number));
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = Command::new(self.version.program());
        command.current_dir(folder).args(["--bind", &ip, "--port", &port, "--dir"]).arg(folder);
        command.args(["--save", "", "--repl-diskless-sync-delay", "0"]);
        command.args(["--replica-announce-port", &server.front.to_string()]);
        // Nothing is to come from a server of itself, as long as a test takes.
        command.args(["--repl-timeout", "100000", "--repl-ping-replica-period", "50000"]);
        if self.version.is_7_or_later() {
            // Redis 6.2 takes the first one that it listens on.
            command.args(["--shutdown-timeout", "0", "--bind-source-addr", &ip]);
        }
        command.args(&self.settings);
        for (name, value) in settings {
            command.args([&format!("--{name}"), *value]);
        }
        if let Some(master) = master {
            command.args(["--replicaof", "127.0.0.1", &master.to_string()]);
        }
        let name = format!("{} on port {port}", self.version.name());
        let daemon = Daemon::start(&name, &mut command, &folder.join("server.log"));
        let client = redis::Client::open(format!("redis://{address}")).expect("a valid address");
        let connection = eventually(&format!("{name} to answer"), SOON, || {
            let mut connection = client
                .get_connection_with_timeout(Duration::from_secs(5))
                .map_err(|error| format!("{error}\n{}", daemon.log()))?;
            redis::cmd("PING").query::<String>(&mut connection).map_err(|error| error.to_string())?;
            Ok(connection)
        });
        self.servers[number].running = Some(Running { daemon, connection });
    }

    /// `SHUTDOWN SAVE` or `SHUTDOWN NOSAVE`.
    #[track_caller]
    pub fn stop(&mut self, number: usize, save: bool) {
        let Running { mut daemon, mut connection } = self.servers[number].running.take().expect("it runs");
        // It answers by closing the connection.
        let answer: Result<Value, _> =
            redis::cmd("SHUTDOWN").arg(if save { "SAVE" } else { "NOSAVE" }).query(&mut connection);
        if let Err(error) = answer.as_ref().map_err(ToString::to_string).and_then(|value| match value {
            Value::ServerError(error) => Err(format!("{error:?}")),
            _ => Ok(()),
        }) {
            // The message of a refusal is worth more than that of the wait.
            assert!(!error.contains("ERR"), "SHUTDOWN: {error}\n{}", daemon.log());
        }
        daemon.wait(SOON);
    }

    /// Removes what a stopped server would load.
    pub fn wipe(&mut self, number: usize) {
        let folder = self.servers[number].folder.path();
        for name in ["dump.rdb", "appendonly.aof"] {
            remove(fs::remove_file(folder.join(name)));
        }
        remove(fs::remove_dir_all(folder.join("appendonlydir")));
    }

    /// Gives a stopped server the RDB file of another one.
    pub fn copy_file(&mut self, from: usize, to: usize) {
        fs::copy(self.rdb_file(from), self.rdb_file(to)).expect("copy an RDB file");
    }

    /// One command, its answer or its error.
    pub fn try_call<T: FromRedisValue>(&mut self, number: usize, command: &[&str]) -> Result<T, redis::RedisError> {
        let connection = &mut self.servers[number].running.as_mut().expect("it runs").connection;
        let mut wire = redis::Cmd::new();
        for argument in command {
            wire.arg(argument);
        }
        wire.query(connection)
    }

    /// One command that must succeed.
    #[track_caller]
    pub fn call<T: FromRedisValue>(&mut self, number: usize, command: &[&str]) -> T {
        self.try_call(number, command).unwrap_or_else(|error| panic!("{}: {error}", command.join(" ")))
    }

    /// The end of what the server logged.
    pub fn log(&self, number: usize, lines: usize) -> String {
        let path = self.servers[number].folder.path().join("server.log");
        let text = fs::read_to_string(path).unwrap_or_default();
        let skip = text.lines().count().saturating_sub(lines);
        text.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}

#[track_caller]
fn remove(removed: std::io::Result<()>) {
    if let Err(error) = removed {
        assert_eq!(error.kind(), ErrorKind::NotFound, "remove a server's files: {error}");
    }
}

/// A server's own address. Below are those that something else may use.
fn address_of(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number as u8 + 1)
}

/// What may pass between servers. All numbers are those of the stage.
#[derive(Debug)]
pub struct Links(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    fronts: Vec<u16>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    is_closed: bool,
    /// By replica, then by master.
    may_pass: Vec<Vec<bool>>,
    replicas: Vec<Flow>,
    connections: Vec<Connected>,
}

/// How the stream of a replica flows.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    is_stalled: bool,
    /// So many commands may pass all the same.
    commands: usize,
}

#[derive(Debug)]
struct Connected {
    replica: usize,
    master: usize,
    ends: [TcpStream; 2],
}

impl Links {
    fn new(fronts: Vec<u16>) -> Self {
        let places = fronts.len();
        let state = State {
            is_closed: false,
            may_pass: vec![vec![true; places]; places],
            replicas: vec![Flow::default(); places],
            connections: Vec::new(),
        };
        Self(Arc::new(Shared { fronts, state: Mutex::new(state) }))
    }

    fn stand_before(&self, master: usize, listener: TcpListener, target: SocketAddr) {
        let shared = Arc::clone(&self.0);
        thread::spawn(move || accept(&listener, &shared, master, target));
    }

    /// Says for each pair of replica and master whether they can talk; connections that cannot go on are closed.
    pub fn allow(&self, may_pass: impl Fn(usize, usize) -> bool) {
        let mut state = self.0.lock();
        for (replica, row) in state.may_pass.iter_mut().enumerate() {
            for (master, cell) in row.iter_mut().enumerate() {
                *cell = may_pass(replica, master);
            }
        }
        let State { may_pass, connections, .. } = &mut *state;
        connections.retain(|connected| {
            let stays = may_pass[connected.replica][connected.master];
            if !stays {
                connected.close();
            }
            stays
        });
    }

    /// The handshake and the RDB of a full resynchronization still pass; no command does.
    pub fn stall(&self, replica: usize, is_stalled: bool) {
        self.0.lock().replicas[replica] = Flow { is_stalled, commands: 0 };
    }

    /// So many commands pass a stalled link, and not one more when they have come.
    pub fn let_through(&self, replica: usize, commands: usize) {
        self.0.lock().replicas[replica].commands = commands;
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.connections.iter().for_each(Connected::close);
        drop(state);
        for front in &self.0.fronts {
            // Wakes the accepting thread, so that it sees that it is over. Nobody is there: fine.
            TcpStream::connect((Ipv4Addr::LOCALHOST, *front)).map(drop).unwrap_or_default();
        }
    }
}

impl Connected {
    fn close(&self) {
        for end in &self.ends {
            // The other side may have closed it already.
            end.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Remembers a connection, unless it must not be.
    fn register(&self, replica: usize, master: usize, ends: [TcpStream; 2]) -> bool {
        let mut state = self.lock();
        let may_pass = !state.is_closed && state.may_pass[replica][master];
        if may_pass {
            state.connections.push(Connected { replica, master, ends });
        }
        may_pass
    }

    /// How many of these commands may pass now; those that may are counted.
    fn take(&self, replica: usize, waiting: usize) -> usize {
        let flow = &mut self.lock().replicas[replica];
        if !flow.is_stalled {
            return waiting;
        }
        let passing = waiting.min(flow.commands);
        flow.commands -= passing;
        passing
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, master: usize, target: SocketAddr) {
    for client in listener.incoming() {
        if shared.lock().is_closed {
            return;
        }
        let Ok(client) = client else { continue };
        let Some(replica) = client.peer_addr().ok().and_then(|peer| server_at(peer.ip())) else { continue };
        // A master that does not run: the client is closed, and tries again.
        let Ok(server) = TcpStream::connect(target) else { continue };
        client.set_nodelay(true).and(server.set_nodelay(true)).unwrap_or_default();
        let copies = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(client_again), Ok(server_again), Ok(client_held), Ok(server_held)) = copies else { continue };
        if !shared.register(replica, master, [client_held, server_held]) {
            continue;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            carry_up(&client_again, &server_again).unwrap_or_default();
            close(&client_again, &server_again);
        });
        thread::spawn(move || {
            carry_down(&server, &client, replica, &shared).unwrap_or_default();
            close(&client, &server);
        });
    }
}

fn server_at(address: IpAddr) -> Option<usize> {
    (0..usize::from(u8::MAX)).find(|number| address == address_of(*number))
}

/// Either may be closed already.
fn close(client: &TcpStream, server: &TcpStream) {
    client.shutdown(Shutdown::Both).unwrap_or_default();
    server.shutdown(Shutdown::Both).unwrap_or_default();
}

/// What the replica says passes at once. Ends when either side closes.
fn carry_up(mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            read => to.write_all(&piece[..read])?,
        }
    }
}

/// What the server says, as far as it may pass. Ends when either side closes; what was held back is lost then.
fn carry_down(mut from: &TcpStream, mut to: &TcpStream, replica: usize, shared: &Shared) -> std::io::Result<()> {
    from.set_read_timeout(Some(LOOK_EVERY))?;
    let (mut reader, mut held, mut piece) = (Reader::Lines, Vec::new(), vec![0; 64 * 1024]);
    loop {
        let is_open = match from.read(&mut piece) {
            Ok(0) => false,
            Ok(read) => {
                held.extend_from_slice(&piece[..read]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => true,
            Err(error) => return Err(error),
        };
        loop {
            let passing = match reader.advance(&held) {
                Part::Passes(length) => length,
                Part::Commands(lengths) => lengths[..shared.take(replica, lengths.len())].iter().sum(),
            };
            if passing == 0 {
                break;
            }
            to.write_all(&held[..passing])?;
            held.drain(..passing);
        }
        if !is_open {
            return Ok(());
        }
    }
}

/// Where in a connection's answers we are.
#[derive(Debug)]
enum Reader {
    /// The handshake, up to the answer to `PSYNC`.
    Lines,
    /// `+FULLRESYNC` was said: newlines, then the header of the payload.
    Header,
    /// So many bytes of the payload are still to come.
    Bytes(usize),
    /// The payload ends with this mark.
    Mark(Vec<u8>),
    /// The stream.
    Commands,
}

/// What the next bytes are.
enum Part {
    /// So many bytes that pass whether the link is stalled or not.
    Passes(usize),
    /// The lengths of the whole commands of the stream that are there.
    Commands(Vec<usize>),
}

impl Reader {
    /// Goes on to what comes next when a part is over.
    fn advance(&mut self, held: &[u8]) -> Part {
        let line = || held.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (length, next) = match self {
            Self::Lines => {
                let next = match line() {
                    0 => None,
                    // Redis 8.2 sends the RDB through a connection of its own; this one has the stream.
                    _ if held.starts_with(b"+CONTINUE") || held.starts_with(b"+RDBCHANNELSYNC") => Some(Self::Commands),
                    _ if held.starts_with(b"+FULLRESYNC") => Some(Self::Header),
                    _ => None,
                };
                (line(), next)
            }
            Self::Header => {
                let text = String::from_utf8_lossy(&held[..line()]);
                let next = match (text.strip_prefix("$EOF:"), text.strip_prefix('$')) {
                    (Some(mark), _) => Some(Self::Mark(mark.trim_end().as_bytes().to_vec())),
                    (None, Some(bytes)) => Some(Self::Bytes(bytes.trim_end().parse().unwrap_or(0))),
                    // Servers that are busy saving send newlines.
                    (None, None) => None,
                };
                (line(), next)
            }
            Self::Bytes(left) => {
                let length = held.len().min(*left);
                *left -= length;
                (length, (*left == 0).then_some(Self::Commands))
            }
            Self::Mark(mark) => match held.windows(mark.len()).position(|window| window == mark) {
                Some(at) => (at + mark.len(), Some(Self::Commands)),
                // The mark may have come in part.
                None => (held.len().saturating_sub(mark.len()), None),
            },
            Self::Commands => {
                let (mut rest, mut lengths) = (held, Vec::new());
                while let Some(length) = command_length(rest) {
                    lengths.push(length);
                    rest = &rest[length..];
                }
                return Part::Commands(lengths);
            }
        };
        if let Some(next) = next {
            *self = next;
        }
        Part::Passes(length)
    }
}

/// The length of the first command, if it is there as a whole. Newlines before it are part of it.
fn command_length(bytes: &[u8]) -> Option<usize> {
    let mut at = bytes.iter().position(|byte| *byte != b'\n')?;
    let number = |at: &mut usize, mark: u8| {
        let length = bytes[*at..].iter().position(|byte| *byte == b'\n')?;
        let line = bytes[*at..*at + length].strip_prefix(&[mark])?;
        *at += length + 1;
        String::from_utf8_lossy(line).trim_end().parse::<usize>().ok()
    };
    for _ in 0..number(&mut at, b'*')? {
        at += number(&mut at, b'$')? + 2;
        if at > bytes.len() {
            return None;
        }
    }
    Some(at)
}
