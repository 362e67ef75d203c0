//! The command line: arguments in, text or JSON out, one exit code.

pub mod args;
mod client;
mod commands;
mod identities;
pub mod json;
mod live;
pub mod output;
mod passphrase;
mod source;
mod spill;

use std::{io, path::PathBuf, process::ExitCode};

use urtext_types::{ErrorKind, Explain};

use self::{
    args::{AgentsCommand, BackupCommand, CatalogCommand, Cli, Command, RepositoryCommand},
    output::{Output, print_error},
};
use crate::{Fault, directory::OperatorDirectory};

/// How a command ended, if it did not fail: some answers have an exit code of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Well,
    /// The answer itself was printed, and it is of this kind.
    As(ErrorKind),
    /// `diff` found differences. Not 1, as with diff(1): that is a fault of ours.
    Different,
}

/// The exit code of [`Ended::Different`], which no [`ErrorKind`] has.
const DIFFERENT: u8 = 9;

/// Carries out one command and says how it ended.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { command, dir, json } = cli;
    let context = Context { dir, output: Output { json } };
    match Box::pin(context.run(command)).await {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::As(kind)) => ExitCode::from(kind.exit_code()),
        Ok(Ended::Different) => ExitCode::from(DIFFERENT),
        // Whoever read our output has seen enough.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Stop::Output(error)) => {
            print_error(&Fault::new(ErrorKind::Unavailable, format!("write the output: {error}")));
            ExitCode::from(ErrorKind::Unavailable.exit_code())
        }
        Err(Stop::Fault(fault)) => {
            print_error(&fault);
            ExitCode::from(fault.kind().exit_code())
        }
    }
}

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    Fault(Fault),
    Output(io::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<urtext_proto::InvalidField> for Stop {
    fn from(field: urtext_proto::InvalidField) -> Self {
        Self::Fault(field.into())
    }
}

/// What every command has.
#[derive(Debug)]
pub(crate) struct Context {
    dir: Option<PathBuf>,
    output: Output,
}

impl Context {
    fn dir(&self) -> Result<&PathBuf, Fault> {
        self.dir.as_ref().ok_or_else(|| {
            Fault::new(ErrorKind::Usage, "which coordinator?")
                .with_hint("give --dir DIR or set URTEXT_DIR: the directory that `urtext init` made")
        })
    }

    fn operator(&self) -> Result<OperatorDirectory, Fault> {
        OperatorDirectory::find(self.dir()?)
    }

    async fn run(&self, command: Command) -> Result<Ended, Stop> {
        match command {
            Command::Init(args) => commands::init::run(self, args).await,
            Command::Serve => Box::pin(commands::serve::run(self)).await,
            Command::Invite(args) => commands::invite::run(self, args).await,
            Command::Status(args) => commands::status::run(self, args).await,
            Command::Backups(args) => commands::backups::list(self, args).await,
            Command::Backup { command: BackupCommand::Show { id } } => commands::backups::show(self, id).await,
            Command::Snapshot(args) => commands::snapshot::run(self, args).await,
            Command::Canonical(args) => commands::canonical::run(self, args).await,
            Command::Lineage(args) => commands::lineage::show(self, args).await,
            Command::AcceptLineage(args) => commands::lineage::accept(self, args).await,
            Command::Vouch(args) => commands::decisions::vouch(self, args).await,
            Command::Audit(args) => commands::decisions::audit(self, args).await,
            Command::Schedule(args) => commands::schedule::run(self, args).await,
            Command::Events(args) => commands::events::run(self, args).await,
            Command::Retention(args) => commands::retention::show(self, args).await,
            Command::Prune(args) => commands::retention::prune(self, args).await,
            Command::Hold(args) => commands::retention::hold(self, args).await,
            Command::Repository { command: RepositoryCommand::List } => commands::repository::list(self, false).await,
            Command::Repository { command: RepositoryCommand::Rekey(args) } => commands::rekey::run(self, args).await,
            Command::Repository { command: RepositoryCommand::Check } => commands::repository::list(self, true).await,
            Command::Repository { command: RepositoryCommand::Add(args) } => {
                commands::repository::add(self, args).await
            }
            Command::Repository { command: RepositoryCommand::Lock(args) } => {
                commands::repository::lock(self, args).await
            }
            Command::Repository { command: RepositoryCommand::Sync(args) } => {
                commands::repository::sync(self, args).await
            }
            Command::Catalog { command: CatalogCommand::Rebuild } => commands::catalog::rebuild(self).await,
            Command::Restore(args) => Box::pin(commands::restore::run(self, args)).await,
            Command::Inspect(args) => commands::inspect::run(self, args).await,
            Command::Diff(args) => Box::pin(commands::diff::run(self, args)).await,
            Command::Rehearse(args) => commands::rehearse::run(self, args).await,
            Command::Verify(args) => commands::verify::run(self, args).await,
            Command::Export(args) => commands::export::export(self, args).await,
            Command::Import(args) => commands::export::import(self, args).await,
            Command::Agents { command: AgentsCommand::List } => commands::agents::list(self).await,
        }
    }
}
