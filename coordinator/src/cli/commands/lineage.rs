//! `urtext lineage`, `urtext accept-lineage`

use urtext_proto::{model, pb};

use crate::cli::{Context, Ended, Stop, args, client::refused, json};

pub(in crate::cli) async fn show(context: &Context, args: args::ShowLineage) -> Result<Ended, Stop> {
    let args::ShowLineage { of, dot, svg, all, alone } = args;
    let form = match (dot, svg) {
        (true, _) => pb::LineageForm::Dot,
        (_, true) => pb::LineageForm::Svg,
        _ => pb::LineageForm::Text,
    };
    let client = context.connect_or_stand_in(&alone).await?;
    let request = pb::ShowLineageRequest {
        deployment: of.deployment.to_string(),
        shard: of.shard.map(String::from),
        form: form.into(),
        all,
    };
    let response = client.control().show_lineage(request).await.map_err(refused)?.into_inner();
    let output = &context.output;
    output.text(response.drawing.trim_end())?;
    for finding in &response.findings {
        output.warning(finding)?;
    }
    output.value(&json::Lineage::try_from(response)?)?;
    Ok(Ended::Well)
}

pub(in crate::cli) async fn accept(context: &Context, args: args::AcceptLineage) -> Result<Ended, Stop> {
    let args::AcceptLineage { of, history, reason } = args;
    let request = pb::AcceptLineageRequest {
        deployment: of.deployment.to_string(),
        shard: of.shard.map(String::from),
        history: history.0.into(),
        reason,
    };
    let client = context.connect().await?;
    let pb::AcceptLineageResponse { history, record_id } =
        client.control().accept_lineage(request).await.map_err(refused)?.into_inner();
    let history = model::replication_id("history", &history)?;
    context.output.text(format_args!("accepted {history}"))?;
    context.output.value(&json::Accepted { history, record: record_id })?;
    Ok(Ended::Well)
}
