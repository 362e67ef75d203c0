//! Fleets written as text, for the scenarios.
//!
//! One statement a line; a history is one hex digit, or a few, which stand for forty: `a`, `b7`; times
//! are times of one day; `#` begins a comment.
//!
//! ```text
//! edge b from a:615 promoted            (or: following, inferred, restored)
//! backup 1 fra-1 fra a:600 keys 1000 taken 12:00 [verified stored] [run r1] [received 12:01]
//!          [ineligible "part 3 is missing"] [stale "captured …"] [only-in nyc] [digest 1]
//! live fra-1 fra a:678 seen 12:10 [master 2] [keys 1000] [run r1] [link-down 30] [loading] [syncing]
//!          [no-backlog] [unreachable] [skew 2500] [version 6.2.14] [aof]
//! silent fra-1 fra a:678 seen 12:10 …       (as `live`, unreachable, and no candidate)
//! sample a:600 12:00 [replica | beginning] [within 500]
//! ended fra-1 a:700 keys 1000 seen 12:00 noticed 12:05
//! repository nyc [unreachable] [listed 12:00]
//! head a:700 fra-1 12:00
//! accepted b at 12:05 by alice because "we run on nyc" [over nothing]
//! vouched 3
//! policy follow-master | prefer-site nyc
//! now 12:30
//! as-of 12:00 | at a:650
//! show lineage | capture 2 [captured fra-1] [failed nyc-1] | guard | alarms | times
//! ```

use std::{collections::BTreeMap, time::Duration};

use urtext_planner::{
    AcceptedLineage, AcceptedLoss, Candidate, ClockSkew, HeadSeen, NodeSeen, OnFork, Policy, RepositorySeen, RunSeen,
    Sample, ShardView, Source, Timeline, Tried, Until, Verified, Wish, Witness, set_aside_by,
};
use urtext_types::{
    BackupId, ByteCount, DataDigest, Engine, Evidence, ForkEdge, Keyspace, Lineage, MasterLink, NodeAddress,
    NodeObservation, Offset, PersistenceView, Position, ReplicaLink, ReplicationId, ReplicationView, Role,
    ServerIdentity, Timestamp,
};

/// A situation, and what is to be shown of it besides the verdict.
pub(crate) struct Fleet {
    pub(crate) view: ShardView,
    pub(crate) policy: Policy,
    pub(crate) wish: Wish,
    pub(crate) show_lineage: bool,
    pub(crate) show_guard: bool,
    pub(crate) show_alarms: bool,
    pub(crate) show_times: bool,
    pub(crate) show_capture: Option<(usize, Tried)>,
}

pub(crate) fn history(digits: &str) -> ReplicationId {
    digits.repeat(40 / digits.len()).parse().expect("1, 2, 4 or 8 hex digits, not all of them 0")
}

pub(crate) fn position(text: &str) -> Option<Position> {
    if text == "-" {
        return None;
    }
    let (digits, offset) = text.split_once(':').expect("HISTORY:OFFSET");
    Some(Position::new(history(digits), offset.parse().expect("an offset")))
}

/// `12:00` or `12:00:05`, on the day of all scenarios.
fn time(text: &str) -> Timestamp {
    let seconds = if text.len() == 5 { ":00" } else { "" };
    format!("2026-11-22T{text}{seconds}Z").parse().expect("a time")
}

pub(crate) fn empty_view() -> ShardView {
    ShardView {
        deployment: "orders".parse().expect("valid"),
        shard: urtext_types::ShardName::default(),
        lineage: Lineage::new(),
        contradictions: Vec::new(),
        accepted: Vec::new(),
        candidates: Vec::new(),
        nodes: Vec::new(),
        heads: Vec::new(),
        ended: Vec::new(),
        timeline: Timeline::new(),
        repositories: Vec::new(),
        vouched: Default::default(),
        losses: Vec::new(),
        now: time("12:30"),
    }
}

pub(crate) fn parse(text: &str) -> Fleet {
    let mut fleet = Fleet {
        view: empty_view(),
        policy: Policy::default(),
        wish: Wish::default(),
        show_lineage: false,
        show_guard: false,
        show_alarms: false,
        show_times: false,
        show_capture: None,
    };
    let mut samples = Vec::new();
    let mut decisions = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words = Words(split(line));
        match words.at(0) {
            "edge" => {
                if let Err(contradiction) = fleet.view.lineage.learn(edge(&words)) {
                    fleet.view.contradictions.push(contradiction);
                }
            }
            "backup" => fleet.view.candidates.push(backup(&words)),
            "live" => {
                let seen = live(&words);
                fleet.view.candidates.push(Candidate::live(&seen));
                fleet.view.nodes.push(seen);
            }
            // Remembered, and no candidate: nobody can ask it.
            "silent" => fleet.view.nodes.push(NodeSeen {
                reachable: false,
                agent_connected: words.has("agent-there"),
                ..live(&words)
            }),
            "sample" => {
                let position = position(words.at(1)).expect("a position");
                let within = words.after("within").map_or(0, |millis| millis.parse().expect("milliseconds"));
                let witness = match (words.has("replica"), words.has("beginning")) {
                    (true, _) => Witness::Replica,
                    (_, true) => Witness::Beginning,
                    _ => Witness::Master,
                };
                let within = Duration::from_millis(within);
                samples.push(Sample { position, at: time(words.at(2)), within, witness });
            }
            "ended" => fleet.view.ended.push(RunSeen {
                node: words.at(1).parse().expect("a name"),
                run_id: "before".to_owned(),
                position: position(words.at(2)),
                keys: words.after("keys").map_or(1000, |keys| keys.parse().expect("a number")),
                was_master: true,
                seen_at: time(words.after("seen").expect("seen TIME")),
                noticed_at: time(words.after("noticed").expect("noticed TIME")),
            }),
            "repository" => fleet.view.repositories.push(RepositorySeen {
                name: words.at(1).to_owned(),
                reachable: !words.has("unreachable"),
                listed_at: words.after("listed").map(time),
            }),
            "as-of" => fleet.wish = Wish::until(Until::Time(time(words.at(1)))),
            "at" => fleet.wish = Wish::until(Until::Position(position(words.at(1)).expect("a position"))),
            "head" => fleet.view.heads.push(HeadSeen {
                position: position(words.at(1)).expect("a position"),
                node: words.at(2).parse().expect("a name"),
                seen_at: time(words.at(3)),
            }),
            "accepted" => decisions.push(words),
            // lost NODE POSITION restored POSITION at TIME by WHOM because REASON
            "lost" => fleet.view.losses.push(AcceptedLoss {
                node: words.at(1).parse().expect("a name"),
                position: position(words.at(2)).expect("a position"),
                restored: position(words.after("restored").expect("restored POSITION")).expect("a position"),
                at: time(words.after("at").expect("at TIME")),
                by: words.after("by").expect("by WHOM").to_owned(),
                reason: words.after("because").expect("because REASON").to_owned(),
            }),
            "vouched" => {
                let wanted = words.at(1).parse::<u8>().expect("a number");
                let ids = fleet.view.candidates.iter().filter_map(|candidate| match candidate.source {
                    Source::Backup(id) => Some(id),
                    Source::Node => None,
                });
                let vouched: Vec<_> = ids.filter(|id| *id == backup_id(wanted, id.timestamp())).collect();
                fleet.view.vouched.extend(vouched);
            }
            "policy" => match words.at(1) {
                "follow-master" => fleet.policy.on_fork = OnFork::FollowMaster,
                "prefer-site" => fleet.policy.prefer_site = Some(words.at(2).parse().expect("a name")),
                other => panic!("policy {other}?"),
            },
            "now" => fleet.view.now = time(words.at(1)),
            "show" => match words.at(1) {
                "lineage" => fleet.show_lineage = true,
                "guard" => fleet.show_guard = true,
                "alarms" => fleet.show_alarms = true,
                "times" => fleet.show_times = true,
                "capture" => {
                    let node = |word| words.after(word).map(|node| node.parse().expect("a node")).into_iter().collect();
                    let tried = Tried { captured: node("captured"), failed: node("failed") };
                    fleet.show_capture = Some((words.at(2).parse().expect("a number"), tried));
                }
                other => panic!("show {other}?"),
            },
            other => panic!("{other}?"),
        }
    }
    fleet.view.timeline = samples.into_iter().collect();
    for words in decisions {
        let history = history(words.at(1));
        let over = match words.after("over") {
            Some("nothing") => Vec::new(),
            Some(digits) => digits.split(',').map(self::history).collect(),
            None => set_aside_by(&fleet.view, history).expect("a history that can be accepted"),
        };
        fleet.view.accepted.push(AcceptedLineage {
            history,
            over,
            at: time(words.after("at").expect("at TIME")),
            by: words.after("by").expect("by WHOM").to_owned(),
            reason: words.after("because").expect("because REASON").to_owned(),
        });
    }
    fleet
}

/// Words, with quoted ones kept whole.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 { words.push(part.to_owned()) } else { words.extend(part.split_whitespace().map(str::to_owned)) }
    }
    words
}

struct Words(Vec<String>);

impl Words {
    #[track_caller]
    fn at(&self, i: usize) -> &str {
        self.0.get(i).unwrap_or_else(|| panic!("word {i} is missing in {:?}", self.0))
    }

    fn after(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|word| word == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }
}

fn edge(words: &Words) -> ForkEdge {
    assert_eq!(words.at(2), "from");
    let evidence = match words.at(4) {
        "promoted" => Evidence::PromotedMaster,
        "following" => Evidence::FollowingReplica,
        "inferred" => Evidence::InferredSameRun,
        "restored" => Evidence::Restore,
        other => panic!("evidence {other}?"),
    };
    let child = history(words.at(1));
    ForkEdge { child, parent: position(words.at(3)).expect("a position"), evidence }
}

pub(crate) fn backup_id(number: u8, taken_at: Timestamp) -> BackupId {
    BackupId::new(taken_at, [number; 10])
}

fn backup(words: &Words) -> Candidate {
    let taken_at = time(words.after("taken").expect("taken TIME"));
    Candidate {
        source: Source::Backup(backup_id(words.at(1).parse().expect("a number"), taken_at)),
        node: words.at(2).parse().expect("a name"),
        site: words.at(3).parse().expect("a name"),
        position: position(words.at(4)),
        taken_at,
        received_at: words.after("received").map_or(taken_at, time),
        verified: match words.after("verified") {
            None => Verified::Never,
            Some("stored") => Verified::Stored,
            Some("rehearsed") => Verified::Rehearsed,
            Some(other) => panic!("verified {other}?"),
        },
        ineligible: words.after("ineligible").map(str::to_owned),
        out_of_reach: words.after("only-in").map(str::to_owned),
        stale: words.after("stale").map(str::to_owned),
        keys: words.after("keys").map_or(1000, |keys| keys.parse().expect("a number")),
        bytes: ByteCount::new(100_000),
        run_id: match (words.after("run"), position(words.at(4))) {
            // As a master without a backlog shows it, see `live`.
            (Some(run), None) => format!("{run}/{}", history("f")),
            (run, _) => run.unwrap_or_default().to_owned(),
        },
        content_digest: words.after("digest").map(|n| DataDigest::current([n.parse().expect("a small number"); 32])),
    }
}

fn live(words: &Words) -> NodeSeen {
    let address = NodeAddress { host: "10.0.0.1".to_owned(), port: 6379 };
    // A node without a position is shown as what it is: a master without a backlog, or a replica
    // that has received nothing.
    let at = position(words.at(3)).unwrap_or(Position::new(history("f"), Offset::ZERO));
    let role = match words.after("master") {
        Some(replicas) => {
            let link =
                ReplicaLink { address, state: "online".to_owned(), offset: at.offset.get(), lag_seconds: Some(0) };
            Role::Master { replicas: vec![link; replicas.parse().expect("a number of replicas")] }
        }
        None => {
            let down = words.after("link-down").map(|seconds| seconds.parse().expect("seconds"));
            let link = MasterLink {
                up: down.is_none(),
                last_io_seconds: down.is_none().then_some(1),
                down_since_seconds: down,
                sync_in_progress: words.has("syncing"),
            };
            Role::Replica { master: address, link, read_only: true, priority: 100 }
        }
    };
    let seen_at = time(words.after("seen").expect("seen TIME"));
    let keys = words.after("keys").map_or(1000, |keys| keys.parse().expect("a number"));
    NodeSeen {
        node: words.at(1).parse().expect("a name"),
        site: words.at(2).parse().expect("a name"),
        observation: NodeObservation {
            observed_at: seen_at,
            server: ServerIdentity {
                engine: Engine::Redis,
                version: words.after("version").unwrap_or("8.2.3").to_owned(),
                run_id: words.after("run").unwrap_or_default().to_owned(),
                cluster_enabled: false,
            },
            replication: ReplicationView {
                history: at.history,
                offset: at.offset,
                parent: None,
                backlog_active: !words.has("no-backlog"),
                failover_in_progress: false,
                role,
            },
            persistence: PersistenceView {
                loading: words.has("loading"),
                async_loading: false,
                bgsave_in_progress: false,
                last_bgsave_ok: true,
                last_save_at: None,
                saves: None,
                changes_since_last_save: 0,
                aof_enabled: words.has("aof"),
            },
            keyspace: BTreeMap::from([(0, Keyspace { keys, expires: 0 })]),
            used_memory: 1_000_000,
        },
        received_at: seen_at,
        reachable: !words.has("unreachable"),
        agent_connected: !words.has("unreachable"),
        clock: words.after("skew").map(|ahead| ClockSkew {
            ahead_ms: ahead.parse().expect("milliseconds"),
            within: Duration::from_millis(10),
        }),
    }
}
