//! A whole installation: a coordinator, its agents and their servers, all real processes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    eventually::{SOON, eventually},
    ports::free_port,
    process::{Daemon, Output, run, signal},
    servers::{Server, Version},
};

/// No command of these suites takes longer on a healthy machine, but for a large data set.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// The deployment of every suite.
pub const ORDERS: &str = "orders";

/// One of our two programs, as built beside the test; fails the test with the remedy if it is not there.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let path = match std::env::var_os("URTEXT_BIN_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join(name),
        None => {
            // target/debug/deps/it-0123456789abcdef
            let test = std::env::current_exe().expect("path of the test program");
            let profile = test.ancestors().nth(2).expect("a test program lies two folders deep");
            profile.join(name)
        }
    };
    assert!(path.exists(), "{} is not built: run  cargo build --bins", path.display());
    path
}

/// A coordinator's directory, and the daemon if it runs.
#[derive(Debug)]
pub struct Coordinator {
    dir: PathBuf,
    address: String,
    daemon: Option<Daemon>,
    /// Set for every `urtext`, the daemon and the command line.
    env: Vec<(String, String)>,
}

impl Coordinator {
    /// `urtext init`; nothing runs yet.
    #[track_caller]
    pub fn init(dir: &Path) -> Self {
        Self::init_with(dir, &format!("127.0.0.1:{}", free_port()), &[])
    }

    /// [`Coordinator::init`], at an address and with options of your choice.
    #[track_caller]
    pub fn init_with(dir: &Path, address: &str, options: &[&str]) -> Self {
        Self::init_in(dir, address, options, &[])
    }

    /// [`Coordinator::init_with`], with variables in the environment of every `urtext`.
    #[track_caller]
    pub fn init_in(dir: &Path, address: &str, options: &[&str], env: &[(String, String)]) -> Self {
        let mut command = Command::new(program("urtext"));
        command.args(["init", "--listen", address, "--dir"]).arg(dir).args(options).envs(env.iter().cloned());
        run(&mut command, COMMAND_LIMIT).expect(0);
        // The time of day at which a suite runs must not matter: what is to happen, it asks for.
        let settings = dir.join("urtext.toml");
        let text = fs::read_to_string(&settings).expect("read urtext.toml");
        let mut never = text.clone();
        for scheduled in ["snapshot = \"0 3 * * *\"", "verify = \"0 5 * * SUN\""] {
            assert!(text.contains(scheduled), "no {scheduled} in {text}");
            let key = scheduled.split(' ').next().expect("a key");
            never = never.replace(&format!("\n{scheduled}\n"), &format!("\n{key} = \"never\"\n"));
        }
        fs::write(&settings, never).expect("write urtext.toml");
        Self { dir: dir.to_owned(), address: address.to_owned(), daemon: None, env: env.to_vec() }
    }

    /// Adds lines to the end of the settings: the last lines there are comments about one deployment.
    #[track_caller]
    pub fn configure(&self, lines: &str) {
        let path = self.dir.join("urtext.toml");
        let text = fs::read_to_string(&path).expect("read urtext.toml");
        fs::write(&path, text + "\n" + lines + "\n").expect("write urtext.toml");
    }

    /// `urtext serve`; waits until it listens.
    #[track_caller]
    pub fn serve(&mut self) {
        assert!(self.daemon.is_none(), "the coordinator runs already");
        let log = self.dir.with_extension("log");
        let mut command = Command::new(program("urtext"));
        command.args(["serve", "--dir"]).arg(&self.dir).envs(self.env.iter().cloned());
        let mut daemon = Daemon::start("urtext serve", &mut command, &log);
        daemon.wait_for_line("listening on");
        self.daemon = Some(daemon);
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Host and port, as given to `init`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The repository that `init` makes.
    pub fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    /// The private key that `init` makes.
    pub fn identity(&self) -> PathBuf {
        self.dir.join("operator").join("identity.txt")
    }

    #[track_caller]
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the coordinator runs")
    }

    /// See [`Daemon::peak_memory`].
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        self.daemon.as_ref().expect("the coordinator runs").peak_memory()
    }

    /// Everything that this daemon has logged.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill9();
        }
    }

    /// SIGTERM; the daemon must end by itself, and well.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("the coordinator runs");
        let status = daemon.terminate(SOON);
        assert!(status.success(), "urtext serve ended with {status}:\n{}", daemon.log());
    }

    /// Runs `urtext ARGS --dir DIR`.
    #[track_caller]
    pub fn urtext(&self, args: &[&str]) -> Output {
        self.urtext_within(args, COMMAND_LIMIT)
    }

    /// [`Coordinator::urtext`], with a limit of your own.
    #[track_caller]
    pub fn urtext_within(&self, args: &[&str], limit: Duration) -> Output {
        let mut command = Command::new(program("urtext"));
        command.args(args).arg("--dir").arg(&self.dir).envs(self.env.iter().cloned());
        run(&mut command, limit)
    }

    /// `urtext ARGS --json`, which must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.json_with_code(args, 0)
    }

    /// [`Coordinator::json`], with another exit code.
    #[track_caller]
    pub fn json_with_code(&self, args: &[&str], code: i32) -> Value {
        let with_json: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        self.urtext(&with_json).expect(code).json()
    }

    /// A join token for a node.
    #[track_caller]
    pub fn invite(&self, site: &str, node: &str) -> String {
        self.invite_with(site, node, &[])
    }

    /// [`Coordinator::invite`], with more options.
    #[track_caller]
    pub fn invite_with(&self, site: &str, node: &str, options: &[&str]) -> String {
        let mut args = vec!["invite", "--deployment", ORDERS, "--site", site, "--node", node];
        args.extend(options);
        let token = self.urtext(&args).expect(0).stdout.trim().to_owned();
        assert!(!token.contains(char::is_whitespace) && !token.is_empty(), "one token on stdout, not {token:?}");
        token
    }
}

/// An agent's directory, and the daemon if it runs.
#[derive(Debug)]
pub struct Agent {
    node: String,
    dir: PathBuf,
    daemon: Option<Daemon>,
    /// Placed before the program, which it must become: `env FAKETIME=+1h`.
    pub wrapper: Vec<String>,
    /// Set when it runs.
    pub env: Vec<(String, String)>,
}

impl Agent {
    /// An agent that has not joined yet.
    pub fn new(node: &str, dir: &Path) -> Self {
        Self { node: node.to_owned(), dir: dir.to_owned(), daemon: None, wrapper: Vec::new(), env: Vec::new() }
    }

    /// `urtext-agent join`, whatever comes of it.
    #[track_caller]
    pub fn try_join(&self, token: &str, redis: &str, options: &[&str]) -> Output {
        let mut command = Command::new(program("urtext-agent"));
        command.args(["join", "--token", token, "--redis", redis, "--dir"]).arg(&self.dir).args(options);
        run(&mut command, COMMAND_LIMIT)
    }

    /// `urtext-agent run`; does not wait for anything.
    #[track_caller]
    pub fn run(&mut self) {
        assert!(self.daemon.is_none(), "the agent of {} runs already", self.node);
        let program = program("urtext-agent");
        let mut command = match self.wrapper.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.args(["run", "--dir"]).arg(&self.dir).envs(self.env.iter().cloned());
        let name = format!("urtext-agent of {}", self.node);
        self.daemon = Some(Daemon::start(&name, &mut command, &self.dir.with_extension("log")));
    }

    /// `urtext-agent check`.
    #[track_caller]
    pub fn check(&self) -> Output {
        let mut command = Command::new(program("urtext-agent"));
        command.args(["check", "--dir"]).arg(&self.dir);
        run(&mut command, COMMAND_LIMIT)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[track_caller]
    pub fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the agent runs")
    }

    /// See [`Daemon::peak_memory`].
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        self.daemon.as_ref().expect("the agent runs").peak_memory()
    }

    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill9();
        }
    }

    /// SIGTERM; the agent must end by itself, and well.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("the agent runs");
        let status = daemon.terminate(SOON);
        assert!(status.success(), "urtext-agent ended with {status}:\n{}", daemon.log());
    }

    /// Holds the process still, connections open.
    #[track_caller]
    pub fn freeze(&mut self) {
        signal(self.daemon().pid(), "STOP");
    }

    #[track_caller]
    pub fn thaw(&mut self) {
        signal(self.daemon().pid(), "CONT");
    }
}

/// A coordinator that serves, and nodes.
///
/// Fields drop in order: agents before servers, so that no agent logs the loss of a server that the test
/// did not take away.
#[derive(Debug)]
pub struct Fleet {
    agents: BTreeMap<String, Agent>,
    pub coordinator: Coordinator,
    servers: BTreeMap<String, Server>,
    work: TempDir,
}

impl Fleet {
    /// A coordinator that serves, without nodes.
    #[track_caller]
    pub fn new() -> Self {
        Self::with(&[], "")
    }

    /// [`Fleet::new`], with options for `init` and lines for the settings.
    #[track_caller]
    pub fn with(init: &[&str], settings: &str) -> Self {
        Self::with_env(init, settings, &[])
    }

    /// [`Fleet::with`], with variables in the environment of every `urtext`.
    #[track_caller]
    pub fn with_env(init: &[&str], settings: &str, env: &[(String, String)]) -> Self {
        let work = tempfile::tempdir().expect("make a working folder");
        let address = format!("127.0.0.1:{}", free_port());
        let mut coordinator = Coordinator::init_in(&work.path().join("coordinator"), &address, init, env);
        coordinator.configure(settings);
        coordinator.serve();
        Self { agents: BTreeMap::new(), coordinator, servers: BTreeMap::new(), work }
    }

    /// `fra-1` is the master, `nyc-1` and `sgp-1` its replicas; three agents report them.
    #[track_caller]
    pub fn of_three_sites(version: Version) -> Self {
        let mut fleet = Self::new();
        fleet.add("fra-1", Server::start(version));
        for node in ["nyc-1", "sgp-1"] {
            let replica = Server::start(version);
            replica.replicate(fleet.server("fra-1"));
            fleet.add(node, replica);
        }
        fleet
    }

    /// Invites, joins and runs an agent beside `server`, and waits until the coordinator has seen the node.
    /// The site is the part of `node` before the dash.
    #[track_caller]
    pub fn add(&mut self, node: &str, server: Server) {
        self.add_to_shard(node, "0", server);
    }

    /// [`Fleet::add`], to a shard of your choice.
    #[track_caller]
    pub fn add_to_shard(&mut self, node: &str, shard: &str, server: Server) {
        let options: Vec<String> = match server.ca_file() {
            Some(ca) => vec!["--redis-ca".to_owned(), ca.display().to_string()],
            None => Vec::new(),
        };
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let url = server.url();
        self.servers.insert(node.to_owned(), server);
        self.join_shard(node, shard, &url, &options);
        self.wait_until_seen(node);
    }

    /// Invites, joins and runs an agent for a server that the caller keeps.
    #[track_caller]
    pub fn join(&mut self, node: &str, url: &str, options: &[&str]) {
        self.join_shard(node, "0", url, options);
    }

    #[track_caller]
    fn join_shard(&mut self, node: &str, shard: &str, url: &str, options: &[&str]) {
        let site = node.split('-').next().expect("a split gives at least one part");
        let token = self.coordinator.invite_with(site, node, &["--shard", shard]);
        let mut agent = Agent::new(node, &self.work.path().join(format!("agent-{node}")));
        agent.try_join(&token, url, options).expect(0);
        agent.run();
        self.agents.insert(node.to_owned(), agent);
    }

    /// A folder for whatever the test needs.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    #[track_caller]
    pub fn server(&self, node: &str) -> &Server {
        self.servers.get(node).unwrap_or_else(|| panic!("no server of {node}"))
    }

    #[track_caller]
    pub fn server_mut(&mut self, node: &str) -> &mut Server {
        self.servers.get_mut(node).unwrap_or_else(|| panic!("no server of {node}"))
    }

    #[track_caller]
    pub fn agent(&self, node: &str) -> &Agent {
        self.agents.get(node).unwrap_or_else(|| panic!("no agent of {node}"))
    }

    #[track_caller]
    pub fn agent_mut(&mut self, node: &str) -> &mut Agent {
        self.agents.get_mut(node).unwrap_or_else(|| panic!("no agent of {node}"))
    }

    /// See [`Coordinator::json`].
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.coordinator.json(args)
    }

    /// Waits until `urtext status` shows what the server beside `node` says of itself.
    #[track_caller]
    pub fn wait_until_seen(&self, node: &str) {
        let server = self.server(node);
        self.wait_for_node(node, "its present position", |seen| {
            let replication = server.info("replication");
            let offset: u64 = replication["master_repl_offset"].parse().expect("an offset is a number");
            // A master without a backlog counts nothing, and a replica at 0 whose link is down may never have been
            // in sync: no position is reported for either.
            let (role, untracked) = match replication.get("master_link_status") {
                None => ("master", replication["repl_backlog_active"] == "0"),
                Some(link) => ("replica", offset == 0 && link == "down"),
            };
            if untracked {
                return seen["connected"] == true && seen["role"] == role && seen["history"].is_null();
            }
            seen["history"] == replication["master_replid"] && seen["offset"] == offset
        });
    }

    /// Waits until `urtext status --json` shows the node in a state.
    #[track_caller]
    pub fn wait_for_node(&self, node: &str, state: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("urtext status to show {node} with {state}"), SOON, || {
            let status = self.coordinator.urtext(&["status", ORDERS, "--json"]);
            if status.code() != 0 {
                return Err(status.stderr);
            }
            let status = status.json();
            let seen = find_node(&status, node).ok_or_else(|| format!("not listed: {status:#}"))?;
            if holds(seen) { Ok(seen.clone()) } else { Err(format!("{seen:#}\n{}", self.agents[node].log())) }
        })
    }

    /// `urtext snapshot` of one node; gives the backup's id.
    #[track_caller]
    pub fn snapshot(&self, node: &str) -> String {
        self.snapshot_with(node, &[])
    }

    /// [`Fleet::snapshot`], with more options.
    #[track_caller]
    pub fn snapshot_with(&self, node: &str, options: &[&str]) -> String {
        let mut args = vec!["snapshot", ORDERS, "--node", node];
        args.extend(options);
        backup_id(&self.json(&args))
    }

    /// The committed backups, as listed.
    #[track_caller]
    pub fn backups(&self) -> Vec<Value> {
        let list = self.json(&["backups", ORDERS]);
        list["backups"].as_array().unwrap_or_else(|| panic!("no list of backups in {list:#}")).clone()
    }

    /// `urtext canonical`, which must be able to decide.
    #[track_caller]
    pub fn canonical(&self) -> Value {
        self.json(&["canonical", ORDERS])
    }

    /// Restores into the server beside `node`; gives what `--json` printed.
    #[track_caller]
    pub fn restore_to(&self, node: &str, options: &[&str]) -> Value {
        let identity = self.coordinator.identity();
        let identity = identity.to_str().expect("a temporary folder's path is text");
        let mut args = vec!["restore", ORDERS, "--to", node, "--identity", identity, "--yes"];
        args.extend(options);
        self.json(&args)
    }
}

impl Default for Fleet {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

/// The id in what `urtext snapshot --json` printed.
#[track_caller]
pub fn backup_id(snapshot: &Value) -> String {
    let id = snapshot["backup"]["id"].as_str().or_else(|| snapshot["backups"][0]["id"].as_str());
    id.unwrap_or_else(|| panic!("no id of a backup in {snapshot:#}")).to_owned()
}

/// The entry of `candidates` for a backup's or a node's id.
#[track_caller]
pub fn candidate<'a>(canonical: &'a Value, id: &str) -> &'a Value {
    let all = canonical["candidates"].as_array().unwrap_or_else(|| panic!("no candidates in {canonical:#}"));
    let mut found = all.iter().filter(|candidate| candidate["id"] == id);
    let candidate = found.next().unwrap_or_else(|| panic!("{id} is not among the candidates: {canonical:#}"));
    assert!(found.next().is_none(), "{id} is listed twice: {canonical:#}");
    candidate
}

/// A node's entry in what `urtext status --json` printed.
fn find_node<'a>(status: &'a Value, node: &str) -> Option<&'a Value> {
    let shards = status["shards"].as_array()?;
    let mut nodes = shards.iter().filter_map(|shard| shard["nodes"].as_array()).flatten();
    nodes.find(|entry| entry["node"] == node)
}

/// Every file below `dir`, sorted.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}
