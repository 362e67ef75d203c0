//! A real server of Azure Blob Storage, or the nearest to it that runs on one machine: Microsoft's own emulator.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tempfile::TempDir;

use crate::{ports::free_port, process::Daemon, servers::servers_dir};

const ACCOUNT: &str = "tester";
const KEY: &[u8] = b"a-secret-of-this-test";
const CONTAINER: &str = "backups";

/// The version of what is signed, which is also that of how.
const SIGNED_VERSION: &str = "2020-12-06";
/// When no test runs any more.
const SIGNED_UNTIL: &str = "2999-01-01T00:00:00Z";

/// Azurite with one account and one container. Killed when it is dropped, and what it stored is gone then: it writes
/// down what it holds every few seconds only.
#[derive(Debug)]
pub struct AzureServer {
    port: u16,
    _daemon: Daemon,
    _dir: TempDir,
}

impl AzureServer {
    /// Starts a server and makes its container; `None`, with a remark in the test's output, if it is not installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let program = servers_dir().join("azurite").join("azurite-blob");
        if !program.exists() {
            crate::say("skipped: Azurite is not installed (tests/install-servers says what it lacks)");
            return None;
        }
        let (port, dir) = (free_port(), tempfile::tempdir().expect("make a folder"));
        let mut command = Command::new(program);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--inMemoryPersistence", "--disableTelemetry"]);
        command.current_dir(dir.path()).env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", BASE64.encode(KEY)));
        let mut daemon = Daemon::start("the Azure server", &mut command, &dir.path().join("log"));
        daemon.wait_for_line("successfully listens");
        let server = Self { port, _daemon: daemon, _dir: dir };
        server.make_container();
        Some(server)
    }

    #[track_caller]
    fn make_container(&self) {
        let signature = may_make_containers();
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the Azure server listens");
        write!(
            server,
            "PUT /{ACCOUNT}/{CONTAINER}?restype=container&{signature} HTTP/1.1\r\nhost: 127.0.0.1\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        )
        .expect("ask for a container");
        let mut answer = String::new();
        server.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201 "), "the Azure server makes no container: {answer}");
    }

    /// The address of a repository below `prefix`.
    pub fn address(&self, prefix: &str) -> String {
        self.address_in(CONTAINER, prefix)
    }

    /// The address of a repository in another container.
    pub fn address_in(&self, container: &str, prefix: &str) -> String {
        let endpoint = format!("http://127.0.0.1:{}/{ACCOUNT}", self.port);
        format!("az://{container}/{prefix}?endpoint={endpoint}&account={ACCOUNT}")
    }

    /// What a program needs in its environment to be let in.
    pub fn credentials() -> Vec<(String, String)> {
        vec![("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), BASE64.encode(KEY))]
    }

    /// What a program needs in its environment to do some things only, each a letter: `r`ead, `l`ist, `c`reate,
    /// `w`rite, `d`elete.
    pub fn credentials_to(permissions: &str) -> Vec<(String, String)> {
        vec![("AZURE_STORAGE_SAS_KEY".to_owned(), may(permissions))]
    }
}

/// What to add to the address of the account, to make containers in it: a shared access signature.
fn may_make_containers() -> String {
    // To create, of blobs, containers. Nothing more: since when, from where, by what protocol, under what encryption.
    let signature = signed(&[ACCOUNT, "c", "b", "c", "", SIGNED_UNTIL, "", "", SIGNED_VERSION, "", ""]);
    format!("sv={SIGNED_VERSION}&ss=b&srt=c&sp=c&se={SIGNED_UNTIL}&sig={signature}")
}

/// The same for the container. The emulator deletes several at once with such a one, and with none of the account.
fn may(permissions: &str) -> String {
    let container = format!("/blob/{ACCOUNT}/{CONTAINER}");
    let mut lines = vec![permissions, "", SIGNED_UNTIL, &container, "", "", "", SIGNED_VERSION, "c"];
    // Of which time, under what encryption, and five headers of what is answered.
    lines.resize(lines.len() + 7, "");
    let signature = signed(&lines);
    format!("sv={SIGNED_VERSION}&sr=c&sp={permissions}&se={SIGNED_UNTIL}&sig={signature}")
}

fn signed(lines: &[&str]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("any length makes a key");
    mac.update(lines.join("\n").as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}
