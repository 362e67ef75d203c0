use std::time::Duration;

use urtext_identity::{AgentIdentity, JoinToken, Sha256Digest, TokenRecord};
use urtext_planner::{AcceptedLineage, HeadSeen, Mark};
use urtext_types::{Engine, Evidence, ForkEdge, Offset, Position, RecordId, ReplicationId, Secret, TaskId, Timestamp};

use super::*;
use crate::shard::ShardKey;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis)
}

fn agent(node: &str) -> AgentIdentity {
    AgentIdentity {
        deployment: "orders".parse().expect("a name"),
        shard: "0".parse().expect("a name"),
        site: "fra".parse().expect("a name"),
        node: node.parse().expect("a name"),
    }
}

fn shard() -> ShardKey {
    ShardKey::of(&agent("fra-1"))
}

fn position(n: u8, offset: u64) -> Position {
    let history = ReplicationId::from_bytes([n; 20]).expect("not zero");
    Position::new(history, Offset::new(offset).expect("small"))
}

fn enrolment(serial: &str, node: &str, enrolled: i64) -> Enrolment {
    Enrolment {
        serial: serial.parse().expect("a serial"),
        identity: agent(node),
        recipient: String::new(),
        not_before: at(enrolled),
        not_after: at(enrolled + 1000),
        enrolled_at: at(enrolled),
        replaced_at: None,
    }
}

fn token(node: &str) -> TokenRecord {
    let ttl = Duration::from_secs(60);
    let endpoints = vec!["127.0.0.1:7400".to_owned()];
    let entropy = Secret::new([node.len() as u8; 40]);
    JoinToken::invite(agent(node), Sha256Digest::of(b"ca"), endpoints, at(0), ttl, &entropy).expect("valid").1
}

async fn catalog() -> (tempfile::TempDir, Catalog) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let catalog = Catalog::open(&dir.path().join("catalog 1%.sqlite")).await.expect("a new catalog");
    (dir, catalog)
}

async fn reopen(catalog: Catalog) -> Catalog {
    catalog.close().await;
    Catalog::open(&catalog.path).await.expect("the same catalog")
}

#[tokio::test]
async fn a_token_is_redeemed_once_and_replaces_the_nodes_earlier_agent() {
    let (_dir, catalog) = catalog().await;
    let record = token("fra-1");
    catalog.add_token(&record).await.expect("kept");
    catalog.add_enrolment(&enrolment("0a", "fra-1", 0)).await.expect("kept");
    catalog.add_enrolment(&enrolment("0b", "fra-2", 0)).await.expect("kept");
    let new = enrolment("0c", "fra-1", 10);
    assert_eq!(catalog.redeem_token(record.id, &new).await.expect("redeemed"), Redeemed::Now);

    let catalog = reopen(catalog).await;
    let second = catalog.redeem_token(record.id, &enrolment("0d", "fra-1", 20)).await.expect("answered");
    assert_eq!(second, Redeemed::Already { at: at(10) });
    assert_eq!(catalog.enrolment(&"0d".parse().expect("a serial")).await.expect("asked"), None);
    assert_eq!(catalog.token(record.id).await.expect("asked").and_then(|token| token.used_at), Some(at(10)));
    let replaced = catalog.enrolment(&"0a".parse().expect("a serial")).await.expect("asked").expect("there");
    assert_eq!(replaced.replaced_at, Some(at(10)));
    let current: Vec<String> =
        catalog.current_enrolments().await.expect("asked").iter().map(|one| one.serial.to_string()).collect();
    assert_eq!(current, ["0b", "0c"]);
}

#[tokio::test]
async fn open_tokens_are_those_that_could_still_be_redeemed() {
    let (_dir, catalog) = catalog().await;
    catalog.add_token(&token("fra-1")).await.expect("kept");
    assert_eq!(catalog.open_tokens(at(59_999)).await.expect("asked").len(), 1);
    assert_eq!(catalog.open_tokens(at(60_000)).await.expect("asked").len(), 0);
}

fn main() -> urtext_types::RepositoryName {
    "main".parse().expect("a name")
}

fn backup(millis: i64, entropy: u8) -> BackupEntry {
    BackupEntry {
        deployment: shard().deployment,
        shard: shard().shard,
        id: urtext_types::BackupId::new(at(millis), [entropy; 10]),
        site: agent("fra-1").site,
        node: agent("fra-1").node,
        position: Some(position(1, 48_211)),
        taken_at: at(millis),
        received_at: at(millis),
        keys: 7,
        rdb_bytes: 100,
        stored_bytes: 200,
        method: urtext_repository::CaptureMethod::Replication,
        engine: Engine::Valkey,
        server_version: "9.1.2".to_owned(),
        rdb_version: 80,
        run_id: "run".to_owned(),
        stale: None,
        content_digest: None,
        recipients: vec!["age1x".to_owned()],
        copies: [(main(), CopyState::default())].into(),
    }
}

#[tokio::test]
async fn backups_are_listed_newest_first_and_survive_a_reopening() {
    let (_dir, catalog) = catalog().await;
    let (old, mut new) = (backup(0, 1), backup(5, 2));
    for entry in [&old, &new] {
        catalog.put_backup(entry).await.expect("kept");
    }
    let damaged = CopyState { damaged: Some("part 3 is missing".to_owned()), ..CopyState::default() };
    new.copies = [(main(), damaged.clone())].into();
    catalog.put_copy(&new.key(), &main(), &damaged).await.expect("changed");
    let catalog = reopen(catalog).await;
    assert_eq!(catalog.backups(Some(&shard().deployment)).await.expect("listed"), [new.clone(), old.clone()]);
    assert_eq!(catalog.backup(new.id).await.expect("asked"), Some(new.clone()));
    catalog.remove_copy(&new.key(), &main()).await.expect("removed");
    assert_eq!(catalog.backups(None).await.expect("listed"), [old]);
    assert_eq!(catalog.backups(Some(&"carts".parse().expect("a name"))).await.expect("listed"), []);
}

#[tokio::test]
async fn pages_follow_each_other_newest_first_whatever_copies_there_are() {
    let (_dir, catalog) = catalog().await;
    let second: urtext_types::RepositoryName = "second".parse().expect("a name");
    let mut all: Vec<BackupEntry> = (0..5).map(|n| backup(i64::from(n), n)).collect();
    all[1].copies.insert(second.clone(), CopyState::default());
    // One id in two shards, and one of another deployment.
    all.push(BackupEntry { shard: "1".parse().expect("a name"), ..all[2].clone() });
    all.push(BackupEntry { deployment: "carts".parse().expect("a name"), ..all[3].clone() });
    for entry in &all {
        catalog.put_backup(entry).await.expect("kept");
    }
    let pages = async |deployment: Option<&str>, limit: usize| {
        let deployment = deployment.map(|name| name.parse().expect("a name"));
        let (mut listed, mut last): (Vec<BackupEntry>, _) = (Vec::new(), None);
        loop {
            let page = catalog.page(deployment.as_ref(), last.as_ref(), limit).await.expect("listed");
            listed.extend(page.iter().cloned());
            if page.len() < limit {
                return listed;
            }
            last = page.last().map(BackupEntry::key);
        }
    };
    let everything = catalog.backups(None).await.expect("listed");
    assert_eq!(everything.len(), 7);
    for limit in [1, 2, 3, 7, 8] {
        assert_eq!(pages(None, limit).await, everything, "in pages of {limit}");
    }
    let orders = shard().deployment;
    assert_eq!(pages(Some("orders"), 2).await, catalog.backups(Some(&orders)).await.expect("listed"));
    assert_eq!(pages(Some("nobody"), 2).await, []);
    let of_shard = catalog.backups_of(&shard()).await.expect("listed");
    assert_eq!(of_shard.iter().map(|entry| entry.id).collect::<Vec<_>>(), [4, 3, 2, 1, 0].map(|n| all[n].id));
    let some = catalog.backups_at(&shard(), &[all[1].id, all[4].id, backup(9, 9).id]).await.expect("asked");
    assert_eq!(some.into_values().collect::<Vec<_>>(), [all[1].clone(), all[4].clone()]);
    let totals = catalog.totals().await.expect("added up");
    assert_eq!(totals[&main()], Totals { backups: 7, stored_bytes: 1400, newest: Some(at(4)) });
    assert_eq!(totals[&second].backups, 1);
}

#[tokio::test]
async fn what_is_found_does_not_replace_what_its_session_knew() {
    let (_dir, catalog) = catalog().await;
    let committed = backup(0, 1);
    catalog.put_backup(&committed).await.expect("kept");
    let found = BackupEntry { received_at: at(-1), ..committed.clone() };
    let trouble = CopyState { unreadable: Some("it hangs".to_owned()), ..CopyState::default() };
    let other = backup(1, 2);
    let copies = [(other.key(), main(), trouble.clone())];
    catalog.take_in(&[found, other.clone()], &copies).await.expect("taken in");
    assert_eq!(catalog.backup_at(&committed.key()).await.expect("asked"), Some(committed.clone()));
    let listed = catalog.listed_copies(None).await.expect("listed");
    let copy = |id, is_in_trouble| ListedCopy { id, is_in_trouble };
    assert_eq!(listed[&main()][&shard()], [copy(committed.id, false), copy(other.id, true)]);
    catalog.remove_copies(&[committed.key(), other.key()], &main()).await.expect("removed");
    assert!(catalog.listed_copies(Some(&shard().deployment)).await.expect("listed").is_empty());
    assert_eq!(catalog.backups(None).await.expect("listed"), []);
}

#[tokio::test]
async fn a_new_index_is_staged_and_takes_the_place_of_the_old_one_at_once() {
    let (_dir, catalog) = catalog().await;
    let second: urtext_types::RepositoryName = "second".parse().expect("a name");
    let (kept, mut gone, new, unknown) = (backup(0, 1), backup(1, 2), backup(2, 3), backup(3, 4));
    for entry in [&kept, &gone] {
        catalog.put_backup(entry).await.expect("kept");
    }
    catalog.put_copy(&gone.key(), &second, &CopyState::default()).await.expect("kept");
    let staged = |entry: &BackupEntry, state: &CopyState, backup: StagedBackup| StagedCopy {
        key: entry.key(),
        repository: main(),
        state: state.clone(),
        backup,
    };
    let broken = CopyState { damaged: Some("it was changed".to_owned()), ..CopyState::default() };
    let stage = async |copies: &[StagedCopy]| catalog.stage(copies).await.expect("staged");
    // What an interrupted one left behind.
    stage(&[staged(&unknown, &broken, StagedBackup::Read(Box::new(unknown.clone())))]).await;
    catalog.clear_staged().await.expect("cleared");
    stage(&[
        staged(&kept, &broken, StagedBackup::Remembered(Box::new(kept.clone()))),
        staged(&new, &CopyState::default(), StagedBackup::Read(Box::new(new.clone()))),
        staged(&unknown, &broken, StagedBackup::Unknown),
    ])
    .await;
    assert_eq!(catalog.backups(None).await.expect("listed").len(), 2, "the old one is in use");
    let replaced = catalog.replace_index(&Index::default()).await.expect("replaced");
    assert_eq!(replaced, Replaced { backups: 2, found: 1, gone: 1 });
    let kept = BackupEntry { copies: [(main(), broken)].into(), ..kept };
    assert_eq!(catalog.backups(None).await.expect("listed"), [new.clone(), kept.clone()]);

    // A repository that cannot be asked keeps what is known of it, and nothing else is kept.
    gone.copies = [(second.clone(), CopyState::default())].into();
    catalog.put_backup(&gone).await.expect("kept");
    catalog.clear_staged().await.expect("cleared");
    stage(&[staged(&new, &CopyState::default(), StagedBackup::Read(Box::new(new.clone())))]).await;
    catalog.stage_as_known(&second).await.expect("staged");
    let replaced = catalog.replace_index(&Index::default()).await.expect("replaced");
    assert_eq!(replaced, Replaced { backups: 2, found: 0, gone: 1 });
    assert_eq!(catalog.backups(None).await.expect("listed"), [new, gone]);
}

#[tokio::test]
async fn what_is_known_of_the_histories_comes_back() {
    let (_dir, catalog) = catalog().await;
    let edge =
        ForkEdge { child: position(2, 0).history, parent: position(1, 615), evidence: Evidence::FollowingReplica };
    let better = ForkEdge { parent: position(1, 700), evidence: Evidence::PromotedMaster, ..edge };
    catalog.put_edge(&shard(), KnownEdge { edge, recorded: true }).await.expect("kept");
    catalog.put_edge(&shard(), KnownEdge { edge: better, recorded: false }).await.expect("improved");
    assert_eq!(catalog.unrecorded_edges().await.expect("asked"), [(shard(), better)]);
    let recorded = KnownEdge { edge, recorded: true };
    let head = |offset| HeadSeen { position: position(1, offset), node: agent("fra-1").node, seen_at: at(0) };
    let mark = |offset, complete: Option<i64>| Mark {
        position: position(1, offset),
        complete_up_to: complete.map(at),
        reached_by: Some(at(1000)),
        within: Duration::from_millis(20),
    };
    let marks = [(shard(), mark(500, Some(1000))), (shard(), mark(600, None)), (shard(), mark(700, None))];
    catalog.put_progress(&[(shard(), head(700))], &marks, &[]).await.expect("kept");
    catalog.put_progress(&[], &[(shard(), mark(600, Some(3000)))], &[]).await.expect("replaced");
    catalog.put_progress(&[(shard(), head(600))], &[], &[]).await.expect("kept");
    catalog.put_finding(&shard(), "odd", at(0)).await.expect("kept");
    catalog.put_finding(&shard(), "odd", at(1)).await.expect("kept once");
    let accepted = AcceptedLineage {
        history: position(2, 0).history,
        over: vec![position(1, 0).history],
        at: at(0),
        by: "operator".to_owned(),
        reason: "it is right".to_owned(),
    };
    let decision = Decision { record: RecordId::new(at(0), [1; 10]), accepted };
    catalog.put_decision(&shard(), &decision).await.expect("kept");

    let catalog = reopen(catalog).await;
    catalog.drop_marks(&shard(), &[position(1, 500)]).await.expect("thinned");
    let known = catalog.lineages().await.expect("read").remove(&shard()).expect("the shard");
    assert_eq!(known.edges, [recorded, KnownEdge { edge: better, recorded: false }], "in the order of learning");
    assert_eq!(known.heads, [head(700)], "an older observation does not lower the mark");
    assert_eq!(known.findings, ["odd"]);
    assert_eq!(known.decisions, [decision]);
    assert_eq!(known.marks, [mark(600, Some(3000)), mark(700, None)]);
}

#[tokio::test]
async fn a_task_is_open_until_it_ends() {
    let (_dir, catalog) = catalog().await;
    let task = |n: u8| StoredTask {
        id: TaskId::new(at(i64::from(n)), [n; 10]),
        agent: agent("fra-1"),
        work: TaskWork::Capture { backup: backup(0, n).id, hooked: false, slot: None },
        boot_id: Some("boot".to_owned()),
        given_at: at(0),
    };
    catalog.add_task(&task(1)).await.expect("kept");
    catalog.add_task(&task(2)).await.expect("kept");
    catalog.end_task(task(1).id, at(9), None).await.expect("ended");
    let catalog = reopen(catalog).await;
    let open = catalog.open_tasks().await.expect("listed");
    assert_eq!(open.iter().map(|task| task.id).collect::<Vec<_>>(), [task(2).id]);
    assert_eq!(open[0].work, task(2).work);
}

#[tokio::test]
async fn a_damaged_catalog_says_how_to_get_a_new_one() {
    let (_dir, catalog) = catalog().await;
    catalog.close().await;
    std::fs::write(&catalog.path, "this is no database at all, but it is long enough to be one".repeat(100))
        .expect("a file");
    let error = Catalog::open(&catalog.path).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let hint = error.hint().expect("a hint");
    assert!(hint.contains("move") && hint.contains("rebuilt from the repository"), "{hint}");
}
