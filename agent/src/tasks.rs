//! Tasks: each is carried out at most once, and what became of it is told until the coordinator knows.
//!
//! **Crash**: a task leaves a file when it starts, and its result takes the place of that file. An agent that
//! finds a start without a result when it comes back reports a failure, and never begins the task again: what
//! it had written is garbage, or a backup that was committed and that the repository lists.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use prost::Message;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use urtext_proto::{
    pb::{self, task_result::Outcome},
    status::kind_name,
};
use urtext_repository::Pace;
use urtext_types::{ByteRate, ErrorKind, TaskId};

const STARTED: &str = "started";
const RESULT: &str = "result";

/// What the agent works on and what it has to tell.
#[derive(Debug)]
pub struct TaskBoard {
    dir: PathBuf,
    state: Mutex<State>,
    /// Something can be told.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<TaskId, Running>,
    results: BTreeMap<TaskId, Finished>,
}

#[derive(Debug)]
struct Running {
    cancel: CancellationToken,
    /// Not told yet. A newer one takes its place.
    progress: Option<pb::TaskProgress>,
    /// At which it may upload; the coordinator changes it while the task runs.
    pace: Arc<Pace>,
}

#[derive(Debug)]
struct Finished {
    result: pb::TaskResult,
    told: bool,
}

/// What to do about a task that the coordinator gives.
#[derive(Debug)]
pub enum Accepted {
    /// Carry it out, and stop when the token says so.
    Start(CancellationToken),
    /// It is running, or its result waits to be acknowledged.
    KnownAlready,
}

impl TaskBoard {
    /// Reads what an earlier run left in `dir`.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        let mut results = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let Some(id) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<TaskId>().ok())
            else {
                continue;
            };
            let result = match path.extension().and_then(|extension| extension.to_str()) {
                Some(RESULT) => match pb::TaskResult::decode(fs::read(&path)?.as_slice()) {
                    Ok(result) => result,
                    Err(_) => interrupted(id),
                },
                Some(STARTED) => interrupted(id),
                _ => continue,
            };
            // A result is worth more than the start before it.
            if path.extension().is_some_and(|extension| extension == RESULT) || !results.contains_key(&id) {
                results.insert(id, Finished { result, told: false });
            }
        }
        Ok(Self { dir, state: Mutex::new(State { running: BTreeMap::new(), results }), changed: Notify::new() })
    }

    /// Takes on a task, once.
    pub fn accept(&self, id: TaskId) -> Accepted {
        let mut state = self.state();
        if state.running.contains_key(&id) {
            return Accepted::KnownAlready;
        }
        if let Some(finished) = state.results.get_mut(&id) {
            finished.told = false;
            self.changed.notify_one();
            return Accepted::KnownAlready;
        }
        if let Err(error) = fs::write(self.file(id, STARTED), []) {
            // The task matters more than the note about it.
            warn!(%error, dir = %self.dir.display(), "cannot note that a task was started");
        }
        let cancel = CancellationToken::new();
        let pace = Arc::new(Pace::new(None));
        state.running.insert(id, Running { cancel: cancel.clone(), progress: None, pace });
        Accepted::Start(cancel)
    }

    /// The pace at which a running task may upload.
    pub fn pace(&self, id: TaskId) -> Option<Arc<Pace>> {
        self.state().running.get(&id).map(|running| Arc::clone(&running.pace))
    }

    /// A running task may upload at this rate from now on.
    pub fn set_rate(&self, id: TaskId, rate: Option<ByteRate>) {
        if let Some(pace) = self.pace(id) {
            pace.set(rate);
        }
    }

    /// The tasks that are running.
    pub fn running(&self) -> Vec<TaskId> {
        self.state().running.keys().copied().collect()
    }

    /// Notes how far a task has come.
    pub fn progress(&self, id: TaskId, phase: &str, bytes_done: u64, bytes_total: Option<u64>) {
        if let Some(running) = self.state().running.get_mut(&id) {
            running.progress =
                Some(pb::TaskProgress { id: id.to_string(), phase: phase.to_owned(), bytes_done, bytes_total });
        }
        self.changed.notify_one();
    }

    /// Notes what became of a task, durably.
    pub fn finish(&self, id: TaskId, outcome: Outcome) {
        let result = pb::TaskResult { id: id.to_string(), outcome: Some(outcome) };
        if let Err(error) = write_durably(&self.file(id, RESULT), &result.encode_to_vec()) {
            error!(%error, dir = %self.dir.display(), "cannot keep the result of a task; it is lost if the agent stops now");
        }
        let _ = fs::remove_file(self.file(id, STARTED));
        let mut state = self.state();
        state.running.remove(&id);
        state.results.insert(id, Finished { result, told: false });
        self.changed.notify_one();
    }

    /// Asks a task to stop.
    pub fn cancel(&self, id: TaskId) {
        if let Some(running) = self.state().running.get(&id) {
            running.cancel.cancel();
        }
    }

    /// Asks all tasks to stop.
    pub fn cancel_all(&self) {
        self.state().running.values().for_each(|running| running.cancel.cancel());
    }

    /// The coordinator knows the result: it may be forgotten.
    pub fn acknowledged(&self, id: TaskId) {
        self.state().results.remove(&id);
        for extension in [STARTED, RESULT] {
            let _ = fs::remove_file(self.file(id, extension));
        }
    }

    /// A new session: everything is to be told again.
    pub fn retell(&self) {
        self.state().results.values_mut().for_each(|finished| finished.told = false);
        self.changed.notify_one();
    }

    /// What is to be told, oldest task first.
    pub fn take_untold(&self) -> Vec<pb::agent_message::Message> {
        use pb::agent_message::Message::{TaskProgress, TaskResult};
        let mut state = self.state();
        let mut messages: Vec<_> =
            state.running.values_mut().filter_map(|running| running.progress.take()).map(TaskProgress).collect();
        for finished in state.results.values_mut().filter(|finished| !finished.told) {
            finished.told = true;
            messages.push(TaskResult(finished.result.clone()));
        }
        messages
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing that holds this lock panics")
    }

    fn file(&self, id: TaskId, extension: &str) -> PathBuf {
        self.dir.join(format!("{id}.{extension}"))
    }
}

fn interrupted(id: TaskId) -> pb::TaskResult {
    let failure = pb::Failure {
        message: "the agent stopped while it was at this task".to_owned(),
        hint: Some("look whether its backup was committed; if not, ask for another one".to_owned()),
        kind: kind_name(ErrorKind::Unavailable).to_owned(),
    };
    pb::TaskResult { id: id.to_string(), outcome: Some(Outcome::Failed(failure)) }
}

/// After a crash there is the whole file or none.
fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let staged = path.with_extension("new");
    let mut file = fs::File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> TaskId {
        TaskId::new(urtext_types::Timestamp::from_millis(1_790_000_000_000), [n; 10])
    }

    fn board(dir: &Path) -> TaskBoard {
        TaskBoard::open(dir.to_owned()).expect("a directory")
    }

    fn done() -> Outcome {
        Outcome::Captured(pb::CaptureDone { backup: None })
    }

    fn told(board: &TaskBoard) -> Vec<pb::TaskResult> {
        board
            .take_untold()
            .into_iter()
            .filter_map(|message| match message {
                pb::agent_message::Message::TaskResult(result) => Some(result),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_task_is_started_once_however_often_it_is_given() {
        let dir = tempfile::tempdir().expect("a directory");
        let board = board(dir.path());
        assert!(matches!(board.accept(id(1)), Accepted::Start(_)));
        assert!(matches!(board.accept(id(1)), Accepted::KnownAlready));
        board.finish(id(1), done());
        assert_eq!(told(&board).len(), 1);
        assert!(matches!(board.accept(id(1)), Accepted::KnownAlready), "finished, not acknowledged");
        assert_eq!(told(&board).len(), 1, "asked again, told again");
    }

    #[test]
    fn a_result_is_told_after_every_reconnect_and_restart_until_it_is_acknowledged() {
        let dir = tempfile::tempdir().expect("a directory");
        let board = self::board(dir.path());
        board.accept(id(1));
        board.finish(id(1), done());
        assert_eq!(told(&board).len(), 1);
        assert_eq!(told(&board), []);
        board.retell();
        assert_eq!(told(&board).len(), 1);
        drop(board);
        let board = self::board(dir.path());
        assert_eq!(told(&board)[0].outcome, Some(done()));
        board.acknowledged(id(1));
        board.retell();
        assert_eq!(told(&board), []);
        assert_eq!(told(&self::board(dir.path())), []);
    }

    #[test]
    fn a_task_that_the_agent_did_not_survive_has_failed() {
        let dir = tempfile::tempdir().expect("a directory");
        board(dir.path()).accept(id(1));
        let board = board(dir.path());
        assert!(matches!(board.accept(id(1)), Accepted::KnownAlready), "never begun again");
        let results = told(&board);
        assert!(matches!(&results[0].outcome, Some(Outcome::Failed(failure)) if failure.kind == "unavailable"));
    }

    #[test]
    fn only_the_newest_progress_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let board = board(dir.path());
        board.accept(id(1));
        for bytes in 0..1000 {
            board.progress(id(1), "capturing", bytes, None);
        }
        let messages = board.take_untold();
        let [pb::agent_message::Message::TaskProgress(progress)] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(progress.bytes_done, 999);
    }
}
