//! The shapes as they are printed, whole: whoever parses them depends on every word.

use bytes::Bytes;
use urtext_proto::pb;

use super::*;

const HISTORY: [u8; 20] = [0x75; 20];
const CHILD: [u8; 20] = [0x2a; 20];

fn at(history: [u8; 20], offset: u64) -> Option<pb::Position> {
    Some(pb::Position { history: Bytes::copy_from_slice(&history), offset })
}

fn candidate(standing: &str, offset: u64) -> pb::Candidate {
    pb::Candidate {
        source: "backup".to_owned(),
        id: "01M823FD2KCZHKAZ5ZFCCVWTAC".to_owned(),
        node: "fra-2".to_owned(),
        site: "fra".to_owned(),
        position: at(HISTORY, offset),
        standing: standing.to_owned(),
        reason: "Because.".to_owned(),
        missing_bytes: Some(0),
        excess_bytes: None,
        data_as_of_from_ms: Some(1_800_000_000_000),
        data_as_of_to_ms: None,
        taken_at_ms: 1_800_000_001_000,
        verified: "never".to_owned(),
    }
}

#[track_caller]
fn check(value: &impl Serialize, expect: &str) {
    assert_eq!(serde_json::to_string(value).expect("our own struct"), expect.replace("\n    ", ""));
}

#[test]
fn canonical_has_the_documented_shape() {
    let response = pb::CanonicalResponse {
        deployment: "orders".to_owned(),
        shard: "0".to_owned(),
        verdict: "canonical".to_owned(),
        canonical: Some(candidate("canonical", 48_211)),
        head: Some(pb::Head { position: at(HISTORY, 48_977), node: "fra-1".to_owned(), seen_at_ms: 1_800_000_002_500 }),
        missing_bytes: Some(766),
        missing_ms: Some(3100),
        candidates: vec![candidate("canonical", 48_211)],
        forks: vec![pb::Fork {
            parent: Bytes::copy_from_slice(&HISTORY),
            offset: 615,
            children: vec![Bytes::copy_from_slice(&CHILD), Bytes::copy_from_slice(&HISTORY)],
            accepted: None,
        }],
        explanation: vec!["It is.".to_owned()],
        printed: "not part of it".to_owned(),
        ..pb::CanonicalResponse::default()
    };
    check(
        &Canonical::try_from(response).expect("a valid answer"),
        r#"{"deployment":"orders","shard":"0","verdict":"canonical",
    "canonical":{"source":"backup","id":"01M823FD2KCZHKAZ5ZFCCVWTAC","node":"fra-2","site":"fra",
    "history":"7575757575757575757575757575757575757575","offset":48211,
    "data_as_of":{"from":"2027-01-15T08:00:00.000Z","to":null},"taken_at":"2027-01-15T08:00:01.000Z",
    "verified":"never"},
    "head":{"history":"7575757575757575757575757575757575757575","offset":48977,"node":"fra-1",
    "seen_at":"2027-01-15T08:00:02.500Z"},
    "missing":{"bytes":766,"seconds":3.1},
    "candidates":[{"source":"backup","id":"01M823FD2KCZHKAZ5ZFCCVWTAC","node":"fra-2","site":"fra",
    "history":"7575757575757575757575757575757575757575","offset":48211,"standing":"canonical",
    "reason":"Because.","missing_bytes":0,"excess_bytes":null,
    "data_as_of":{"from":"2027-01-15T08:00:00.000Z","to":null},"taken_at":"2027-01-15T08:00:01.000Z",
    "verified":"never"}],
    "forks":[{"parent":"7575757575757575757575757575757575757575","offset":615,
    "children":["2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a","7575757575757575757575757575757575757575"],
    "accepted":null}],
    "explanation":["It is."],"may_hold_more":[],"advice":[]}"#,
    );
}

#[test]
fn a_shard_without_anything_has_every_key_all_the_same() {
    let response = pb::StatusResponse {
        now_ms: 1_800_000_000_000,
        shards: vec![pb::ShardStatus {
            deployment: "orders".to_owned(),
            shard: "0".to_owned(),
            nodes: vec![pb::NodeStatus {
                node: "fra-1".to_owned(),
                site: "fra".to_owned(),
                ..pb::NodeStatus::default()
            }],
            verdict: "none".to_owned(),
            data_loss_window_target_ms: 86_400_000,
            ..pb::ShardStatus::default()
        }],
        warnings: Vec::new(),
    };
    check(
        &Status::try_from(response).expect("a valid answer"),
        r#"{"now":"2027-01-15T08:00:00.000Z","shards":[{"deployment":"orders","shard":"0","verdict":"none",
    "canonical":null,"data_loss_window_seconds":null,"data_loss_window_target_seconds":86400.0,
    "last_backup":null,"nodes":[{"node":"fra-1","site":"fra","connected":false,"last_seen":null,"role":null,
    "engine":null,"server_version":null,"history":null,"offset":null,"link_up":null,"lag_bytes":null,
    "keys":null,"clock_skew_ms":null,"trouble":null,"tasks":[],"agent_version":""}],"findings":[],"alarms":[],
    "scheduled":null}],
    "warnings":[]}"#,
    );
}

#[test]
fn an_answer_with_half_a_history_is_refused_by_its_field() {
    let mut short = candidate("canonical", 1);
    short.position = Some(pb::Position { history: Bytes::from_static(b"short"), offset: 1 });
    let error = Candidate::try_from(short).expect_err("refused");
    assert_eq!(error.field, "position.history");
}

#[test]
fn a_backup_has_the_documented_shape() {
    let summary = pb::BackupSummary {
        key: Some(pb::BackupKey {
            deployment: "orders".to_owned(),
            shard: "0".to_owned(),
            id: "01M823FD2KCZHKAZ5ZFCCVWTAC".to_owned(),
        }),
        node: "fra-2".to_owned(),
        site: "fra".to_owned(),
        taken_at_ms: 1_800_000_000_000,
        received_at_ms: 1_800_000_001_000,
        keys: 7,
        rdb_bytes: 100,
        stored_bytes: 200,
        verified: "never".to_owned(),
        method: pb::CaptureMethod::File.into(),
        engine: pb::Engine::Valkey.into(),
        server_version: "9.1.2".to_owned(),
        stale: Some("its link was down".to_owned()),
        copies: vec![pb::CopySummary { repository: "main".to_owned(), ..pb::CopySummary::default() }],
        ..pb::BackupSummary::default()
    };
    let backups = Backups { backups: all(vec![summary]).expect("valid"), unreadable: Vec::new() };
    check(
        &backups,
        r#"{"backups":[{"id":"01M823FD2KCZHKAZ5ZFCCVWTAC","deployment":"orders","shard":"0","node":"fra-2",
    "site":"fra","history":null,"offset":null,"data_as_of":{"from":null,"to":null},
    "taken_at":"2027-01-15T08:00:00.000Z","received_at":"2027-01-15T08:00:01.000Z","keys":7,"rdb_bytes":100,
    "stored_bytes":200,"verified":"never","method":"file","engine":"valkey","server_version":"9.1.2",
    "stale":"its link was down","ineligible":null,"content_digest":null,"vouched":null,
    "data_as_of_reason":null,"copies":[{"repository":"main","trouble":null,"verified_at":null,
    "rehearsed_at":null,"locked_until":null}]}],"unreadable":[]}"#,
    );
}
