//! `urtext repository rekey`: whose keys open the backups that are taken from now on.
//!
//! It runs where the identities are, at the operator: they are sealed to the new recipients here, and the coordinator
//! keeps what it cannot open. Nothing that is stored is rewritten.

use urtext_identity::{AgentSigner, Credentials, PeerId};
use urtext_proto::pb;
use urtext_repository::{
    FORMAT_VERSION, Handover, Identity, KeyChange, ManifestSigner, Recipient, Recipients, SignatureError,
};
use urtext_types::{ByteCount, ErrorKind};

use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args,
        client::{Client, refused},
        identities::{KnownKeys, read_identities},
        json,
        output::{WIDTH, wrap},
    },
    clock::{Clock, entropy},
};

/// Signs as the operator whose directory this is.
struct Operator {
    signer: AgentSigner,
    name: String,
}

impl ManifestSigner for Operator {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.signer.sign(bytes))
    }

    fn certificate_pem(&self) -> &str {
        self.signer.certificate_pem()
    }
}

impl Operator {
    fn of(context: &Context) -> Result<Self, Fault> {
        let attempt = || "sign as an operator".to_owned();
        let credentials = Credentials::load(context.operator()?.root()).map_err(Fault::while_doing(attempt()))?;
        let PeerId::Operator(name) = credentials.certificate().map_err(Fault::while_doing(attempt()))?.peer else {
            return Err(Fault::new(ErrorKind::Denied, "only an operator may change the keys"));
        };
        let signer = AgentSigner::new(&credentials.key_pem, &credentials.certificate_pem);
        Ok(Self { signer: signer.map_err(Fault::while_doing(attempt()))?, name: name.to_string() })
    }
}

pub(in crate::cli) async fn run(context: &Context, args: args::Rekey) -> Result<Ended, Stop> {
    let operator = Operator::of(context)?;
    let client = context.connect().await?;
    let mut repositories = Vec::new();
    for keys in client.keys(args.name.as_ref().map(ToString::to_string)).await? {
        repositories.push(keys.map_err(|trouble| {
            Fault::new(ErrorKind::Unavailable, format!("{trouble}; nothing was changed"))
                .with_hint("wait until it answers, or name the repository whose keys are to be changed")
        })?);
    }
    let file = context.identity_file(args.identity.as_deref())?;
    let own = match read_identities(&file)? {
        Some(own) => own,
        None if args.identity.is_none() => Vec::new(),
        None => {
            let message = format!("there is no age identity in {}", file.display());
            return Err(Fault::new(ErrorKind::NotFound, message).into());
        }
    };
    // Whatever is wrong is said before anything is changed anywhere.
    let plans: Vec<Plan<'_>> = repositories.iter().map(|keys| plan(keys, &args, &own)).collect::<Result<_, Fault>>()?;
    let mut changed = Vec::new();
    for plan in plans {
        changed.push(carry_out(context, &client, &operator, plan, args.reason.clone()).await?);
    }
    context.output.value(&json::Rekeyed { repositories: changed })?;
    Ok(Ended::Well)
}

/// One repository's change, not made yet.
struct Plan<'a> {
    keys: &'a KnownKeys,
    to: Recipients,
    handover: Handover,
}

fn plan<'a>(keys: &'a KnownKeys, args: &args::Rekey, own: &[Identity]) -> Result<Plan<'a>, Fault> {
    let current = keys.keyring.current();
    let attempt = || format!("change the keys of repository {}", keys.name);
    if let Some(stranger) = args.drop.iter().find(|one| !current.contains(one)) {
        let message = format!("{}: {stranger} is no recipient", attempt());
        return Err(Fault::new(ErrorKind::NotFound, message).with_hint(format!("its recipients are: {current}")));
    }
    let stay = current.iter().filter(|one| !args.drop.contains(one));
    let all: Vec<Recipient> = stay.chain(&args.recipients).cloned().collect();
    let to = Recipients::try_from(all).map_err(Fault::while_doing(attempt()))?;
    let handover = keys.keyring.hand_on(&to, own).map_err(Fault::while_doing(attempt()))?;
    let is_same = to.iter().all(|one| current.contains(one)) && current.iter().all(|one| to.contains(one));
    // The same recipients again, with an identity that was not at hand before, is a change, too.
    if is_same && handover.identities.is_empty() {
        return Err(Fault::new(ErrorKind::Conflict, format!("{}: its recipients are these already", attempt())));
    }
    Ok(Plan { keys, to, handover })
}

async fn carry_out(
    context: &Context,
    client: &Client,
    operator: &Operator,
    plan: Plan<'_>,
    reason: Option<String>,
) -> Result<json::RekeyedRepository, Stop> {
    let Plan { keys: KnownKeys { name, keyring, backups, stored_bytes }, to, handover } = plan;
    let now = Clock::system().now();
    let change = KeyChange {
        format_version: FORMAT_VERSION,
        id: keyring.next_id(now, entropy()),
        repository: keyring.repository,
        recipients: to.clone(),
        handed_on: handover.identities.clone(),
        who: operator.name.clone(),
        at: now,
        reason,
    };
    let signed = change.seal(operator).map_err(Fault::while_doing("sign the change of keys"))?;
    let request = pb::ChangeKeysRequest {
        repository: name.clone(),
        id: change.id.to_string(),
        signed_change: signed,
        handed_on: handover.sealed.clone(),
    };
    client.control().change_keys(request).await.map_err(refused)?;

    let output = &context.output;
    output.text(format_args!("repository {name}: backups are sealed to {to} from now on"))?;
    for recipient in &change.handed_on {
        output.text(format_args!(
            "  handed on      the identity of {recipient}: the new keys open what was sealed to it"
        ))?;
    }
    let gone: Vec<String> = keyring.current().iter().filter(|one| !to.contains(one)).map(ToString::to_string).collect();
    let size = ByteCount::new(*stored_bytes);
    let what = if *backups == 1 { "1 backup".to_owned() } else { format!("{backups} backups") };
    output.text(format_args!("  not rewritten  {what}, {size} as stored"))?;
    for list in &handover.left_behind {
        output.warning(format_args!(
            "what was sealed to {list} stays closed to the new keys: no identity of it was at hand. Keep it; the same \
             command with its --identity hands it on later"
        ))?;
    }
    for line in &keyring.disbelieved {
        output.warning(line)?;
    }
    if !gone.is_empty() {
        let sentence = format!(
            "Whoever has the identity of {} and the stored objects goes on reading what was sealed to it. To write it anew \
             would mean to fetch, open, seal and store {size}, which is not done here: take fresh backups, and let the old \
             ones go. Put the new identity where restores look for it: {}.",
            gone.join(", "),
            context.operator()?.identity().display()
        );
        output.note(wrap(&sentence, WIDTH).join("\n"))?;
    }
    Ok(json::RekeyedRepository {
        name: name.clone(),
        change: change.id.to_string(),
        recipients: to.iter().map(ToString::to_string).collect(),
        dropped: gone,
        handed_on: change.handed_on.iter().map(ToString::to_string).collect(),
        left_behind: handover.left_behind.iter().flat_map(|list| list.iter().map(ToString::to_string)).collect(),
        backups_not_rewritten: *backups,
        stored_bytes_not_rewritten: *stored_bytes,
    })
}
