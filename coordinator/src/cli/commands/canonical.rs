//! `urtext canonical`

use urtext_proto::pb;
use urtext_types::{ErrorKind, Timestamp};

use crate::{
    cli::{
        Context, Ended, Stop, args,
        client::refused,
        json,
        output::{WIDTH, wrap},
    },
    clock::Clock,
};

pub(in crate::cli) async fn run(context: &Context, args: args::Canonical) -> Result<Ended, Stop> {
    let args::Canonical { of, until, for_target, prefer_site, alone } = args;
    let client = context.connect_or_stand_in(&alone).await?;
    let request = pb::CanonicalRequest {
        deployment: of.deployment.to_string(),
        shard: of.shard.map(String::from),
        wish: Some(wish(until, Clock::system().now())),
        for_target,
        prefer_site: prefer_site.map(String::from),
    };
    let mut response = client.control().canonical(request).await.map_err(refused)?.into_inner();
    let output = &context.output;
    let printed = std::mem::take(&mut response.printed);
    output.text(printed.trim_end())?;
    let answer: json::Canonical = response.try_into()?;
    let guard = answer.may_hold_more.iter().map(|more| match &more.accepted {
        None => format!("A restore stops here: {}", more.sentence),
        Some(json::LossAccepted { by, at, reason }) => {
            format!(
                "{} A restore goes on without it: {by} accepted that on {at}, with the reason: {reason:?}.",
                more.sentence
            )
        }
    });
    for (number, sentence) in guard.chain(answer.advice.iter().cloned()).enumerate() {
        if number == 0 {
            output.text("")?;
        }
        for (line, text) in wrap(&sentence, WIDTH - 4).into_iter().enumerate() {
            output.text(format_args!("{}{text}", if line == 0 { "  " } else { "    " }))?;
        }
    }
    output.value(&answer)?;
    Ok(match answer.verdict.as_str() {
        "canonical" => Ended::Well,
        "ambiguous" => Ended::As(ErrorKind::Ambiguous),
        _ => Ended::As(ErrorKind::NotFound),
    })
}

/// The point that was asked for.
pub(super) fn wish(until: args::UntilPoint, now: Timestamp) -> pb::Wish {
    let args::UntilPoint { as_of, at } = until;
    pb::Wish {
        as_of_ms: as_of.map(|when| when.from(now).as_millis()),
        at: at.map(|point| pb::HistoryOffset { history: point.history.into(), offset: point.offset.get() }),
    }
}
