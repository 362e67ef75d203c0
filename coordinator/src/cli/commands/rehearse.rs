//! `urtext rehearse`

use std::{env, sync::Mutex};

use urtext_proto::pb;
use urtext_types::{BackupId, ByteCount, ErrorKind};

use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args,
        client::{Client, refused},
        json,
        output::Progress,
    },
    rehearsing::{Rehearsed, fitting, rehearse, servers::installed},
};

pub(in crate::cli) async fn run(context: &Context, args: args::Rehearse) -> Result<Ended, Stop> {
    let args::Rehearse { what, shard, servers, identity } = args;
    let client = context.connect().await?;
    let id = match what {
        args::DeploymentOrBackup::Backup(id) => id,
        args::DeploymentOrBackup::Deployment(name) => {
            canonical(&client, name.to_string(), shard.map(String::from)).await?
        }
    };
    let request = pb::GetBackupRequest { id: id.to_string() };
    let found = client.control().get_backup(request).await.map_err(refused)?.into_inner();
    let reader = client.open_backup(found.summary.unwrap_or_default().key.unwrap_or_default(), None).await?;
    let manifest = reader.manifest();
    let recipients: Vec<String> = manifest.recipients.iter().map(ToString::to_string).collect();
    let identities = context.identities(&client, identity.as_deref(), &recipients).await?;
    let installed = installed(&servers, env::var_os("PATH").as_deref())?;
    let server = fitting(manifest, &installed)?;
    let output = &context.output;
    output.note(format_args!("rehearsing backup {id} in {} ({})", server.version, server.program.display()))?;

    let progress = Mutex::new(Progress::new());
    let told = |bytes_done: u64| {
        let phase = "fetching".to_owned();
        let phase = pb::TaskPhase { phase, bytes_done, bytes_total: Some(manifest.rdb.bytes) };
        // A bar that cannot be drawn is no reason to stop.
        let _ = progress.lock().expect("nothing panics while it draws").update(&phase);
    };
    let parent = env::temp_dir();
    // What was opened must not stay behind.
    let rehearsed = tokio::select! {
        rehearsed = rehearse(&reader, identities, server, &parent, &told) => rehearsed?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Fault::new(ErrorKind::Unavailable, "interrupted: the rehearsal proved nothing").into());
        }
    };
    drop(progress);
    let Rehearsed { server, fetch_ms, load_ms, keys, digest, failure } = rehearsed;
    let request = pb::ReportRehearsalRequest {
        backup_id: id.to_string(),
        server: server.to_string(),
        failure: failure.as_ref().map(|fault| urtext_types::Chain(fault).to_string()),
        fetch_ms,
        load_ms,
        keys,
    };
    let reported = client.control().report_rehearsal(request).await.map_err(refused)?.into_inner();
    if let Some(fault) = failure {
        return Err(fault.into());
    }
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let size = ByteCount::new(manifest.rdb.bytes);
    output.text(format_args!("backup {id} is good: {server} loaded it, {keys} keys, {size}"))?;
    output.text(format_args!("same data    {digest}"))?;
    output.text(format_args!(
        "a restore    would take about {:.1} s here: {:.1} s to fetch and open, {:.1} s to load",
        seconds(fetch_ms + load_ms),
        seconds(fetch_ms),
        seconds(load_ms)
    ))?;
    output.text(format_args!("on record    as rehearsed, of the copy in {}", reported.repository))?;
    output.value(&json::Rehearsed {
        id: id.to_string(),
        repository: reported.repository,
        server: server.to_string(),
        keys,
        content_digest: digest,
        fetch_seconds: seconds(fetch_ms),
        load_seconds: seconds(load_ms),
    })?;
    Ok(Ended::Well)
}

/// The backup that a restore would take.
async fn canonical(client: &Client, deployment: String, shard: Option<String>) -> Result<BackupId, Stop> {
    let request = pb::CanonicalRequest { deployment: deployment.clone(), shard, ..pb::CanonicalRequest::default() };
    let answer = client.control().canonical(request).await.map_err(refused)?.into_inner();
    let answer: json::Canonical = answer.try_into()?;
    let id = answer.canonical.as_ref().and_then(|canonical| canonical.id.parse().ok());
    id.ok_or_else(|| {
        let kind = if answer.verdict == "ambiguous" { ErrorKind::Ambiguous } else { ErrorKind::NotFound };
        Fault::new(kind, format!("{deployment} has no canonical backup to rehearse"))
            .with_hint(format!("`urtext canonical {deployment}` says why; name a backup by its id"))
            .into()
    })
}
