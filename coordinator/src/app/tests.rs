//! What nobody may do, asked of a whole coordinator without a network.

mod kept;
mod many;
mod prune;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use urtext_identity::{AgentIdentity, PeerCertificate, PeerId};
use urtext_repository::{
    BackupKey, CaptureMethod, DirectoryStore, ObjectInfo, ObjectName, ObjectPrefix, PutOutcome, Repository,
    Sha256Digest, Store, StoreError,
};
use urtext_types::{BackupId, Engine, ErrorKind, Explain, TaskId, Timestamp};

use super::*;
use crate::{
    catalog::{BackupEntry, CopyState, StoredTask, TaskWork},
    init::init,
    restoring::Target,
};

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

pub(crate) fn agent(deployment: &str, node: &str) -> AgentIdentity {
    AgentIdentity {
        deployment: deployment.parse().expect("a name"),
        shard: "0".parse().expect("a name"),
        site: "fra".parse().expect("a name"),
        node: node.parse().expect("a name"),
    }
}

/// A new coordinator. `wrap` comes between it and its repository.
async fn app(wrap: impl FnOnce(DirectoryStore, Catalog) -> Arc<dyn Store>) -> (tempfile::TempDir, App) {
    app_at(Clock::new(now), wrap).await
}

/// [`app`], with a clock of the test's own.
pub(crate) async fn app_at(
    clock: Clock,
    wrap: impl FnOnce(DirectoryStore, Catalog) -> Arc<dyn Store>,
) -> (tempfile::TempDir, App) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let directory = Directory::new(dir.path().join("urtext"));
    let listen = "127.0.0.1:7400".parse().expect("an address");
    init(directory.root(), listen, None, None, now()).await.expect("a new directory");
    let settings = Settings::load(&directory.settings()).expect("its settings");
    let authority = CertificateAuthority::load(&directory.authority()).expect("its authority");
    let catalog = Catalog::open(&directory.catalog()).await.expect("its catalog");
    let main = settings.repositories[0].clone();
    let store = DirectoryStore::open(main.address.directory().expect("a directory")).expect("its repository");
    let repository = Repository::open(wrap(store, catalog.clone())).await.expect("its repository");
    let repositories = Repositories::opened(main, repository);
    let app = Box::pin(App::start(Parts { directory, settings, clock, authority, repositories, catalog }))
        .await
        .expect("started");
    (dir, app)
}

/// Its only store.
async fn store(app: &App) -> Arc<dyn Store> {
    let place = app.repositories.iter().next().expect("one");
    Arc::clone(place.open().await.expect("open").store())
}

async fn plain_app() -> (tempfile::TempDir, App) {
    app(|store, _| Arc::new(store)).await
}

fn key(agent: &AgentIdentity) -> BackupKey {
    let id = BackupId::new(now(), [1; 10]);
    BackupKey { deployment: agent.deployment.clone(), shard: agent.shard.clone(), id }
}

fn entry(agent: &AgentIdentity) -> BackupEntry {
    let BackupKey { deployment, shard, id } = key(agent);
    BackupEntry {
        deployment,
        shard,
        id,
        site: agent.site.clone(),
        node: agent.node.clone(),
        position: None,
        taken_at: now(),
        received_at: now(),
        keys: 7,
        rdb_bytes: 100,
        stored_bytes: 200,
        method: CaptureMethod::Replication,
        engine: Engine::Valkey,
        server_version: "9.1.2".to_owned(),
        rdb_version: 80,
        run_id: "run".to_owned(),
        stale: None,
        content_digest: None,
        recipients: Vec::new(),
        copies: [("main".parse().expect("a name"), CopyState::default())].into(),
    }
}

async fn put(
    app: &Arc<App>,
    agent: &AgentIdentity,
    name: &ObjectName,
    bytes: &'static [u8],
) -> Result<PutOutcome, Fault> {
    let sha256 = Sha256Digest::of(bytes);
    let announced = app.announce(agent, name.as_str(), bytes.len() as u64, sha256.as_bytes()).await?;
    app.put(agent, announced, Bytes::from_static(bytes)).await
}

#[tokio::test]
async fn nothing_is_added_to_a_committed_backup_by_anybody() {
    let (_dir, app) = plain_app().await;
    let app = Arc::new(app);
    let owner = agent("orders", "fra-1");
    let (first, second) = (key(&owner).part(0), key(&owner).part(1));
    store(&app).await.put_new(&first, Bytes::from_static(b"part")).await.expect("stored");
    app.catalog.put_backup(&entry(&owner)).await.expect("indexed");

    // An answer that got lost is given again, and that is all.
    assert_eq!(put(&app, &owner, &first, b"part").await.expect("the same"), PutOutcome::AlreadyIdentical);
    for (name, bytes) in [(&first, &b"forged"[..]), (&second, b"more")] {
        assert_eq!(put(&app, &owner, name, bytes).await.expect_err("refused").kind(), ErrorKind::Denied, "{name}");
    }
    // Another node; and a node of that name that belongs to somebody else.
    for other in [agent("orders", "fra-2"), agent("carts", "fra-1")] {
        assert_eq!(put(&app, &other, &first, b"part").await.expect_err("refused").kind(), ErrorKind::Denied, "{other}");
    }
    assert_eq!(store(&app).await.get(&first).await.expect("there"), Bytes::from_static(b"part"));
    assert!(matches!(store(&app).await.get(&second).await, Err(StoreError::NotFound { .. })));
}

/// A repository in which a backup is committed right after it was listed.
struct CommitsAfterListing {
    store: DirectoryStore,
    catalog: Catalog,
    entry: BackupEntry,
}

#[async_trait]
impl Store for CommitsAfterListing {
    async fn put_new(&self, name: &ObjectName, bytes: Bytes) -> Result<PutOutcome, StoreError> {
        self.store.put_new(name, bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.store.get(name).await
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let (listed, catalog, entry) = (self.store.list(prefix), self.catalog.clone(), self.entry.clone());
        let listed = async move {
            let listed: Vec<_> = listed.collect().await;
            catalog.put_backup(&entry).await.expect("indexed");
            stream::iter(listed)
        };
        stream::once(listed).flatten().boxed()
    }
}

#[tokio::test]
async fn a_backup_that_is_committed_while_the_repository_is_listed_stays_listed() {
    let entry = entry(&agent("orders", "fra-1"));
    let committed = entry.clone();
    let (_dir, app) = app(|store, catalog| Arc::new(CommitsAfterListing { store, catalog, entry })).await;
    app.catalog.remove_copy(&committed.key(), &"main".parse().expect("a name")).await.expect("as before");
    app.reconcile(None).await.expect("compared");
    assert_eq!(app.catalog.backups(None).await.expect("listed"), [committed]);
}

#[tokio::test]
async fn a_server_is_restored_once_at_a_time() {
    let (_dir, app) = plain_app().await;
    let agent = agent("orders", "fra-1");
    let target = Target {
        agent: agent.clone(),
        recipient: String::new(),
        boot_id: "boot".to_owned(),
        run_id: "run".to_owned(),
        keys: 7,
        overwrite: true,
    };
    let BackupKey { deployment, shard, id: backup } = key(&agent);
    let stored = StoredTask {
        id: TaskId::new(now(), [1; 10]),
        agent,
        work: TaskWork::Restore { deployment, shard, backup, by: "ada".to_owned() },
        boot_id: None,
        given_at: now(),
    };
    app.tasks.add(Task::new(stored, None));
    let refused = app.check_plan(&target).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().ends_with(&format!("the restore of {backup} to node fra-1 is under way")), "{refused}");
}

#[tokio::test]
async fn without_the_catalog_the_newest_certificate_of_a_node_is_the_one_that_counts() {
    let (_dir, app) = plain_app().await;
    let agent = agent("orders", "fra-1");
    let certificate = |serial: &str, second: i64| PeerCertificate {
        peer: PeerId::Agent(agent.clone()),
        serial: serial.parse().expect("a serial"),
        not_before: Timestamp::from_millis(second * 1000),
        not_after: Timestamp::from_millis(i64::MAX),
    };
    let (replaced, current) = (certificate("0a", 1), certificate("0b", 2));
    // Nobody knows any more that it was replaced, until the one that replaced it is seen.
    app.check_agent(&replaced, &agent).await.expect("not known to be replaced");
    app.check_agent(&current, &agent).await.expect("the newest");
    for _ in 0..2 {
        assert_eq!(app.check_agent(&replaced, &agent).await.expect_err("refused").kind(), ErrorKind::Denied);
        app.check_agent(&current, &agent).await.expect("the newest");
    }
}
