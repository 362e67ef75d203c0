//! What stays and what goes: golden files, and the same decided slowly.
//!
//! The files are written like the scenarios: a story, `---`, and what is printed. `URTEXT_UPDATE=1` writes the
//! latter anew. One statement a line; times are `2026-11-22` or `2026-11-22T15:44`.
//!
//! ```text
//! edge b from a:615                          b was promoted from a at 615
//! backup 1 fra-1 a:600 received T [id T] [verified never|stored|rehearsed] [damaged "…"] [unreadable "…"]
//!          [suspect] [aside] [run r1] [size N]
//! daily 1..30 fra-1 a:100 from T [every 6h]  thirty of them, each 10 bytes further
//! canonical 3 | hold 3 "why" | now T | zone +02:00
//! accepted b over a at T "why" | let-go a at T "why"
//! policy last 1 daily 14 within 48h | policy nothing
//! ```

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use chrono::{DateTime, FixedOffset};
use proptest::prelude::*;
use urtext_planner::{
    AcceptedLineage, Held, LetGo, RetentionPolicy, RetentionView, StoredBackup, Verified, print_retention, retention,
};
use urtext_types::{
    BackupId, ByteCount, Evidence, ForkEdge, Lineage, Offset, Position, Relation, ReplicationId, ShardName, Timestamp,
};

use crate::fleet::{history, position};

struct Story {
    view: RetentionView,
    policy: RetentionPolicy,
    zone: FixedOffset,
}

fn time(text: &str) -> Timestamp {
    let text = if text.contains('T') { format!("{text}:00Z") } else { format!("{text}T00:00:00Z") };
    text.parse().expect("a time")
}

fn id(number: u8, at: Timestamp) -> BackupId {
    BackupId::new(at, [number; 10])
}

fn empty() -> RetentionView {
    RetentionView {
        deployment: "orders".parse().expect("a name"),
        shard: ShardName::default(),
        lineage: Lineage::new(),
        contradictions: Vec::new(),
        accepted: Vec::new(),
        backups: Vec::new(),
        canonical: None,
        holds: Vec::new(),
        let_go: Vec::new(),
        now: time("2026-11-30"),
    }
}

fn backup(number: u8, node: &str, at: Option<Position>, received_at: Timestamp) -> StoredBackup {
    StoredBackup {
        id: id(number, received_at),
        node: node.parse().expect("a name"),
        position: at,
        run_id: String::new(),
        received_at,
        bytes: ByteCount::new(1000),
        verified: Verified::Stored,
        damaged: None,
        unreadable: None,
        suspect: false,
        set_aside: false,
    }
}

/// Words, with quoted ones kept whole.
fn split(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    parts
        .flat_map(|(i, part)| match i % 2 {
            1 => vec![part.to_owned()],
            _ => part.split_whitespace().map(str::to_owned).collect(),
        })
        .collect()
}

fn hours(text: &str) -> Duration {
    let hours: u64 = text.strip_suffix('h').and_then(|hours| hours.parse().ok()).expect("hours, like 6h");
    Duration::from_secs(hours * 3600)
}

fn parse(text: &str) -> Story {
    let mut view = empty();
    let (mut policy, mut zone) = (RetentionPolicy::default(), FixedOffset::east_opt(0).expect("UTC"));
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words = split(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let after = |name: &str| words.iter().position(|word| *word == name).map(|at| words[at + 1]);
        let has = |name: &str| words.contains(&name);
        let numbered = |view: &RetentionView| {
            let number: u8 = words[1].parse().expect("a number");
            let found = view.backups.iter().find(|backup| backup.id == id(number, backup.id.timestamp()));
            found.expect("a backup that was named before").id
        };
        match words[0] {
            "edge" => {
                let (child, parent) = (history(words[1]), position(words[3]).expect("a position"));
                let edge = ForkEdge { child, parent, evidence: Evidence::PromotedMaster };
                view.lineage.learn(edge).expect("no contradiction");
            }
            "backup" => {
                let number = words[1].parse().expect("a number");
                let received_at = time(after("received").expect("received TIME"));
                let mut made = backup(number, words[2], position(words[3]), received_at);
                made.id = after("id").map_or(made.id, |at| id(number, time(at)));
                made.verified = match after("verified") {
                    None | Some("stored") => Verified::Stored,
                    Some("never") => Verified::Never,
                    Some("rehearsed") => Verified::Rehearsed,
                    Some(other) => panic!("verified {other}?"),
                };
                made.damaged = after("damaged").map(str::to_owned);
                made.unreadable = after("unreadable").map(str::to_owned);
                made.run_id = after("run").unwrap_or_default().to_owned();
                (made.suspect, made.set_aside) = (has("suspect"), has("aside"));
                view.backups.push(made);
            }
            "daily" => {
                let (first, last) = words[1].split_once("..").expect("N..M");
                let (first, last): (u8, u8) = (first.parse().expect("a number"), last.parse().expect("a number"));
                let from = time(after("from").expect("from TIME"));
                let every = after("every").map_or(Duration::from_secs(86_400), hours);
                for (i, number) in (first..=last).enumerate() {
                    let at = position(words[3]).expect("a position");
                    let offset = Offset::new(at.offset.get() + 10 * i as u64).expect("small");
                    let received_at = from.plus(every * u32::try_from(i).expect("small"));
                    view.backups.push(backup(number, words[2], Some(Position::new(at.history, offset)), received_at));
                }
            }
            "canonical" => view.canonical = Some(numbered(&view)),
            "hold" => view.holds.push(Held {
                backup: numbered(&view),
                by: "alice".to_owned(),
                at: view.now,
                reason: words[2].to_owned(),
            }),
            "accepted" => view.accepted.push(AcceptedLineage {
                history: history(words[1]),
                over: words[3].split(',').map(history).collect(),
                at: time(after("at").expect("at TIME")),
                by: "alice".to_owned(),
                reason: words[words.len() - 1].to_owned(),
            }),
            "let-go" => view.let_go.push(LetGo {
                history: history(words[1]),
                by: "bob".to_owned(),
                at: time(after("at").expect("at TIME")),
                reason: words[words.len() - 1].to_owned(),
            }),
            "policy" => {
                policy = RetentionPolicy::NOTHING;
                for rule in words[1..].chunks_exact(2) {
                    let count = || rule[1].parse().expect("a number");
                    match rule[0] {
                        "last" => policy.last = count(),
                        "hourly" => policy.hourly = count(),
                        "daily" => policy.daily = count(),
                        "weekly" => policy.weekly = count(),
                        "monthly" => policy.monthly = count(),
                        "yearly" => policy.yearly = count(),
                        "within" => policy.within = Some(hours(rule[1])),
                        other => panic!("policy {other}?"),
                    }
                }
            }
            "zone" => {
                let with_zone = format!("2026-11-22T00:00:00{}", words[1]);
                zone = *DateTime::parse_from_rfc3339(&with_zone).expect("an offset like +02:00").offset();
            }
            "now" => view.now = time(words[1]),
            other => panic!("{other}?"),
        }
    }
    Story { view, policy, zone }
}

#[test]
fn every_story_prints_what_stays_and_why() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/retention");
    let mut files: Vec<_> =
        fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 12, "{} stories are left of those that there were", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a story");
        let (story, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let Story { view, policy, zone } = parse(story);
        let decided = retention(&view, &policy, &zone);
        let printed = print_retention(&decided);
        for line in printed.lines() {
            assert!(line.chars().count() <= 100, "{}: more than 100 columns: {line}", file.display());
        }
        if std::env::var_os("URTEXT_UPDATE").is_some() {
            fs::write(&file, format!("{story}---\n{printed}")).expect("the story with its answer");
        } else if printed != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- printed\n{printed}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nURTEXT_UPDATE=1 accepts what is printed", wrong.join("\n"));
}

/// The ids of what stays.
fn kept(view: &RetentionView, policy: &RetentionPolicy, zone: &FixedOffset) -> BTreeSet<BackupId> {
    retention(view, policy, zone).kept().map(|verdict| verdict.backup.id).collect()
}

/// The same, from the definitions alone: quadratic and worse.
fn kept_slowly(view: &RetentionView, policy: &RetentionPolicy, zone: &FixedOffset) -> BTreeSet<BackupId> {
    let is_within =
        |a: Position, b: Position| matches!(view.lineage.relate(a, b), Relation::Equal | Relation::Behind { .. });
    let decision = view.accepted.last();
    let aside = |backup: &StoredBackup| {
        let Some(at) = backup.position else { return false };
        let by_operator = decision.is_some_and(|decision| {
            let accepted = Position::new(decision.history, Offset::MAX);
            view.lineage
                .path(at)
                .any(|stretch| decision.over.contains(&stretch.history) && !is_within(stretch, accepted))
        });
        by_operator || backup.set_aside
    };
    let good = |backup: &StoredBackup| {
        backup.verified >= Verified::Stored
            && backup.damaged.is_none()
            && backup.unreadable.is_none()
            && !backup.suspect
            && backup.received_at <= view.now
    };
    let newer = |a: &StoredBackup, b: &StoredBackup| (a.received_at, a.id) > (b.received_at, b.id);
    let living: Vec<&StoredBackup> = view.backups.iter().filter(|backup| !aside(backup)).collect();
    // The branches that a backup lies on: each a set of backups.
    let mut branches: Vec<Vec<&StoredBackup>> = Vec::new();
    for tip in &living {
        match tip.position {
            Some(at) => {
                if !living
                    .iter()
                    .filter_map(|other| other.position)
                    .any(|other| is_within(at, other) && !is_within(other, at))
                {
                    branches.push(
                        living
                            .iter()
                            .copied()
                            .filter(|other| other.position.is_some_and(|other| is_within(other, at)))
                            .collect(),
                    );
                }
            }
            None => branches.push(
                living
                    .iter()
                    .copied()
                    .filter(|other| {
                        other.id == tip.id
                            || other.position.is_none()
                                && !tip.run_id.is_empty()
                                && (&other.run_id, &other.node) == (&tip.run_id, &tip.node)
                    })
                    .collect(),
            ),
        }
    }
    let bucket = |format: &str, at: Timestamp| {
        DateTime::from_timestamp_millis(at.as_millis())
            .expect("in the calendar")
            .with_timezone(zone)
            .format(format)
            .to_string()
    };
    let rules_keep = |backup: &StoredBackup, others: &[&StoredBackup]| {
        let newer_ones: Vec<&&StoredBackup> = others.iter().filter(|other| newer(other, backup)).collect();
        let counts = [
            ("%Y-%m-%d %H", policy.hourly),
            ("%Y-%m-%d", policy.daily),
            ("%G-%V", policy.weekly),
            ("%Y-%m", policy.monthly),
            ("%Y", policy.yearly),
        ];
        let newest =
            others.iter().map(|other| other.received_at).max().unwrap_or(backup.received_at).max(backup.received_at);
        newer_ones.len() < policy.last as usize
            || counts.iter().any(|(format, count)| {
                let mine = bucket(format, backup.received_at);
                let theirs: BTreeSet<String> =
                    newer_ones.iter().map(|other| bucket(format, other.received_at)).collect();
                !theirs.contains(&mine) && theirs.len() < *count as usize
            })
            || policy.within.is_some_and(|within| newest.since(backup.received_at) <= within)
            || *policy == RetentionPolicy::NOTHING
    };
    let mut kept: BTreeSet<BackupId> = BTreeSet::new();
    for backup in &view.backups {
        let let_go = || {
            let at = backup.position.expect("set aside");
            view.let_go.iter().any(|let_go| {
                backup.received_at <= let_go.at
                    && view.lineage.path(at).any(|stretch| stretch.history == let_go.history)
            })
        };
        let on: Vec<&Vec<&StoredBackup>> =
            branches.iter().filter(|branch| branch.iter().any(|other| other.id == backup.id)).collect();
        let same_node = |branch: &[&StoredBackup], also_damaged: bool| -> Vec<StoredBackup> {
            let wanted = |other: &&&StoredBackup| {
                let mut mended = (**other).clone();
                if also_damaged && mended.damaged.take().is_some() {
                    (mended.verified, mended.unreadable) = (Verified::Stored, None);
                }
                other.node == backup.node && good(&mended)
            };
            branch.iter().filter(wanted).map(|other| (**other).clone()).collect()
        };
        let stays = if view.holds.iter().any(|held| held.backup == backup.id) || view.canonical == Some(backup.id) {
            true
        } else if aside(backup) {
            !let_go()
        } else if backup.received_at > view.now || backup.suspect {
            true
        } else if backup.damaged.is_some() {
            on.iter().any(|branch| {
                let others = same_node(branch, true);
                rules_keep(backup, &others.iter().collect::<Vec<_>>())
                    || !branch.iter().any(|other| good(other) && newer(other, backup))
            })
        } else if !good(backup) {
            true
        } else {
            on.iter().any(|branch| {
                let others = same_node(branch, false);
                let is_best = !branch.iter().any(|other| {
                    let key = |backup: &StoredBackup| (backup.verified, backup.received_at, backup.id);
                    good(other)
                        && match (backup.position, other.position) {
                            (Some(a), Some(b)) if view.lineage.relate(a, b) == Relation::Equal => {
                                key(other) > key(backup)
                            }
                            (Some(a), Some(b)) => is_within(a, b),
                            _ => newer(other, backup),
                        }
                });
                rules_keep(backup, &others.iter().collect::<Vec<_>>()) || is_best
            })
        };
        if stays {
            kept.insert(backup.id);
        }
    }
    let left = view.backups.iter().any(|backup| kept.contains(&backup.id) && good(backup));
    if !left {
        let last =
            view.backups.iter().filter(|backup| good(backup)).max_by_key(|backup| (backup.received_at, backup.id));
        kept.extend(last.map(|backup| backup.id));
    }
    kept
}

fn policies() -> impl Strategy<Value = RetentionPolicy> {
    (0..3_u32, 0..4_u32, 0..4_u32, 0..3_u32, 0..3_u32, 0..2_u32, proptest::option::of(1..72_u64)).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly, within)| RetentionPolicy {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: within.map(|hours| Duration::from_secs(hours * 3600)),
        },
    )
}

fn some_history(n: u8) -> ReplicationId {
    ReplicationId::from_bytes([n; 20]).expect("not zero")
}

/// Receipt times within some weeks, some of them in the same hour, a few after now.
fn backups() -> impl Strategy<Value = Vec<StoredBackup>> {
    let one = (
        proptest::option::weighted(0.9, (1..6_u8, 0..10_u64)),
        0..3_u8,
        prop_oneof![8 => 0..1_000_i64, 1 => 700..730_i64],
        0..4_u8,
        0..20_u8,
        0..2_u8,
    );
    proptest::collection::vec(one, 0..40).prop_map(|all| {
        let made = all.into_iter().enumerate().map(|(i, (at, node, hour, verified, flaw, run))| {
            let at =
                at.map(|(history, tens)| Position::new(some_history(history), Offset::new(tens * 10).expect("small")));
            // Two in one hour are common, two at one time are not possible.
            let received = time("2026-10-20").plus(Duration::from_secs(hour as u64 * 3600 + i as u64));
            let mut made = backup(u8::try_from(i).expect("few"), &format!("node-{node}"), at, received);
            made.verified =
                [Verified::Never, Verified::Stored, Verified::Stored, Verified::Rehearsed][usize::from(verified)];
            made.damaged = (flaw == 0).then(|| "part 3 is missing".to_owned());
            made.unreadable = (flaw == 1).then(|| "no answer".to_owned());
            (made.suspect, made.set_aside) = (flaw == 2, flaw == 3 && at.is_some());
            made.run_id = ["", "r1"][usize::from(run)].to_owned();
            made
        });
        made.collect()
    })
}

fn views() -> impl Strategy<Value = RetentionView> {
    let edge = (any::<prop::sample::Index>(), 0..10_u64, any::<bool>());
    let edges = proptest::collection::vec(edge, 4);
    let decision = proptest::option::of((1..6_u8, proptest::collection::vec(1..6_u8, 1..3)));
    let let_go = proptest::option::of((1..6_u8, 0..1_000_u64));
    let picks =
        (proptest::option::of(any::<prop::sample::Index>()), proptest::option::of(any::<prop::sample::Index>()));
    (edges, backups(), decision, let_go, picks).prop_map(|(edges, backups, decision, let_go, (hold, canonical))| {
        let mut view = empty();
        for (i, (parent, tens, is_known)) in edges.into_iter().enumerate().filter(|(_, (.., is_known))| *is_known) {
            let _ = is_known;
            let parent =
                Position::new(some_history(parent.index(i + 1) as u8 + 1), Offset::new(tens * 10).expect("small"));
            let edge = ForkEdge { child: some_history(i as u8 + 2), parent, evidence: Evidence::PromotedMaster };
            view.lineage.learn(edge).expect("one edge for each child");
        }
        view.now = time("2026-11-19");
        let (why, by) = ("because".to_owned(), "alice".to_owned());
        view.accepted.extend(decision.map(|(history, over)| AcceptedLineage {
            history: some_history(history),
            over: over.into_iter().filter(|&rival| rival != history).map(some_history).collect(),
            at: view.now,
            by: by.clone(),
            reason: why.clone(),
        }));
        view.let_go.extend(let_go.map(|(history, hour)| LetGo {
            history: some_history(history),
            by: by.clone(),
            at: time("2026-10-20").plus(Duration::from_secs(hour * 3600)),
            reason: why.clone(),
        }));
        if !backups.is_empty() {
            let pick = |index: prop::sample::Index| backups[index.index(backups.len())].id;
            view.holds.extend(hold.map(|hold| Held { backup: pick(hold), by, at: view.now, reason: why }));
            view.canonical = canonical.map(pick);
        }
        view.backups = backups;
        view
    })
}

/// Named in a failure, so that it can be played again.
fn seed() -> u64 {
    std::env::var("URTEXT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

fn check(name: &str, test: impl Fn(RetentionView, RetentionPolicy, FixedOffset) -> Result<(), TestCaseError>) {
    let seed = seed();
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    let bytes: Vec<u8> = seed.to_le_bytes().repeat(4);
    let rng = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(config, rng);
    let zones = (-12..=12_i32).prop_map(|hours| FixedOffset::east_opt(hours * 3600).expect("an offset"));
    if let Err(error) = runner.run(&(views(), policies(), zones), |(view, policy, zone)| test(view, policy, zone)) {
        panic!("{name}: {error}\nURTEXT_SEED={seed} plays it again");
    }
}

#[test]
fn the_fast_answer_is_the_slow_one() {
    check("the fast answer is the slow one", |view, policy, zone| {
        prop_assert_eq!(kept(&view, &policy, &zone), kept_slowly(&view, &policy, &zone));
        let decided = retention(&view, &policy, &zone);
        let mut ids: Vec<BackupId> = decided.backups.iter().map(|verdict| verdict.backup.id).collect();
        prop_assert!(decided.backups.iter().all(|verdict| !verdict.reasons.is_empty()));
        ids.sort_unstable();
        let mut all: Vec<BackupId> = view.backups.iter().map(|backup| backup.id).collect();
        all.sort_unstable();
        prop_assert_eq!(ids, all, "each exactly once");
        Ok(())
    });
}

#[test]
fn the_order_of_the_backups_means_nothing() {
    check("the order means nothing", |mut view, policy, zone| {
        let decided = retention(&view, &policy, &zone);
        view.backups.reverse();
        prop_assert_eq!(retention(&view, &policy, &zone), decided);
        Ok(())
    });
}

/// An agent chooses nothing but its own backups: their ids, positions and number. Whatever it claims,
/// nobody else's backup goes that would have stayed.
#[test]
fn an_agent_that_lies_pushes_out_nothing_of_other_nodes() {
    check("lies push out nothing", |view, policy, zone| {
        let mut honest = view.clone();
        honest.backups.retain(|backup| backup.node.as_str() != "node-0");
        honest.canonical = honest.canonical.filter(|id| honest.backups.iter().any(|backup| backup.id == *id));
        let mut lying = view;
        lying.canonical = honest.canonical;
        for (i, backup) in lying.backups.iter_mut().filter(|backup| backup.node.as_str() == "node-0").enumerate() {
            // Dated now far ahead, now far back.
            let claimed = if i % 2 == 0 { 4_000_000_000_000 } else { 1_000 };
            backup.id = id(100 + u8::try_from(i).expect("few"), Timestamp::from_millis(claimed));
        }
        let (before, after) = (retention(&honest, &policy, &zone), kept(&lying, &policy, &zone));
        for verdict in before.kept() {
            let stays_for_the_rules =
                verdict.reasons.iter().any(|reason| !matches!(reason.as_str(), "last-good" | "only-good" | "damaged"));
            // The most complete one of a branch may be the liar's from now on; the rules' answer stands.
            prop_assert!(!stays_for_the_rules || after.contains(&verdict.backup.id), "{:?}", verdict);
        }
        Ok(())
    });
}

#[test]
fn ids_that_claim_other_times_change_nothing() {
    check("ids change nothing", |view, policy, zone| {
        let lie = |id: BackupId| {
            let claimed = Timestamp::from_millis(id.timestamp().as_millis().wrapping_mul(31) & 0x7fff_ffff_ffff);
            let number = view.backups.iter().position(|backup| backup.id == id).expect("one of them");
            self::id(u8::try_from(number).expect("few"), claimed)
        };
        let mut lying = view.clone();
        lying.backups.iter_mut().for_each(|backup| backup.id = lie(backup.id));
        lying.holds.iter_mut().for_each(|held| held.backup = lie(held.backup));
        lying.canonical = view.canonical.map(lie);
        let expected: BTreeSet<BackupId> = kept(&view, &policy, &zone).into_iter().map(lie).collect();
        prop_assert_eq!(kept(&lying, &policy, &zone), expected);
        Ok(())
    });
}
