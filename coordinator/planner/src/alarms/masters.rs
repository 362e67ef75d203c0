//! Masters that came back with less.

use crate::{
    chart::{Bearing, Place},
    selection::Standing,
    view::{NodeSeen, RunSeen, Source},
    wording::{bytes, history, keys, time},
};

use super::{Alarm, AlarmKind, Scene};

/// A master that crashed loads what it last saved, however old that is, and its replicas follow it
/// (`loadDataFromDisk` in server.c; the id and the offset of the file become its second ones).
pub(super) fn older(now: &Scene<'_>, seen: &NodeSeen) -> Option<Alarm> {
    if !seen.observation.replication.role.is_master() {
        return None;
    }
    let here = now.bearings(now.place(seen)?);
    let lost = |place: Place| match here.of(place) {
        Bearing::Ahead { excess } | Bearing::Divergent { excess, .. } if !now.ground.is_aside(place) => Some(excess),
        _ => None,
    };
    let ended = now.view.ended.iter().filter(|run| run.node == seen.node && now.is_news(run.noticed_at));
    let ended = ended.filter_map(|run| Some((run.position?, run.seen_at)));
    let heads = now.view.heads.iter().filter(|head| head.node == seen.node && now.is_news(head.seen_at));
    let heads = heads.map(|head| (head.position, head.seen_at));
    let (excess, _, position, at) = ended
        .chain(heads)
        .filter_map(|(position, at)| {
            let place = now.ground.place(position)?;
            Some((lost(place)?, place, position, at))
        })
        .max_by_key(|&(excess, place, _, at)| (excess, place, at))?;
    Some(Alarm {
        kind: AlarmKind::MasterOlder,
        subject: seen.node.to_string(),
        sentence: format!(
            "The master {} was seen at offset {} of {} on {}, and does not hold the last {} of that any more.",
            seen.node,
            position.offset,
            history(position.history),
            time(at),
            bytes(excess)
        ),
        hint: format!(
            "its replicas take over its older data when they connect: save one that is ahead before that, with `urtext \
             snapshot {} --node NODE`",
            now.view.deployment
        ),
    })
}

/// Far fewer keys than the backups before it, or than the run before.
pub(super) fn emptier(now: &Scene<'_>, seen: &NodeSeen) -> Option<Alarm> {
    if !seen.observation.replication.role.is_master() {
        return None;
    }
    let held = seen.observation.keys();
    let is_few = |before: u64| {
        let limit = u128::from(now.policy.shrink_below_percent);
        before >= now.policy.shrink_from_keys && u128::from(held) * 100 < u128::from(before) * limit
    };
    let ended = now.view.ended.iter().filter(|run| run.node == seen.node && now.is_news(run.noticed_at));
    let before = ended.filter(|run| is_few(run.keys)).max_by_key(|run| run.keys);
    let is_suspect = now.selection.candidates.iter().any(|judged| {
        let candidate = &now.view.candidates[judged.candidate];
        judged.standing == Standing::Suspect && candidate.source == Source::Node && candidate.node == seen.node
    });
    let than = match before {
        Some(RunSeen { keys: before, seen_at, .. }) => {
            format!("; before it was restarted it held {before} (seen on {})", time(*seen_at))
        }
        None if is_suspect => " where the backups before hold far more".to_owned(),
        None => return None,
    };
    Some(Alarm {
        kind: AlarmKind::MasterEmptier,
        subject: seen.node.to_string(),
        sentence: format!("The master {} holds {}{than}.", seen.node, keys(held)),
        hint: "its replicas follow it into that; backups from before are kept, and the later ones are not chosen \
               until a person vouches for one"
            .to_owned(),
    })
}
