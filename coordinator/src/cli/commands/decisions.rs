//! `urtext vouch`, `urtext audit`

use urtext_proto::pb;

use crate::cli::{Context, Ended, Stop, args, client::refused, json, output::Table};

pub(in crate::cli) async fn vouch(context: &Context, args: args::Vouch) -> Result<Ended, Stop> {
    let args::Vouch { of, backup, reason } = args;
    let request = pb::VouchRequest {
        deployment: of.deployment.to_string(),
        shard: of.shard.map(String::from),
        backup_id: backup.to_string(),
        reason,
    };
    let client = context.connect().await?;
    let pb::VouchResponse { record_id } = client.control().vouch(request).await.map_err(refused)?.into_inner();
    context.output.text(format_args!("vouched for {backup}"))?;
    context.output.value(&json::Vouched { backup: backup.to_string(), record: record_id })?;
    Ok(Ended::Well)
}

pub(in crate::cli) async fn audit(context: &Context, args: args::OfDeployment) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::AuditRequest { deployment: args.deployment.map(String::from) };
    let response = client.control().audit(request).await.map_err(refused)?.into_inner();
    let entries: Vec<json::AuditEntry> = response.entries.into_iter().map(json::AuditEntry::from).collect();
    let mut table = Table::new(["TIME", "WHO", "DEPLOYMENT", "WHAT"]);
    for entry in &entries {
        let why = entry.reason.as_ref().map_or(String::new(), |reason| format!(" Reason: {reason}"));
        table.row([
            entry.at.to_string(),
            entry.who.clone(),
            entry.deployment.clone(),
            format!("{}: {}.{why}", entry.action, entry.subject.trim_end_matches('.')),
        ]);
    }
    if table.is_empty() {
        context.output.note("nothing has been decided yet")?;
    } else {
        context.output.text(table)?;
    }
    context.output.value(&json::Audit { entries })?;
    Ok(Ended::Well)
}
