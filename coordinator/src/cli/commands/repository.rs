//! `urtext repository`

use urtext_proto::pb;
use urtext_types::{ByteCount, ErrorKind};

use super::status::{ago, optional};
use crate::{
    Fault,
    adding::{Added, add_repository},
    cli::{Context, Ended, Stop, args, client::refused, json, output::Table},
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
            repository.address.clone(),
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

pub(in crate::cli) async fn add(context: &Context, args: args::AddRepository) -> Result<Ended, Stop> {
    let args::AddRepository { name, url, sites, recipients } = args;
    let directory = crate::directory::Directory::new(context.dir()?);
    if !directory.settings().exists() {
        let message = format!("{} has no urtext.toml", directory.root().display());
        return Err(Fault::new(ErrorKind::NotFound, message)
            .with_hint("run this where the coordinator runs, with the --dir that `urtext serve` has")
            .into());
    }
    let Added { repository, recipients } =
        add_repository(&directory, name, &url, sites, recipients, Clock::system().now()).await?;
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
