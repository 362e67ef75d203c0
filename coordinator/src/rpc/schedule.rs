//! What happens by itself, as messages.

use urtext_planner::{Choice, RunState};
use urtext_proto::pb;
use urtext_types::{DeploymentName, Timestamp};

use crate::{
    Fault,
    app::App,
    catalog::{Job, JobKey},
    scheduler::{ShownJob, ShownSnapshot, ShownState},
    shard::ShardKey,
};

pub(super) async fn schedule(app: &App, deployment: Option<DeploymentName>) -> Result<pb::ShowScheduleResponse, Fault> {
    if let Some(name) = &deployment
        && app.shards(Some(name)).is_empty()
    {
        app.shard(name, None)?;
    }
    let mut jobs = Vec::new();
    for key in app.jobs(deployment.as_ref()) {
        let scheduled = app.scheduled(&key);
        let run = scheduled.last_run.clone();
        let mut message = job(&key, scheduled);
        if let Some(shard) = &key.shard {
            let shard = ShardKey::new(key.deployment.clone(), shard.clone());
            if let Some((run, shown)) = run.zip(message.last_run.as_mut()) {
                shown.snapshots = app.snapshots_of_run(&shard, &run).await?.into_iter().map(snapshot).collect();
            }
            message.nodes = app.would_capture(&shard).into_iter().map(choice).collect();
        }
        jobs.push(message);
    }
    Ok(pb::ShowScheduleResponse { now_ms: app.clock.now().as_millis(), jobs })
}

pub(super) fn job(key: &JobKey, scheduled: ShownJob) -> pb::ScheduledJob {
    let ShownJob { schedule, copies, shift, next, last_run, state, last_good } = scheduled;
    pb::ScheduledJob {
        deployment: key.deployment.to_string(),
        shard: key.shard.as_ref().map(ToString::to_string),
        job: key.job.as_str().to_owned(),
        expression: schedule.as_ref().map(|schedule| schedule.expression().to_owned()),
        time_zone: schedule.as_ref().map(|schedule| schedule.zone().to_owned()),
        copies: if key.job == Job::Snapshot { u32::try_from(copies).ok() } else { None },
        shift_ms: u64::try_from(shift.as_millis()).unwrap_or(u64::MAX),
        next_ms: next.map(Timestamp::as_millis),
        last_run: last_run.map(|run| pb::ScheduledRun {
            slot_ms: run.slot.as_millis(),
            attempts: run.attempts,
            begun_ms: run.begun_at.as_millis(),
            ended_ms: run.ended_at.map(Timestamp::as_millis),
            state: match state {
                None | Some(RunState::Running) => "running",
                Some(RunState::Done) => "done",
                Some(RunState::Failed { .. }) => "failed",
                Some(RunState::Interrupted) => "interrupted",
            }
            .to_owned(),
            failure: run.failure,
            snapshots: Vec::new(),
            outcome: run.outcome,
        }),
        last_good_ms: last_good.map(Timestamp::as_millis),
        nodes: Vec::new(),
    }
}

fn snapshot(snapshot: ShownSnapshot) -> pb::RunSnapshot {
    let ShownSnapshot { node, site, backup, state } = snapshot;
    let (state, reason) = match state {
        ShownState::Waiting(reason) => ("waiting", Some(reason)),
        ShownState::Running => ("running", None),
        ShownState::Committed => ("committed", None),
        ShownState::Failed(reason) => ("failed", Some(reason)),
    };
    pb::RunSnapshot {
        node: node.to_string(),
        site: site.map(String::from),
        backup_id: backup.map(|backup| backup.to_string()),
        state: state.to_owned(),
        reason,
    }
}

fn choice(choice: Choice) -> pb::NodeChoice {
    let Choice { node, site, chosen, reason } = choice;
    pb::NodeChoice { node: node.to_string(), site: site.to_string(), chosen, reason }
}
