//! `restore`.

use std::path::PathBuf;

use clap::Args;
use urtext_types::{BackupId, ByteRate, NodeName};

use super::{
    Alone, OfShard, UntilPoint,
    points::{HistoryDigits, parse_history},
};

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
