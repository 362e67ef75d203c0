//! What can be said on the command line.

mod contents;

use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use urtext_types::{
    BackupId, ByteRate, DeploymentName, NodeName, Offset, RepositoryName, ShardName, SiteName, Timestamp,
};

pub use contents::{DeploymentOrBackup, Diff, Inspect, Named, Rehearse, Verify};

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

/// The most complete copy not beyond a point.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub struct UntilPoint {
    /// Nothing newer than this: 2026-11-22T15:44:07Z, or 10m for ten minutes ago.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub as_of: Option<When>,
    /// Nothing that is not in this position; of the history, eight digits or more.
    #[arg(long, value_name = "HISTORY:OFFSET", value_parser = parse_point)]
    pub at: Option<Point>,
}

/// A time as a person says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    Ago(Duration),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        if let Ok(time) = humantime::parse_rfc3339_weak(text) {
            let since = time.duration_since(UNIX_EPOCH).map_err(|_| format!("{text:?} is before 1970"))?;
            return Ok(Self::At(Timestamp::from_millis(0).plus(since)));
        }
        humantime::parse_duration(text.trim_end_matches("ago").trim_end())
            .map(Self::Ago)
            .map_err(|_| format!("{text:?} is not a time: write 2026-11-22T15:44:07Z, or 10m for ten minutes ago"))
    }

    /// The time that is meant.
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.minus(duration),
        }
    }
}

/// A position as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The leading bytes of the history, at least four.
    pub history: Vec<u8>,
    pub offset: Offset,
}

fn parse_point(text: &str) -> Result<Point, String> {
    let (history, offset) =
        text.split_once(':').ok_or_else(|| format!("{text:?} is not a position: write HISTORY:OFFSET"))?;
    Ok(Point { history: leading_bytes(history)?, offset: offset.parse()? })
}

/// The bytes that a history's leading digits spell: at least eight digits, of an odd number all but the last.
pub fn leading_bytes(digits: &str) -> Result<Vec<u8>, String> {
    let whole = digits.get(..digits.len() / 2 * 2).map(hex::decode);
    match whole {
        Some(Ok(bytes)) if (4..=20).contains(&bytes.len()) => Ok(bytes),
        _ => Err(format!(
            "{digits:?} names no history: give its 40 hexadecimal digits, or the first 8 or more of them, as `urtext \
             lineage` shows them"
        )),
    }
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
pub enum RepositoryCommand {
    /// List the repositories: where they are, what is in them, and whether they answer.
    List,
    /// Try each repository: can it be reached, listed, read and written to?
    Check,
    /// Make one more repository and add it to urtext.toml; run it where the coordinator runs.
    Add(AddRepository),
    /// Copy what the first repository has and the second lacks; what was interrupted is resumed.
    Sync(SyncRepositories),
    /// Change whose keys open the backups that are taken from now on.
    ///
    /// What is stored is not rewritten: so that the new keys open it as well, the identities that open it now are
    /// sealed to them. Whoever has an old key goes on reading the old backups.
    Rekey(Rekey),
}

#[derive(Debug, Args)]
pub struct Export {
    #[arg(value_name = "DEPLOYMENT")]
    pub deployment: DeploymentName,
    /// This backup instead of the canonical one of each shard.
    #[arg(value_name = "ID")]
    pub backup: Option<BackupId>,
}

#[derive(Debug, Args)]
pub struct Import {
    /// A repository's name, or an address that the coordinator reaches.
    #[arg(long, value_name = "NAME|URL")]
    pub repository: String,
}

#[derive(Debug, Args)]
pub struct SyncRepositories {
    /// A repository's name, or an address that the coordinator reaches.
    #[arg(value_name = "FROM")]
    pub from: String,
    #[arg(value_name = "TO")]
    pub to: String,
    /// Only this deployment.
    #[arg(long, value_name = "D")]
    pub deployment: Option<DeploymentName>,
    /// Stop after the plan.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Rekey {
    /// Which repository; all of them unless given.
    #[arg(value_name = "NAME")]
    pub name: Option<RepositoryName>,
    /// One more recipient; may be repeated.
    #[arg(long = "recipient", value_name = "AGE1", required_unless_present = "drop")]
    pub recipients: Vec<urtext_repository::Recipient>,
    /// One recipient less; may be repeated.
    #[arg(long = "drop", value_name = "AGE1")]
    pub drop: Vec<urtext_repository::Recipient>,
    /// An identity that opens what is stored; DIR/operator/identity.txt unless given.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Why: kept with the change.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct AddRepository {
    /// What to call it.
    #[arg(value_name = "NAME")]
    pub name: RepositoryName,
    /// A path, or s3://bucket/prefix, gs://… or az://…
    #[arg(value_name = "URL")]
    pub url: String,
    /// A site whose agents put their backups there; may be repeated. Unless given, no site does: it receives copies.
    #[arg(long = "site", value_name = "S")]
    pub sites: Vec<SiteName>,
    /// Agents put and get its bytes by themselves, with credentials of their own hosts.
    #[arg(long)]
    pub direct: bool,
    /// What all agents together upload there ("50 MiB/s").
    #[arg(long, value_name = "RATE")]
    pub upload_limit: Option<ByteRate>,
    /// To whom its backups are sealed; may be repeated. Unless given, to whom those of the first repository are.
    #[arg(long = "recipient", value_name = "AGE1")]
    pub recipients: Vec<urtext_repository::Recipient>,
}

#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Throw away what the catalog knows of the repository, and make it again from the repository.
    Rebuild,
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

fn parse_offset(text: &str) -> Result<Offset, String> {
    text.parse()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// As a replica that wants only the RDB.
    Replication,
    /// BGSAVE, and the file that it makes.
    File,
}

/// The leading bytes of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryDigits(pub Vec<u8>);

fn parse_history(digits: &str) -> Result<HistoryDigits, String> {
    leading_bytes(digits).map(HistoryDigits)
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

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true))]
pub struct Restore {
    #[command(flatten)]
    pub of: OfShard,
    /// Into the server of this node.
    #[arg(long, value_name = "NODE", group = "target", conflicts_with = "repositories")]
    pub to: Option<NodeName>,
    /// As plain files into this directory; no server needed.
    #[arg(long, value_name = "PATH", group = "target")]
    pub to_dir: Option<PathBuf>,
    /// This backup instead of the canonical one.
    #[arg(long, value_name = "ID", conflicts_with_all = ["as_of", "at"])]
    pub backup: Option<BackupId>,
    #[command(flatten)]
    pub until: UntilPoint,
    /// The most complete copy of this branch, whatever was accepted: to restore a losing branch beside.
    #[arg(long, value_name = "HISTORY", value_parser = parse_history, conflicts_with_all = ["backup", "overwrite"])]
    pub lineage: Option<HistoryDigits>,
    /// Go on although something may hold more and cannot be asked now.
    #[arg(long, requires = "reason", conflicts_with = "backup")]
    pub accept_loss: bool,
    /// Why that is right: kept for ever.
    #[arg(long, value_name = "TEXT", requires = "accept_loss")]
    pub reason: Option<String>,
    /// The age identity that opens the backup; DIR/operator/identity.txt unless given.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Replace the data that the target holds, after a safety backup of it.
    #[arg(long, conflicts_with = "to_dir")]
    pub overwrite: bool,
    /// Read the backup no faster than this ("20 MiB/s"); as fast as it goes unless given.
    #[arg(long, value_name = "RATE")]
    pub limit: Option<ByteRate>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Stop after the plan.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub alone: Alone,
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
    fn times_are_said_as_people_say_them() {
        let now: Timestamp = "2026-11-22T15:44:07Z".parse().expect("a time");
        let check = |text: &str, expect: &str| {
            assert_eq!(When::parse(text).expect(text).from(now).to_string(), expect);
        };
        check("2026-11-22T16:00:00+01:00", "2026-11-22T15:00:00.000Z");
        check("2026-11-22 15:00:00", "2026-11-22T15:00:00.000Z");
        check("10m", "2026-11-22T15:34:07.000Z");
        check("1h 30m ago", "2026-11-22T14:14:07.000Z");
    }

    #[test]
    fn a_history_is_named_by_eight_digits_or_more() {
        assert_eq!(leading_bytes("75d1dd8a").ok(), Some(vec![0x75, 0xd1, 0xdd, 0x8a]));
        assert_eq!(leading_bytes("75d1dd8a2").ok(), Some(vec![0x75, 0xd1, 0xdd, 0x8a]));
        for wrong in ["", "75d1dd", "zzzzzzzz", &"a".repeat(42), "éééé", "aéééé"] {
            assert!(leading_bytes(wrong).is_err(), "{wrong}");
        }
        let point = parse_point("75d1dd8a:48211").expect("a position");
        assert_eq!((point.history.len(), point.offset.get()), (4, 48_211));
    }

    #[test]
    fn flags_may_follow_the_command() {
        let cli = Cli::try_parse_from(["urtext", "canonical", "orders", "--json", "--dir", "/x"]).expect("valid");
        assert!(cli.json);
        assert_eq!(cli.dir, Some(PathBuf::from("/x")));
    }
}
