//! Hooks: an operator's programs around each snapshot. One that fails before it refuses it; what each came to
//! is in the audit.

mod process;

use std::sync::Arc;

use tracing::{info, warn};
use urtext_identity::AgentIdentity;
use urtext_repository::RecordBody;
use urtext_types::{BackupId, Chain, ErrorKind};

use self::process::{End, Ran};
use crate::{
    Fault,
    app::App,
    catalog::TaskWork,
    shard::ShardKey,
    tasks::{Outcome, Task},
};

/// Around which moment of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
    Failed,
}

impl Moment {
    fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Failed => "failed",
        }
    }
}

/// How the snapshot went, as its hooks are told.
#[derive(Debug, Clone)]
enum Ended {
    Committed(BackupId),
    /// It had begun if it has an id.
    Failed(Option<BackupId>, String),
    Refused(String),
}

impl App {
    /// Runs the hook before a snapshot.
    ///
    /// # Errors
    /// It failed: the snapshot must not begin.
    pub async fn hook_before(self: &Arc<Self>, agent: &AgentIdentity) -> Result<(), Fault> {
        let result = self.run_hook(Moment::Before, agent, None).await;
        if let Err(fault) = &result {
            let ended = Ended::Refused(one_line(&Chain(fault).to_string()));
            self.hook_afterwards(agent.clone(), ended);
        }
        result
    }

    /// Tells the hooks that a snapshot failed before its agent had the task.
    pub fn hook_never_begun(self: &Arc<Self>, agent: &AgentIdentity, fault: &Fault) {
        self.hook_afterwards(agent.clone(), Ended::Failed(None, one_line(&Chain(fault).to_string())));
    }

    /// Sees to it that the hooks run when a snapshot has ended, whoever else waits for it.
    pub fn hook_when_ended(self: &Arc<Self>, task: Task) {
        let TaskWork::Capture { backup, hooked: true, .. } = task.stored.work else { return };
        let app = Arc::clone(self);
        self.background.spawn(async move {
            let mut watch = task.watch();
            let ended = watch.wait_for(|state| state.outcome.is_some());
            // A task that goes on is found again by the next coordinator.
            let Some(Ok(state)) =
                app.stop.run_until_cancelled(ended).await.map(|ended| ended.map(|state| state.clone()))
            else {
                return;
            };
            let ended = match state.outcome {
                Some(Outcome::Committed(_)) => Ended::Committed(backup),
                Some(Outcome::Failed(error)) => Ended::Failed(Some(backup), one_line(&Chain(&error).to_string())),
                Some(Outcome::Restored(_)) | None => return,
            };
            app.hook_ended(&task.stored.agent, ended).await;
        });
    }

    fn hook_afterwards(self: &Arc<Self>, agent: AgentIdentity, ended: Ended) {
        let app = Arc::clone(self);
        self.background.spawn(async move { app.hook_ended(&agent, ended).await });
    }

    async fn hook_ended(&self, agent: &AgentIdentity, ended: Ended) {
        let moment = if matches!(ended, Ended::Committed(_)) { Moment::After } else { Moment::Failed };
        // What it came to is on record: the snapshot is what it is.
        let _ = self.run_hook(moment, agent, Some(ended)).await;
    }

    async fn run_hook(&self, moment: Moment, agent: &AgentIdentity, ended: Option<Ended>) -> Result<(), Fault> {
        let hooks = &self.settings.policy(&agent.deployment).hooks;
        let command = match moment {
            Moment::Before => &hooks.before,
            Moment::After => &hooks.after,
            Moment::Failed => &hooks.failed,
        };
        let Some(program) = command.first() else { return Ok(()) };
        let ran = process::run(command, &variables(moment, agent, ended), hooks.limit, &self.stop).await;
        let told = told(program, &ran, hooks.limit);
        let is_well = ran.end == End::Exited(Some(0));
        let (hook, node) = (moment.as_str(), &agent.node);
        if is_well {
            info!(%agent, hook, %told, "ran a hook");
        } else {
            warn!(%agent, hook, %told, "a hook failed");
        }
        let which = match moment {
            Moment::Before => "before the snapshot",
            Moment::After => "after the snapshot",
            Moment::Failed => "after the failed snapshot",
        };
        let body = RecordBody::Audit {
            action: if is_well { "ran a hook" } else { "a hook failed" }.to_owned(),
            subject: format!("{which} of node {node}: {told}"),
        };
        if let Err(fault) = self.put_record(&ShardKey::of(agent), "coordinator", None, body).await {
            warn!(%agent, error = %Chain(&fault), "could not keep in the audit what a hook came to");
        }
        if is_well {
            return Ok(());
        }
        Err(Fault::new(ErrorKind::Refused, format!("the hook before the snapshot of node {node} failed: {told}"))
            .with_hint("nothing was captured; `hooks.before` in urtext.toml names the program"))
    }
}

/// What a hook finds in its environment.
fn variables(moment: Moment, agent: &AgentIdentity, ended: Option<Ended>) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("URTEXT_HOOK", moment.as_str().to_owned()),
        ("URTEXT_DEPLOYMENT", agent.deployment.to_string()),
        ("URTEXT_SHARD", agent.shard.to_string()),
        ("URTEXT_SITE", agent.site.to_string()),
        ("URTEXT_NODE", agent.node.to_string()),
    ];
    let (outcome, backup, error) = match ended {
        None => return variables,
        Some(Ended::Committed(backup)) => ("committed", Some(backup), None),
        Some(Ended::Failed(backup, error)) => ("failed", backup, Some(error)),
        Some(Ended::Refused(error)) => ("refused", None, Some(error)),
    };
    variables.push(("URTEXT_OUTCOME", outcome.to_owned()));
    variables.extend(backup.map(|backup| ("URTEXT_BACKUP", backup.to_string())));
    variables.extend(error.map(|error| ("URTEXT_ERROR", error)));
    variables
}

/// How a program ended, in half a sentence.
fn told(program: &str, ran: &Ran, limit: std::time::Duration) -> String {
    let seconds = ran.took.as_secs_f64();
    let how = match &ran.end {
        End::Exited(Some(code)) => format!("exited with {code} after {seconds:.1} s"),
        End::Exited(None) => format!("was ended by a signal after {seconds:.1} s"),
        End::OutOfTime => {
            format!("did not end within {}, and was killed with all that it started", humantime::format_duration(limit))
        }
        End::Stopped => "was killed because the coordinator stops".to_owned(),
        End::NotStarted(why) => format!("could not be run ({why})"),
    };
    match &ran.last_line {
        Some(line) if ran.end != End::Exited(Some(0)) => format!("{program} {how}: {line}"),
        _ => format!("{program} {how}"),
    }
}

/// Fit for an environment variable.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}
