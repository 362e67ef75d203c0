//! `urtext init`

use crate::{
    cli::{Context, Ended, Stop, args, json, passphrase::new_passphrase},
    clock::Clock,
    init::{Initialized, init},
};

pub(in crate::cli) async fn run(context: &Context, args: args::Init) -> Result<Ended, Stop> {
    let dir = context.dir()?;
    let passphrase = if args.passphrase { Some(new_passphrase()?) } else { None };
    let made = init(dir, args.listen, args.repository.as_deref(), passphrase.as_ref(), Clock::system().now()).await?;
    let Initialized { listen, advertise, repository, recipient, identity_file } = made;
    let output = &context.output;
    output.value(&json::Init {
        dir: dir.display().to_string(),
        listen: listen.to_string(),
        repository: repository.to_string(),
        recipient: recipient.clone(),
        identity_file: identity_file.display().to_string(),
    })?;
    output.text(format_args!("made {}", dir.display()))?;
    output.text(format_args!("  listens on   {listen}, reached as {advertise} (urtext.toml)"))?;
    output.text(format_args!("  backups in   {repository}"))?;
    output.text(format_args!("  sealed to    {recipient}"))?;
    output.note(format_args!(
        "\nKeep a copy of {} in a safe place elsewhere. Without it no backup can be read;\n\
         the coordinator itself does not need it, only whoever restores.\n\n\
         next: urtext serve --dir {}",
        identity_file.display(),
        dir.display()
    ))?;
    Ok(Ended::Well)
}
