//! `urtext canonical`

use urtext_proto::pb;
use urtext_types::ErrorKind;

use crate::cli::{Context, Ended, Stop, args, client::refused, json};

pub(in crate::cli) async fn run(context: &Context, args: args::OfShard) -> Result<Ended, Stop> {
    let client = context.connect().await?;
    let request = pb::CanonicalRequest { deployment: args.deployment.to_string(), shard: args.shard.map(String::from) };
    let mut response = client.control().canonical(request).await.map_err(refused)?.into_inner();
    let printed = std::mem::take(&mut response.printed);
    context.output.text(printed.trim_end())?;
    let answer: json::Canonical = response.try_into()?;
    context.output.value(&answer)?;
    Ok(match answer.verdict.as_str() {
        "canonical" => Ended::Well,
        "ambiguous" => Ended::As(ErrorKind::Ambiguous),
        _ => Ended::As(ErrorKind::NotFound),
    })
}
