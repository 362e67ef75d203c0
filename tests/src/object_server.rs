//! A real S3 server, one folder and a few ports each.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    eventually::eventually,
    ports::free_port,
    process::{Daemon, run},
    servers::servers_dir,
};

/// It starts several servers inside, one after the other.
const START_LIMIT: Duration = Duration::from_secs(60);

const ACCESS_KEY: &str = "tester";
const SECRET_KEY: &str = "a-secret-of-this-test";
const BUCKET: &str = "backups";

/// SeaweedFS with one bucket and one user who may do everything. Killed when it is dropped.
#[derive(Debug)]
pub struct ObjectServer {
    daemon: Option<Daemon>,
    ports: [u16; 8],
    dir: TempDir,
}

impl ObjectServer {
    /// Starts a server and makes its bucket.
    #[track_caller]
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("make a folder");
        let users = format!(
            r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],
                "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
        );
        fs::write(dir.path().join("s3.json"), users).expect("write the users of the server");
        fs::create_dir(dir.path().join("data")).expect("make a folder");
        let mut server = Self { daemon: None, ports: std::array::from_fn(|_| free_port()), dir };
        server.run();
        server.make_bucket(&[BUCKET]);
        // The part that speaks S3 starts last, and has answered nobody yet.
        eventually("the S3 server to listen", START_LIMIT, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).map(drop).map_err(|error| error.to_string())
        });
        server
    }

    /// Makes one more bucket, in which objects can be locked.
    #[track_caller]
    pub fn make_locking_bucket(&self, name: &str) {
        self.make_bucket(&[name, "-withLock"]);
    }

    /// Makes a bucket: its name, then options.
    #[track_caller]
    fn make_bucket(&self, args: &[&str]) {
        let master = format!("-master=127.0.0.1:{}.{}", self.ports[0], self.ports[1]);
        let filer = format!("-filer=127.0.0.1:{}.{}", self.ports[4], self.ports[5]);
        let shell = |command: &str| {
            let script = format!("echo {command} | '{}' shell {master} {filer}", program().display());
            run(Command::new("timeout").args(["10", "sh", "-c", &script]), START_LIMIT)
        };
        eventually("the S3 server to make a bucket", START_LIMIT, || {
            let made = shell(&format!("s3.bucket.create -name {}", args.join(" ")));
            let listed = shell("s3.bucket.list");
            if listed.stdout.contains(args[0]) { Ok(()) } else { Err(made.stdout + &made.stderr + &listed.stderr) }
        });
    }

    /// Starts the server again on what it kept.
    pub fn run(&mut self) {
        assert!(self.daemon.is_none(), "the S3 server runs already");
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc] = self.ports;
        let mut command = Command::new(program());
        command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
        command.arg(format!("-dir={}", self.dir.path().join("data").display()));
        command.arg(format!("-s3.config={}", self.dir.path().join("s3.json").display()));
        command.args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")]);
        command.args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")]);
        command.args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")]);
        command.args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_grpc}")]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=32", "-volume.preStopSeconds=1"]);
        self.daemon = Some(Daemon::start("the S3 server", &mut command, &self.dir.path().join("log")));
    }

    /// SIGKILL: what it stored stays.
    pub fn kill9(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill9();
        }
    }

    /// The address of a repository below `prefix`.
    pub fn address(&self, prefix: &str) -> String {
        self.address_by(self.port(), prefix)
    }

    /// The same, on a road to [`ObjectServer::port`].
    pub fn address_by(&self, port: u16, prefix: &str) -> String {
        self.address_of(BUCKET, port, prefix)
    }

    /// The address of a repository in another bucket.
    pub fn address_in(&self, bucket: &str, prefix: &str) -> String {
        self.address_of(bucket, self.port(), prefix)
    }

    fn address_of(&self, bucket: &str, port: u16, prefix: &str) -> String {
        format!("s3://{bucket}/{prefix}?endpoint=http://127.0.0.1:{port}&region=us-east-1")
    }

    /// Where it speaks S3.
    pub fn port(&self) -> u16 {
        self.ports[6]
    }

    /// What a program needs in its environment to be let in.
    pub fn credentials() -> Vec<(String, String)> {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![variable("AWS_ACCESS_KEY_ID", ACCESS_KEY), variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
    }

    /// The same as a file, in the form of the service's own tools.
    pub fn credentials_file() -> String {
        format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    }
}

/// The program; fails the test with the remedy if it is not installed.
#[track_caller]
fn program() -> PathBuf {
    let path = servers_dir().join("seaweedfs").join("weed");
    assert!(path.exists(), "{} is not installed: run tests/install-servers", path.display());
    path
}
