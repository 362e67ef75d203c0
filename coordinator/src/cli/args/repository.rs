//! `repository`, `catalog`, `export` and `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use urtext_types::{BackupId, ByteRate, DeploymentName, RepositoryName, SiteName};

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
    /// Extend the locks of everything that is to stay, as it is done every day by schedule.
    ///
    /// Of repositories whose address says `lock=30d`: buckets with object lock.
    Lock(ExtendLocks),
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
pub struct ExtendLocks {
    /// Only this deployment.
    #[arg(long, value_name = "D")]
    pub deployment: Option<DeploymentName>,
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
