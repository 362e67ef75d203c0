//! What is removed from real directories, and what stays.

use std::time::Duration;

use urtext_planner::RetentionReason;

use super::{kept::commit_at, *};
use crate::{
    prune::{PruneAsk, Pruned},
    verdict::HistoryPrefix,
};

/// What the tests ask for; the answer is what is done.
fn ask(dry_run: bool) -> PruneAsk {
    PruneAsk { deployment: Some("orders".parse().expect("a name")), dry_run, plan: None, by: "ada".to_owned() }
}

/// Backups 1 to 3 of one node, on days of their own, each 100 bytes further; all verified.
async fn three_days(app: &App) -> Vec<BackupKey> {
    let node = agent("orders", "fra-2");
    app.fleet.know(&node);
    let mut keys = Vec::new();
    for day in 1..=3_u8 {
        let at = now().minus(Duration::from_secs(86_400) * (20 - u32::from(day)));
        let key = commit_at(app, &node, BackupId::new(at, [day; 10]), u64::from(day) * 100).await;
        store(app).await.put_new(&key.part(0), Bytes::from_static(b"part")).await.expect("stored");
        keys.push(key);
    }
    app.reconcile(None).await.expect("found");
    keys
}

async fn verify(app: &App, keys: &[BackupKey]) {
    let main = "main".parse().expect("a name");
    for key in keys {
        let state = CopyState { verified_at: Some(now()), ..CopyState::default() };
        app.catalog.put_copy(key, &main, &state).await.expect("kept");
    }
}

/// Lets only the newest stay for the rules' sake.
fn only_the_last(app: &mut App) {
    let text = std::fs::read_to_string(app.directory.settings()).expect("its settings");
    let text = format!("{text}\n[retention]\ndaily = 0\n");
    app.settings = Settings::parse(&text, &app.directory.settings()).expect("settings");
}

fn removed(pruned: &Pruned) -> Vec<BackupId> {
    let outcome = pruned.repositories[0].outcome.as_ref().expect("carried out");
    assert!(outcome.failed.is_empty(), "{outcome:?}");
    outcome.removed.iter().map(|key| key.id).collect()
}

async fn stored(app: &App) -> Vec<BackupId> {
    app.reconcile(None).await.expect("compared");
    app.catalog.backups(None).await.expect("listed").into_iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn nothing_goes_before_it_was_verified() {
    let (_dir, mut app) = plain_app().await;
    only_the_last(&mut app);
    let keys = three_days(&app).await;
    let pruned = app.prune(ask(false)).await.expect("pruned");
    assert_eq!(removed(&pruned), []);
    verify(&app, &keys[2..]).await;
    let pruned = app.prune(ask(false)).await.expect("pruned");
    assert_eq!(removed(&pruned), [], "what is not verified yet stays");
    verify(&app, &keys).await;
    let pruned = app.prune(ask(false)).await.expect("pruned");
    assert_eq!(removed(&pruned), [keys[0].id, keys[1].id]);
    assert_eq!(stored(&app).await, [keys[2].id]);
    assert_eq!(store(&app).await.get(&keys[0].part(0)).await.expect_err("gone").kind(), ErrorKind::NotFound);
    let audit = app.audit(None).await.expect("the audit");
    let [record] = audit.as_slice() else { panic!("one record: {audit:?}") };
    let text = format!("{record:?}");
    assert_eq!(record.who, "ada");
    assert!(
        text.contains("from repository main, shard 0: 2 backups") && text.contains(&keys[0].id.to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_dry_run_removes_nothing_and_another_plan_is_refused() {
    let (_dir, mut app) = plain_app().await;
    only_the_last(&mut app);
    let keys = three_days(&app).await;
    verify(&app, &keys).await;
    let shown = app.prune(ask(true)).await.expect("planned");
    assert!(shown.repositories[0].outcome.is_none());
    assert!(shown.to_string().starts_with("repository main: 2 backups to remove"), "{shown}");
    assert_eq!(stored(&app).await.len(), 3);
    let held = app.hold(keys[0].id, false, "for the auditors".to_owned(), "ada").await;
    held.expect("on hold");
    let agreed = PruneAsk { plan: Some(shown.plan), ..ask(false) };
    let refused = app.prune(agreed).await.expect_err("not what was shown");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(stored(&app).await.len(), 3);
}

#[tokio::test]
async fn what_is_on_hold_stays_until_it_is_released() {
    let (_dir, mut app) = plain_app().await;
    only_the_last(&mut app);
    let keys = three_days(&app).await;
    verify(&app, &keys).await;
    assert_eq!(app.hold(keys[0].id, false, " ".to_owned(), "ada").await.expect_err("why?").kind(), ErrorKind::Usage);
    let release = app.hold(keys[0].id, true, "over".to_owned(), "ada").await;
    assert_eq!(release.expect_err("not held").kind(), ErrorKind::NotFound);
    app.hold(keys[0].id, false, "for the auditors".to_owned(), "ada").await.expect("on hold");
    let pruned = app.prune(ask(false)).await.expect("pruned");
    assert_eq!(removed(&pruned), [keys[1].id]);
    let kept: Vec<_> = pruned.retained[0].retention.kept().map(|kept| (kept.backup.id, kept.reasons.clone())).collect();
    let is_held = |reason: &RetentionReason| matches!(reason, RetentionReason::Held { by, reason, .. } if by == "ada" && reason == "for the auditors");
    assert!(kept.iter().any(|(id, reasons)| *id == keys[0].id && reasons.iter().any(is_held)), "{kept:?}");
    app.hold(keys[0].id, true, "they have seen it".to_owned(), "ada").await.expect("released");
    assert!(app.holds(None).await.expect("listed").is_empty());
    assert_eq!(removed(&app.prune(ask(false)).await.expect("pruned")), [keys[0].id]);
}

#[tokio::test]
async fn a_branch_is_let_go_of_only_where_it_was_set_aside() {
    let (_dir, app) = plain_app().await;
    let keys = three_days(&app).await;
    let entry = app.catalog.backup_at(&keys[0]).await.expect("looked up").expect("there");
    let history = entry.position.expect("a position").history;
    let prefix = HistoryPrefix::new(history.as_bytes().to_vec()).expect("a history");
    let shard = ShardKey::of(&agent("orders", "fra-2"));
    let refused = app.let_go(&shard, &prefix, "why not".to_owned(), "ada").await.expect_err("the only branch");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
}

#[tokio::test]
async fn a_repository_that_is_another_one_now_is_not_deleted_in() {
    let (dir, mut app) = plain_app().await;
    only_the_last(&mut app);
    let keys = three_days(&app).await;
    verify(&app, &keys).await;
    // The open one goes on to be what it was; its address leads elsewhere.
    let other = dir.path().join("other");
    let there = crate::directory::Directory::new(&other);
    init(there.root(), "127.0.0.1:7401".parse().expect("an address"), None, None, now()).await.expect("another one");
    let header = other.join("repository/urtext.json");
    let repository = app.directory.root().join("repository");
    std::fs::copy(header, repository.join("urtext.json")).expect("another header");
    let refused = app.prune(ask(false)).await.expect_err("another repository");
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(repository.join(keys[0].part(0).as_str()).exists());
}
