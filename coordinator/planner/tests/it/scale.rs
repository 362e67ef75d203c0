//! Many backups over many histories. A pass that looks at all pairs, or walks to the root for every
//! copy, would not come to its end here within the time that the test runner allows.

use urtext_planner::{Candidate, Detail, Picture, Policy, Sample, Source, Verdict, Verified, Wish, Witness, select};
use urtext_types::{BackupId, ByteCount, Evidence, ForkEdge, Offset, Position, ReplicationId, Timestamp};

use crate::fleet::empty_view;

const HISTORIES: u64 = 10_000;
const BACKUPS: u64 = 100_000;
/// Bytes from one failover to the next.
const REIGN: u64 = 1000;

fn at(history: u64, offset: u64) -> Position {
    let mut bytes = [7; 20];
    // Ids are random: their order says nothing about the order of the histories.
    bytes[..8].copy_from_slice(&history.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let history = ReplicationId::from_bytes(bytes).expect("not zero");
    Position::new(history, Offset::new(offset).expect("small"))
}

#[test]
fn a_chain_of_ten_thousand_failovers_is_judged_and_drawn() {
    let mut view = empty_view();
    for history in 1..HISTORIES {
        let (child, parent) = (at(history, 0).history, at(history - 1, history * REIGN));
        view.lineage.learn(ForkEdge { child, parent, evidence: Evidence::PromotedMaster }).expect("a chain");
    }
    view.candidates = (0..BACKUPS)
        .map(|i| {
            let time = Timestamp::from_millis(1_700_000_000_000 + i as i64);
            let offset = (i + 1) * (HISTORIES * REIGN / BACKUPS);
            Candidate {
                source: Source::Backup(BackupId::new(time, [0; 10])),
                node: "nyc-1".parse().expect("valid"),
                site: "nyc".parse().expect("valid"),
                position: Some(at((offset - 1) / REIGN, offset)),
                taken_at: time,
                received_at: time,
                verified: Verified::Stored,
                ineligible: None,
                out_of_reach: None,
                stale: None,
                keys: 1000,
                bytes: ByteCount::new(1000),
                run_id: String::new(),
                content_digest: None,
            }
        })
        .collect();
    // Only the last reign was observed: nothing is known of the time of all that came before.
    view.timeline.record(Sample {
        position: at(HISTORIES - 1, HISTORIES * REIGN),
        at: Timestamp::from_millis(0),
        within: std::time::Duration::ZERO,
        witness: Witness::Master,
    });
    let selection = select(&view, &Policy::default(), &Wish::default());
    assert_eq!(selection.verdict, Verdict::Canonical);
    assert_eq!(selection.canonical, Some(BACKUPS as usize - 1));
    assert_eq!(selection.candidates.len(), BACKUPS as usize);
    let ranked = selection.ranked(&view);
    let oldest = ranked.last().expect("many");
    assert_eq!((oldest.candidate, oldest.missing_bytes), (0, Some((BACKUPS - 1) * HISTORIES * REIGN / BACKUPS)));
    let folded = Picture::of(&view, &selection, Detail::Folded);
    assert!(folded.text().lines().count() < 50, "{}", folded.text());
    assert!(folded.svg().len() + folded.dot().len() < 50_000);
}
