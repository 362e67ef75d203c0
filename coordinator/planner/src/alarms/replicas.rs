//! Replicas with old data, however new their files.

use urtext_types::{CaptureRefusal, NodeName, Role, staleness};

use crate::{
    chart::Bearing,
    view::{NodeSeen, Policy},
    wording::{duration, time},
};

use super::{Alarm, AlarmKind, Scene, is_backup};

/// The link to its master is down.
pub(super) fn stale(now: &Scene<'_>, seen: &NodeSeen) -> Option<Alarm> {
    if !is_cut_off(seen, now.policy) {
        return None;
    }
    let (what, hint) = match staleness(&seen.observation)? {
        CaptureRefusal::NeverInSync => (
            format!("The replica {} has not received anything from its master", seen.node),
            "see to its link: address, password, and the log of both servers",
        ),
        CaptureRefusal::LinkDown { down_for_seconds: Some(seconds) } => (
            format!("The replica {} has been cut off from its master for {}", seen.node, duration(seconds as f64)),
            "see to its link; what is saved from it is new as a file and old as data",
        ),
        _ => (
            format!("The replica {} has been cut off from its master since it was started", seen.node),
            "see to its link; what is saved from it is new as a file and old as data",
        ),
    };
    let backups =
        now.view.candidates.iter().filter(|c| c.node == seen.node && is_backup(c.source) && c.stale.is_some());
    let newest = backups.max_by_key(|backup| (backup.received_at, backup.source));
    let sentence = match newest {
        Some(backup) => format!("{what}, and its backup of {} holds only what it had then.", time(backup.taken_at)),
        None => format!("{what}."),
    };
    Some(Alarm { kind: AlarmKind::ReplicaStale, subject: seen.node.to_string(), sentence, hint: hint.to_owned() })
}

/// The link is up, and what comes through it is old: the replica that it follows is cut off itself, or
/// its master is not the one that is written to.
pub(super) fn behind_stale(now: &Scene<'_>, seen: &NodeSeen) -> Option<Alarm> {
    let Role::Replica { link, master, .. } = &seen.observation.replication.role else { return None };
    if !link.up || link.sync_in_progress {
        return None;
    }
    let place = now.place(seen)?;
    let here = now.bearings(place);
    // Somebody wrote on after what it holds, and that was longer ago than a link may be down.
    let written = now.data_as_of.of(seen.observation.position()?).to?;
    let late = now.view.now.since(written);
    if late <= now.policy.max_link_down {
        return None;
    }
    let is_ahead = |at| now.ground.place(at).is_some_and(|place| matches!(here.of(place), Bearing::Ahead { .. }));
    let heads = now.view.heads.iter().filter(|head| is_ahead(head.position));
    let head = heads.max_by_key(|head| (head.position.offset, head.seen_at, &head.node))?;
    let at_the_same =
        now.view.nodes.iter().filter(|other| {
            other.node != seen.node && is_cut_off(other, now.policy) && now.place(other) == Some(place)
        });
    let upstream: Option<&NodeName> = at_the_same.map(|other| &other.node).min();
    let why = match upstream {
        Some(node) => format!("it holds exactly what {node} holds, which is cut off itself"),
        None => format!("what it follows at {master} is behind itself"),
    };
    Some(Alarm {
        kind: AlarmKind::ReplicaBehindStale,
        subject: seen.node.to_string(),
        sentence: format!(
            "The link of replica {} is up, but {} went on {} ago after what it holds: {why}.",
            seen.node,
            head.node,
            duration(late.as_secs_f64())
        ),
        hint: match upstream {
            Some(node) => format!("see to the link of {node}, or let {} follow the master directly", seen.node),
            None => format!("see to {master}, or let {} follow the master directly", seen.node),
        },
    })
}

fn is_cut_off(seen: &NodeSeen, policy: &Policy) -> bool {
    match staleness(&seen.observation) {
        Some(CaptureRefusal::LinkDown { down_for_seconds: Some(seconds) }) => seconds > policy.max_link_down.as_secs(),
        Some(_) => true,
        None => false,
    }
}
