//! Looking at the server, again and again.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use urtext_proto::{pb, status::to_failure};
use urtext_types::{NodeObservation, Timestamp};

use crate::{
    clock,
    server::{Connection, Server, ServerError},
};

/// How often the server is looked at until the coordinator asks for something else.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// The most often that a coordinator may ask for: INFO is cheap, not free.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What came of the newest look.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// Nothing yet.
    Pending,
    Seen(Arc<NodeObservation>),
    /// The server did not answer, or refused. The last observation stands.
    Failed {
        at: Timestamp,
        failure: pb::Failure,
    },
}

/// What the agent knows of its server now.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The newest observation, however old.
    pub last: Option<Arc<NodeObservation>>,
    pub newest: Look,
}

/// Watches one server. Everybody who wants to know subscribes.
#[derive(Debug)]
pub struct Observer {
    server: Server,
    view: watch::Sender<View>,
    interval: watch::Sender<Duration>,
    /// Somebody changed something: look at once.
    now: Notify,
}

impl Observer {
    pub fn new(server: Server) -> Self {
        let (view, _) = watch::channel(View { last: None, newest: Look::Pending });
        let (interval, _) = watch::channel(DEFAULT_INTERVAL);
        Self { server, view, interval, now: Notify::new() }
    }

    pub fn subscribe(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// From now on looks this often.
    pub fn set_interval(&self, interval: Duration) {
        self.interval.send_replace(interval.max(SHORTEST_INTERVAL));
    }

    /// Looks again without waiting.
    pub fn look_now(&self) {
        self.now.notify_one();
    }

    /// Looks until `stop`. A look that fails is retried at the next one, with a new connection.
    pub async fn run(&self, stop: CancellationToken) {
        let mut connection: Option<Connection> = None;
        let mut was_failing = false;
        loop {
            let began = Instant::now();
            let looked = tokio::select! {
                looked = self.look(&mut connection) => looked,
                () = stop.cancelled() => return,
            };
            match looked {
                Ok(observation) => {
                    if std::mem::take(&mut was_failing) {
                        info!(server = %self.server.address(), "the server answers again");
                    }
                    let observation = Arc::new(observation);
                    self.view.send_replace(View { last: Some(observation.clone()), newest: Look::Seen(observation) });
                }
                Err(error) => {
                    if error.breaks_connection() {
                        connection = None;
                    }
                    self.failed(&error, &mut was_failing);
                }
            }
            let mut interval = self.interval.subscribe();
            let next = began + *interval.borrow_and_update();
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.now.notified() => {}
                _ = interval.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn look(&self, connection: &mut Option<Connection>) -> Result<NodeObservation, ServerError> {
        let open = match connection {
            Some(open) => open,
            None => connection.insert(self.server.connect().await?),
        };
        Ok(open.observe(clock::now).await?.1)
    }

    /// Says it once to the log, each time to the coordinator.
    fn failed(&self, error: &ServerError, was_failing: &mut bool) {
        let failure = to_failure(error);
        let said_before = matches!(&self.view.borrow().newest, Look::Failed { failure: old, .. } if *old == failure);
        if *was_failing && said_before {
            debug!(error = failure.message, "the server still cannot be observed");
        } else {
            warn!(error = failure.message, hint = failure.hint, "the server cannot be observed; will try again");
        }
        *was_failing = true;
        self.view.send_modify(|view| view.newest = Look::Failed { at: clock::now(), failure });
    }
}
