//! Both drivers against each other and against scripted peers, over a pipe in memory.

use std::{fmt, future::pending};

use tokio::io::{DuplexStream, duplex};
use urtext_types::{ErrorKind as Kind, Offset};

use super::*;
use crate::{AnnouncePort, command::encode};

const HISTORY: &str = "75d1dd8a2c1d0d8be1d6d1f8e3a3b9c0d4e5f601";
const MARK: &str = "c3a6b2f00d0e1c2b3a4958677685940312fedcba";
/// Long enough never to be met by a busy machine.
const LONG: Duration = Duration::from_secs(30);

fn request(idle_timeout: Duration) -> SnapshotRequest {
    SnapshotRequest { credentials: None, announce_version: None, announce_port: AnnouncePort::None, idle_timeout }
}

fn position() -> Position {
    format!("{HISTORY}:48211").parse().expect("a position")
}

fn offering(rdb_length: u64) -> Offering {
    Offering {
        position: position(),
        rdb_length,
        expected_listening_port: None,
        delivered: false,
        handshake_timeout: LONG,
        idle_timeout: LONG,
    }
}

#[derive(Debug)]
struct DiskOnFire;

impl fmt::Display for DiskOnFire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the disk is on fire")
    }
}

impl std::error::Error for DiskOnFire {}

impl Explain for DiskOnFire {
    fn kind(&self) -> Kind {
        Kind::Integrity
    }
    fn hint(&self) -> Option<String> {
        Some("leave the building".to_owned())
    }
}

type Piece = Result<Bytes, DiskOnFire>;

/// A producer that has these pieces ready.
fn payload(pieces: Vec<Piece>) -> mpsc::Receiver<Piece> {
    let (sender, receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender.try_send(piece).expect("there is room for all");
    }
    receiver
}

fn no_payload() -> mpsc::Receiver<Piece> {
    panic!("the payload must not be opened")
}

/// A server that takes what comes, sends `script`, and then hangs up or stays silent.
async fn scripted(script: &[u8], stay: bool, idle: Duration) -> Result<Vec<u8>, ReplicationError> {
    let (ours, mut theirs) = duplex(64);
    let server = async {
        // The replica may hang up first, after an error.
        let _ = theirs.write_all(script).await;
        if stay {
            pending::<()>().await
        }
        drop(theirs);
        pending::<()>().await;
    };
    tokio::select! {
        rdb = read_all(ours, idle) => rdb,
        () = server => unreachable!("the server is never ready"),
    }
}

async fn read_all(socket: DuplexStream, idle: Duration) -> Result<Vec<u8>, ReplicationError> {
    let (mut reader, writer) = tokio::io::split(socket);
    // What we send is of no interest here, but the pipe must not fill.
    let socket = tokio::io::join(&mut reader, tokio::io::sink());
    let mut stream = request_snapshot(socket, &request(idle)).await?;
    assert_eq!(stream.position(), position());
    let mut rdb = Vec::new();
    while let Some(bytes) = stream.next().await? {
        assert!(!bytes.is_empty() && bytes.len() <= ROOM);
        rdb.extend_from_slice(&bytes);
    }
    assert!(stream.next().await?.is_none(), "the end stays the end");
    drop(writer);
    Ok(rdb)
}

fn greeting() -> String {
    format!("+OK\r\n\n+OK\r\n\n\n+FULLRESYNC {HISTORY} 48211\r\n\n\n")
}

fn rdb(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn an_rdb_of_known_length_comes_whole() {
    for length in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 7] {
        let wire = [greeting().as_bytes(), format!("${length}\r\n").as_bytes(), &rdb(length)].concat();
        assert_eq!(scripted(&wire, true, LONG).await.expect("a snapshot"), rdb(length));
    }
}

#[tokio::test]
async fn an_rdb_that_ends_with_a_mark_comes_whole_from_a_server_that_stays() {
    for length in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 7] {
        let header = format!("$EOF:{MARK}\r\n");
        let wire = [greeting().as_bytes(), header.as_bytes(), &rdb(length), MARK.as_bytes()].concat();
        assert_eq!(scripted(&wire, true, LONG).await.expect("a snapshot"), rdb(length));
    }
}

#[tokio::test]
async fn a_connection_that_ends_early_is_never_a_snapshot() {
    #[track_caller]
    fn check(result: &Result<Vec<u8>, ReplicationError>, text: &str) {
        assert_eq!(result.as_ref().map_err(ToString::to_string), Err(text.to_owned()));
    }
    check(&scripted(b"", false, LONG).await, "the connection ended while waiting for the answer to REPLCONF capa");
    check(
        &scripted(b"+OK\r\n+O", false, LONG).await,
        "the connection ended while waiting for the answer to REPLCONF rdb-only",
    );
    check(
        &scripted(greeting().as_bytes(), false, LONG).await,
        "the connection ended while waiting for the start of the RDB",
    );
    let short = [greeting().as_bytes(), b"$500\r\n", &rdb(499)].concat();
    check(&scripted(&short, false, LONG).await, "the connection ended after 499 bytes of an RDB of 500");
    let header = format!("$EOF:{MARK}\r\n");
    let short = [greeting().as_bytes(), header.as_bytes(), &rdb(500)].concat();
    check(&scripted(&short, false, LONG).await, "the connection ended after 500 bytes of an RDB of unknown length");
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let result = scripted(&vec![b'+'; 200_000], true, LONG).await;
    assert!(matches!(result, Err(ReplicationError::LineTooLong { .. })), "{result:?}");
    let wire = [greeting().as_bytes(), &vec![b'$'; 200_000]].concat();
    let result = scripted(&wire, true, LONG).await;
    assert!(matches!(result, Err(ReplicationError::LineTooLong { .. })), "{result:?}");
}

#[tokio::test]
async fn a_huge_length_costs_no_memory() {
    let wire = [greeting().as_bytes(), b"$9223372036854775807\r\nRDB"].concat();
    let result = scripted(&wire, false, LONG).await;
    assert!(matches!(result, Err(ReplicationError::CutOff { received: 3, .. })), "{result:?}");
}

#[tokio::test]
async fn silence_ends_the_wait_wherever_it_falls() {
    let short = Duration::from_millis(40);
    for wire in [&b""[..], b"+OK\r\n", greeting().as_bytes(), &[greeting().as_bytes(), b"$9\r\nREDIS"].concat()] {
        let result = scripted(wire, true, short).await;
        assert!(matches!(result, Err(ReplicationError::Silent { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn keepalives_are_signs_of_life() {
    let (ours, mut theirs) = duplex(64);
    let idle = Duration::from_millis(400);
    let server = async {
        theirs.write_all(b"+OK\r\n+OK\r\n").await.expect("the replica listens");
        // Altogether longer than the silence that is allowed.
        for _ in 0..12 {
            tokio::time::sleep(idle / 8).await;
            theirs.write_all(b"\n").await.expect("the replica still listens");
        }
        theirs.write_all(format!("+FULLRESYNC {HISTORY} 48211\r\n$3\r\nRDB").as_bytes()).await.expect("still");
        pending::<()>().await;
    };
    tokio::select! {
        rdb = read_all(ours, idle) => assert_eq!(rdb.expect("a snapshot"), b"RDB"),
        () = server => {}
    }
}

#[tokio::test]
async fn no_byte_is_lost_when_next_is_cancelled() {
    let (ours, mut theirs) = duplex(1 << 20);
    let expected = rdb(5000);
    theirs.write_all(format!("+OK\r\n+OK\r\n+FULLRESYNC {HISTORY} 48211\r\n$5000\r\n").as_bytes()).await.expect("room");
    let mut stream = request_snapshot(ours, &request(LONG)).await.expect("a snapshot");
    for chunk in expected.chunks(700) {
        theirs.write_all(chunk).await.expect("room");
        if stream.payload.taken() + (stream.input.len() + chunk.len()) as u64 == 5000 {
            break;
        }
        // Reads what is there, then waits, then is dropped.
        let cancelled = timeout(Duration::from_millis(1), stream.next()).await;
        assert!(cancelled.is_err(), "{cancelled:?}");
    }
    let mut got = Vec::new();
    while let Some(bytes) = stream.next().await.expect("the rest") {
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got, expected);
}

/// Serves `pieces` to our own replica; both results, and the events.
async fn serve_ourselves(
    length: u64,
    pieces: Vec<Piece>,
) -> (Result<(), ReplicationError>, Result<Vec<u8>, ReplicationError>, Vec<ServeEvent>) {
    let (master, replica) = duplex(1000);
    let (sender, mut receiver) = mpsc::channel(16);
    let offering = offering(length);
    let serving = async {
        let served = serve_snapshot(master, &offering, || payload(pieces), &sender, pending()).await;
        drop(sender);
        served
    };
    let replicating = async {
        let mut stream = request_snapshot(replica, &request(LONG)).await?;
        assert_eq!(stream.position(), position());
        assert_eq!(stream.length(), Some(length));
        let mut rdb = Vec::new();
        while let Some(bytes) = stream.next().await? {
            rdb.extend_from_slice(&bytes);
        }
        Ok(rdb)
    };
    let (served, got) = tokio::join!(serving, replicating);
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    (served, got, events)
}

fn pieces(rdb: &[u8], size: usize) -> Vec<Piece> {
    rdb.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect()
}

#[tokio::test]
async fn what_our_master_serves_our_replica_gets() {
    for (length, size) in [(1, 1), (5000, 700), (3 * PIECE + 5, 100_000)] {
        let rdb = rdb(length);
        let (served, got, events) = serve_ourselves(length as u64, pieces(&rdb, size)).await;
        assert_eq!(got.expect("a snapshot"), rdb);
        assert_eq!(events, [ServeEvent::HandshakeDone { listening_port: None }, ServeEvent::Loading]);
        // It asked for the RDB only and left, which for a restore would be a failure.
        assert!(matches!(served, Err(ReplicationError::TargetLeft { acknowledged: None })), "{served:?}");
    }
}

#[tokio::test]
async fn a_damaged_payload_never_arrives_whole() {
    async fn check(length: u64, pieces: Vec<Piece>, text: &str) {
        let (served, got, events) = serve_ourselves(length, pieces).await;
        assert_eq!(served.expect_err("damaged").to_string(), text);
        assert!(matches!(got, Err(ReplicationError::CutOff { .. } | ReplicationError::Closed { .. })), "{got:?}");
        assert_eq!(events, [ServeEvent::HandshakeDone { listening_port: None }]);
    }
    let rdb = rdb(5000);
    let broken_at = |at: usize| pieces(&rdb, 1000).into_iter().take(at).chain([Err(DiskOnFire)]).collect::<Vec<_>>();
    for at in 0..=5 {
        check(5000, broken_at(at), "reading the RDB to serve").await;
    }
    check(5000, pieces(&rdb[..4999], 1000), "the RDB to serve ended after 4999 bytes of 5000").await;
    check(5000, vec![], "the RDB to serve ended after 0 bytes of 5000").await;
    check(4999, pieces(&rdb, 1000), "the RDB to serve is longer than the 4999 bytes that were announced").await;
    check(4999, pieces(&rdb, 5000), "the RDB to serve is longer than the 4999 bytes that were announced").await;
}

#[tokio::test]
async fn the_cause_of_a_damaged_payload_is_kept() {
    let (served, ..) = serve_ourselves(5, vec![Err(DiskOnFire)]).await;
    let error = served.expect_err("damaged");
    assert_eq!((error.kind(), error.hint().as_deref()), (Kind::Integrity, Some("leave the building")));
    assert_eq!(urtext_types::Chain(&error).to_string(), "reading the RDB to serve: the disk is on fire");
}

/// A target by hand: says these commands, gives back the other end and the events.
async fn target(
    offering: &Offering,
    commands: &[&str],
    then: &[u8],
) -> (Result<(), ReplicationError>, Vec<ServeEvent>, Vec<u8>) {
    let (master, mut replica) = duplex(1 << 16);
    let (sender, mut receiver) = mpsc::channel(16);
    for words in commands {
        replica.write_all(&encode(&words.split(' ').collect::<Vec<_>>())).await.expect("room");
    }
    replica.write_all(then).await.expect("room");
    replica.shutdown().await.expect("a pipe");
    let open = || payload(pieces(b"REDISRDB", 3));
    let served = serve_snapshot(master, offering, open, &sender, pending()).await;
    drop(sender);
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    let mut heard = Vec::new();
    replica.read_to_end(&mut heard).await.expect("a pipe");
    (served, events, heard)
}

#[tokio::test]
async fn a_target_loads_acknowledges_and_leaves() {
    let offering = Offering { expected_listening_port: Some(6380), ..offering(8) };
    let commands = ["PING", "REPLCONF listening-port 6380", "REPLCONF capa eof capa psync2", "PSYNC ? -1"];
    let then = [&b"\n\n\n"[..], &encode(&["REPLCONF", "ACK", "0"]), &encode(&["REPLCONF", "ACK", "48211"])].concat();
    let (served, events, heard) = target(&offering, &commands, &then).await;
    served.expect("it had everything");
    assert_eq!(
        events,
        [
            ServeEvent::HandshakeDone { listening_port: Some(6380) },
            ServeEvent::Loading,
            ServeEvent::Acked(Offset::ZERO),
            ServeEvent::Acked(position().offset),
        ]
    );
    let expected = format!("+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC {HISTORY} 48211\r\n$8\r\nREDISRDB");
    assert_eq!(String::from_utf8_lossy(&heard), expected);
}

#[tokio::test]
async fn a_target_that_leaves_too_early_is_a_failure() {
    let (served, ..) = target(&offering(8), &["PSYNC ? -1", "REPLCONF ACK 48210"], b"\n").await;
    assert_eq!(
        served.expect_err("left").to_string(),
        "the target left at offset 48210, which is not the one it was to reach"
    );
    let (served, events, _) = target(&offering(8), &["PING"], b"").await;
    assert!(matches!(served, Err(ReplicationError::Closed { .. })), "{served:?}");
    assert_eq!(events, []);
}

#[tokio::test]
async fn a_target_that_comes_back_is_not_sent_everything_again() {
    let (master, mut replica) = duplex(1 << 16);
    let (sender, mut receiver) = mpsc::channel(16);
    let offering = Offering { delivered: true, ..offering(8) };
    let psync = encode(&["PSYNC", HISTORY, "48212"]);
    replica.write_all(&[encode(&["REPLCONF", "capa", "psync2"]), psync].concat()).await.expect("room");
    let stop = async {
        assert_eq!(receiver.recv().await, Some(ServeEvent::HandshakeDone { listening_port: None }));
        let mut line = vec![0; format!("+OK\r\n+CONTINUE {HISTORY}\r\n\n").len()];
        replica.read_exact(&mut line).await.expect("an answer and a keepalive");
        assert_eq!(String::from_utf8_lossy(&line), format!("+OK\r\n+CONTINUE {HISTORY}\r\n\n"));
    };
    serve_snapshot(master, &offering, no_payload, &sender, stop).await.expect("stopped");
    assert_eq!(replica.read(&mut [0; 16]).await.expect("a pipe"), 0, "the link is closed after a stop");
}

#[tokio::test]
async fn strangers_and_noise_open_no_payload() {
    async fn check(bytes: &[u8], text: &str) {
        let (master, mut replica) = duplex(1 << 18);
        let (sender, _receiver) = mpsc::channel(16);
        replica.write_all(bytes).await.expect("room");
        let idle = Duration::from_millis(40);
        let offering = Offering { expected_listening_port: Some(6380), handshake_timeout: idle, ..offering(8) };
        let served = serve_snapshot(master, &offering, no_payload, &sender, pending()).await;
        assert_eq!(served.expect_err("refused").to_string(), text);
    }
    check(&encode(&["PSYNC", "?", "-1"]), "a stranger asked for the data: it announced port none instead of 6380")
        .await;
    check(b"GET / HTTP/1.1\r\n\r\n", "not a command: GET / HTTP/1.1\\r\\n\\r\\n").await;
    check(&[b'*'; 100_000], "not a command: ****************").await;
    check(&encode(&["PING"]), "nothing was heard for 40ms while waiting for PSYNC from the target").await;
}

#[tokio::test]
async fn the_target_hears_us_while_the_payload_is_being_opened() {
    let (master, mut replica) = duplex(1 << 16);
    let (sender, _receiver) = mpsc::channel(16);
    let (producer, receiver) = mpsc::channel::<Piece>(4);
    replica.write_all(&encode(&["PSYNC", "?", "-1"])).await.expect("room");
    let stop = async {
        let greeting = format!("+FULLRESYNC {HISTORY} 48211\r\n\n\n");
        let mut heard = vec![0; greeting.len()];
        replica.read_exact(&mut heard).await.expect("keepalives");
        assert_eq!(String::from_utf8_lossy(&heard), greeting);
        producer.send(Ok(Bytes::from_static(b"RDB"))).await.expect("awaited");
        drop(producer);
        let mut heard = [0; 7];
        replica.read_exact(&mut heard).await.expect("the RDB");
        assert_eq!(&heard, b"$3\r\nRDB");
    };
    serve_snapshot(master, &offering(3), || receiver, &sender, stop).await.expect("stopped");
}

#[tokio::test]
async fn a_target_that_takes_nothing_is_given_up() {
    let (master, mut replica) = duplex(64);
    let (sender, _receiver) = mpsc::channel(16);
    replica.write_all(&encode(&["PSYNC", "?", "-1"])).await.expect("room");
    let offering = Offering { idle_timeout: Duration::from_millis(40), ..offering(5000) };
    let open = || payload(pieces(&rdb(5000), 1000));
    let served = serve_snapshot(master, &offering, open, &sender, pending()).await;
    assert!(matches!(served, Err(ReplicationError::Stalled { .. })), "{served:?}");
}
