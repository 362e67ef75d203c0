//! `urtext retention`, `urtext prune`, `urtext hold`

use urtext_proto::pb;
use urtext_types::ErrorKind;

use super::restore::ask;
use crate::{
    Fault,
    cli::{Context, Ended, Stop, args, client::refused, json, output::Table},
};

pub(in crate::cli) async fn show(context: &Context, args: args::OfDeployment) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::RetentionRequest { deployment: args.deployment.map(String::from) };
    let shards = client.control().retention(request).await.map_err(refused)?.into_inner().shards;
    if shards.is_empty() {
        context.output.note("there are no backups yet")?;
    } else {
        context.output.text(texts(&shards))?;
    }
    context.output.value(&json::Retention { shards: shards.into_iter().map(Into::into).collect() })?;
    Ok(Ended::Well)
}

/// What becomes of every backup; which repository it is about, where there are several.
fn texts(shards: &[pb::ShardRetention]) -> String {
    let has_several = shards.iter().any(|shard| shard.repository != shards[0].repository);
    let text = |shard: &pb::ShardRetention| match has_several {
        true => format!("repository {}\n{}", shard.repository, shard.text.trim_end()),
        false => shard.text.trim_end().to_owned(),
    };
    shards.iter().map(text).collect::<Vec<_>>().join("\n\n")
}

pub(in crate::cli) async fn prune(context: &Context, args: args::Prune) -> Result<Ended, Stop> {
    let args::Prune { deployment, dry_run, yes, let_go, shard, reason } = args;
    let deployment = deployment.map(String::from);
    if let (Some(history), Some(deployment), Some(reason)) = (let_go, &deployment, reason) {
        let shard = shard.map(String::from);
        let request = pb::LetGoRequest { deployment: deployment.clone(), shard, history: history.0.into(), reason };
        return release_branch(context, request).await;
    }
    let client = context.connect().await?;
    let request = pb::PruneRequest { deployment: deployment.clone(), dry_run: true, plan: None };
    let mut response = client.control().prune(request).await.map_err(refused)?.into_inner();
    let output = &context.output;
    let mut text = texts(&response.shards);
    for repository in &response.repositories {
        text.push_str(&format!("\n\nrepository {}: {}", repository.repository, repository.plan));
    }
    let text = text.trim_start().to_owned();
    // With --dry-run the plan is the data; otherwise it is what is asked about.
    if dry_run {
        output.text(text)?
    } else {
        output.note(text)?
    };
    let has_work = response.repositories.iter().any(|repository| repository.objects > 0);
    if !dry_run && has_work {
        if !yes {
            ask()?;
        }
        let request = pb::PruneRequest { deployment, dry_run: false, plan: Some(response.plan) };
        response = client.control().prune(request).await.map_err(refused)?.into_inner();
        for repository in &response.repositories {
            print_outcome(context, repository)?;
        }
    } else if !dry_run {
        output.text("there is nothing to remove")?;
    }
    let failed = response.repositories.iter().flat_map(|repository| &repository.outcome);
    let has_failed = failed.into_iter().any(|outcome| !outcome.failed.is_empty());
    output.value(&json::Pruned {
        dry_run,
        shards: response.shards.into_iter().map(Into::into).collect(),
        repositories: response.repositories.into_iter().map(Into::into).collect(),
    })?;
    Ok(if has_failed { Ended::As(ErrorKind::Unavailable) } else { Ended::Well })
}

fn print_outcome(context: &Context, pruned: &pb::PrunedRepository) -> Result<(), Stop> {
    let Some(outcome) = &pruned.outcome else { return Ok(()) };
    let output = &context.output;
    output.text(format_args!(
        "repository {}: removed {} backups and {} folders that no backup names; {} objects deleted",
        pruned.repository,
        outcome.removed.len(),
        outcome.swept,
        outcome.deleted_objects,
    ))?;
    for object in &outcome.locked {
        output.text(format_args!("  kept: locked by the store: {object}"))?;
    }
    for sentence in &outcome.spared {
        output.text(format_args!("  left alone: {sentence}"))?;
    }
    for sentence in &outcome.failed {
        output.warning(format_args!("could not remove {sentence}"))?;
    }
    Ok(())
}

async fn release_branch(context: &Context, request: pb::LetGoRequest) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let pb::LetGoResponse { history, record_id } =
        client.control().let_go(request).await.map_err(refused)?.into_inner();
    let history = hex::encode(history);
    context.output.text(format_args!("let go of history {history}; the next `urtext prune` removes its branch"))?;
    context.output.value(&json::LetGo { history, record: record_id })?;
    Ok(Ended::Well)
}

pub(in crate::cli) async fn hold(context: &Context, args: args::Hold) -> Result<Ended, Stop> {
    let args::Hold { command, backup, release, reason } = args;
    if let Some(args::HoldCommand::List(args::OfDeployment { deployment })) = command {
        return list_holds(context, deployment.map(String::from)).await;
    }
    let (Some(backup), Some(reason)) = (backup, reason) else {
        return Err(Fault::new(ErrorKind::Usage, "which backup, and why?").into());
    };
    let client = context.connect().await?;
    let request = pb::HoldRequest { backup_id: backup.to_string(), release, reason };
    let pb::HoldResponse { record_id } = client.control().hold(request).await.map_err(refused)?.into_inner();
    let done = if release { "is no longer on hold" } else { "is on hold: it stays until it is released" };
    context.output.text(format_args!("backup {backup} {done}"))?;
    context.output.value(&json::SetHold { backup: backup.to_string(), released: release, record: record_id })?;
    Ok(Ended::Well)
}

async fn list_holds(context: &Context, deployment: Option<String>) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let response = client.control().list_holds(pb::ListHoldsRequest { deployment }).await.map_err(refused)?;
    let holds: Vec<pb::HeldBackup> = response.into_inner().holds;
    let mut table = Table::new(["BACKUP", "DEPLOYMENT", "SHARD", "BY", "REASON"]);
    for held in &holds {
        let pb::HeldBackup { deployment, shard, backup_id, by, at_ms: _, reason } = held.clone();
        table.row([backup_id, deployment, shard, by, reason]);
    }
    if table.is_empty() {
        context.output.note("nothing is on hold")?;
    } else {
        context.output.text(table)?;
    }
    context.output.value(&json::Holds { holds: holds.into_iter().map(Into::into).collect() })?;
    Ok(Ended::Well)
}
