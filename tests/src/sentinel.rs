//! A real Sentinel that watches one master.

use std::{collections::BTreeMap, fs, process::Command};

use tempfile::TempDir;

use crate::{
    eventually::{SOON, eventually},
    ports::free_port,
    process::Daemon,
    servers::Version,
};

/// The name under which it watches.
const MASTER: &str = "orders";

/// A Sentinel with a quorum of one.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    daemon: Daemon,
    folder: TempDir,
}

impl Sentinel {
    /// Watches the master on `master_port`; waits until it answers.
    #[track_caller]
    pub fn watch(version: Version, master_port: u16) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("make a Sentinel's folder");
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {MASTER} 127.0.0.1 {master_port} 1\n\
             sentinel down-after-milliseconds {MASTER} 2000\n",
            folder.path().display()
        );
        fs::write(&config, text).expect("write sentinel.conf");
        let mut command = Command::new(version.program());
        command.arg(&config).arg("--sentinel");
        let daemon = Daemon::start("sentinel", &mut command, &folder.path().join("sentinel.log"));
        let sentinel = Self { port, daemon, folder };
        eventually("Sentinel to answer", SOON, || sentinel.query(&["PING"]).map(drop));
        sentinel
    }

    /// What `SENTINEL REPLICAS` lists: one map of fields each.
    #[track_caller]
    pub fn replicas(&self) -> Vec<BTreeMap<String, String>> {
        let list = eventually("Sentinel to list replicas", SOON, || self.query(&["SENTINEL", "REPLICAS", MASTER]));
        redis::from_redis_value(list).expect("SENTINEL REPLICAS is a list of maps")
    }

    /// Waits until it lists a replica on `port` that it holds to be well.
    #[track_caller]
    pub fn wait_for_replica(&self, port: u16) {
        eventually(&format!("Sentinel to see the replica on port {port}"), SOON, || {
            let replicas = self.replicas();
            let well = |replica: &&BTreeMap<String, String>| {
                replica["port"] == port.to_string()
                    && replica["flags"] == "slave"
                    && replica.get("master-link-status").is_some_and(|status| status == "ok")
            };
            replicas.iter().find(well).map(drop).ok_or_else(|| format!("{replicas:?}"))
        });
    }

    /// Makes it ask every server for INFO ten times a second instead of every ten seconds (7.0 and later).
    #[track_caller]
    pub fn look_often(&self) {
        eventually("Sentinel to obey", SOON, || self.query(&["SENTINEL", "DEBUG", "INFO-PERIOD", "100"]).map(drop));
    }

    /// The Sentinel's own configuration file: it writes every replica that it ever knew into it.
    pub fn config(&self) -> String {
        fs::read_to_string(self.folder.path().join("sentinel.conf")).expect("read sentinel.conf")
    }

    pub fn log(&self) -> String {
        self.daemon.log()
    }

    fn query(&self, command: &[&str]) -> Result<redis::Value, String> {
        let ask = || {
            let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
            let mut wire = redis::Cmd::new();
            for argument in command {
                wire.arg(argument);
            }
            wire.query(&mut client.get_connection()?)
        };
        ask().map_err(|error: redis::RedisError| error.to_string())
    }
}
