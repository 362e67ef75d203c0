//! Serving a snapshot to a target.

use std::{fmt, future::pending, time::Duration};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use urtext_replication::{Offering, ReplicationError, ServeEvent, serve_snapshot};
use urtext_types::{ErrorKind, Explain};

use crate::{
    on_every_server,
    server::{Program, Server, Snapshot, request, snapshot},
};

on_every_server! {
    a_target_has_the_data_and_the_position_after_its_promotion,
    a_target_that_lost_its_link_continues_without_the_rdb,
    a_damaged_rdb_leaves_the_target_as_it_was,
}

const LIMIT: Duration = Duration::from_secs(30);

/// What went wrong with the copy.
#[derive(Debug)]
struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the copy is damaged")
    }
}

impl std::error::Error for Damaged {}

impl Explain for Damaged {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Integrity
    }
}

type Piece = Result<Bytes, Damaged>;

fn payload(pieces: Vec<Piece>) -> mpsc::Receiver<Piece> {
    let (sender, receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender.try_send(piece).expect("there is room for all");
    }
    receiver
}

/// A server with data, and a snapshot of it.
async fn a_snapshot(program: &Program) -> (Server, Snapshot) {
    let master = Server::start(program, &[]).await;
    let replica = Server::start(program, &[]).await;
    replica.follow(&master).await;
    master.fill(20_000).await;
    let snapshot = snapshot(&master, &request(program)).await.expect("a snapshot");
    (master, snapshot)
}

fn offering(snapshot: &Snapshot, target: &Server) -> Offering {
    Offering {
        position: snapshot.position,
        rdb_length: snapshot.rdb().len() as u64,
        expected_listening_port: Some(target.port),
        delivered: false,
        handshake_timeout: LIMIT,
        idle_timeout: LIMIT,
    }
}

/// Makes the target a replica of a new listener.
async fn point_here(target: &Server) -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    assert_eq!(target.ask(&["REPLICAOF", "127.0.0.1", &port.to_string()]).await, "OK");
    listener
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = tokio::time::timeout(LIMIT, listener.accept()).await.expect("the target comes");
    accepted.expect("a connection").0
}

/// Waits until the target says that it has everything; gives what it said before.
async fn wait_until_loaded(events: &mut mpsc::Receiver<ServeEvent>, offering: &Offering) -> Vec<ServeEvent> {
    let mut seen = Vec::new();
    while seen.last() != Some(&ServeEvent::Acked(offering.position.offset)) {
        let event = tokio::time::timeout(LIMIT, events.recv()).await.expect("the target goes on");
        seen.push(event.expect("the serving goes on"));
    }
    seen
}

async fn a_target_has_the_data_and_the_position_after_its_promotion(program: &Program) {
    let (source, snapshot) = a_snapshot(program).await;
    let target = Server::start(program, &["--masterauth", "whatever"]).await;
    target.ask(&["SET", "old", "data"]).await;
    let offering = offering(&snapshot, &target);
    let listener = point_here(&target).await;
    let (sender, mut events) = mpsc::channel(16);
    let pieces = snapshot.pieces.iter().cloned().map(Ok).collect();
    let socket = accept(&listener).await;
    let serving = serve_snapshot(socket, &offering, || payload(pieces), &sender, pending());

    let restoring = async {
        let seen = wait_until_loaded(&mut events, &offering).await;
        assert_eq!(seen[..2], [ServeEvent::HandshakeDone { listening_port: Some(target.port) }, ServeEvent::Loading]);
        // Two keepalives later, which count as read, the position is still the same.
        let read = snapshot.position.offset.get() + 2;
        target.wait_for("slave_read_repl_offset", &read.to_string()).await;
        assert_eq!(target.position().await, snapshot.position);
        assert_eq!(target.info("master_link_status").await, "up");
        target.promote().await;
    };
    // The target leaves when it is promoted, which ends the serving.
    let (served, ()) = tokio::join!(serving, restoring);
    served.expect("all went well");

    assert_eq!(target.info("master_replid2").await, snapshot.position.history.to_string());
    assert_eq!(target.info("second_repl_offset").await, (snapshot.position.offset.get() + 1).to_string());
    assert_eq!(target.info("db0").await, source.info("db0").await);
    assert_eq!(target.info("db5").await, source.info("db5").await);
    assert_eq!(target.ask(&["GET", "key:777"]).await, source.ask(&["GET", "key:777"]).await);
    assert_eq!(target.ask(&["GET", "old"]).await, "(nil)");
}

async fn a_target_that_lost_its_link_continues_without_the_rdb(program: &Program) {
    let (_source, snapshot) = a_snapshot(program).await;
    let target = Server::start(program, &[]).await;
    let offering = offering(&snapshot, &target);
    let listener = point_here(&target).await;
    let (sender, mut events) = mpsc::channel(16);

    let (stop, stopped) = oneshot::channel::<()>();
    let pieces = snapshot.pieces.iter().cloned().map(Ok).collect();
    let socket = accept(&listener).await;
    let stopped = async { stopped.await.expect("stopped, not dropped") };
    let serving = serve_snapshot(socket, &offering, || payload(pieces), &sender, stopped);
    let loading = async {
        wait_until_loaded(&mut events, &offering).await;
        stop.send(()).expect("still serving");
    };
    let (served, ()) = tokio::join!(serving, loading);
    served.expect("stopped");

    let offering = Offering { delivered: true, ..offering };
    let socket = accept(&listener).await;
    let never = || -> mpsc::Receiver<Piece> { panic!("the RDB is not sent twice") };
    let serving = serve_snapshot(socket, &offering, never, &sender, pending());
    let coming_back = async {
        let seen = wait_until_loaded(&mut events, &offering).await;
        assert!(!seen.contains(&ServeEvent::Loading));
        target.promote().await;
    };
    let (served, ()) = tokio::join!(serving, coming_back);
    served.expect("all went well");
    assert_eq!(target.info("master_replid2").await, snapshot.position.history.to_string());
    assert_eq!(target.info("second_repl_offset").await, (snapshot.position.offset.get() + 1).to_string());
}

async fn a_damaged_rdb_leaves_the_target_as_it_was(program: &Program) {
    let (_source, snapshot) = a_snapshot(program).await;
    for diskless_load in ["disabled", "swapdb"] {
        let mut target = Server::start(program, &["--repl-diskless-load", diskless_load]).await;
        target.ask(&["SET", "old", "data"]).await;
        let offering = offering(&snapshot, &target);
        let listener = point_here(&target).await;
        let (sender, _events) = mpsc::channel(16);
        // The producer finds out at the very end, with every byte handed over.
        let pieces = snapshot.pieces.iter().cloned().map(Ok).chain([Err(Damaged)]).collect();
        let socket = accept(&listener).await;
        let served = serve_snapshot(socket, &offering, || payload(pieces), &sender, pending()).await;
        assert!(matches!(served, Err(ReplicationError::Payload { .. })), "{served:?}");

        drop(listener);
        target.promote().await;
        assert_eq!(target.ask(&["GET", "old"]).await, "data");
        assert_eq!(target.ask(&["DBSIZE"]).await, "1");
        assert!(target.is_running());
    }
}
