//! `urtext lineage`, `urtext accept-lineage`

use urtext_proto::{model, pb};

use crate::cli::{Context, Ended, Stop, args, client::refused, json};

pub(in crate::cli) async fn show(context: &Context, args: args::ShowLineage) -> Result<Ended, Stop> {
    let args::ShowLineage { of, dot, svg, all } = args;
    let form = match (dot, svg) {
        (true, _) => pb::LineageForm::Dot,
        (_, true) => pb::LineageForm::Svg,
        _ => pb::LineageForm::Text,
    };
    let client = context.connect().await?;
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
        history: leading_bytes(&history)?.into(),
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

/// An even number of hex digits, at least eight.
fn leading_bytes(digits: &str) -> Result<Vec<u8>, Fault> {
    let whole = digits.get(..digits.len() / 2 * 2).map(hex::decode);
    match whole {
        Some(Ok(bytes)) if (4..=20).contains(&bytes.len()) => Ok(bytes),
        _ => Err(Fault::new(ErrorKind::Usage, format!("{digits:?} names no history")).with_hint(
            "give its 40 hexadecimal digits, or the first 8 or more of them, as `urtext lineage` shows them",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_named_by_eight_digits_or_more() {
        assert_eq!(leading_bytes("75d1dd8a").ok(), Some(vec![0x75, 0xd1, 0xdd, 0x8a]));
        assert_eq!(leading_bytes("75d1dd8a2").ok(), Some(vec![0x75, 0xd1, 0xdd, 0x8a]));
        for wrong in ["", "75d1dd", "zzzzzzzz", &"a".repeat(42), "éééé", "aéééé"] {
            assert!(leading_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
