//! What is known, as messages.

use urtext_planner::{DataAsOf, Holder, Judged, MayHoldMore, Source, Standing, Verdict, Verified, print_selection};
use urtext_proto::pb;
use urtext_repository::{CaptureMethod, Record, RecordBody};
use urtext_types::{Engine, ReplicationId, Timestamp};

use crate::{
    advice::{AsOf, as_of},
    catalog::{BackupEntry, Event, Present, Vouch},
    fleet::Node,
    rebuild::Rebuilt,
    restoring::Plan,
    tasks::Task,
    verdict::Judgement,
};

pub(crate) fn summary(entry: &BackupEntry, data_as_of: &AsOf) -> pb::BackupSummary {
    let AsOf { interval: data_as_of, reason } = data_as_of;
    pb::BackupSummary {
        key: Some(pb::BackupKey {
            deployment: entry.deployment.to_string(),
            shard: entry.shard.to_string(),
            id: entry.id.to_string(),
        }),
        node: entry.node.to_string(),
        site: entry.site.to_string(),
        position: entry.position.map(Into::into),
        taken_at_ms: entry.taken_at.as_millis(),
        received_at_ms: entry.received_at.as_millis(),
        data_as_of_from_ms: data_as_of.from.map(|at| at.as_millis()),
        data_as_of_to_ms: data_as_of.to.map(|at| at.as_millis()),
        keys: entry.keys,
        rdb_bytes: entry.rdb_bytes,
        stored_bytes: entry.stored_bytes,
        verified: verified(entry.verified()).to_owned(),
        method: match entry.method {
            CaptureMethod::Replication => pb::CaptureMethod::Replication,
            CaptureMethod::File => pb::CaptureMethod::File,
        }
        .into(),
        engine: match entry.engine {
            Engine::Redis => pb::Engine::Redis,
            Engine::Valkey => pb::Engine::Valkey,
        }
        .into(),
        server_version: entry.server_version.clone(),
        stale: entry.stale.clone(),
        ineligible: entry.trouble(),
        content_digest: entry.content_digest.map(|digest| digest.to_string()),
        vouched: None,
        data_as_of_reason: reason.clone(),
        copies: entry
            .copies
            .iter()
            .map(|(repository, copy)| pb::CopySummary {
                repository: repository.to_string(),
                trouble: copy.trouble(),
                verified_at_ms: copy.verified_at.map(|at| at.as_millis()),
                rehearsed_at_ms: copy.rehearsed_at.map(|at| at.as_millis()),
                locked_until_ms: copy.locked_until.map(|at| at.as_millis()),
            })
            .collect(),
    }
}

/// A backup of a shard that has been judged.
pub(super) fn summary_in(judgement: &Judgement, times: &DataAsOf<'_>, entry: &BackupEntry) -> pb::BackupSummary {
    summary_of(entry, times, &judgement.vouches, judgement.view.now)
}

/// A backup of a shard of which this is known.
pub(super) fn summary_of(
    entry: &BackupEntry,
    times: &DataAsOf<'_>,
    vouches: &[Vouch],
    now: Timestamp,
) -> pb::BackupSummary {
    let vouch = vouches.iter().rfind(|vouch| vouch.backup == entry.id);
    pb::BackupSummary {
        vouched: vouch.map(|vouch| format!("{} on {}, because: {}", vouch.by, vouch.at, vouch.reason)),
        ..summary(entry, &as_of(times, entry.position, now))
    }
}

fn verified(verified: Verified) -> &'static str {
    match verified {
        Verified::Never => "never",
        Verified::Stored => "stored",
        Verified::Rehearsed => "rehearsed",
    }
}

/// Something that may hold more.
fn may_hold_more(more: MayHoldMore) -> pb::MayHoldMore {
    let MayHoldMore { who, position, bytes_more, seen_at, sentence, hint, accepted } = more;
    let (kind, name) = match who {
        Holder::Node(node) => ("node", node.to_string()),
        Holder::Repository(name) => ("repository", name),
    };
    pb::MayHoldMore {
        kind: kind.to_owned(),
        name,
        position: position.map(Into::into),
        bytes_more,
        seen_at_ms: seen_at.map(|at| at.as_millis()),
        sentence,
        hint,
        accepted: accepted.map(|loss| pb::LossAccepted {
            by: loss.by,
            at_ms: loss.at.as_millis(),
            reason: loss.reason,
        }),
    }
}

pub(super) fn alarm(alarm: Present) -> pb::Alarm {
    let Present { kind, subject, sentence, hint, since } = alarm;
    pb::Alarm { kind, subject, sentence, hint, since_ms: since.as_millis() }
}

pub(crate) fn event(event: Event) -> pb::Event {
    let Event { sequence, shard, at, what, kind, subject, sentence, hint } = event;
    pb::Event {
        sequence: sequence.unsigned_abs(),
        at_ms: at.as_millis(),
        deployment: shard.deployment.to_string(),
        shard: shard.shard.to_string(),
        what: what.as_str().to_owned(),
        kind,
        subject,
        sentence,
        hint,
    }
}

pub(super) fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Canonical => "canonical",
        Verdict::Ambiguous => "ambiguous",
        Verdict::None => "none",
    }
    .to_owned()
}

pub(super) fn canonical(judgement: &Judgement) -> pb::CanonicalResponse {
    let Judgement { shard, view, selection, .. } = judgement;
    let (ranked, times) = (selection.ranked(view), judgement.times());
    let candidates: Vec<pb::Candidate> = ranked.iter().map(|judged| candidate(judgement, &times, judged)).collect();
    let canonical = selection
        .canonical
        .and_then(|chosen| ranked.iter().position(|judged| judged.candidate == chosen))
        .map(|index| candidates[index].clone());
    pb::CanonicalResponse {
        deployment: shard.deployment.to_string(),
        shard: shard.shard.to_string(),
        verdict: verdict(selection.verdict),
        canonical,
        head: selection.head.as_ref().map(|head| pb::Head {
            position: Some(head.position.into()),
            node: head.node.to_string(),
            seen_at_ms: head.seen_at.as_millis(),
        }),
        missing_bytes: selection.missing.map(|missing| missing.bytes.get()),
        missing_ms: selection.missing.and_then(|missing| missing.seconds).map(|seconds| (seconds * 1000.0) as u64),
        candidates,
        forks: selection
            .forks
            .iter()
            .map(|fork| pb::Fork {
                parent: fork.parent.as_bytes().to_vec().into(),
                offset: fork.offset.get(),
                children: fork.children.iter().map(|child| child.as_bytes().to_vec().into()).collect(),
                accepted: fork.accepted.map(|child| child.as_bytes().to_vec().into()),
            })
            .collect(),
        explanation: selection.explanation.clone(),
        printed: print_selection(view, selection),
        may_hold_more: judgement.may_hold_more().into_iter().map(may_hold_more).collect(),
        advice: judgement.advice(),
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Canonical => "canonical",
        Standing::Equal => "equal",
        Standing::Ahead => "ahead",
        Standing::Behind => "behind",
        Standing::Divergent => "divergent",
        Standing::Unrelated => "unrelated",
        Standing::Suspect => "suspect",
        Standing::Ineligible => "ineligible",
    }
}

fn candidate(judgement: &Judgement, times: &DataAsOf<'_>, judged: &Judged) -> pb::Candidate {
    let candidate = &judgement.view.candidates[judged.candidate];
    let data_as_of = as_of(times, candidate.position, judgement.view.now).interval;
    let (source, id) = match candidate.source {
        Source::Backup(id) => ("backup", id.to_string()),
        Source::Node => ("node", candidate.node.to_string()),
    };
    pb::Candidate {
        source: source.to_owned(),
        id,
        node: candidate.node.to_string(),
        site: candidate.site.to_string(),
        position: candidate.position.map(Into::into),
        standing: standing(judged.standing).to_owned(),
        reason: judgement.selection.reason(&judgement.view, judged),
        missing_bytes: judged.missing_bytes,
        excess_bytes: judged.excess_bytes,
        data_as_of_from_ms: data_as_of.from.map(|at| at.as_millis()),
        data_as_of_to_ms: data_as_of.to.map(|at| at.as_millis()),
        taken_at_ms: candidate.taken_at.as_millis(),
        verified: verified(candidate.verified).to_owned(),
    }
}

pub(super) fn node_status(node: &Node, tasks: &[Task], lag_bytes: Option<u64>, now: Timestamp) -> pb::NodeStatus {
    let session = node.live_session(now);
    pb::NodeStatus {
        node: node.identity.node.to_string(),
        site: node.identity.site.to_string(),
        connected: session.is_some(),
        last_seen_ms: node.last_seen.map(|at| at.as_millis()),
        observation: node.seen.as_ref().map(|seen| (&seen.observation).into()),
        trouble: node.trouble.clone(),
        clock_skew_ms: session.and_then(|session| session.clock).map(|clock| clock.ahead_ms),
        lag_bytes,
        tasks: tasks
            .iter()
            .map(|task| {
                let pb::TaskPhase { phase, bytes_done, bytes_total } = task.state().progress;
                pb::RunningTask { id: task.stored.id.to_string(), what: task.what(), phase, bytes_done, bytes_total }
            })
            .collect(),
        agent_version: session.map(|session| session.agent_version.clone()).unwrap_or_default(),
    }
}

pub(super) fn plan(plan: &Plan, backup: pb::BackupSummary) -> pb::PlanRestoreResponse {
    let lost = plan.accepted_loss.iter().flat_map(|loss| loss.may_hold_more.clone());
    pb::PlanRestoreResponse {
        plan_id: plan.id.clone(),
        backup: Some(backup),
        steps: plan.steps.clone(),
        warnings: plan.warnings.clone(),
        agent_recipient: plan.target.as_ref().map(|target| target.recipient.clone()),
        backup_recipients: plan.backup.recipients.clone(),
        chosen: plan.chosen.clone(),
        accepted_loss: lost.map(may_hold_more).collect(),
    }
}

/// A record of a decision.
pub(super) fn audit_entry(record: Record) -> pb::AuditEntry {
    let Record { id, deployment, who, at, reason, body, format_version: _ } = record;
    let (action, subject) = match body {
        RecordBody::Audit { action, subject } => (action, subject),
        RecordBody::AcceptedLoss { shard, subject, .. } => {
            ("accepted a loss".to_owned(), format!("shard {shard}: {subject}"))
        }
        RecordBody::AcceptedLineage { shard, history, over } => {
            let over: Vec<String> = over.iter().map(ReplicationId::short).collect();
            let rest = if over.is_empty() { String::new() } else { format!(" over {}", over.join(", ")) };
            ("accepted a lineage".to_owned(), format!("history {history}{rest}, shard {shard}"))
        }
        RecordBody::Verified { shard, repository, good, damaged, .. } => {
            let subject = format!("shard {shard} in {repository}: {} good, {} damaged", good.len(), damaged.len());
            ("verified".to_owned(), subject)
        }
        RecordBody::Vouch { shard, backup } => ("vouched".to_owned(), format!("backup {backup}, shard {shard}")),
        RecordBody::Hold { shard, backup, released } => {
            let action = if released { "released" } else { "put on hold" };
            (action.to_owned(), format!("backup {backup}, shard {shard}"))
        }
        RecordBody::LetGo { shard, history } => {
            ("let go of a branch".to_owned(), format!("history {history}, shard {shard}"))
        }
        RecordBody::LineageEdge { shard, edge } => {
            ("learned a fork".to_owned(), format!("history {} from {}, shard {shard}", edge.child, edge.parent))
        }
    };
    pb::AuditEntry {
        record_id: id.to_string(),
        deployment: deployment.to_string(),
        at_ms: at.as_millis(),
        who,
        action,
        subject,
        reason,
    }
}

pub(super) fn rebuilt(rebuilt: Rebuilt) -> pb::RebuildCatalogResponse {
    let Rebuilt { backups, backups_found, backups_gone, edges, contradictions, accepted, vouches, unreadable } =
        rebuilt;
    pb::RebuildCatalogResponse {
        backups,
        backups_found,
        backups_gone,
        edges: edges as u64,
        contradictions: contradictions as u64,
        accepted: accepted as u64,
        vouches: vouches as u64,
        unreadable,
    }
}
