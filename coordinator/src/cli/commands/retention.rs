//! `urtext retention`, `urtext prune`, `urtext hold`

use urtext_proto::pb;
use urtext_types::ErrorKind;

use super::restore::ask;
use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args,
        client::{Client, refused},
        json,
        output::{JsonList, Table},
    },
};

pub(in crate::cli) async fn show(context: &Context, args: args::OfDeployment) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::RetentionRequest { deployment: args.deployment.map(String::from) };
    let mut pieces = client.control().retention(request).await.map_err(refused)?.into_inner();
    let list = context.output.list(&json::Nothing {}, "shards")?;
    let mut shards = Shards { context, printed: Printed::AsData, list: Some(list), current: None };
    while let Some(pb::RetentionResponse { shards: some }) = pieces.message().await.map_err(refused)? {
        shards.take(some)?;
    }
    if shards.current.is_none() {
        context.output.note("there are no backups yet")?;
    }
    if let Some(list) = shards.end()? {
        list.end(&json::Nothing {})?;
    }
    Ok(Ended::Well)
}

/// Where the verdicts are printed for a person.
#[derive(Clone, Copy)]
enum Printed {
    AsData,
    /// What is asked about is no data.
    Beside,
    /// They were printed already.
    Not,
}

/// What becomes of every backup, printed as it comes.
struct Shards<'a> {
    context: &'a Context,
    printed: Printed,
    /// `None` where another answer is what is shown as JSON.
    list: Option<JsonList<'a>>,
    /// The one whose pieces are coming.
    current: Option<pb::ShardRetention>,
}

impl<'a> Shards<'a> {
    fn take(&mut self, pieces: Vec<pb::ShardRetention>) -> Result<(), Stop> {
        for mut piece in pieces {
            let text = std::mem::take(&mut piece.text);
            let continues = self.current.as_ref().is_some_and(|before| is_same(before, &piece));
            let gap = if self.current.is_some() && !continues { "\n" } else { "" };
            self.print(&format!("{gap}{}", text.trim_end()))?;
            match &mut self.current {
                // Only JSON has all of one together.
                Some(_) if continues && !self.context.output.json => {}
                Some(before) if continues => before.backups.extend(piece.backups),
                _ => {
                    let before = self.current.replace(piece);
                    self.list_item(before)?;
                }
            }
        }
        Ok(())
    }

    fn print(&self, text: &str) -> Result<(), Stop> {
        match self.printed {
            Printed::AsData => self.context.output.text(text)?,
            Printed::Beside => self.context.output.note(text)?,
            Printed::Not => {}
        }
        Ok(())
    }

    fn list_item(&mut self, shard: Option<pb::ShardRetention>) -> Result<(), Stop> {
        if let (Some(list), Some(shard)) = (&mut self.list, shard) {
            list.item(&json::ShardRetention::from(shard))?;
        }
        Ok(())
    }

    /// The list, for what comes after it.
    fn end(mut self) -> Result<Option<JsonList<'a>>, Stop> {
        let last = self.current.take();
        self.list_item(last)?;
        Ok(self.list)
    }
}

fn is_same(one: &pb::ShardRetention, other: &pb::ShardRetention) -> bool {
    (&one.repository, &one.deployment, &one.shard) == (&other.repository, &other.deployment, &other.shard)
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
    let output = &context.output;
    // With --dry-run the plan is the data; otherwise it is what is asked about, and what was done is the data.
    let list = output.list(&json::PruneBegins { dry_run }, "shards")?;
    let (printed, shown, done) =
        if dry_run { (Printed::AsData, Some(list), None) } else { (Printed::Beside, None, Some(list)) };
    let request = pb::PruneRequest { deployment: deployment.clone(), dry_run: true, plan: None };
    let shards = Shards { context, printed, list: shown, current: None };
    let (mut answer, mut list) = ask_to_prune(&client, request, shards).await?;
    if let Some(done) = done {
        let has_work = answer.repositories.iter().any(|repository| repository.objects > 0);
        if has_work && !yes {
            ask()?;
        }
        // With nothing to do this shows as JSON what was shown as text.
        if has_work || output.json {
            let request = pb::PruneRequest { deployment, dry_run: !has_work, plan: has_work.then_some(answer.plan) };
            let shards = Shards { context, printed: Printed::Not, list: Some(done), current: None };
            (answer, list) = ask_to_prune(&client, request, shards).await?;
        }
        for repository in &answer.repositories {
            print_outcome(context, repository)?;
        }
        if !has_work {
            output.text("there is nothing to remove")?;
        }
    }
    let failed = answer.repositories.iter().flat_map(|repository| &repository.outcome);
    let has_failed = failed.into_iter().any(|outcome| !outcome.failed.is_empty());
    if let Some(list) = list {
        let repositories = answer.repositories.into_iter().map(Into::into).collect();
        list.end(&json::PruneEnds { repositories })?;
    }
    Ok(if has_failed { Ended::As(ErrorKind::Unavailable) } else { Ended::Well })
}

/// Prints what becomes of every backup, and what goes from each repository. Gives back the rest.
async fn ask_to_prune<'a>(
    client: &Client,
    request: pb::PruneRequest,
    mut shards: Shards<'a>,
) -> Result<(pb::PruneResponse, Option<JsonList<'a>>), Stop> {
    let mut pieces = client.control().prune(request).await.map_err(refused)?.into_inner();
    let mut rest = pb::PruneResponse::default();
    while let Some(mut piece) = pieces.message().await.map_err(refused)? {
        shards.take(std::mem::take(&mut piece.shards))?;
        // The last one says the rest.
        rest = piece;
    }
    for (i, repository) in rest.repositories.iter().enumerate() {
        let gap = if i > 0 || shards.current.is_some() { "\n" } else { "" };
        shards.print(&format!("{gap}repository {}: {}", repository.repository, repository.plan))?;
    }
    Ok((rest, shards.end()?))
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
