//! `urtext invite`

use urtext_proto::pb;
use urtext_types::Timestamp;

use crate::cli::{Context, Ended, Stop, args, client::refused, json};

pub(in crate::cli) async fn run(context: &Context, args: args::Invite) -> Result<Ended, Stop> {
    let args::Invite { deployment, site, node, shard, ttl } = args;
    let request = pb::InviteRequest {
        deployment: deployment.to_string(),
        shard: shard.to_string(),
        site: site.to_string(),
        node: node.map(String::from).unwrap_or_default(),
        ttl_seconds: ttl.as_secs(),
    };
    let client = context.connect().await?;
    let pb::InviteResponse { token, expires_at_ms, node } =
        client.control().invite(request).await.map_err(refused)?.into_inner();
    let expires_at = Timestamp::from_millis(expires_at_ms);
    let output = &context.output;
    output.text(&token)?;
    output.value(&json::Invite {
        token,
        deployment: deployment.to_string(),
        shard: shard.to_string(),
        site: site.to_string(),
        node: node.clone(),
        expires_at,
    })?;
    output.note(format_args!(
        "for node {node} of {deployment} at {site}; good for one agent until {expires_at}. On its host:\n\
         urtext-agent join --token TOKEN --redis redis://127.0.0.1:6379 --dir DIR"
    ))?;
    Ok(Ended::Well)
}
