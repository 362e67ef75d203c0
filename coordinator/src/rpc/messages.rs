//! What is known, as messages.

use urtext_planner::{Source, Standing, Verdict, print_selection};
use urtext_proto::pb;
use urtext_repository::CaptureMethod;
use urtext_types::{Engine, Interval};

use crate::{catalog::BackupEntry, fleet::Node, restoring::Plan, tasks::Task, verdict::Judgement};

pub(crate) fn summary(entry: &BackupEntry, data_as_of: Interval) -> pb::BackupSummary {
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
        verified: "never".to_owned(),
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
        ineligible: entry.damaged.clone(),
        content_digest: entry.content_digest.map(|digest| digest.to_string()),
    }
}

/// A backup of a shard that has been judged.
pub(super) fn summary_in(judgement: &Judgement, entry: &BackupEntry) -> pb::BackupSummary {
    summary(entry, judgement.data_as_of(entry.position))
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
    let candidates: Vec<pb::Candidate> =
        selection.candidates.iter().map(|judged| candidate(judgement, judged)).collect();
    let canonical = selection
        .canonical
        .and_then(|chosen| selection.candidates.iter().position(|judged| judged.candidate == chosen))
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

fn candidate(judgement: &Judgement, judged: &urtext_planner::Judged) -> pb::Candidate {
    let candidate = &judgement.view.candidates[judged.candidate];
    let data_as_of = judgement.data_as_of(candidate.position);
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
        reason: judged.reason.clone(),
        missing_bytes: judged.missing_bytes,
        excess_bytes: judged.excess_bytes,
        data_as_of_from_ms: data_as_of.from.map(|at| at.as_millis()),
        data_as_of_to_ms: data_as_of.to.map(|at| at.as_millis()),
        taken_at_ms: candidate.taken_at.as_millis(),
        verified: "never".to_owned(),
    }
}

pub(super) fn node_status(
    node: &Node,
    tasks: &[Task],
    lag_bytes: Option<u64>,
    now: urtext_types::Timestamp,
) -> pb::NodeStatus {
    let session = node.live_session(now);
    pb::NodeStatus {
        node: node.identity.node.to_string(),
        site: node.identity.site.to_string(),
        connected: session.is_some(),
        last_seen_ms: node.last_seen.map(|at| at.as_millis()),
        observation: node.seen.as_ref().map(|seen| (&seen.observation).into()),
        trouble: node.trouble.clone(),
        clock_skew_ms: session.and_then(|session| session.clock_skew_ms),
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

pub(super) fn plan(plan: &Plan, data_as_of: Interval) -> pb::PlanRestoreResponse {
    pb::PlanRestoreResponse {
        plan_id: plan.id.clone(),
        backup: Some(summary(&plan.backup, data_as_of)),
        steps: plan.steps.clone(),
        warnings: plan.warnings.clone(),
        agent_recipient: plan.target.as_ref().map(|target| target.recipient.clone()),
        backup_recipients: plan.backup.recipients.clone(),
    }
}

pub(super) fn nothing_known() -> Interval {
    Interval { from: None, to: None }
}
