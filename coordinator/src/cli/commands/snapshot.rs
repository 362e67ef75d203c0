//! `urtext snapshot`

use urtext_proto::pb;
use urtext_types::{ByteCount, ErrorKind};

use crate::{
    Fault,
    cli::{
        Context, Ended, Stop,
        args::{self, Method},
        client::refused,
        json,
        output::Progress,
    },
};

pub(in crate::cli) async fn run(context: &Context, args: args::Snapshot) -> Result<Ended, Stop> {
    use pb::snapshot_event::Event;
    let args::Snapshot { of, node, site, at_least, method, allow_stale, detach } = args;
    let method = match method {
        None => pb::CaptureMethod::Unspecified,
        Some(Method::Replication) => pb::CaptureMethod::Replication,
        Some(Method::File) => pb::CaptureMethod::File,
    };
    let request = pb::SnapshotRequest {
        deployment: of.deployment.to_string(),
        shard: of.shard.map(String::from),
        node: node.map(String::from),
        site: site.map(String::from),
        method: method.into(),
        allow_stale,
        at_least_offset: at_least.map(|offset| offset.get()),
        detach,
    };
    let client = context.connect().await?;
    let mut events = client.control().snapshot(request).await.map_err(refused)?.into_inner();
    let output = &context.output;
    let mut progress = Progress::new();
    while let Some(event) = events.message().await.map_err(refused)? {
        match event.event {
            Some(Event::Started(started)) => {
                let pb::SnapshotStarted { backup, node, site, reason } = started;
                output.note(format_args!("capturing {node} at {site}. {reason}"))?;
                if detach {
                    let pb::BackupKey { deployment, shard, id } = backup.unwrap_or_default();
                    output.text(&id)?;
                    let backup = json::DetachedBackup { id, deployment, shard, node, site };
                    output.value(&json::Detached { backups: vec![backup] })?;
                    return Ok(Ended::Well);
                }
            }
            Some(Event::Progress(phase)) => progress.update(&phase)?,
            Some(Event::Committed(summary)) => {
                drop(progress);
                let backup: json::Backup = summary.try_into()?;
                let size = ByteCount::new(backup.rdb_bytes);
                output.note(format_args!("committed: {} keys, {size}", backup.keys))?;
                if let Some(stale) = &backup.stale {
                    output.warning(format_args!("this copy is old: {stale}"))?;
                }
                output.text(&backup.id)?;
                output.value(&json::Backups { backups: vec![backup], unreadable: Vec::new() })?;
                return Ok(Ended::Well);
            }
            None => {}
        }
    }
    Err(Fault::new(ErrorKind::Unavailable, "the coordinator ended the answer before the snapshot had ended")
        .with_hint("the snapshot goes on; `urtext backups` shows it when it is committed")
        .into())
}
