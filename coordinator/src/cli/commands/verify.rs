//! `urtext verify`

use std::path::PathBuf;

use urtext_proto::pb;
use urtext_rdb::RdbError;
use urtext_types::{ByteCount, ErrorKind, Explain};

use super::inspect::{Inspecting, keys_in_words, settings};
use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args,
        client::refused,
        json,
        output::Progress,
        source::{named_file, open_file, rdb_fault},
    },
    clock::Clock,
};

pub(in crate::cli) async fn run(context: &Context, args: args::Verify) -> Result<Ended, Stop> {
    let Some(file) = args.file else { return stored(context, args).await };
    let source = match named_file(file) {
        // An id has no place here: what is not found is a file.
        args::Named::File(path) => open_file(&path).map_err(|fault| match fault.kind() {
            ErrorKind::NotFound => fault.with_hint("name a file, or - for stdin; a backup is verified by its id alone"),
            _ => fault,
        })?,
        other => context.open_source(&other, None, &args::Alone::default()).await?,
    };
    let name = source.name.clone();
    let inspecting = Inspecting::new(format!("verify {name}"), settings(0, b':'));
    let report = source.read_into(inspecting).await?;
    let summary = &report.summary;
    // Servers ignore what follows; but whatever it is, nobody wrote it there on purpose.
    if summary.trailing_bytes > 0 && !summary.aux.is_aof_base {
        let error = RdbError::TrailingBytes { offset: summary.bytes };
        let hint = format!("the RDB before them is sound: head -c {} FILE makes a file of it alone", summary.bytes);
        return Err(rdb_fault(format!("verify {name}"), error).with_hint(hint).into());
    }
    let value = json::Verified::new(name, &report);
    let output = &context.output;
    output.text(format_args!(
        "{} is sound: {}, {}, {}",
        value.file,
        value.rdb,
        keys_in_words(value.keys),
        ByteCount::new(value.bytes)
    ))?;
    output.text(format_args!("checksum     {}", value.checksum))?;
    output.text(format_args!("digest       {}", value.content_digest))?;
    output.text(format_args!("loads into   {}", value.loads_into()))?;
    if let Some(position) = summary.position() {
        output.text(format_args!("position     {position}"))?;
    }
    if value.trailing_bytes > 0 {
        let bytes = ByteCount::new(value.trailing_bytes);
        output.warning(format_args!("{bytes} of an append-only log follow the RDB; they were not looked at"))?;
    }
    if value.empty_keys > 0 {
        let keys = value.empty_keys;
        output.warning(format_args!("{keys} collections are empty: servers drop them when they load the file"))?;
    }
    output.value(&value)?;
    Ok(Ended::Well)
}

/// One repository by its name, or those at addresses, which are asked without a coordinator.
fn named_or_alone(
    repositories: Vec<String>,
    authority: Option<PathBuf>,
) -> Result<(Option<String>, args::Alone), Fault> {
    let (addresses, mut names): (Vec<String>, Vec<String>) =
        repositories.into_iter().partition(|one| one.contains('/'));
    let usage = |message: &str| Err(Fault::new(ErrorKind::Usage, message));
    match (names.pop(), addresses.is_empty()) {
        (Some(_), _) if !names.is_empty() => usage("--repository names one repository; leave it out for all of them"),
        (Some(_), false) => {
            usage("--repository is either a name, for the coordinator, or an address, for the repository")
        }
        (Some(_) | None, true) if authority.is_some() => {
            usage("--authority goes with the address of a repository: a path with a slash, or s3://bucket/prefix")
        }
        (name, _) => Ok((name, args::Alone { repositories: addresses, authority })),
    }
}

/// Backups in their repositories, read again by the coordinator.
async fn stored(context: &Context, args: args::Verify) -> Result<Ended, Stop> {
    let args::Verify { what, repositories, authority, percent, since, repair, file: _ } = args;
    let (repository, alone) = named_or_alone(repositories, authority)?;
    if repair && !alone.repositories.is_empty() {
        return Err(Fault::new(ErrorKind::Usage, "without a coordinator nothing is written: --repair needs one").into());
    }
    let (deployment, backup_id) = match what {
        None => (None, None),
        Some(args::DeploymentOrBackup::Deployment(name)) => (Some(name.to_string()), None),
        Some(args::DeploymentOrBackup::Backup(id)) => (None, Some(id.to_string())),
    };
    let request = pb::VerifyRequest {
        deployment,
        backup_id,
        repository,
        percent: percent.into(),
        since_ms: since.map(|since| since.from(Clock::system().now()).as_millis()),
        repair,
    };
    let client = context.connect_or_stand_in(&alone).await?;
    let mut events = client.control().verify(request).await.map_err(refused)?.into_inner();
    let output = &context.output;
    let mut progress = Progress::new();
    let mut copies = Vec::new();
    while let Some(event) = events.message().await.map_err(refused)? {
        match event.event {
            Some(pb::verify_event::Event::Progress(phase)) => progress.update(&phase)?,
            Some(pb::verify_event::Event::Copy(copy)) => {
                let copy: json::CheckedCopy = copy.into();
                for line in copy.lines() {
                    output.text(line)?;
                }
                copies.push(copy);
            }
            None => {}
        }
    }
    drop(progress);
    let answer = json::CheckedCopies { copies };
    if !repair && answer.copies.iter().any(|copy| copy.reason.is_some() && !copy.also_in.is_empty()) {
        output.note("what another repository has can be put right: add --repair")?;
    }
    output.value(&answer)?;
    let is_damaged = answer.copies.iter().any(|copy| copy.reason.is_some());
    let is_silent = answer.copies.iter().any(|copy| copy.unreadable.is_some());
    Ok(match (is_damaged, is_silent) {
        (true, _) => Ended::As(ErrorKind::Integrity),
        (false, true) => Ended::As(ErrorKind::Unavailable),
        (false, false) => Ended::Well,
    })
}
