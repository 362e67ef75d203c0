//! What stays, what goes, and who vouches for it.

use clap::{Args, Subcommand};
use urtext_types::{BackupId, DeploymentName, ShardName};

use super::{
    OfDeployment, OfShard,
    points::{HistoryDigits, parse_history},
};

#[derive(Debug, Args)]
pub struct Vouch {
    #[command(flatten)]
    pub of: OfShard,
    #[arg(value_name = "BACKUP")]
    pub backup: BackupId,
    /// Kept for ever.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Only this deployment.
    #[arg(value_name = "DEPLOYMENT")]
    pub deployment: Option<DeploymentName>,
    /// Say what would go, and why each of the rest stays; remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Go on without asking.
    #[arg(long)]
    pub yes: bool,
    /// Let go of a branch that was set aside, from its history on: from then on its backups need not stay. Its 40
    /// digits, or the first 8 or more. Removes nothing by itself.
    #[arg(long, value_name = "HISTORY", value_parser = parse_history, requires_all = ["deployment", "reason"], conflicts_with_all = ["dry_run", "yes"])]
    pub let_go: Option<HistoryDigits>,
    /// Of the branch; needed where the deployment has several.
    #[arg(long, value_name = "K", requires = "let_go")]
    pub shard: Option<ShardName>,
    /// Why the branch need not stay; kept for ever.
    #[arg(long, value_name = "TEXT", requires = "let_go")]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Hold {
    #[command(subcommand)]
    pub command: Option<HoldCommand>,
    #[arg(value_name = "BACKUP", required = true)]
    pub backup: Option<BackupId>,
    /// It need not be kept any longer.
    #[arg(long)]
    pub release: bool,
    /// Kept for ever.
    #[arg(long, value_name = "TEXT", required = true)]
    pub reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Show what is on hold.
    List(OfDeployment),
}
