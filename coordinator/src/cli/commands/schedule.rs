//! `urtext schedule`

use urtext_proto::pb;
use urtext_types::Timestamp;

use super::words::{ago, duration, optional};
use crate::cli::{
    Context, Ended, Stop, args,
    client::refused,
    json,
    output::{Table, WIDTH, wrap},
};

pub(in crate::cli) async fn run(context: &Context, args: args::OfDeployment) -> Result<Ended, Stop> {
    let request = pb::ShowScheduleRequest { deployment: args.deployment.map(String::from) };
    let client = context.connect().await?;
    let response = client.control().show_schedule(request).await.map_err(refused)?.into_inner();
    let schedule = json::Schedule::from(response);
    let output = &context.output;
    for (index, job) in schedule.jobs.iter().enumerate() {
        if index > 0 {
            output.text("")?;
        }
        print(context, job, schedule.now)?;
    }
    if schedule.jobs.is_empty() {
        output.note("no agent has joined yet: `urtext invite` makes the token for one")?;
    }
    output.value(&schedule)?;
    Ok(Ended::Well)
}

fn print(context: &Context, job: &json::ScheduledJob, now: Timestamp) -> Result<(), Stop> {
    let output = &context.output;
    let bold = anstyle::Style::new().bold();
    let name = match job.shard.as_deref() {
        None | Some("0") => job.deployment.clone(),
        Some(shard) => format!("{}/{shard}", job.deployment),
    };
    output.text(format_args!("{bold}{name}{bold:#}  {}", rule(job)))?;
    output.text(format_args!("  next       {}", next_line(job, now)))?;
    for (line, text) in wrap(&last_line(job, now), WIDTH - 13).into_iter().enumerate() {
        output.text(format_args!("  {:9}  {text}", if line == 0 { "last run" } else { "" }))?;
    }
    if let Some(run) = job.last_run.as_ref().filter(|run| !run.snapshots.is_empty()) {
        let mut table = Table::new(["", "NODE", "SITE", "BACKUP", "STATE"]);
        for snapshot in &run.snapshots {
            let reason = snapshot.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            table.row([
                String::new(),
                snapshot.node.clone(),
                optional(snapshot.site.as_ref()),
                optional(snapshot.backup.as_ref()),
                format!("{}{reason}", snapshot.state),
            ]);
        }
        output.text(table)?;
    }
    let mut table = Table::new(["", "NODE", "SITE", "NOW", "WHY"]);
    for node in &job.nodes {
        let now = if node.chosen { "yes" } else { "no" };
        table.row([String::new(), node.node.clone(), node.site.clone(), now.to_owned(), node.reason.clone()]);
    }
    if !table.is_empty() {
        output.text(table)?;
    }
    Ok(())
}

fn rule(job: &json::ScheduledJob) -> String {
    let Some((expression, zone)) = job.expression.as_ref().zip(job.time_zone.as_ref()) else {
        return format!("{}: never by itself", job.job);
    };
    let copies = match job.copies {
        None | Some(1) => String::new(),
        Some(copies) => format!(", {copies} copies, each at another site"),
    };
    format!("{}: {expression} in {zone}{copies}", job.job)
}

/// When something comes next.
pub(super) fn next_line(job: &json::ScheduledJob, now: Timestamp) -> String {
    match job.next {
        None => match job.job.as_str() {
            "sync" | "lock" => format!("never by itself: `urtext repository {}` does it", job.job),
            job_name => format!("never by itself: `urtext {job_name} {}` does it", job.deployment),
        },
        Some(at) if at <= now => "now".to_owned(),
        Some(at) => format!("{at}, in {}", duration(at.since(now))),
    }
}

/// How it went last.
pub(super) fn last_line(job: &json::ScheduledJob, now: Timestamp) -> String {
    let Some(run) = &job.last_run else { return "none yet".to_owned() };
    let attempts = if run.attempts > 1 { format!(", attempt {}", run.attempts) } else { String::new() };
    let how = match (run.state.as_str(), run.ended) {
        ("done", Some(ended)) => format!("done {}", ago(ended, now)),
        ("failed", Some(ended)) => format!("FAILED {}", ago(ended, now)),
        (state, _) => state.to_owned(),
    };
    let outcome = run.outcome.as_ref().map_or(String::new(), |outcome| format!(": {outcome}"));
    let failure = run.failure.as_ref().map_or(String::new(), |failure| format!(". {failure}"));
    format!("{how}{attempts}, for {}{outcome}{failure}", run.slot)
}
