//! `urtext repository`

use std::time::Duration;

use urtext_proto::pb;
use urtext_types::{ByteCount, ByteRate, ErrorKind};

use super::words::{ago, optional};
use crate::{
    Fault,
    adding::{Added, NewRepository, add_repository},
    cli::{
        Context, Ended, Stop, args,
        client::refused,
        json,
        output::{Progress, Table},
    },
    clock::Clock,
};

/// `list`, and `check`, which also tries to write.
pub(in crate::cli) async fn list(context: &Context, check: bool) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::ListRepositoriesRequest { check };
    let response = client.control().list_repositories(request).await.map_err(refused)?.into_inner();
    let repositories: Vec<json::Repository> = response.repositories.into_iter().map(Into::into).collect();
    let now = Clock::system().now();
    let mut table = Table::new(["REPOSITORY", "PLACE", "SITES", "BACKUPS", "STORED", "NEWEST", "STATE"]);
    for repository in &repositories {
        table.row([
            repository.name.clone(),
            place(repository),
            match (repository.takes_others, repository.sites.is_empty()) {
                (true, _) => "all others".to_owned(),
                (false, true) => "copies only".to_owned(),
                (false, false) => repository.sites.join(","),
            },
            repository.backups.to_string(),
            ByteCount::new(repository.stored_bytes).to_string(),
            optional(repository.newest.map(|at| ago(at, now))),
            match (&repository.trouble, check) {
                (Some(trouble), _) => trouble.clone(),
                (None, true) => "can be read, listed and written to".to_owned(),
                (None, false) => "answers".to_owned(),
            },
        ]);
    }
    context.output.text(table)?;
    let in_trouble = repositories.iter().any(|repository| repository.trouble.is_some());
    context.output.value(&json::Repositories { repositories })?;
    Ok(if check && in_trouble { Ended::As(ErrorKind::Unavailable) } else { Ended::Well })
}

/// Where it is, how agents get there, and how it is locked.
fn place(repository: &json::Repository) -> String {
    let limit = repository.upload_bytes_per_second.and_then(ByteRate::new);
    let direct = repository.direct.then(|| "direct".to_owned());
    let limit = limit.map(|rate| format!("up to {rate}"));
    let lock = repository.lock_seconds.zip(repository.lock_mode.as_ref());
    let lock = lock.map(|(seconds, mode)| {
        let period = humantime::format_duration(Duration::from_secs(seconds));
        format!("locked for {period} ({mode})")
    });
    [Some(repository.address.clone()), direct, limit, lock].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(in crate::cli) async fn add(context: &Context, args: args::AddRepository) -> Result<Ended, Stop> {
    let args::AddRepository { name, url, sites, direct, upload_limit, recipients } = args;
    let new = NewRepository { name, url, sites, direct, upload_limit, recipients };
    let directory = crate::directory::Directory::new(context.dir()?);
    if !directory.settings().exists() {
        let message = format!("{} has no urtext.toml", directory.root().display());
        return Err(Fault::new(ErrorKind::NotFound, message)
            .with_hint("run this where the coordinator runs, with the --dir that `urtext serve` has")
            .into());
    }
    let Added { repository, recipients } = add_repository(&directory, new, Clock::system().now()).await?;
    let output = &context.output;
    output.text(format_args!("added repository {} in {}", repository.name, repository.address))?;
    output.text(format_args!("  sealed to  {recipients}"))?;
    output.note("restart `urtext serve` to use it")?;
    output.value(&json::AddedRepository {
        name: repository.name.to_string(),
        address: repository.address.to_string(),
        sites: repository.sites.iter().flatten().map(ToString::to_string).collect(),
        recipients: recipients.iter().map(ToString::to_string).collect(),
    })?;
    Ok(Ended::Well)
}

pub(in crate::cli) async fn lock(context: &Context, args: args::ExtendLocks) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::ExtendLocksRequest { deployment: args.deployment.map(|name| name.to_string()) };
    let response = client.control().extend_locks(request).await.map_err(refused)?.into_inner();
    let repositories: Vec<json::LockedRepository> = response.repositories.into_iter().map(Into::into).collect();
    let output = &context.output;
    if repositories.is_empty() {
        return Err(Fault::new(ErrorKind::NotFound, "no repository locks what is stored in it")
            .with_hint("lock=30d in the address of a bucket with object lock says so")
            .into());
    }
    for json::LockedRepository { name, until, backups, objects, unchanged, failed } in &repositories {
        output.text(format_args!("{name}: {backups} backups, {objects} objects are locked until {until}"))?;
        if *unchanged > 0 {
            output.text(format_args!("{name}: {unchanged} more backups were locked for long enough"))?;
        }
        for sentence in failed {
            output.warning(sentence)?;
        }
    }
    let has_failed = repositories.iter().any(|repository| !repository.failed.is_empty());
    output.value(&json::Locked { repositories })?;
    Ok(if has_failed { Ended::As(ErrorKind::Unavailable) } else { Ended::Well })
}

pub(in crate::cli) async fn sync(context: &Context, args: args::SyncRepositories) -> Result<Ended, Stop> {
    use pb::sync_event::Event;
    let args::SyncRepositories { from, to, deployment, dry_run } = args;
    let request = pb::SyncRepositoriesRequest {
        from: from.clone(),
        to: to.clone(),
        deployment: deployment.map(|name| name.to_string()),
        dry_run,
    };
    let client = context.connect().await?;
    let mut events = client.control().sync_repositories(request).await.map_err(refused)?.into_inner();
    let output = &context.output;
    let mut progress = Progress::new();
    let mut answer = json::Sync::default();
    while let Some(event) = events.message().await.map_err(refused)? {
        match event.event {
            Some(Event::Planned(planned)) => {
                let (backups, bytes) = (planned.backups.len(), ByteCount::new(planned.bytes));
                output.text(format_args!(
                    "{to} lacks {backups} backups of {from} ({bytes}) and {} records; it has {} already",
                    planned.others, planned.present
                ))?;
                for object in &planned.differing {
                    output.warning(format_args!("{object} has another size in {to}: `urtext verify` tells which"))?;
                }
                answer.planned = Some(planned.into());
            }
            Some(Event::Progress(phase)) => progress.update(&phase)?,
            Some(Event::Done(done)) => answer.done = Some(done.into()),
            None => {}
        }
    }
    drop(progress);
    if let Some(done) = &answer.done {
        let bytes = ByteCount::new(done.bytes);
        output.text(format_args!("copied {} backups and {} records: {bytes}", done.backups, done.others))?;
        for id in &done.sealed_to_others {
            output
                .warning(format_args!("{id} is sealed to others than the recipients of {to}: keep their identity"))?;
        }
        for failure in &done.failed {
            output.warning(format_args!("{} was not copied: {}", failure.what, failure.reason))?;
        }
    }
    let is_incomplete = answer.done.as_ref().is_some_and(|done| !done.failed.is_empty());
    output.value(&answer)?;
    Ok(if is_incomplete { Ended::As(ErrorKind::Integrity) } else { Ended::Well })
}
