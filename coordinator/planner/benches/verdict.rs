//! `cargo bench -p urtext-planner`: how long a verdict over a million backups takes, and one look at a node.
//!
//! Ten thousand histories: failovers one after the other, every tenth of them forked by an old master that
//! went on alone until an operator set it aside. Everything on one core; time is processor time where the system
//! tells it, so that a busy machine does not count.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]

use std::{hint::black_box, time::Duration};

use urtext_planner::{
    AcceptedLineage, Candidate, ClockSkew, Policy, ShardHistories, ShardView, Source, Verdict, Verified, Wish, select,
    set_aside_by,
};
use urtext_types::{
    BackupId, ByteCount, Engine, Evidence, ForkEdge, NodeName, NodeObservation, Offset, PersistenceView, Position,
    ReplicationId, ReplicationView, Role, ServerIdentity, Timestamp,
};

const HISTORIES: u64 = 10_000;
const BACKUPS: u64 = 1_000_000;
/// Backups of one history, and bytes between them.
const REIGN: u64 = BACKUPS / HISTORIES;
const BYTES: u64 = 48_211;
/// Every so many histories, one is an old master that went on alone.
const FORKED: u64 = 10;

const VERDICT_GOAL: Duration = Duration::from_millis(100);
const LOOK_GOAL: Duration = Duration::from_micros(10);

fn main() {
    let mut histories = ShardHistories::default();
    learn_tree(&mut histories);
    let view = view(&histories);
    println!("{BACKUPS} backups over {HISTORIES} histories; memory with them: {}", resident());
    let decided = ("decided fork", decide(view.clone()));
    let mut met = true;
    for (name, view) in [("every fork undecided", view), decided] {
        met &= verdicts(name, &view);
    }
    met &= looks(histories);
    if !met {
        eprintln!("a goal was missed");
        std::process::exit(1);
    }
}

/// The best of several runs: what the machine was doing besides is not what is measured.
fn verdicts(name: &str, view: &ShardView) -> bool {
    let policy = Policy::default();
    let mut times: Vec<Duration> = (0..7)
        .map(|_| {
            let begun = now();
            let selection = black_box(select(black_box(view), &policy, &Wish::default()));
            let took = now() - begun;
            let expect = if view.accepted.is_empty() { Verdict::Ambiguous } else { Verdict::Canonical };
            assert_eq!(selection.verdict, expect);
            took
        })
        .collect();
    times.sort_unstable();
    println!("verdict, {name}: {:.1?} (median of 7: {:.1?}), goal {VERDICT_GOAL:?}", times[0], times[3]);
    let selection = select(view, &policy, &Wish::default());
    let begun = now();
    let reasons = selection.reasons(view);
    let words: usize = selection.candidates.iter().skip(1).step_by(1000).map(|judged| reasons.of(judged).len()).sum();
    println!("  {} reasons with it: {:.1?}, {words} bytes", BACKUPS / 1000, now() - begun);
    times[0] <= VERDICT_GOAL
}

/// A day of one look each second, and a failover every minute, on top of all that is known.
fn looks(mut histories: ShardHistories) -> bool {
    const LOOKS: u64 = 86_400;
    let node: NodeName = "fra-1".parse().expect("a name");
    let looks: Vec<NodeObservation> = (0..LOOKS)
        .map(|second| {
            let reign = HISTORIES + 1 + second / 60;
            let parent = (second >= 60).then(|| at(reign - 1, second / 60 * 60 * 100));
            look(at(reign, second * 100), parent, second)
        })
        .collect();
    let clock = ClockSkew { ahead_ms: 3, within: Duration::from_millis(5) };
    let begun = now();
    let mut before = None;
    for look in &looks {
        black_box(histories.observe(&node, before, look, look.observed_at, clock));
        before = Some(look);
    }
    let mean = (now() - begun) / LOOKS as u32;
    println!("one look: {mean:.2?} (mean of {LOOKS}, every 60th of them a failover), goal {LOOK_GOAL:?}");
    println!("{} marks take {}", histories.timeline.len(), ByteCount::new(histories.timeline.memory() as u64));
    println!("memory in the end: {}", resident());
    mean <= LOOK_GOAL
}

/// The processor time of this thread, in nanoseconds: the first number of Linux's `schedstat`. Elsewhere the time of day.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is set")
    })
}

fn at(history: u64, offset: u64) -> Position {
    let mut bytes = [7; 20];
    // Ids are random: their order says nothing about the order of the histories.
    bytes[..8].copy_from_slice(&(history + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let history = ReplicationId::from_bytes(bytes).expect("not zero");
    Position::new(history, Offset::new(offset).expect("small"))
}

fn is_old_master(history: u64) -> bool {
    history % FORKED == FORKED - 1
}

/// Which history `history` left, and where: an old master's successor left it in the middle.
fn parent(history: u64) -> Option<Position> {
    let before = history.checked_sub(1)?;
    let middle = if is_old_master(before) { REIGN / 2 } else { REIGN };
    Some(at(before, (before * REIGN + middle) * BYTES))
}

fn learn_tree(histories: &mut ShardHistories) {
    for history in 1..HISTORIES {
        let parent = parent(history).expect("not the first");
        histories.learn_edge(ForkEdge { child: at(history, 0).history, parent, evidence: Evidence::PromotedMaster });
    }
}

fn view(histories: &ShardHistories) -> ShardView {
    let candidates = (0..BACKUPS).map(|i| {
        let time = Timestamp::from_millis(1_700_000_000_000 + i as i64 * 1000);
        Candidate {
            source: Source::Backup(BackupId::new(time, [0; 10])),
            node: format!("fra-{}", i % 3).parse().expect("a name"),
            site: "fra".parse().expect("a name"),
            position: Some(at(i / REIGN, (i + 1) * BYTES)),
            taken_at: time,
            received_at: time,
            verified: Verified::Stored,
            ineligible: (i % 1000 == 0).then(|| "part 3 is missing".to_owned()),
            out_of_reach: None,
            stale: None,
            // Grows slowly, and breathes.
            keys: 100_000 + i / 10 + i * 7919 % 5000,
            bytes: ByteCount::new(100_000_000),
            run_id: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            content_digest: None,
        }
    });
    ShardView {
        deployment: "orders".parse().expect("a name"),
        shard: urtext_types::ShardName::default(),
        lineage: histories.lineage.clone(),
        contradictions: Vec::new(),
        accepted: Vec::new(),
        candidates: candidates.collect(),
        nodes: Vec::new(),
        heads: histories.heads(),
        ended: histories.ended(),
        timeline: histories.timeline.clone(),
        repositories: Vec::new(),
        losses: Vec::new(),
        vouched: Default::default(),
        now: Timestamp::from_millis(1_800_000_000_000),
    }
}

/// The last history is the right one.
fn decide(mut view: ShardView) -> ShardView {
    let history = at(HISTORIES - 2, 0).history;
    let over = set_aside_by(&view, history).expect("backups are on it");
    let (at, by, reason) = (view.now, "alice".to_owned(), "it is where clients write".to_owned());
    view.accepted.push(AcceptedLineage { history, over, at, by, reason });
    view
}

fn look(position: Position, parent: Option<Position>, second: u64) -> NodeObservation {
    NodeObservation {
        observed_at: Timestamp::from_millis(1_800_000_000_000 + second as i64 * 1000),
        server: ServerIdentity {
            engine: Engine::Redis,
            version: "8.2.3".to_owned(),
            run_id: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            cluster_enabled: false,
        },
        replication: ReplicationView {
            history: position.history,
            offset: position.offset,
            parent,
            backlog_active: true,
            failover_in_progress: false,
            role: Role::Master { replicas: Vec::new() },
        },
        persistence: PersistenceView {
            loading: false,
            async_loading: false,
            bgsave_in_progress: false,
            last_bgsave_ok: true,
            last_save_at: None,
            saves: None,
            changes_since_last_save: 0,
            aof_enabled: false,
        },
        keyspace: Default::default(),
        used_memory: 1_000_000,
    }
}

/// What the process takes, where the system says so.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}
