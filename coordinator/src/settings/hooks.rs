//! `[deployments.D.hooks]`: programs that run around each snapshot.

use std::{path::Path, time::Duration};

use serde::Deserialize;

use super::duration;

/// A hook has so long, unless the settings say otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// Who waits for a snapshot waits for its hook.
const LONGEST_LIMIT: Duration = Duration::from_secs(3600);

/// Programs and their arguments, each run without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Before a snapshot begins; if it fails, the snapshot is refused.
    pub before: Vec<String>,
    /// After a snapshot was committed.
    pub after: Vec<String>,
    /// After a snapshot failed, or was refused.
    pub failed: Vec<String>,
    pub limit: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { before: Vec::new(), after: Vec::new(), failed: Vec::new(), limit: LIMIT }
    }
}

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HooksFile {
    #[serde(default)]
    before: Vec<String>,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    failed: Vec<String>,
    limit: Option<String>,
}

impl HooksFile {
    /// # Errors
    /// The key that is wrong, and why.
    pub(super) fn resolve(self) -> Result<Hooks, (&'static str, String)> {
        let Self { before, after, failed, limit } = self;
        let limit = limit.map_or(Ok(LIMIT), |text| duration(&text)).map_err(|problem| ("hooks.limit", problem))?;
        if limit.is_zero() || limit > LONGEST_LIMIT {
            return Err(("hooks.limit", "must be more than 0 and at most an hour".to_owned()));
        }
        for (key, command) in [("hooks.before", &before), ("hooks.after", &after), ("hooks.failed", &failed)] {
            // Which program runs must not depend on where the coordinator was started.
            if let Some(program) = command.first()
                && !Path::new(program).is_absolute()
            {
                return Err((key, format!("{program:?} is no absolute path: hooks are run without a shell")));
            }
        }
        Ok(Hooks { before, after, failed, limit })
    }
}
