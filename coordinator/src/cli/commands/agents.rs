//! `urtext agents list`

use urtext_proto::pb;

use super::words::{ago, optional};
use crate::{
    cli::{Context, Ended, Stop, client::refused, json, output::Table},
    clock::Clock,
};

pub(in crate::cli) async fn list(context: &Context) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let response = client.control().list_agents(pb::ListAgentsRequest {}).await.map_err(refused)?.into_inner();
    let agents: Vec<json::Agent> = response.agents.into_iter().map(Into::into).collect();
    let now = Clock::system().now();
    let mut table = Table::new(["DEPLOYMENT", "SITE", "NODE", "AGENT", "VERSION", "CERTIFICATE UNTIL", "SERVER"]);
    for agent in &agents {
        table.row([
            agent.deployment.clone(),
            agent.site.clone(),
            agent.node.clone(),
            if agent.connected { "connected".to_owned() } else { optional(agent.last_seen.map(|at| ago(at, now))) },
            optional(Some(agent.version.clone()).filter(|version| !version.is_empty())),
            optional(agent.certificate_expires_at.map(|at| at.to_string()[..10].to_owned())),
            optional(Some(agent.server_address.clone()).filter(|address| !address.is_empty())),
        ]);
    }
    if table.is_empty() {
        context.output.note("no agent has joined yet: `urtext invite` makes the token for one")?;
    } else {
        context.output.text(table)?;
    }
    context.output.value(&json::Agents { agents })?;
    Ok(Ended::Well)
}
