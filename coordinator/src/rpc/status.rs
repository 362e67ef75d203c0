//! The lists: status, agents.

use urtext_identity::CertificateSerial;
use urtext_proto::pb;
use urtext_types::DeploymentName;

use super::messages::{alarm, node_status, summary_in, verdict};
use crate::{
    Fault,
    app::App,
    catalog::JobKey,
    shard::{NodeKey, ShardKey},
    verdict::Ask,
};

pub(super) async fn status(app: &App, deployment: Option<DeploymentName>) -> Result<pb::StatusResponse, Fault> {
    let mut warnings = app.warnings();
    // A repository that does not answer is what status is there to show.
    let compared = app.reconcile_lately(deployment.as_ref()).await;
    let down = app.repositories.down();
    if down.is_empty()
        && let Err(fault) = compared
    {
        warnings.push(urtext_types::Chain(&fault).to_string());
    }
    warnings.extend(down.iter().map(|(name, reason)| format!("repository {name} does not answer: {reason}")));
    for place in app.repositories.iter() {
        let trouble = place.lock_trouble();
        warnings
            .extend(trouble.map(|reason| format!("not everything in repository {} is locked: {reason}", place.name())));
    }
    let shards = match &deployment {
        Some(name) => {
            let shards = app.shards(Some(name));
            if shards.is_empty() {
                app.shard(name, None)?;
            }
            shards
        }
        None => app.shards(None),
    };
    warnings.extend(unreadable(app, deployment.as_ref()));
    let mut messages = Vec::new();
    for shard in &shards {
        messages.push(shard_status(app, shard).await?);
    }
    Ok(pb::StatusResponse { now_ms: app.clock.now().as_millis(), shards: messages, warnings })
}

async fn shard_status(app: &App, shard: &ShardKey) -> Result<pb::ShardStatus, Fault> {
    let judgement = app.judge_known(shard, &Ask::default()).await?;
    let now = judgement.view.now;
    let nodes = app.fleet.shard(shard);
    let times = judgement.times();
    Ok(pb::ShardStatus {
        deployment: shard.deployment.to_string(),
        shard: shard.shard.to_string(),
        nodes: nodes
            .iter()
            .map(|node| {
                let tasks = app.tasks.open_for(&NodeKey::of(&node.identity));
                node_status(node, &tasks, judgement.lag(node), now)
            })
            .collect(),
        last_backup: judgement
            .backups
            .iter()
            .filter(|entry| entry.trouble().is_none())
            .max_by_key(|entry| (entry.received_at, entry.id))
            .map(|entry| summary_in(&judgement, &times, entry)),
        canonical_id: judgement.canonical().map(|entry| entry.id.to_string()),
        verdict: verdict(judgement.selection.verdict),
        data_loss_window_ms: judgement.data_loss_window().map(|window| window.as_millis() as u64),
        findings: app.histories.of(shard).findings,
        alarms: app.alarms.of(shard).into_iter().map(alarm).collect(),
        scheduled: Some(super::schedule::job(&JobKey::snapshot(shard), app.scheduled(&JobKey::snapshot(shard)))),
        data_loss_window_target_ms: app.settings.policy(&shard.deployment).data_loss_window.as_millis() as u64,
    })
}

pub(super) fn unreadable(app: &App, deployment: Option<&DeploymentName>) -> Vec<String> {
    let unreadable = app.unreadable.lock().expect("nothing panics while it holds the unreadable");
    let wanted = unreadable.iter().filter(|((key, _), _)| deployment.is_none_or(|name| key.deployment == *name));
    let is_one = app.repositories.iter().count() == 1;
    let backups = wanted.map(|((key, place), reason)| match is_one {
        true => format!("backup {}: {reason}", key.id),
        false => format!("backup {} in {place}: {reason}", key.id),
    });
    let records = app.unreadable_records.lock().expect("nothing panics while it holds the unreadable");
    backups.chain(records.iter().map(|reason| format!("a record: {reason}"))).collect()
}

pub(super) async fn agents(app: &App) -> Result<pb::ListAgentsResponse, Fault> {
    let now = app.clock.now();
    let enrolments =
        app.catalog.current_enrolments().await.map_err(Fault::while_doing("list the agents' certificates"))?;
    let agents = app.fleet.nodes(None).into_iter().map(|node| {
        let session = node.live_session(now);
        // The one in use, else the newest.
        let in_use = |serial: &CertificateSerial| session.is_some_and(|session| session.serial == *serial);
        let own = || enrolments.iter().filter(|one| NodeKey::of(&one.identity) == NodeKey::of(&node.identity));
        let enrolment = own().find(|one| in_use(&one.serial)).or_else(|| own().next_back());
        pb::AgentSummary {
            deployment: node.identity.deployment.to_string(),
            shard: node.identity.shard.to_string(),
            site: node.identity.site.to_string(),
            node: node.identity.node.to_string(),
            serial: enrolment.map(|one| one.serial.to_string()).unwrap_or_default(),
            connected: session.is_some(),
            enrolled_at_ms: enrolment.map(|one| one.enrolled_at.as_millis()),
            last_seen_ms: node.last_seen.map(|at| at.as_millis()),
            certificate_expires_at_ms: enrolment.map(|one| one.not_after.as_millis()),
            version: session.map(|session| session.agent_version.clone()).unwrap_or_default(),
            server_address: session.map(|session| session.server_address.clone()).unwrap_or_default(),
        }
    });
    Ok(pb::ListAgentsResponse { agents: agents.collect() })
}
