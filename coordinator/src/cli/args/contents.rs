//! `inspect`, `diff` and `verify`: data sets, wherever they are.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use urtext_types::{BackupId, DeploymentName, Secret, ShardName};

use super::{Alone, When};

#[derive(Debug, Args)]
pub struct Inspect {
    /// A backup's id, an RDB file, - for stdin, or a live server (as for `diff`). Only an id needs a coordinator.
    #[arg(value_name = "ID|FILE")]
    pub what: Named,
    /// How many prefixes and how many large keys to list.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub top: u16,
    /// The character at which a key's prefix ends.
    #[arg(long, value_name = "CHAR", default_value = ":", value_parser = parse_separator)]
    pub separator: u8,
    /// The age identity that opens the backup; DIR/operator/identity.txt unless given.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    #[command(flatten)]
    pub alone: Alone,
}

/// What is compared, and how.
#[derive(Debug, Args)]
pub struct Diff {
    /// A backup's id, an RDB file, - for stdin, or a live server: redis://user:password@host:port.
    ///
    /// A live server is read as a replica reads it that wants only the RDB: nothing is changed, and it is refused
    /// where attaching would change the server's replication id, or its data is incomplete.
    #[arg(value_name = "A")]
    pub first: Named,
    /// The same; keys that only B has are added, those that only A has are removed.
    #[arg(value_name = "B")]
    pub second: Named,
    /// List the keys that differ.
    #[arg(long)]
    pub keys: bool,
    /// How many keys to list, and how many prefixes.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Without keys and fields whose time has come by then: now, 2026-11-22T15:44:07Z, or 10m for ten minutes ago.
    ///
    /// Unless given, a key counts until the server has deleted it, whatever its expiry says: two copies of one
    /// position hold the same keys whenever they were taken.
    #[arg(long, value_name = "TIME", value_parser = parse_as_of)]
    pub as_of: Option<When>,
    /// The character at which a key's prefix ends.
    #[arg(long, value_name = "CHAR", default_value = ":", value_parser = parse_separator)]
    pub separator: u8,
    /// The age identity that opens backups; DIR/operator/identity.txt unless given.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

fn parse_as_of(text: &str) -> Result<When, String> {
    if text == "now" { Ok(When::Ago(Duration::ZERO)) } else { When::parse(text) }
}

fn parse_separator(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err("one character of ASCII".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Only the backups of this deployment, or this one backup; all of them unless given.
    #[arg(value_name = "DEPLOYMENT|ID")]
    pub what: Option<DeploymentOrBackup>,
    /// Only in this repository; unless given, in all of them. Of an address (a path, s3://bucket/prefix) the repository
    /// itself is asked, and no coordinator; may be repeated then.
    #[arg(long = "repository", value_name = "NAME|URL")]
    pub repositories: Vec<String>,
    /// Check signatures against this ca.pem, and not against what the repository keeps; for addresses.
    #[arg(long, value_name = "FILE", requires = "repositories")]
    pub authority: Option<PathBuf>,
    /// Read so many of each backup's objects, others on another day; presence and size of all are compared.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub percent: u8,
    /// Only backups that were received since then: 2026-11-22T15:44:07Z, or 7days for the last week.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub since: Option<When>,
    /// Take what is damaged from another repository that has the same backup.
    #[arg(long)]
    pub repair: bool,
    /// This RDB file, or - for stdin: structure, every encoding, checksum. No coordinator is needed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["what", "repositories", "percent", "since", "repair"])]
    pub file: Option<PathBuf>,
}

/// Which backup is loaded, and where.
#[derive(Debug, Args)]
pub struct Rehearse {
    /// A backup, or a deployment: its canonical one.
    #[arg(value_name = "DEPLOYMENT|ID")]
    pub what: DeploymentOrBackup,
    /// Needed where the deployment has several.
    #[arg(long, value_name = "K")]
    pub shard: Option<ShardName>,
    /// A redis-server or valkey-server to load it into; may be repeated. Unless given, those in PATH.
    #[arg(long = "server", value_name = "PATH")]
    pub servers: Vec<PathBuf>,
    /// The age identity that opens the backup; DIR/operator/identity.txt unless given.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

/// What has backups: an id is no deployment's name, for those are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentOrBackup {
    Deployment(DeploymentName),
    Backup(BackupId),
}

impl FromStr for DeploymentOrBackup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(id) => Ok(Self::Backup(id)),
            Err(_) => text.parse().map(Self::Deployment).map_err(|_| format!("{text:?} is neither a name nor an id")),
        }
    }
}

/// Where a data set is.
#[derive(Debug, Clone)]
pub enum Named {
    Backup(BackupId),
    File(PathBuf),
    Stdin,
    /// May hold a password.
    Server(Secret<String>),
}

impl From<&str> for Named {
    /// Anything may be a file's name; one that looks like something else can be written as `./NAME`.
    fn from(text: &str) -> Self {
        if text == "-" {
            return Self::Stdin;
        }
        if ["redis://", "rediss://", "unix://", "valkey://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Self::Server(Secret::new(text.to_owned()));
        }
        text.parse().map_or_else(|_| Self::File(text.into()), Self::Backup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_named_by_id_file_or_url() {
        let id = "01M823FD2KCZHKAZ5ZFCCVWTAC";
        assert!(matches!(Named::from("-"), Named::Stdin));
        assert!(matches!(Named::from(id), Named::Backup(found) if found.to_string() == id));
        assert!(matches!(Named::from("redis://:hunter2@h:1"), Named::Server(_)));
        for file in ["dump.rdb", "01K", "./-", &format!("./{id}")] {
            assert!(matches!(Named::from(file), Named::File(path) if path == std::path::Path::new(file)));
        }
    }
}
