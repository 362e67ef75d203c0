//! Capture and restore against real servers of five versions, with a repository in memory.
//!
//! Servers are found as `tests/install-servers` puts them; a version that is not installed fails the test,
//! unless none is, as on a machine that builds and does not test.

#![expect(clippy::print_stderr, reason = "a failing test says which version it was at")]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use urtext_agent::{
    capture::{CaptureError, CaptureRequest, CaptureTools, NoMethod, capture},
    restore::{RestoreError, RestoreRequest, RestoreTools, Restored, TargetState, restore},
    server::{Access, Connection, Password, Server, ServerAddress, ServerError, check_permissions},
    trust::{AuthorityVerifier, CertificateSigner},
};
use urtext_identity::{
    AGENT_LIFETIME, AUTHORITY_LIFETIME, AgentIdentity, AgentSigner, CertificateAuthority, CertificateRequest,
};
use urtext_proto::pb;
use urtext_repository::{
    BackupKey, BackupReader, CaptureMethod, Identity, Manifest, ManifestSigner, ManifestVerifier, Store, seal_bytes,
    testing::MemoryStore,
};
use urtext_types::{BackupId, Evidence, Explain, NodeObservation, Role, Timestamp};

const VERSIONS: [&str; 5] = ["redis-6.2", "redis-7.0", "redis-8.2", "valkey-8.1", "valkey-9.1"];
const LIMIT: Duration = Duration::from_secs(20);

fn binary(version: &str) -> PathBuf {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let dir = std::env::var("URTEXT_TEST_SERVERS").unwrap_or_else(|_| format!("{cache}/urtext-test-servers"));
    let program = if version.starts_with("valkey") { "valkey-server" } else { "redis-server" };
    Path::new(&dir).join(version).join(program)
}

/// One server in a directory of its own; killed when it is dropped.
struct RealServer {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl RealServer {
    fn start(version: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let mut command = Command::new(binary(version));
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(dir.path());
        command.args(["--repl-diskless-sync-delay", "0"]).args(arguments);
        if version != "redis-6.2" {
            command.args(["--enable-debug-command", "yes"]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
        Self { child, port, _dir: dir }
    }

    fn server(&self) -> Server {
        server_at(&format!("redis://127.0.0.1:{}", self.port))
    }

    async fn connect(&self) -> Connection {
        let since = Instant::now();
        loop {
            match self.server().connect().await {
                Ok(connection) => return connection,
                Err(error) => assert!(since.elapsed() < LIMIT, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn observe(&self) -> NodeObservation {
        self.connect().await.observe(|| Timestamp::from_millis(0)).await.expect("an observation").1
    }

    async fn digest(&self) -> String {
        self.connect().await.query(&["DEBUG", "DIGEST"]).await.expect("a digest")
    }

    /// Waits until what is observed is as `wanted`.
    async fn wait(&self, what: &str, wanted: impl Fn(&NodeObservation) -> bool) -> NodeObservation {
        let since = Instant::now();
        loop {
            let seen = self.observe().await;
            if wanted(&seen) {
                return seen;
            }
            assert!(since.elapsed() < LIMIT, "{what}: {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server_at(url: &str) -> Server {
    let (address, password) = ServerAddress::parse(url).expect("an address");
    Server::new(address, password.map_or(Password::None, Password::Known), None)
}

fn is_in_sync(node: &NodeObservation) -> bool {
    matches!(&node.replication.role, Role::Replica { link, .. } if link.up)
}

/// A master with data of many types, and a replica that has it all.
async fn pair(version: &str) -> (RealServer, RealServer) {
    let master = RealServer::start(version, &[]);
    let mut connection = master.connect().await;
    fill(&mut connection, version).await;
    let port = master.port.to_string();
    let replica = RealServer::start(version, &["--replicaof", "127.0.0.1", &port]);
    replica.connect().await;
    let at = |node: &NodeObservation| (node.replication.history, node.replication.offset);
    replica.wait("in sync", is_in_sync).await;
    let _: i64 = connection.query(&["INCR", "after-the-sync"]).await.expect("a write");
    let master_at = at(&master.observe().await);
    replica.wait("as far as its master", |node| at(node).0 == master_at.0 && at(node).1 >= master_at.1).await;
    (master, replica)
}

async fn fill(connection: &mut Connection, version: &str) {
    let script = "for i = 1, 2000 do redis.call('SET', 'string:' .. i, string.rep('x', i % 300)) end \
                  for i = 1, 300 do redis.call('RPUSH', 'list', i); redis.call('SADD', 'set', 'm' .. i); \
                  redis.call('ZADD', 'zset', i, 'z' .. i); redis.call('HSET', 'hash', 'f' .. i, i); \
                  redis.call('XADD', 'stream', i .. '-1', 'a', i) end \
                  redis.call('SET', 'volatile', 1, 'EX', 100000) return 1";
    let _: i64 = connection.query(&["EVAL", script, "0"]).await.expect("data");
    let _: String = connection.query(&["XGROUP", "CREATE", "stream", "group", "0"]).await.expect("a group");
    if version.starts_with("redis-8") || version == "valkey-9.1" {
        // Values that only this engine's own RDB format can hold.
        let _: Vec<i64> =
            connection.query(&["HEXPIRE", "hash", "100000", "FIELDS", "1", "f1"]).await.expect("a field with a life");
    }
    if version != "redis-6.2" {
        let library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
        let _: String = connection.query(&["FUNCTION", "LOAD", library]).await.expect("a function");
    }
}

/// One deployment's keys: the authority, the node's signer, the repository's identity, the agent's own.
struct Keys {
    signer: Arc<dyn ManifestSigner>,
    verifier: Arc<dyn ManifestVerifier>,
    identity: AgentIdentity,
    repository: Identity,
    agent: Identity,
    store: Arc<MemoryStore>,
}

impl Keys {
    fn new() -> Self {
        let now = Timestamp::from_millis(1_790_000_000_000);
        let authority = CertificateAuthority::generate(now, AUTHORITY_LIFETIME).expect("an authority");
        let identity = AgentIdentity {
            deployment: "orders".parse().expect("a name"),
            shard: "0".parse().expect("a name"),
            site: "fra".parse().expect("a name"),
            node: "fra-1".parse().expect("a name"),
        };
        let request = CertificateRequest::generate().expect("a key");
        let issued = authority.issue_agent(&identity, &request.csr_pem, now, AGENT_LIFETIME).expect("a certificate");
        let signer = AgentSigner::new(&request.key_pem, &issued.certificate_pem).expect("a signer");
        Self {
            signer: Arc::new(CertificateSigner(signer)),
            verifier: Arc::new(AuthorityVerifier { ca_pem: authority.certificate_pem() }),
            identity,
            repository: Identity::generate(),
            agent: Identity::generate(),
            store: Arc::new(MemoryStore::default()),
        }
    }

    fn request(&self, method: Option<CaptureMethod>) -> CaptureRequest {
        let mut entropy = [0; 10];
        getrandom::fill(&mut entropy).expect("randomness");
        CaptureRequest {
            key: BackupKey {
                deployment: self.identity.deployment.clone(),
                shard: self.identity.shard.clone(),
                id: BackupId::new(Timestamp::from_millis(1_790_000_000_000), entropy),
            },
            method,
            allow_stale: false,
            max_link_down: Duration::ZERO,
            recipients: self.repository.recipient().into(),
        }
    }

    async fn capture(&self, server: Server, request: &CaptureRequest) -> Result<Manifest, CaptureError> {
        let tools = CaptureTools {
            server,
            store: self.store.clone(),
            signer: self.signer.clone(),
            identity: self.identity.clone(),
            rdb_file: None,
        };
        capture(&tools, request, &|_, _, _| {}).await?;
        let reader = BackupReader::open(self.store.clone(), request.key.clone(), self.verifier.as_ref()).await;
        Ok(reader.expect("what was committed is readable").manifest().clone())
    }

    async fn restore(
        &self,
        server: Server,
        manifest: &Manifest,
        overwrite: bool,
    ) -> Result<Restored, urtext_agent::restore::RestoreFailed> {
        let secret = self.repository.to_secret();
        let sealed = seal_bytes(&self.agent.recipient().into(), secret.expose().as_bytes()).expect("sealed");
        let task = pb::RestoreTask {
            direct: None,
            download_bytes_per_second: None,
            backup: Some(pb::BackupKey {
                deployment: manifest.deployment.to_string(),
                shard: manifest.shard.to_string(),
                id: manifest.backup.to_string(),
            }),
            sealed_identity: sealed.into(),
            overwrite,
            planned_target_keys: if overwrite { 1_000_000 } else { 0 },
        };
        let request = RestoreRequest::open(task, &self.agent).expect("sealed to this agent");
        let store: Arc<dyn Store> = self.store.clone();
        let tools = RestoreTools { server, store, verifier: self.verifier.clone() };
        restore(&tools, &request, [7; 20], &CancellationToken::new(), &|_, _, _| {}).await
    }
}

async fn on_every_version<F, Fut>(walk: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = ()>,
{
    if VERSIONS.iter().all(|version| !binary(version).exists()) {
        eprintln!("skipped: no servers are installed; run tests/install-servers");
        return;
    }
    for version in VERSIONS {
        eprintln!("--- {version}");
        walk(version).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_captured_exactly_and_restored_with_its_lineage() {
    on_every_version(|version| async move {
        let keys = Keys::new();
        let (master, replica) = pair(version).await;
        let before = replica.observe().await;
        let manifest = keys.capture(replica.server(), &keys.request(None)).await.expect("a backup");
        assert_eq!(manifest.method, CaptureMethod::Replication);
        let position = manifest.position.expect("a replica has a position");
        assert_eq!(position.history, before.replication.history);
        assert!(position.offset >= before.replication.offset);
        assert_eq!(manifest.contents.keys(), before.keys());
        assert_eq!(manifest.stale, None);
        assert!(manifest.settings.object.is_some() && manifest.settings.missing.is_empty());
        assert_eq!(master.observe().await.replication.history, before.replication.history, "nothing was changed");

        let target = RealServer::start(version, &[]);
        target.connect().await;
        let restored = keys.restore(target.server(), &manifest, false).await.expect("a restore");
        let node = target.observe().await;
        assert!(node.replication.role.is_master());
        assert_eq!(node.replication.parent, Some(position));
        assert_eq!(node.replication.history, restored.new_history);
        assert_eq!(node.fork_edge().map(|edge| edge.evidence), Some(Evidence::PromotedMaster));
        assert_eq!(target.digest().await, master.digest().await);
        assert_eq!(restored.loaded.keys(), manifest.contents.keys());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_save_carries_the_same_position_as_replication() {
    on_every_version(|version| async move {
        let keys = Keys::new();
        let (master, _replica) = pair(version).await;
        let request = keys.request(Some(CaptureMethod::File));
        let manifest = keys.capture(master.server(), &request).await.expect("a backup");
        assert_eq!(manifest.method, CaptureMethod::File);
        let node = master.observe().await;
        let position = manifest.position.expect("a master with a replica has a position");
        assert_eq!(position.history, node.replication.history);
        assert!(position.offset <= node.replication.offset);
        assert_eq!(manifest.contents.keys(), node.keys());
        let again = keys.capture(master.server(), &keys.request(Some(CaptureMethod::File))).await.expect("another");
        assert_ne!(again.backup, manifest.backup);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_master_keeps_its_history_and_its_copy_restores_under_a_new_one() {
    on_every_version(|version| async move {
        let keys = Keys::new();
        let master = RealServer::start(version, &[]);
        fill(&mut master.connect().await, version).await;
        let before = master.observe().await.replication.history;
        let manifest = keys.capture(master.server(), &keys.request(None)).await.expect("a backup");
        assert_eq!((manifest.method, manifest.position), (CaptureMethod::File, None));
        assert_eq!(master.observe().await.replication.history, before);

        let target = RealServer::start(version, &[]);
        target.connect().await;
        let restored = keys.restore(target.server(), &manifest, false).await.expect("a restore");
        assert_eq!(restored.position, None);
        assert_eq!(target.digest().await, master.digest().await);

        // Asked for by name, attaching is allowed, and the new history is on record.
        let request = keys.request(Some(CaptureMethod::Replication));
        let manifest = keys.capture(master.server(), &request).await.expect("a backup");
        let position = manifest.position.expect("attaching gave the master a backlog");
        assert_ne!(position.history, before);
        assert_eq!(manifest.lineage.len(), 1);
        assert_eq!((manifest.lineage[0].child, manifest.lineage[0].parent.history), (position.history, before));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_master_is_captured_only_knowingly_and_marked() {
    on_every_version(|version| async move {
        let keys = Keys::new();
        let (master, replica) = pair(version).await;
        drop(master);
        let is_stale = |node: &NodeObservation| {
            matches!(&node.replication.role, Role::Replica { link, .. } if link.down_since_seconds >= Some(1))
        };
        replica.wait("the link to be down for a second", is_stale).await;
        let frozen = replica.observe().await;
        let error = keys.capture(replica.server(), &keys.request(None)).await.expect_err("stale");
        assert!(matches!(error, CaptureError::Refused(_)), "{error}");
        let knowingly = CaptureRequest { allow_stale: true, ..keys.request(None) };
        let manifest = keys.capture(replica.server(), &knowingly).await.expect("a backup");
        assert!(manifest.stale.is_some());
        assert_eq!(manifest.method, CaptureMethod::File);
        assert_eq!(manifest.position, frozen.position());
        let by_replication = CaptureRequest { method: Some(CaptureMethod::Replication), ..knowingly };
        let error = keys.capture(replica.server(), &by_replication).await.expect_err("NOMASTERLINK");
        assert!(matches!(error, CaptureError::NoMethod(NoMethod::LinkDown)), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_data_is_refused_untouched_unless_told_otherwise() {
    on_every_version(|version| async move {
        let keys = Keys::new();
        let (_master, replica) = pair(version).await;
        let manifest = keys.capture(replica.server(), &keys.request(None)).await.expect("a backup");
        let target = RealServer::start(version, &[]);
        let _: String = target.connect().await.query(&["SET", "precious", "1"]).await.expect("a write");
        let before = target.observe().await.replication.history;
        let failed = keys.restore(target.server(), &manifest, false).await.expect_err("it holds data");
        assert_eq!(failed.state, TargetState::Untouched);
        assert!(matches!(failed.error, RestoreError::NotEmpty { keys: 1, .. }), "{}", failed.error);
        let after = target.observe().await;
        assert_eq!((after.keys(), after.replication.history), (1, before));
        keys.restore(target.server(), &manifest, true).await.expect("overwritten");
        assert_eq!(target.digest().await, replica.digest().await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_never_reaches_the_target() {
    on_every_version(|version| async move {
        let keys = Keys::new();
        let (_master, replica) = pair(version).await;
        let manifest = keys.capture(replica.server(), &keys.request(None)).await.expect("a backup");
        keys.store.tamper(&manifest.key().part(0), |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Some(bytes)
        });
        let target = RealServer::start(version, &[]);
        let before = target.connect().await.observe(|| Timestamp::from_millis(0)).await.expect("a look").1;
        let failed = keys.restore(target.server(), &manifest, false).await.expect_err("one bit is wrong");
        assert_eq!(failed.state, TargetState::Untouched);
        assert!(matches!(failed.error, RestoreError::Read(_)), "{}", failed.error);
        assert_eq!(target.observe().await.replication.history, before.replication.history);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_user_is_enough_and_each_missing_right_is_named() {
    on_every_version(|version| async move {
        let keys = Keys::new();
        let (master, replica) = pair(version).await;
        let allow = |rules: String| {
            let replica = &replica;
            async move {
                let words = ["ACL", "SETUSER", "urtext", "reset", "on", ">secret"];
                let words: Vec<&str> = words.into_iter().chain(rules.split_whitespace()).collect();
                let _: String = replica.connect().await.query(&words).await.expect("the user");
            }
        };
        let user = || server_at(&format!("redis://urtext:secret@127.0.0.1:{}", replica.port));
        allow(urtext_agent::server::CAPTURE_RIGHTS.to_owned()).await;
        let manifest = keys.capture(user(), &keys.request(None)).await.expect("enough for replication");
        assert_eq!(manifest.settings.missing, []);
        keys.capture(user(), &keys.request(Some(CaptureMethod::File))).await.expect("enough for the file");
        let mut connection = user().connect().await.expect("a connection");
        let report = check_permissions(&mut connection).await.expect("a report");
        let access = |report: &urtext_agent::server::PermissionReport, rule: &str| {
            report.rights.iter().find(|(right, _)| right.rule == rule).map(|(_, access)| access.clone())
        };
        for (right, found) in &report.rights {
            let expect = if right.rule == "+replicaof" { Access::Denied } else { Access::Granted };
            assert_eq!(*found, expect, "{}", right.rule);
        }
        assert_eq!(report.grant().as_deref(), Some("ACL SETUSER urtext +replicaof"));
        assert_eq!(master.observe().await.replication.history, replica.observe().await.replication.history);

        // One right less: the check names it, and a capture says what is missing.
        for missing in ["+psync", "+replconf", "+bgsave", "+config|get"] {
            let rules: Vec<&str> = urtext_agent::server::CAPTURE_RIGHTS.split(' ').filter(|r| *r != missing).collect();
            allow(rules.join(" ")).await;
            let mut connection = user().connect().await.expect("a connection");
            let report = check_permissions(&mut connection).await.expect("a report");
            assert_eq!(access(&report, missing), Some(Access::Denied), "{missing}");
            assert!(report.grant().is_some_and(|line| line.contains(missing)));
        }
        allow("+ping".to_owned()).await;
        let error = user().connect().await.err().expect("INFO is not permitted");
        assert!(matches!(&error, ServerError::NotPermitted { command, .. } if command == "INFO"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_used_says_why() {
    on_every_version(|version| async move {
        let nobody = server_at("redis://127.0.0.1:1");
        assert!(matches!(nobody.connect().await.err(), Some(ServerError::Unreachable { .. })));
        let server = RealServer::start(version, &["--requirepass", "secret"]);
        let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port);
        let since = Instant::now();
        while server_at(&url("secret")).connect().await.is_err() {
            assert!(since.elapsed() < LIMIT);
        }
        let error = server.server().connect().await.err().expect("no password");
        assert!(matches!(error, ServerError::PasswordMissing { .. }), "{error}");
        let error = server_at(&url("wrong")).connect().await.err().expect("a wrong password");
        assert!(matches!(error, ServerError::WrongPassword { .. }), "{error}");
        let unknown = server_at(&format!("redis://nobody:x@127.0.0.1:{}", server.port));
        assert!(matches!(unknown.connect().await.err(), Some(ServerError::WrongPassword { .. })));
        assert!(!format!("{error:?}").contains("secret") && !format!("{error:?}").contains("\"wrong\""));
    })
    .await;
}

/// Redis 7.0 is the one of the five that is built with TLS everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_is_captured_over_tls_and_a_wrong_scheme_is_named() {
    const VERSION: &str = "redis-7.0";
    if !binary(VERSION).exists() {
        eprintln!("skipped: {VERSION} is not installed; run tests/install-servers");
        return;
    }
    let now = urtext_agent::clock::now();
    let authority = CertificateAuthority::generate(now, AUTHORITY_LIFETIME).expect("an authority");
    let certificate =
        authority.issue_coordinator(&["127.0.0.1".to_owned()], now, AGENT_LIFETIME).expect("a certificate");
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("to write");
        path.to_str().expect("a path").to_owned()
    };
    let ca = write("ca.pem", &authority.certificate_pem());
    let chain = write("server.pem", &certificate.certificate_pem);
    let key = write("server.key", certificate.key_pem.expose());
    let tls_port = free_port();
    let plain = RealServer::start(
        VERSION,
        &[
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &chain,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ],
    );
    fill(&mut plain.connect().await, VERSION).await;
    let settings = |scheme: &str, port: u16, ca_file: &str| urtext_agent::settings::RedisSettings {
        url: format!("{scheme}://127.0.0.1:{port}"),
        password_file: None,
        ca_file: Some(ca_file.into()),
        client_certificate_file: None,
        client_key_file: None,
    };
    let server = |scheme, port| settings(scheme, port, &ca).server(None).expect("settings");

    let keys = Keys::new();
    let request = keys.request(Some(CaptureMethod::Replication));
    let manifest = keys.capture(server("rediss", tls_port), &request).await.expect("a backup over TLS");
    assert_eq!(manifest.contents.keys(), plain.observe().await.keys());

    let hint_of = |error: ServerError| format!("{error}: {}", error.hint().unwrap_or_default());
    let error = server("redis", tls_port).connect().await.err().expect("a TLS port");
    assert!(matches!(error, ServerError::NotPlain { .. }), "{error}");
    assert!(hint_of(error).contains(&format!("rediss://127.0.0.1:{tls_port}")));
    let error = server("rediss", plain.port).connect().await.err().expect("a plain port");
    assert!(hint_of(error).contains(&format!("try redis://127.0.0.1:{}", plain.port)));
    let other = CertificateAuthority::generate(now, AUTHORITY_LIFETIME).expect("another authority");
    let other = write("other.pem", &other.certificate_pem());
    let error = settings("rediss", tls_port, &other).server(None).expect("settings").connect().await.err();
    assert!(matches!(error, Some(ServerError::Tls { .. })), "{error:?}");
}
