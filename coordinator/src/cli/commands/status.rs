//! `urtext status`

use std::time::Duration;

use urtext_proto::pb;
use urtext_types::{ByteCount, Timestamp};

use super::{
    schedule::{last_line, next_line},
    words::{ago, duration, optional},
};
use crate::cli::{
    Context, Ended, Stop, args,
    client::refused,
    json,
    output::{Table, wrap},
};

pub(in crate::cli) async fn run(context: &Context, args: args::OfDeployment) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::StatusRequest { deployment: args.deployment.map(String::from) };
    let response = client.control().status(request).await.map_err(refused)?.into_inner();
    let status: json::Status = response.try_into()?;
    let output = &context.output;
    for (index, shard) in status.shards.iter().enumerate() {
        if index > 0 {
            output.text("")?;
        }
        print_shard(context, shard, status.now)?;
    }
    if status.shards.is_empty() {
        output.note("no agent has joined yet: `urtext invite` makes the token for one")?;
    }
    for warning in &status.warnings {
        output.warning(warning)?;
    }
    output.value(&status)?;
    Ok(Ended::Well)
}

fn print_shard(context: &Context, shard: &json::ShardStatus, now: Timestamp) -> Result<(), Stop> {
    let output = &context.output;
    let bold = anstyle::Style::new().bold();
    let name =
        if shard.shard == "0" { shard.deployment.clone() } else { format!("{}/{}", shard.deployment, shard.shard) };
    output.text(format_args!("{bold}{name}{bold:#}"))?;
    print_alarms(context, &shard.alarms, now)?;
    output.text(format_args!("  canonical copy    {}", canonical_line(shard)))?;
    output.text(format_args!("  data loss window  {}", window_line(shard)))?;
    output.text(format_args!("  last backup       {}", backup_line(shard.last_backup.as_ref(), now)))?;
    if let Some(job) = &shard.scheduled {
        output.text(format_args!("  next snapshot     {}", next_line(job, now)))?;
        if job.last_run.as_ref().is_some_and(|run| run.state != "done") {
            for (line, text) in wrap(&last_line(job, now), 80).into_iter().enumerate() {
                output.text(format_args!("  {:16}  {text}", if line == 0 { "scheduled run" } else { "" }))?;
            }
        }
    }
    output.text("")?;
    let mut table = Table::new(["SITE", "NODE", "ROLE", "HISTORY", "OFFSET", "LAG", "KEYS", "STATE"]);
    for node in &shard.nodes {
        table.row([
            node.site.clone(),
            node.node.clone(),
            optional(node.role),
            optional(node.history.map(|history| history.short())),
            optional(node.offset),
            optional(node.lag_bytes.map(|bytes| ByteCount::new(bytes).to_string())),
            optional(node.keys),
            node_state(node, now),
        ]);
    }
    output.text(table)?;
    for finding in &shard.findings {
        for (line, text) in wrap(finding, 94).into_iter().enumerate() {
            output.text(format_args!("{}{text}", if line == 0 { "note: " } else { "      " }))?;
        }
    }
    Ok(())
}

fn print_alarms(context: &Context, alarms: &[json::Alarm], now: Timestamp) -> Result<(), Stop> {
    let red = anstyle::AnsiColor::Red.on_default().bold();
    for alarm in alarms {
        let since = format!("{} (since {})", alarm.sentence, ago(alarm.since, now));
        for (line, text) in wrap(&since, 90).into_iter().enumerate() {
            if line == 0 {
                context.output.text(format_args!("  {red}ALARM{red:#} {text}"))?;
            } else {
                context.output.text(format_args!("        {text}"))?;
            }
        }
        for (line, text) in wrap(&alarm.hint, 86).into_iter().enumerate() {
            context.output.text(format_args!("        {}{text}", if line == 0 { "hint: " } else { "      " }))?;
        }
    }
    Ok(())
}

fn canonical_line(shard: &json::ShardStatus) -> String {
    match (&shard.canonical, shard.verdict.as_str()) {
        (Some(id), _) => format!("backup {id}"),
        (None, "ambiguous") => {
            format!("ambiguous: nobody has decided, see `urtext canonical {}`", shard.deployment)
        }
        (None, _) => format!("none: nothing can be restored, see `urtext canonical {}`", shard.deployment),
    }
}

fn window_line(shard: &json::ShardStatus) -> String {
    let target = duration(Duration::from_secs_f64(shard.data_loss_window_target_seconds));
    match shard.data_loss_window_seconds {
        Some(seconds) => {
            let verdict = if seconds > shard.data_loss_window_target_seconds { "MISSED" } else { "met" };
            format!("{} (target {target}: {verdict})", duration(Duration::from_secs_f64(seconds)))
        }
        None if shard.canonical.is_some() => {
            format!("not known: its position was never seen on a master (target {target})")
        }
        None => format!("everything (target {target}: MISSED)"),
    }
}

fn backup_line(backup: Option<&json::Backup>, now: Timestamp) -> String {
    match backup {
        Some(backup) => {
            let data = backup
                .data_as_of
                .from
                .map_or("data of unknown age".to_owned(), |from| format!("data {} old", duration(now.since(from))));
            format!("{} of {}, made {}, {data}", backup.id, backup.node, ago(backup.received_at, now))
        }
        None => "none yet".to_owned(),
    }
}

fn node_state(node: &json::Node, now: Timestamp) -> String {
    let mut parts = Vec::new();
    if !node.connected {
        let seen = node.last_seen.map_or("never seen".to_owned(), |at| format!("last seen {}", ago(at, now)));
        parts.push(format!("agent not connected, {seen}"));
    }
    if let Some(trouble) = &node.trouble {
        parts.push(trouble.message.clone());
    }
    if node.link_up == Some(false) {
        parts.push("link to its master is down".to_owned());
    }
    for task in &node.tasks {
        parts.push(format!("{}: {}", task.what, task.phase));
    }
    if parts.is_empty() { "ok".to_owned() } else { parts.join("; ") }
}
