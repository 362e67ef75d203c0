//! `urtext restore`: the plan, the question, the work, the proof.

use std::io::{self, BufRead, IsTerminal, Write};

use urtext_proto::pb;
use urtext_repository::{Identity, Recipient, Recipients, seal_bytes};
use urtext_types::{ByteRate, ErrorKind, Keyspace, Secret};

use super::{canonical::wish, to_dir, words::optional};
use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args,
        client::{Client, refused},
        json,
        output::{Progress, Table, WIDTH, wrap},
    },
    clock::Clock,
};

pub(in crate::cli) async fn run(context: &Context, args: args::Restore) -> Result<Ended, Stop> {
    let output = &context.output;
    let client = context.connect_or_stand_in(&args.alone).await?;
    let request = pb::PlanRestoreRequest {
        deployment: args.of.deployment.to_string(),
        shard: args.of.shard.as_ref().map(ToString::to_string),
        backup_id: args.backup.map(|id| id.to_string()),
        to_node: args.to.as_ref().map(ToString::to_string),
        overwrite: args.overwrite,
        wish: Some(wish(args.until.clone(), Clock::system().now())),
        lineage: args.lineage.clone().map(|history| history.0.into()),
        accept_loss: args.reason.clone(),
        dry_run: args.dry_run,
        download_bytes_per_second: args.limit.map(ByteRate::get),
    };
    let plan = client.control().plan_restore(request).await.map_err(refused)?.into_inner();
    let mut report = json::Restored {
        plan: json::Plan {
            backup: plan.backup.clone().unwrap_or_default().try_into()?,
            chosen: plan.chosen.clone(),
            steps: plan.steps.clone(),
            warnings: plan.warnings.clone(),
            accepted_loss: json::all(plan.accepted_loss.clone())?,
        },
        safety_backup: None,
        proof: None,
        files: Vec::new(),
    };
    print_plan(context, &report.plan, args.dry_run)?;
    if args.dry_run {
        output.value(&report)?;
        return Ok(Ended::Well);
    }
    // Whatever is missing is said before anything starts.
    let identities = context.identities(&client, args.identity.as_deref(), &plan.backup_recipients).await?;
    if let Some(path) = &args.to_dir {
        to_dir::check(path)?;
    }
    if !args.yes {
        ask()?;
    }
    match &args.to_dir {
        Some(path) => {
            let key = plan.backup.unwrap_or_default().key.unwrap_or_default();
            let reader = client.open_backup(key, args.limit).await?;
            report.files = to_dir::write(context, &reader, identities, path).await?;
        }
        None => restore_to_node(context, &client, plan, &identities, &mut report).await?,
    }
    output.value(&report)?;
    Ok(Ended::Well)
}

fn print_plan(context: &Context, plan: &json::Plan, is_all: bool) -> Result<(), Stop> {
    let output = &context.output;
    let mut lines = vec![format!("plan: restore backup {} of {}", plan.backup.id, plan.backup.deployment)];
    for sentence in &plan.chosen {
        lines.extend(wrap(sentence, WIDTH - 2).into_iter().map(|text| format!("  {text}")));
    }
    for (number, step) in plan.steps.iter().enumerate() {
        for (line, text) in wrap(step, WIDTH - 5).into_iter().enumerate() {
            lines.push(if line == 0 { format!("{:>3}. {text}", number + 1) } else { format!("     {text}") });
        }
    }
    let text = lines.join("\n");
    // With --dry-run the plan is the data; otherwise it is what is asked about.
    if is_all {
        output.text(text)?;
    } else {
        output.note(text)?;
    }
    for warning in &plan.warnings {
        output.warning(warning)?;
    }
    Ok(())
}

/// Yes, or nothing happens.
pub(in crate::cli) fn ask() -> Result<(), Stop> {
    if !io::stdin().is_terminal() {
        return Err(Fault::new(ErrorKind::Refused, "nobody is here to say yes to the plan")
            .with_hint("--yes goes on without asking; nothing was started")
            .into());
    }
    write!(anstream::stderr().lock(), "go on? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Fault::new(ErrorKind::Refused, "not confirmed: nothing was started").into()),
    }
}

async fn restore_to_node(
    context: &Context,
    client: &Client,
    plan: pb::PlanRestoreResponse,
    identities: &[Identity],
    report: &mut json::Restored,
) -> Result<(), Stop> {
    use pb::restore_event::Event;
    let output = &context.output;
    let recipient: Recipient = plan
        .agent_recipient
        .unwrap_or_default()
        .parse()
        .map_err(Fault::while_doing("read the recipient of the target's agent"))?;
    let secret: Secret<String> =
        Secret::new(identities.iter().map(|identity| format!("{}\n", identity.to_secret().expose())).collect());
    // Only the agent beside the target can open it; the coordinator passes on what it cannot read.
    let sealed = seal_bytes(&Recipients::from(recipient), secret.expose().as_bytes())
        .map_err(Fault::while_doing("seal the age identity to the target's agent"))?;
    let request = pb::RestoreRequest { plan_id: plan.plan_id, sealed_identity: sealed.into() };
    let mut events = client.control().restore(request).await.map_err(refused)?.into_inner();
    let mut progress = Progress::new();
    while let Some(event) = events.message().await.map_err(refused)? {
        match event.event {
            Some(Event::Progress(phase)) => progress.update(&phase)?,
            Some(Event::SafetyBackup(summary)) => {
                let backup: json::Backup = summary.try_into()?;
                output.note(format_args!("safety backup {} is committed", backup.id))?;
                report.safety_backup = Some(backup);
            }
            Some(Event::Proof(proof)) => {
                drop(progress);
                let proof: json::Proof = proof.try_into()?;
                print_proof(context, &proof)?;
                let is_proved = proof.expected == proof.found;
                report.proof = Some(proof);
                return if is_proved { Ok(()) } else { Err(not_proved().into()) };
            }
            None => {}
        }
    }
    Err(Fault::new(ErrorKind::Unavailable, "the coordinator ended the answer before the restore had ended")
        .with_hint("the agent goes on with what it has begun; `urtext status` shows it")
        .into())
}

fn not_proved() -> Fault {
    Fault::new(ErrorKind::Integrity, "the restored server does not hold the keys of the backup").with_hint(
        "keys whose time has come are dropped by the server when it loads them; anything else is worth a look before \
         clients come back",
    )
}

fn print_proof(context: &Context, proof: &json::Proof) -> Result<(), Stop> {
    let output = &context.output;
    let mut table = Table::new(["DATABASE", "KEYS", "EXPECTED", "WITH EXPIRY", "EXPECTED"]);
    let mut numbers: Vec<u32> = proof.expected.keys().chain(proof.found.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let (found, expected) = (proof.found.get(&number), proof.expected.get(&number));
        let keys = |keyspace: Option<&Keyspace>| optional(keyspace.map(|keyspace| keyspace.keys));
        let expires = |keyspace: Option<&Keyspace>| optional(keyspace.map(|keyspace| keyspace.expires));
        table.row([number.to_string(), keys(found), keys(expected), expires(found), expires(expected)]);
    }
    output.text(table)?;
    if let (Some(history), Some(offset)) = (proof.history, proof.offset) {
        output.text(format_args!("restored to {history}:{offset}"))?;
    }
    if let Some(history) = proof.new_history {
        output.text(format_args!("goes on as {history}"))?;
    }
    if let Some(digest) = &proof.content_digest {
        output.text(format_args!("content digest {digest}, as in the manifest"))?;
    }
    output.note(format_args!("verified in {} ms, loaded in {} ms", proof.verify_ms, proof.load_ms))?;
    Ok(())
}
