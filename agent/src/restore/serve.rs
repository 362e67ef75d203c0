//! Playing master to the target: from `REPLICAOF` us to `REPLICAOF NO ONE`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use urtext_replication::{Offering, ReplicationError, ServeEvent, serve_snapshot};
use urtext_repository::{BackupReader, Identity, Manifest, RdbReader, ReadError};
use urtext_types::{Chain, NodeObservation, Position, Role};

use super::{RestoreError, target::Target};
use crate::{capture::Progress, clock, server::Connection};

/// How long the target may take to connect. Servers try once a second (`replication.c:replicationCron`).
const COME_LIMIT: Duration = Duration::from_secs(30);
/// From connection to PSYNC, which takes a server milliseconds: a silent stranger must not use up [`COME_LIMIT`].
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// The longest silence of a target that loads or follows; both make themselves heard each second.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// How often the bytes sent are told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// A target that comes back this often does not want the data.
const CONNECTIONS: usize = 3;
/// Pieces on their way to the target, besides the part that the reader has ready.
const PIECES_IN_FLIGHT: usize = 4;

/// What is given to the target.
pub(super) struct Serving<'a> {
    pub(super) target: &'a Target,
    pub(super) reader: &'a BackupReader,
    pub(super) identities: &'a [Identity],
    pub(super) position: Position,
    pub(super) cancel: &'a CancellationToken,
    pub(super) progress: Progress<'a>,
    /// Bytes of the RDB that are on their way to the target.
    pub(super) sent: Arc<AtomicU64>,
}

impl Serving<'_> {
    /// Makes the target follow us, waits until it holds the backup, proves that, and promotes it. Gives the
    /// target as it was right before its promotion.
    pub(super) async fn serve(&self, connection: &mut Connection) -> Result<NodeObservation, RestoreError> {
        // The target comes to where we come from when we go to it; over a Unix socket that is this host.
        let ip = connection.local_ip().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let server = || self.target.address.clone();
        let failed = |source| RestoreError::Listen { server: server(), address: ip.to_string(), source };
        let listener = TcpListener::bind((ip, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (events, mut happened) = mpsc::channel(16);
        let (host, port) = (ip.to_string(), address.port().to_string());
        info!(server = %self.target.address, %address, "telling the target to follow us");
        let driven = async {
            connection.query::<String>(&["REPLICAOF", &host, &port]).await?;
            self.wait_until_loaded(&mut happened, address).await?;
            (self.progress)("proving", 0, None);
            let loaded = self.prove(connection).await?;
            connection.query::<String>(&["REPLICAOF", "NO", "ONE"]).await?;
            Ok(loaded)
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(RestoreError::Cancelled),
            loaded = driven => loaded,
            source = self.receive(&listener, &events) => Err(RestoreError::Serve { server: server(), source }),
        }
    }

    /// Waits until the target has acknowledged the position, which it does when it has loaded everything.
    async fn wait_until_loaded(
        &self,
        happened: &mut mpsc::Receiver<ServeEvent>,
        address: SocketAddr,
    ) -> Result<(), RestoreError> {
        let total = self.reader.manifest().rdb.bytes;
        let told_to_follow = Instant::now();
        let mut came = false;
        loop {
            let Ok(event) = timeout(PROGRESS_INTERVAL, happened.recv()).await else {
                if came {
                    (self.progress)("loading", self.sent.load(Ordering::Relaxed), Some(total));
                } else if told_to_follow.elapsed() >= COME_LIMIT {
                    return Err(RestoreError::NeverCame {
                        server: self.target.address.clone(),
                        address: address.to_string(),
                        seconds: COME_LIMIT.as_secs(),
                    });
                }
                continue;
            };
            match event {
                Some(ServeEvent::HandshakeDone { .. }) => came = true,
                Some(ServeEvent::Acked(offset)) if offset == self.position.offset => return Ok(()),
                Some(ServeEvent::Loading | ServeEvent::Acked(_)) => {}
                // Whoever sent them has failed, and says why.
                None => std::future::pending().await,
            }
        }
    }

    /// While the target is a replica it keeps keys whose time has come, so that the numbers must agree.
    async fn prove(&self, connection: &mut Connection) -> Result<NodeObservation, RestoreError> {
        let (_, loaded) = connection.observe(clock::now).await?;
        let found = Position::new(loaded.replication.history, loaded.replication.offset);
        let follows = matches!(&loaded.replication.role, Role::Replica { link, .. } if link.up);
        if found != self.position || !follows {
            return Err(RestoreError::Drifted { server: self.target.address.clone(), expected: self.position, found });
        }
        same_keys(self.target, self.reader.manifest(), &loaded)?;
        Ok(loaded)
    }

    /// Serves whoever the target is, until dropped. Ends only by failing.
    async fn receive(&self, listener: &TcpListener, events: &mpsc::Sender<ServeEvent>) -> ReplicationError {
        let mut offering = Offering {
            position: self.position,
            rdb_length: self.reader.manifest().rdb.bytes,
            expected_listening_port: self.target.announced_port,
            delivered: false,
            handshake_timeout: HANDSHAKE_LIMIT,
            idle_timeout: IDLE_LIMIT,
        };
        let mut served = 0;
        loop {
            let (socket, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(source) => return ReplicationError::Io { awaiting: "the target", source },
            };
            let (sent, mut seen) = mpsc::channel(16);
            let mut readers = JoinSet::new();
            let open = || self.read_ahead(&mut readers);
            let mut delivered = offering.delivered;
            let ended = {
                let serving = serve_snapshot(socket, &offering, open, &sent, std::future::pending());
                tokio::pin!(serving);
                loop {
                    tokio::select! {
                        ended = &mut serving => break ended,
                        Some(event) = seen.recv() => {
                            delivered |= event == ServeEvent::Loading;
                            let _ = events.send(event).await;
                        }
                    }
                }
            };
            offering.delivered = delivered;
            let error = match ended {
                // It left with everything; what it does next is seen on the other connection.
                Ok(()) => continue,
                Err(error) => error,
            };
            if matches!(error, ReplicationError::Stranger { .. }) {
                warn!(%peer, error = %Chain(&error), "refused a connection that is not the target's");
                continue;
            }
            served += 1;
            if served == CONNECTIONS || matches!(error, ReplicationError::Payload { .. }) {
                return error;
            }
            warn!(%peer, error = %Chain(&error), "the target left; waiting for it to come back");
        }
    }

    /// Reads the backup a second time, a little ahead of the target.
    fn read_ahead(&self, readers: &mut JoinSet<()>) -> mpsc::Receiver<Result<Bytes, ReadError>> {
        let (pieces, given) = mpsc::channel(PIECES_IN_FLIGHT);
        let rdb = self.reader.rdb(self.identities.to_vec());
        let sent = Arc::clone(&self.sent);
        sent.store(0, Ordering::Relaxed);
        readers.spawn(async move {
            let mut rdb: RdbReader = match rdb {
                Ok(rdb) => rdb,
                Err(error) => {
                    let _ = pieces.send(Err(error)).await;
                    return;
                }
            };
            loop {
                match rdb.next().await {
                    Ok(Some(part)) => {
                        for piece in super::pieces(part) {
                            let bytes = piece.len() as u64;
                            if pieces.send(Ok(piece)).await.is_err() {
                                return;
                            }
                            sent.fetch_add(bytes, Ordering::Relaxed);
                        }
                    }
                    Ok(None) => return,
                    Err(error) => {
                        let _ = pieces.send(Err(error)).await;
                        return;
                    }
                }
            }
        });
        given
    }
}

fn same_keys(target: &Target, manifest: &Manifest, loaded: &NodeObservation) -> Result<(), RestoreError> {
    let expected = &manifest.contents.databases;
    let keys = |databases: &std::collections::BTreeMap<u32, urtext_types::Keyspace>, number: u32| {
        databases.get(&number).map_or(0, |database| database.keys)
    };
    for &database in expected.keys().chain(loaded.keyspace.keys()) {
        let (expected, found) = (keys(expected, database), keys(&loaded.keyspace, database));
        if expected != found {
            return Err(RestoreError::KeysDiffer { server: target.address.clone(), database, expected, found });
        }
    }
    Ok(())
}
