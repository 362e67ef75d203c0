//! Histories without a known beginning, and the settings that would have kept it.

use urtext_types::{Engine, Evidence, NodeObservation};

use crate::{
    chart::Bearing,
    view::{NodeSeen, ShardView},
    wording::{history, time},
};

use super::{Alarm, AlarmKind, Scene, is_backup};

/// A master whose history nobody can relate to what there was before.
pub(super) fn lost(now: &Scene<'_>, seen: &NodeSeen) -> Option<Alarm> {
    if !seen.observation.replication.role.is_master() {
        return None;
    }
    let place = now.place(seen);
    let here = place.map(|place| now.bearings(place));
    let is_unrelated = |position| {
        let place = now.ground.place(position);
        let bearing = here.as_ref().zip(place).map(|(here, place)| here.of(place));
        place.is_none_or(|place| !now.ground.is_aside(place))
            && bearing.is_none_or(|bearing| bearing == Bearing::Unrelated)
    };
    let ended = now.view.ended.iter().find(|run| run.node == seen.node && now.is_news(run.noticed_at));
    let before = ended.and_then(|run| run.position).filter(|&position| is_unrelated(position));
    let backups =
        || now.view.candidates.iter().filter(|candidate| is_backup(candidate.source) && candidate.is_eligible());
    let mut placed = backups().filter_map(|backup| backup.position).peekable();
    // A master that counts nothing yet says nothing by itself: only what it was seen to be before does.
    let from_all = here.is_some() && placed.peek().is_some() && placed.all(is_unrelated);
    let sentence = match (before, ended) {
        (Some(before), Some(run)) => format!(
            "The master {} was restarted after {} and goes on under another history: nobody can say how what it holds \
             relates to {} until offset {}.",
            seen.node,
            time(run.seen_at),
            history(before.history),
            before.offset
        ),
        _ if from_all => format!(
            "The master {} writes {}, of which no path to the history of any backup is known.",
            seen.node,
            history(seen.observation.replication.history)
        ),
        _ => return None,
    };
    Some(Alarm {
        kind: AlarmKind::LineageLost,
        subject: seen.node.to_string(),
        sentence,
        hint: format!("take a backup of it now; {}", setting(&seen.observation)),
    })
}

/// What keeps the identity of a master over a restart. `loadDataFromDisk` in server.c takes the
/// replication id and offset from the RDB on a master from Redis 7.0 on, and never from an append-only
/// file; the RDB has them only if the server had a backlog when it saved (`rdbPopulateSaveInfo` in rdb.c).
fn setting(observation: &NodeObservation) -> String {
    let server = &observation.server;
    let is_old = server.engine == Engine::Redis && matches!(major(&server.version), Some(..7));
    if is_old {
        return format!(
            "{} {} forgets its history at every restart as a master: promote a replica first, or upgrade to 7.0 or later",
            server.engine, server.version
        );
    }
    if observation.persistence.aof_enabled {
        return "with `appendonly yes` every restart begins a new history: promote a replica before the next one, or \
                let the RDB carry it (`appendonly no` with `save` points)"
            .to_owned();
    }
    "an RDB that is saved at shutdown carries the history on: set `save` points, or stop it with `SHUTDOWN SAVE`, and \
     keep a replica attached or `repl-backlog-ttl 0`, without which none is written"
        .to_owned()
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// A master that changed its id by itself.
pub(super) fn inferred(now: &Scene<'_>, seen: &NodeSeen) -> Option<Alarm> {
    let replication = &seen.observation.replication;
    let edge = now.view.lineage.edge_of(replication.history)?;
    (replication.role.is_master() && edge.evidence == Evidence::InferredSameRun).then(|| Alarm {
        kind: AlarmKind::LineageInferred,
        subject: seen.node.to_string(),
        sentence: format!(
            "The master {} changed its history from {} to {} without a promotion, at offset {}: what it wrote around \
             then has no positions.",
            seen.node,
            edge.parent.history.short(),
            replication.history.short(),
            edge.parent.offset
        ),
        hint: "a master without replicas drops its backlog after `repl-backlog-ttl`, and its history with it: \
               `repl-backlog-ttl 0` keeps both"
            .to_owned(),
    })
}

pub(super) fn contradicted(view: &ShardView) -> Vec<Alarm> {
    let mut children: Vec<_> = view.contradictions.iter().map(|contradiction| contradiction.claimed.child).collect();
    children.sort_unstable();
    children.dedup();
    children
        .into_iter()
        .map(|child| Alarm {
            kind: AlarmKind::LineageContradicted,
            subject: child.to_string(),
            sentence: format!(
                "Statements about where {} comes from contradict each other; none is relied on.",
                history(child)
            ),
            hint: format!("`urtext lineage {}` shows them", view.deployment),
        })
        .collect()
}
