//! What a large repository costs those who ask about it.

use std::sync::atomic::{AtomicUsize, Ordering};

use urtext_repository::{StoreOperation, testing::FaultyStore};

use super::{kept::commit_at, *};
use crate::verdict::Ask;

/// More than are compared whenever somebody asks.
const MANY: u16 = 1100;

fn id(n: u16) -> BackupId {
    let mut entropy = [0; 10];
    entropy[8..].copy_from_slice(&n.to_be_bytes());
    BackupId::new(now(), entropy)
}

#[tokio::test]
async fn a_large_repository_is_listed_at_intervals_and_by_whoever_decides() {
    let (lists, gets) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted_lists, counted_gets) = (Arc::clone(&lists), Arc::clone(&gets));
    let (_dir, app) = app(|store, _| {
        Arc::new(FaultyStore::new(store, move |_, operation, object| {
            match operation {
                StoreOperation::List if object.starts_with("backups") => counted_lists.fetch_add(1, Ordering::Relaxed),
                StoreOperation::Get if object.starts_with("backups") => counted_gets.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            None
        }))
    })
    .await;
    let node = agent("orders", "fra-2");
    for n in 0..MANY {
        commit_at(&app, &node, id(n), u64::from(n) * 100).await;
    }
    let requests = || (lists.swap(0, Ordering::Relaxed), gets.swap(0, Ordering::Relaxed));
    requests();
    app.reconcile(None).await.expect("compared");
    assert_eq!(requests(), (1, usize::from(MANY)), "each is read once");
    assert_eq!(app.catalog.backups(None).await.expect("listed").len(), usize::from(MANY));

    // Somebody else puts one more.
    let other = commit_at(&app, &node, id(MANY), u64::from(MANY) * 100).await;
    let shard = ShardKey::of(&node);
    for _ in 0..3 {
        app.reconcile_lately(Some(&shard.deployment)).await.expect("nothing to do");
    }
    assert_eq!(requests(), (0, 0));
    let judgement = app.judge_lately(&shard, &Ask::default()).await.expect("judged");
    assert_eq!(judgement.canonical().map(|entry| entry.id), Some(id(MANY - 1)));
    // Whoever goes by the answer looks, and reads only what is new.
    let judgement = app.judge(&shard, &Ask::default()).await.expect("judged");
    assert_eq!(judgement.canonical().map(|entry| entry.id), Some(other.id));
    assert_eq!(requests(), (1, 1));

    let rebuilt = app.rebuild_catalog().await.expect("rebuilt");
    assert_eq!((rebuilt.backups, rebuilt.backups_found, rebuilt.backups_gone), (u64::from(MANY) + 1, 0, 0));
    assert_eq!(requests(), (2, usize::from(MANY) + 1), "and once more for what came meanwhile");
    let judgement = app.judge_known(&shard, &Ask::default()).await.expect("judged");
    assert_eq!(judgement.canonical().map(|entry| entry.id), Some(other.id));
}

#[tokio::test]
async fn whose_backups_there_are_is_known_after_a_restart_without_their_agents() {
    let (_dir, app) = plain_app().await;
    let node = agent("orders", "fra-2");
    commit_at(&app, &node, id(1), 100).await;
    let App { directory, settings, clock, authority, repositories, catalog, .. } = app;
    let mut parts = Parts { directory, settings, clock, authority, repositories, catalog };
    // The first finds it in the repository, the second has it in the catalog.
    for _ in 0..2 {
        let App { directory, settings, clock, authority, repositories, catalog, fleet, .. } =
            Box::pin(App::start(parts)).await.expect("started");
        let nodes: Vec<AgentIdentity> = fleet.nodes(None).into_iter().map(|known| known.identity).collect();
        assert_eq!(nodes, std::slice::from_ref(&node));
        parts = Parts { directory, settings, clock, authority, repositories, catalog };
    }
}
