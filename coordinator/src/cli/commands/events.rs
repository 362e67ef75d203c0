//! `urtext events`

use urtext_proto::pb;

use crate::{
    cli::{
        Context, Ended, Stop, args,
        client::refused,
        json,
        output::{WIDTH, wrap},
    },
    clock::Clock,
};

pub(in crate::cli) async fn run(context: &Context, args: args::Events) -> Result<Ended, Stop> {
    let args::Events { of, since, follow } = args;
    let client = context.connect().await?;
    let request = pb::EventsRequest {
        deployment: of.deployment.map(String::from),
        since_ms: since.map(|when| when.from(Clock::system().now()).as_millis()),
        follow,
    };
    let mut stream = client.control().events(request).await.map_err(refused)?.into_inner();
    let output = &context.output;
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.map_err(refused)? {
        let event = json::Event::from(event);
        print(context, &event)?;
        if follow {
            output.value(&event)?;
        } else {
            events.push(event);
        }
    }
    if !follow {
        if events.is_empty() {
            output.note("nothing has happened")?;
        }
        output.value(&json::Events { events })?;
    }
    Ok(Ended::Well)
}

fn print(context: &Context, event: &json::Event) -> Result<(), Stop> {
    let name =
        if event.shard == "0" { event.deployment.clone() } else { format!("{}/{}", event.deployment, event.shard) };
    let head = format!("{}  {:7}  {name}  {}", event.at, event.what, event.kind);
    context.output.text(head)?;
    for text in wrap(&event.sentence, WIDTH - 4) {
        context.output.text(format_args!("    {text}"))?;
    }
    Ok(())
}
