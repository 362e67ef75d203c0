//! What can be said on the command line.

mod contents;
mod keeping;
mod points;
mod repository;
mod restore;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use urtext_types::{BackupId, DeploymentName, NodeName, Offset, ShardName, SiteName};

use self::points::{parse_history, parse_offset};

pub use contents::{DeploymentOrBackup, Diff, Inspect, Named, Rehearse, Verify};
pub use keeping::{Hold, HoldCommand, Prune, Vouch};
pub use points::{HistoryDigits, Point, UntilPoint, When};
pub use repository::{
    AddRepository, CatalogCommand, Export, ExtendLocks, Import, Rekey, RepositoryCommand, SyncRepositories,
};
pub use restore::Restore;

/// The backup coordinator for Redis and Valkey that knows which of your copies is the one to restore.
///
/// Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 internal, 2 usage, 3 nothing
/// found, 4 ambiguous lineage, 5 refused by a guard, 6 unavailable, 7 data integrity, 8 not allowed, 9 `diff` found
/// differences.
#[derive(Debug, Parser)]
#[command(name = "urtext", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// The directory that `urtext init` made, or a copy of its operator/ part.
    #[arg(long, global = true, env = "URTEXT_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print one JSON value instead of text.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a coordinator's directory: authority, operator's key, settings, repository.
    Init(Init),
    /// Run the coordinator.
    Serve,
    /// Print a join token for the agent of one node.
    Invite(Invite),
    /// Show nodes, positions, lag and the last backup.
    Status(OfDeployment),
    /// List backups, the newest first.
    Backups(Backups),
    /// Look at one backup.
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Take a backup now.
    Snapshot(Snapshot),
    /// Show what happens by itself: when it comes next, how it went last, and which nodes would be captured now.
    Schedule(OfDeployment),
    /// Say which copy is the one to restore, and why each other one is not.
    Canonical(Canonical),
    /// Draw the tree of histories.
    Lineage(ShowLineage),
    /// Decide which branch of a fork is the right one.
    AcceptLineage(AcceptLineage),
    /// Say that a suspect backup is right although it holds far less than those before it.
    Vouch(Vouch),
    /// Show who decided what, when and why, the newest first.
    Audit(OfDeployment),
    /// Show what went wrong and what became right again, the oldest first.
    Events(Events),
    /// Show which backups stay, and why.
    Retention(OfDeployment),
    /// Remove the backups that need not stay, and what no backup names.
    Prune(Prune),
    /// Keep a backup whatever the rules say.
    Hold(Hold),
    /// Look after the places where backups are kept.
    Repository {
        #[command(subcommand)]
        command: RepositoryCommand,
    },
    /// Look after the catalog.
    Catalog {
        #[command(subcommand)]
        command: CatalogCommand,
    },
    /// Restore the canonical backup, or another one, to a node or to plain files.
    Restore(Restore),
    /// Tell what is in a backup or in an RDB file.
    Inspect(Inspect),
    /// Compare two data sets key by key.
    ///
    /// Exit code 0 if they hold the same, 9 if they differ, another one if they could not be compared.
    Diff(Diff),
    /// Prove that stored backups are as they were stored, or that an RDB file is complete and sound.
    ///
    /// Reads every object again and compares it with the signed manifest; needs no key. Exit code 7 if anything is
    /// damaged.
    Verify(Verify),
    /// Write the canonical backup to stdout as one tar: for tape, a pen drive, an air gap.
    ///
    /// It holds everything that a restore by hand needs but the age identity, and how to do it.
    Export(Export),
    /// Bring what `export` wrote back into a repository, from stdin.
    ///
    /// Every hash and signature is verified before a backup is listed.
    Import(Import),
    /// Load a backup into a throw-away server on this machine, and compare what that holds.
    Rehearse(Rehearse),
    /// Look at the agents.
    Agents {
        #[command(subcommand)]
        command: AgentsCommand,
    },
}

#[derive(Debug, Args)]
pub struct Init {
    /// Where agents and operators will connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub listen: std::net::SocketAddr,
    /// Where backups are kept: a path, or s3://bucket/prefix, gs://… or az://…; DIR/repository unless given.
    #[arg(long, value_name = "URL")]
    pub repository: Option<String>,
    /// Keep the age identity under a passphrase, which every restore then asks for.
    #[arg(long)]
    pub passphrase: bool,
}

#[derive(Debug, Args)]
pub struct Invite {
    #[arg(long, value_name = "D")]
    pub deployment: DeploymentName,
    #[arg(long, value_name = "S")]
    pub site: SiteName,
    /// Unless given, the site's name and the next free number.
    #[arg(long, value_name = "N")]
    pub node: Option<NodeName>,
    #[arg(long, value_name = "K", default_value_t)]
    pub shard: ShardName,
    /// How long the token may wait to be used.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,
}

#[derive(Debug, Args)]
pub struct OfDeployment {
    /// Only this deployment.
    #[arg(value_name = "DEPLOYMENT")]
    pub deployment: Option<DeploymentName>,
}

#[derive(Debug, Args)]
pub struct Backups {
    #[command(flatten)]
    pub of: OfDeployment,
    #[command(flatten)]
    pub alone: Alone,
}

/// For the day on which no coordinator is left.
#[derive(Debug, Clone, Default, Args)]
pub struct Alone {
    /// Ask no coordinator, but this repository itself; may be repeated: what any of them holds counts.
    #[arg(long = "repository", value_name = "URL")]
    pub repositories: Vec<String>,
    /// Check signatures against this ca.pem, and not against what the repository keeps.
    #[arg(long, value_name = "FILE", requires = "repositories")]
    pub authority: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct OfShard {
    #[arg(value_name = "DEPLOYMENT")]
    pub deployment: DeploymentName,
    /// Needed where the deployment has several.
    #[arg(long, value_name = "K")]
    pub shard: Option<ShardName>,
}

#[derive(Debug, Args)]
pub struct Canonical {
    #[command(flatten)]
    pub of: OfShard,
    #[command(flatten)]
    pub until: UntilPoint,
    /// Only what this server can load: a version like valkey-8.1, or a node.
    #[arg(long, value_name = "VERSION|NODE")]
    pub for_target: Option<String>,
    /// Among equal copies, the one at this site.
    #[arg(long, value_name = "S")]
    pub prefer_site: Option<SiteName>,
    #[command(flatten)]
    pub alone: Alone,
}

#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    pub of: OfDeployment,
    /// Not earlier than this: 2026-11-22T15:44:07Z, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub since: Option<When>,
    /// Go on, and show what comes; with --json one value a line.
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Show the manifest of one backup.
    Show {
        #[arg(value_name = "ID")]
        id: BackupId,
    },
}

#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// List agents and their certificates.
    List,
}

#[derive(Debug, Args)]
pub struct Snapshot {
    #[command(flatten)]
    pub of: OfShard,
    /// From this node; unless given, from the most up to date one, a replica if there is one.
    #[arg(long, value_name = "N")]
    pub node: Option<NodeName>,
    /// From a node at this site.
    #[arg(long, value_name = "S")]
    pub site: Option<SiteName>,
    /// Not before the node has applied this offset.
    #[arg(long, value_name = "OFFSET", value_parser = parse_offset)]
    pub at_least: Option<Offset>,
    /// Unless given, the agent chooses what does the server no harm.
    #[arg(long, value_enum, value_name = "METHOD")]
    pub method: Option<Method>,
    /// Even if the node's link to its master is down: the backup is marked as stale.
    #[arg(long)]
    pub allow_stale: bool,
    /// Do not wait for the backup.
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// As a replica that wants only the RDB.
    Replication,
    /// BGSAVE, and the file that it makes.
    File,
}

#[derive(Debug, Args)]
pub struct ShowLineage {
    #[command(flatten)]
    pub of: OfShard,
    /// For Graphviz: `urtext lineage D --dot | dot -Tpng`.
    #[arg(long, conflicts_with_all = ["svg", "json"])]
    pub dot: bool,
    /// One self-contained SVG document.
    #[arg(long, conflicts_with = "json")]
    pub svg: bool,
    /// Draw old chains, dead branches and rows of backups whole, instead of counting them.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub alone: Alone,
}

#[derive(Debug, Args)]
pub struct AcceptLineage {
    #[command(flatten)]
    pub of: OfShard,
    /// The history whose writes are the right ones: at least eight of its digits.
    #[arg(value_name = "HISTORY", value_parser = parse_history)]
    pub history: HistoryDigits,
    /// Kept with the decision for ever.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn check_refused(line: &str, expect: &str) {
        let error = Cli::try_parse_from(line.split(' ')).expect_err("refused");
        assert!(error.to_string().contains(expect), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        check_refused("urtext restore orders", "--to <NODE>|--to-dir <PATH>");
        check_refused("urtext restore orders --to a --to-dir b", "cannot be used with");
        check_refused("urtext restore orders --to-dir b --overwrite", "cannot be used with");
        check_refused("urtext lineage orders --svg --json", "cannot be used with");
        check_refused("urtext lineage orders --svg --dot", "cannot be used with");
        check_refused("urtext snapshot Orders", "not a valid name");
        check_refused("urtext backup show 7", "not a valid id");
        check_refused("urtext canonical d --as-of noon", "is not a time: write");
        check_refused("urtext canonical d --as-of 1h --at 75d1dd8a:5", "cannot be used with");
        check_refused("urtext canonical d --at 75d1dd8a", "write HISTORY:OFFSET");
        check_refused("urtext accept-lineage d zz --reason r", "names no history");
        check_refused("urtext restore d --to a --accept-loss", "--reason <TEXT>");
        check_refused("urtext restore d --to a --lineage 75d1dd8a --overwrite", "cannot be used with");
        check_refused("urtext verify --file f --repair", "cannot be used with");
        check_refused("urtext verify --percent 0", "1..=100");
        check_refused("urtext verify Orders", "neither a name nor an id");
        check_refused("urtext restore d --to a --repository /r", "cannot be used with");
        check_refused("urtext backups --authority ca.pem", "--repository <URL>");
        check_refused("urtext repository rekey", "--recipient <AGE1>");
        check_refused("urtext inspect a --separator ::", "one character");
        check_refused("urtext diff a b --as-of yesterday", "is not a time");
        check_refused("urtext invite --deployment d --site s --ttl soon", "invalid value 'soon' for '--ttl");
    }

    #[test]
    fn flags_may_follow_the_command() {
        let cli = Cli::try_parse_from(["urtext", "canonical", "orders", "--json", "--dir", "/x"]).expect("valid");
        assert!(cli.json);
        assert_eq!(cli.dir, Some(PathBuf::from("/x")));
    }
}
