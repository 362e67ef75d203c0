//! What the repository gives back, and what of it can be read.

use std::sync::atomic::{AtomicBool, Ordering};

use urtext_identity::{AgentSigner, CertificateRequest};
use urtext_planner::Learned;
use urtext_proto::pb;
use urtext_repository::{
    Manifest, ManifestSigner, SignatureError, SignedManifest, StoreOperation,
    testing::{Fault as StoreFault, FaultyStore},
};
use urtext_types::{Contradiction, Evidence, ForkEdge, Lineage, Offset, Position, ReplicationId};

use super::*;
use crate::{tasks::Outcome, verdict::Ask};

struct Signer(AgentSigner);

impl ManifestSigner for Signer {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(bytes))
    }
    fn certificate_pem(&self) -> &str {
        self.0.certificate_pem()
    }
}

/// Commits a backup at `offset` behind everybody's back: the manifest that the format's page shows.
async fn commit(app: &App, node: &AgentIdentity, n: u8, offset: u64) -> BackupKey {
    commit_at(app, node, BackupId::new(now(), [n; 10]), offset).await
}

/// The same, under an id of the caller's.
pub(super) async fn commit_at(app: &App, node: &AgentIdentity, id: BackupId, offset: u64) -> BackupKey {
    let format = include_str!("../../../../proto/repository/FORMAT.md");
    let example = format.split("```json manifest\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut manifest: Manifest = serde_json::from_str(example.expect("an example")).expect("a manifest");
    (manifest.backup, manifest.deployment, manifest.node) = (id, node.deployment.clone(), node.node.clone());
    manifest.position = manifest.position.map(|at| Position::new(at.history, Offset::new(offset).expect("small")));
    (manifest.fork, manifest.lineage, manifest.observed_before) = (None, Vec::new(), None);
    let request = CertificateRequest::generate().expect("a key");
    let lifetime = std::time::Duration::from_secs(3600);
    let issued = app.authority.issue_agent(node, &request.csr_pem, now(), lifetime).expect("a certificate");
    let signer = Signer(AgentSigner::new(&request.key_pem, &issued.certificate_pem).expect("a signer"));
    let bytes = SignedManifest::seal(&manifest, &signer).and_then(|signed| signed.to_bytes()).expect("sealed");
    let key = manifest.key();
    store(app).await.put_new(&key.manifest(), bytes).await.expect("stored");
    key
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_hides_no_other_and_is_tried_again() {
    let broken: Arc<Mutex<Option<String>>> = Arc::default();
    let is_gone = Arc::new(AtomicBool::new(false));
    let (wanted, gone) = (Arc::clone(&broken), Arc::clone(&is_gone));
    let (_dir, app) = app(|store, _| {
        Arc::new(FaultyStore::new(store, move |_, operation, object| {
            let wanted = wanted.lock().expect("not poisoned");
            let is_broken = wanted.as_deref() == Some(object) || gone.load(Ordering::Relaxed);
            (operation == StoreOperation::Get && is_broken).then_some(StoreFault::Before(ErrorKind::Unavailable))
        }))
    })
    .await;
    let node = agent("orders", "fra-2");
    let (old, new) = (commit(&app, &node, 1, 100).await, commit(&app, &node, 2, 200).await);
    let shard = ShardKey::of(&node);
    let canonical = async || {
        let judgement = app.judge(&shard, &Ask::default()).await.expect("judged");
        (judgement.canonical().map(|entry| entry.id), judgement)
    };
    assert_eq!(canonical().await.0, Some(new.id));

    *broken.lock().expect("not poisoned") = Some(new.manifest().to_string());
    let (chosen, judgement) = canonical().await;
    assert_eq!(chosen, Some(old.id));
    let entry = judgement.backups.iter().find(|entry| entry.id == new.id).expect("still listed");
    assert!(entry.trouble().is_some_and(|trouble| trouble.contains("tried again")), "{entry:?}");

    let more = judgement.may_hold_more();
    assert!(more.iter().any(|more| more.bytes_more == Some(100)), "a restore stops: {more:?}");

    *broken.lock().expect("not poisoned") = None;
    assert_eq!(canonical().await.0, Some(new.id));

    // When nothing can be read, it is the repository that does not answer; nothing is marked.
    is_gone.store(true, Ordering::Relaxed);
    assert_eq!(app.reconcile(None).await.expect_err("refused").kind(), ErrorKind::Unavailable);
    is_gone.store(false, Ordering::Relaxed);
    assert_eq!(canonical().await.0, Some(new.id));
}

fn at(n: u8, offset: u64) -> Position {
    let history = ReplicationId::from_bytes([n; 20]).expect("not zero");
    Position::new(history, Offset::new(offset).expect("small"))
}

/// What is believed, and what is in doubt.
fn known(app: &App, shard: &ShardKey) -> (Lineage, Vec<Contradiction>, Vec<String>) {
    let histories = app.histories.of(shard);
    (histories.lineage.trusted(&histories.contradictions), histories.contradictions, histories.findings)
}

#[tokio::test]
async fn what_contradicts_is_doubted_again_after_a_rebuild_and_without_the_catalog() {
    let (dir, app) = plain_app().await;
    let shard = ShardKey::of(&agent("orders", "fra-1"));
    let first = ForkEdge { child: at(2, 0).history, parent: at(1, 615), evidence: Evidence::PromotedMaster };
    let bridge = ForkEdge { child: at(4, 0).history, parent: at(2, 700), evidence: Evidence::InferredSameRun };
    for edge in [first, ForkEdge { parent: at(3, 615), ..first }, bridge] {
        let learned: Learned = app.histories.with(&shard, |known| known.learn_edge(edge));
        app.keep(&shard, learned).await;
    }
    let before = known(&app, &shard);
    assert_eq!((before.1.len(), before.2.len()), (1, 1));
    assert_eq!(before.0.edges().copied().collect::<Vec<_>>(), [bridge], "neither parent is believed");

    let rebuilt = app.rebuild_catalog().await.expect("rebuilt");
    assert_eq!((rebuilt.edges, rebuilt.contradictions), (2, 1));
    assert_eq!(known(&app, &shard), before);

    let catalog = Catalog::open(&dir.path().join("another.sqlite")).await.expect("an empty catalog");
    let App { directory, settings, clock, authority, repositories, .. } = app;
    let parts = Parts { directory, settings, clock, authority, repositories, catalog };
    let again = Box::pin(App::start(parts)).await.expect("started");
    assert_eq!(known(&again, &shard), before);
}

#[tokio::test]
async fn a_restore_that_reports_another_position_than_planned_makes_no_exact_fork() {
    let (_dir, app) = plain_app().await;
    let node = agent("orders", "fra-2");
    let key = commit(&app, &node, 1, 100).await;
    app.reconcile(None).await.expect("compared");
    let planned = app.catalog.backup(key.id).await.expect("asked").and_then(|entry| entry.position).expect("one");
    let task = Task::new(
        StoredTask {
            id: TaskId::new(now(), [1; 10]),
            agent: node.clone(),
            work: TaskWork::Restore {
                deployment: key.deployment,
                shard: key.shard,
                backup: key.id,
                by: "ada".to_owned(),
            },
            boot_id: None,
            given_at: now(),
        },
        None,
    );
    let new_history = [9; 20].to_vec();
    let done = |restored: Position| pb::RestoreDone {
        restored: Some(restored.into()),
        new_history: new_history.clone().into(),
        ..pb::RestoreDone::default()
    };
    let shard = ShardKey::of(&node);
    let wrong = Position::new(planned.history, planned.offset.checked_add(1).expect("small"));
    let outcome = app.restored(&task, done(wrong)).await.expect("taken in");
    assert!(matches!(&outcome, Outcome::Failed(error) if error.kind() == ErrorKind::Integrity), "{outcome:?}");
    assert_eq!(app.histories.of(&shard).lineage.edges().count(), 0);
    assert_eq!(app.histories.of(&shard).findings.len(), 1);

    let outcome = app.restored(&task, done(planned)).await.expect("taken in");
    assert!(matches!(outcome, Outcome::Restored(_)), "{outcome:?}");
    let edges: Vec<_> = app.histories.of(&shard).lineage.edges().map(|edge| (edge.parent, edge.evidence)).collect();
    assert_eq!(edges, [(planned, Evidence::Restore)]);
}
