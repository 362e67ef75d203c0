//! `urtext catalog rebuild`

use urtext_proto::pb;

use crate::cli::{Context, Ended, Stop, client::refused, json};

pub(in crate::cli) async fn rebuild(context: &Context) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let response = client.control().rebuild_catalog(pb::RebuildCatalogRequest {}).await.map_err(refused)?;
    let rebuilt = json::Rebuilt::from(response.into_inner());
    let output = &context.output;
    let json::Rebuilt { backups, backups_found, backups_gone, edges, contradictions, accepted, vouches, unreadable } =
        &rebuilt;
    output.text("rebuilt from the repository:")?;
    output.text(format_args!("  {backups} backups, {backups_found} of them not listed before; {backups_gone} gone"))?;
    output.text(format_args!("  {edges} forks, {contradictions} contradictions between statements about them"))?;
    output.text(format_args!("  {accepted} accepted lineages, {vouches} backups vouched for"))?;
    for line in unreadable {
        output.warning(line)?;
    }
    output.value(&rebuilt)?;
    Ok(Ended::Well)
}
