//! `[rehearse]`: with what backups are rehearsed by schedule.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What the coordinator's own machine rehearses with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearseSettings {
    /// The file with the age identity that opens the backups.
    pub identity: PathBuf,
    /// The servers to choose from; with none, those in PATH.
    pub servers: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RehearseFile {
    identity: PathBuf,
    #[serde(default)]
    servers: Vec<PathBuf>,
}

impl RehearseFile {
    /// Relative paths are relative to `folder`.
    pub(super) fn resolve(self, folder: &Path) -> RehearseSettings {
        let Self { identity, servers } = self;
        let servers = servers.iter().map(|server| folder.join(server)).collect();
        RehearseSettings { identity: folder.join(identity), servers }
    }
}
