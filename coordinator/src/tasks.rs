//! What agents were asked to do, and how it goes.
//!
//! A task is numbered and recorded before it is sent. A restart of the coordinator finds it again in the
//! catalog; an agent that comes back says which tasks it still holds. What neither side finishes is
//! resolved as failed, never silently dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use tokio::sync::watch;
use urtext_identity::AgentIdentity;
use urtext_proto::{RpcError, pb};
use urtext_repository::BackupKey;
use urtext_types::{BackupId, TaskId};

use crate::{
    catalog::{BackupEntry, StoredTask, TaskWork},
    shard::NodeKey,
};

/// How a task stands.
#[derive(Debug, Clone)]
pub struct TaskState {
    pub progress: pb::TaskPhase,
    pub outcome: Option<Outcome>,
}

/// How a task ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The snapshot is committed.
    Committed(Box<BackupEntry>),
    Restored(Box<pb::RestoreDone>),
    Failed(RpcError),
}

/// One task that has not been forgotten yet.
#[derive(Debug, Clone)]
pub struct Task {
    pub stored: StoredTask,
    /// To send again, where that is possible.
    pub message: Option<pb::Task>,
    state: watch::Sender<TaskState>,
}

impl Task {
    pub fn new(stored: StoredTask, message: Option<pb::Task>) -> Self {
        let progress = pb::TaskPhase { phase: "waiting".to_owned(), bytes_done: 0, bytes_total: None };
        Self { stored, message, state: watch::Sender::new(TaskState { progress, outcome: None }) }
    }

    pub fn state(&self) -> TaskState {
        self.state.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<TaskState> {
        self.state.subscribe()
    }

    /// For people.
    pub fn what(&self) -> String {
        match &self.stored.work {
            TaskWork::Capture { backup, .. } => format!("snapshot {backup}"),
            TaskWork::Restore { backup, .. } => format!("restore of {backup}"),
        }
    }
}

/// Finished tasks that are kept for who still watches them; older ones are forgotten first.
const REMEMBERED: usize = 1000;

/// All tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    tasks: Mutex<BTreeMap<TaskId, Task>>,
}

impl Tasks {
    /// Those that the catalog says have not ended.
    pub fn recall(open: Vec<Task>) -> Self {
        Self { tasks: Mutex::new(open.into_iter().map(|task| (task.stored.id, task)).collect()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Task>> {
        self.tasks.lock().expect("nothing panics while it holds the tasks")
    }

    pub fn add(&self, task: Task) {
        let mut tasks = self.lock();
        tasks.insert(task.stored.id, task);
        while tasks.len() > REMEMBERED {
            // Ids sort by the time at which they were made.
            let Some(oldest) = tasks.values().find(|task| task.state().outcome.is_some()).map(|task| task.stored.id)
            else {
                break;
            };
            tasks.remove(&oldest);
        }
    }

    pub fn get(&self, id: TaskId) -> Option<Task> {
        self.lock().get(&id).cloned()
    }

    /// The tasks of one node that have not ended.
    pub fn open_for(&self, node: &NodeKey) -> Vec<Task> {
        let open = |task: &&Task| NodeKey::of(&task.stored.agent) == *node && task.state().outcome.is_none();
        self.lock().values().filter(open).cloned().collect()
    }

    /// Those that have not ended.
    pub fn open(&self) -> Vec<Task> {
        self.lock().values().filter(|task| task.state().outcome.is_none()).cloned().collect()
    }

    /// The agents that are capturing their nodes now.
    pub fn captured_now(&self) -> Vec<AgentIdentity> {
        let tasks = self.lock();
        let open = tasks.values().filter(|task| task.state().outcome.is_none());
        let captures = open.filter(|task| matches!(task.stored.work, TaskWork::Capture { .. }));
        captures.map(|task| task.stored.agent.clone()).collect()
    }

    /// The captures around which hooks run, and that have not ended.
    pub fn hooked(&self) -> Vec<Task> {
        let is_hooked = |task: &&Task| {
            matches!(task.stored.work, TaskWork::Capture { hooked: true, .. }) && task.state().outcome.is_none()
        };
        self.lock().values().filter(is_hooked).cloned().collect()
    }

    /// The open capture task of that agent for that backup: what lets it write there.
    pub fn capture(&self, agent: &AgentIdentity, key: &BackupKey) -> Option<Task> {
        (key.deployment == agent.deployment && key.shard == agent.shard).then_some(())?;
        let captures = |task: &Task| matches!(task.stored.work, TaskWork::Capture { backup, .. } if backup == key.id);
        self.open_for(&NodeKey::of(agent)).into_iter().find(captures)
    }

    /// Whether an open restore task lets that agent read that backup.
    pub fn may_read(&self, agent: &AgentIdentity, key: &BackupKey) -> bool {
        self.open_for(&NodeKey::of(agent)).iter().any(|task| match &task.stored.work {
            TaskWork::Restore { deployment, shard, backup, .. } => {
                (deployment, shard, *backup) == (&key.deployment, &key.shard, key.id)
            }
            TaskWork::Capture { .. } => false,
        })
    }

    /// The snapshots that one shard's nodes are taking now.
    pub fn capturing(&self, backup: BackupId) -> bool {
        self.lock().values().any(|task| {
            task.state().outcome.is_none()
                && matches!(task.stored.work, TaskWork::Capture { backup: other, .. } if other == backup)
        })
    }

    /// The backups that running tasks write or read.
    pub fn busy(&self) -> BTreeSet<BackupId> {
        let open = self.lock();
        let open = open.values().filter(|task| task.state().outcome.is_none());
        open.map(|task| match task.stored.work {
            TaskWork::Capture { backup, .. } | TaskWork::Restore { backup, .. } => backup,
        })
        .collect()
    }

    pub fn progress(&self, id: TaskId, progress: pb::TaskPhase) {
        if let Some(task) = self.lock().get(&id) {
            task.state.send_if_modified(|state| {
                let is_open = state.outcome.is_none();
                if is_open {
                    state.progress = progress;
                }
                is_open
            });
        }
    }

    /// Ends a task; the first outcome stands. Says whether this was it.
    pub fn end(&self, id: TaskId, outcome: Outcome) -> bool {
        self.lock().get(&id).is_some_and(|task| {
            task.state.send_if_modified(|state| {
                let is_first = state.outcome.is_none();
                if is_first {
                    state.outcome = Some(outcome);
                }
                is_first
            })
        })
    }
}
