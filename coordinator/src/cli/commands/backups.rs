//! `urtext backups`, `urtext backup show`

use std::time::Duration;

use serde_json::value::RawValue;
use urtext_proto::pb;
use urtext_types::{BackupId, ByteCount, ErrorKind, Timestamp};

use super::words::{ago, duration, optional};
use crate::{
    Fault,
    cli::{Context, Ended, Stop, args, client::refused, json, output::Table},
    clock::Clock,
};

pub(in crate::cli) async fn list(context: &Context, args: args::Backups) -> Result<Ended, Stop> {
    let client = context.connect_or_stand_in(&args.alone).await?;
    let request = pb::ListBackupsRequest { deployment: args.of.deployment.map(String::from) };
    let mut pages = client.control().list_backups(request).await.map_err(refused)?.into_inner();
    let now = Clock::system().now();
    let mut table = Table::new(["BACKUP", "NODE", "HISTORY", "OFFSET", "KEYS", "DATA AS OF", "TAKEN", "IN", "REMARK"]);
    let mut list = context.output.list(&json::Nothing {}, "backups")?;
    let (mut is_empty, mut unreadable) = (true, Vec::new());
    while let Some(page) = pages.message().await.map_err(refused)? {
        for backup in json::all::<_, json::Backup>(page.backups)? {
            table.row(cells(&backup, now));
            list.item(&backup)?;
            is_empty = false;
        }
        if !table.is_empty() {
            context.output.text(table.page())?;
        }
        unreadable.extend(page.unreadable);
    }
    if is_empty {
        context.output.note("there are no backups yet: `urtext snapshot` takes one")?;
    }
    for line in &unreadable {
        context.output.warning(line)?;
    }
    list.end(&json::Unreadable { unreadable })?;
    Ok(Ended::Well)
}

fn cells(backup: &json::Backup, now: Timestamp) -> [String; 9] {
    let remark = match (&backup.ineligible, &backup.stale) {
        (Some(reason), _) => format!("cannot be restored: {reason}"),
        (None, Some(reason)) => format!("stale: {reason}"),
        (None, None) => backup.vouched.as_ref().map_or(String::new(), |by| format!("vouched for by {by}")),
    };
    [
        backup.id.clone(),
        backup.node.clone(),
        optional(backup.history.map(|history| history.short())),
        optional(backup.offset),
        backup.keys.to_string(),
        data_age(&backup.data_as_of, now),
        ago(backup.received_at, now),
        places(&backup.copies),
        remark,
    ]
}

pub(in crate::cli) async fn show(context: &Context, id: BackupId) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::GetBackupRequest { id: id.to_string() };
    let pb::GetBackupResponse { summary, manifest_json, signed_by } =
        client.control().get_backup(request).await.map_err(refused)?.into_inner();
    let malformed = |error| Fault::new(ErrorKind::Internal, format!("the manifest is not JSON: {error}"));
    let manifest: &RawValue = serde_json::from_slice(&manifest_json).map_err(malformed)?;
    let backup: json::Backup = summary.unwrap_or_default().try_into()?;
    let output = &context.output;
    output.text(format_args!("backup       {}", backup.id))?;
    output.text(format_args!(
        "of           {} shard {}, node {} at {}",
        backup.deployment, backup.shard, backup.node, backup.site
    ))?;
    match (backup.history, backup.offset) {
        (Some(history), Some(offset)) => output.text(format_args!("position     {history}:{offset}"))?,
        _ => output.text("position     not known: the server counted none")?,
    }
    output.text(format_args!(
        "taken        {} by {} from {} {}",
        backup.taken_at, backup.method, backup.engine, backup.server_version
    ))?;
    output.text(format_args!("received     {}", backup.received_at))?;
    output.text(format_args!("data as of   {}", as_of(&backup.data_as_of)))?;
    if let Some(reason) = &backup.data_as_of_reason {
        output.text(format_args!("             ({reason})"))?;
    }
    output.text(format_args!(
        "holds        {} keys, {} as RDB, {} stored",
        backup.keys,
        ByteCount::new(backup.rdb_bytes),
        ByteCount::new(backup.stored_bytes)
    ))?;
    if let Some(digest) = &backup.content_digest {
        output.text(format_args!("digest       {digest}"))?;
    }
    for copy in &backup.copies {
        let proved = match (copy.rehearsed_at, copy.verified_at) {
            (Some(at), _) => format!(", rehearsed {at}"),
            (None, Some(at)) => format!(", verified {at}"),
            (None, None) => String::new(),
        };
        let lock = copy.locked_until.map_or(String::new(), |until| format!(", locked until {until}"));
        let trouble = copy.trouble.as_ref().map_or(String::new(), |why| format!(", cannot be restored: {why}"));
        output.text(format_args!("stored in    {}{proved}{lock}{trouble}", copy.repository))?;
    }
    output.text(format_args!("signed by    {signed_by}; the signature is good"))?;
    if let Some(stale) = &backup.stale {
        output.text(format_args!("stale        {stale}"))?;
    }
    if let Some(vouched) = &backup.vouched {
        output.text(format_args!("vouched for  by {vouched}"))?;
    }
    let pretty: serde_json::Value = serde_json::from_str(manifest.get()).map_err(malformed)?;
    output.text(format_args!("\n{pretty:#}"))?;
    output.value(&json::ShownBackup { backup, signed_by, manifest })?;
    Ok(Ended::Well)
}

/// Where a backup can be had; where not, with a mark.
fn places(copies: &[json::StoredCopy]) -> String {
    let place = |copy: &json::StoredCopy| match copy.trouble {
        None => copy.repository.clone(),
        Some(_) => format!("{}!", copy.repository),
    };
    copies.iter().map(place).collect::<Vec<_>>().join(",")
}

/// How old the data is, which is not how old the file is; both ends where they lie apart.
fn data_age(data: &json::DataAsOf, now: Timestamp) -> String {
    match (data.from, data.to) {
        (Some(from), Some(to)) if to.since(from) > Duration::from_secs(1) => {
            format!("{} to {}", duration(now.since(from)), ago(to, now))
        }
        (Some(from), _) => ago(from, now),
        (None, Some(to)) => format!("before {}", ago(to, now)),
        (None, None) => "-".to_owned(),
    }
}

/// Up to when every write is included, which is not when the file was made.
fn as_of(data: &json::DataAsOf) -> String {
    match (data.from, data.to) {
        (Some(from), Some(to)) => format!("complete up to {from}, nothing from after {to}"),
        (Some(from), None) => format!("complete up to {from}"),
        (None, Some(to)) => format!("nothing from after {to}; how far it is complete was not observed"),
        (None, None) => "not known: no master was observed around its position".to_owned(),
    }
}
