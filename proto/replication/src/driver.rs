//! The sockets: the state machines of this package, driven over a connection.

use std::{future::Future, io::ErrorKind, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout, timeout_at},
};
use urtext_types::{Explain, Position};

use crate::{
    Offering, ReplicationError, ServeEvent, SnapshotRequest, command,
    line::Lines,
    master::{Action, Peer},
    payload::{Payload, Taken},
    replica::{Handshake, Progress},
};

/// How much of the RDB is gathered before it is handed on: few enough pieces that the cost of each does
/// not count, small enough that a dozen in flight stay far below the memory that an agent may use.
const PIECE: usize = 256 * 1024;

/// Room for the read that completes a piece, so that no piece is ever copied to make room.
const ROOM: usize = PIECE + PIECE / 4;

/// How much room a handshake has to read into; a reply fits many times.
const HANDSHAKE_ROOM: usize = 4 * 1024;

/// How long the farewell to a server may take. Nothing depends on it: dropping the socket ends it too.
const GOODBYE: Duration = Duration::from_secs(2);

/// Servers show each other once a second that they are alive (`replication.c:replicationCron`).
const KEEPALIVE: Duration = Duration::from_secs(1);

/// Asks a server for its RDB, as a replica that wants nothing else, and waits until the first byte of it
/// is about to come.
///
/// That can take as long as a save: only silence ends the wait. Attaching to a master that has no
/// backlog gives that master a new replication id (`replication.c:syncCommand`): the caller decides
/// whether that is acceptable.
///
/// # Cancel safety
///
/// Dropping the future closes the connection; the server stops serving us. Nothing else is left behind.
pub async fn request_snapshot<S>(
    mut socket: S,
    request: &SnapshotRequest,
) -> Result<SnapshotStream<S>, ReplicationError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut handshake, first) = Handshake::start(request);
    let mut patience = Patience::new(request.idle_timeout);
    send(&mut socket, first.expose(), patience.limit).await?;
    let mut lines = Lines::default();
    let mut input = BytesMut::new();
    loop {
        let awaiting = handshake.awaiting();
        let Some(line) = lines.next(&mut input, awaiting)? else {
            input.reserve(HANDSHAKE_ROOM);
            if patience.read(&mut socket, &mut input, awaiting).await? == 0 {
                return Err(ReplicationError::Closed { awaiting });
            }
            continue;
        };
        match handshake.on_line(&line)? {
            Progress::Send(bytes) => send(&mut socket, bytes.expose(), patience.limit).await?,
            Progress::Wait => {}
            Progress::Payload { position, framing } => {
                tracing::debug!(%position, "the server sends its RDB");
                return Ok(SnapshotStream {
                    socket: Some(socket),
                    position,
                    payload: Payload::new(framing),
                    input,
                    patience,
                });
            }
        }
    }
}

/// An RDB on its way from a server.
///
/// Memory is one piece and what the caller holds, whatever the size of the RDB. Not reading it fast enough makes the
/// server buffer writes for us and at last drop us (`client-output-buffer-limit replica`).
#[derive(Debug)]
pub struct SnapshotStream<S> {
    /// `None` once the RDB has ended and the connection was closed.
    socket: Option<S>,
    position: Position,
    payload: Payload,
    input: BytesMut,
    patience: Patience,
}

impl<S> SnapshotStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Where this RDB was taken, from `+FULLRESYNC`. Exact.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The length of the RDB, if the server knew it beforehand: a server that sends the RDB while it
    /// makes it does not.
    pub fn length(&self) -> Option<u64> {
        self.payload.length()
    }

    /// The next bytes of the RDB, up to about half a mebibyte; `None` once all of them were taken and the
    /// server has said that they are all. The connection is closed then, so that the server forgets us
    /// (Redis 6.2 would keep us attached, and delay its shutdown for us).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no byte is lost if the future is dropped before it is ready.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReplicationError> {
        const AWAITING: &str = "the next bytes of the RDB";
        loop {
            match self.payload.take(&mut self.input, PIECE) {
                Taken::Piece(bytes) => return Ok(Some(bytes)),
                Taken::End => {
                    if let Some(mut socket) = self.socket.take() {
                        // Whether the server hears it or has closed already is of no interest.
                        let _ = timeout(GOODBYE, socket.shutdown()).await;
                    }
                    return Ok(None);
                }
                Taken::More => {}
            }
            let received = self.payload.taken() + self.input.len() as u64;
            let cut_off = ReplicationError::CutOff { received, expected: self.length() };
            let Some(socket) = &mut self.socket else { return Err(cut_off) };
            if self.input.capacity() < ROOM {
                self.input.reserve(ROOM - self.input.len());
            }
            match self.patience.read(socket, &mut self.input, AWAITING).await {
                Ok(0) => return Err(cut_off),
                // A server that drops us for being slow resets the connection; one that dies under TLS
                // ends it without a farewell.
                Err(ReplicationError::Io { source, .. })
                    if matches!(source.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) =>
                {
                    return Err(cut_off);
                }
                read => read?,
            };
        }
    }
}

/// Plays master to one connection: shakes hands, gives the RDB at the offered position, and keeps the
/// link up until `stop` is ready. Promote the target (`REPLICAOF NO ONE`) before that.
///
/// `open_payload` is called at most once, and only for a peer that is the expected one and needs the RDB,
/// so that a stranger or a target that merely comes back costs nothing. The channel must bring exactly
/// [`Offering::rdb_length`] bytes and then close. The last piece is held back until it has closed: if the
/// producer sends an error instead, however late, the connection is cut before the end and the target
/// does not load anything. A pause of the producer longer than the target's `repl-timeout` makes the
/// target give up, since nothing can be sent between two bytes of an RDB.
///
/// Ends with `Ok` when `stop` is ready, or when the target leaves after it has acknowledged the offered
/// offset. A target that leaves earlier may come back: accept again, with [`Offering::delivered`] set if
/// [`ServeEvent::Loading`] was seen. A full `events` channel holds the conversation up; one that nobody
/// reads any more does not.
///
/// # Cancel safety
///
/// Dropping the future closes the connection. Before the last byte of the RDB was sent the target loads
/// nothing; after it, the target goes on loading and then tries to reconnect.
pub async fn serve_snapshot<S, E, P, F>(
    mut socket: S,
    offering: &Offering,
    open_payload: P,
    events: &mpsc::Sender<ServeEvent>,
    stop: F,
) -> Result<(), ReplicationError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: Explain + Send + Sync + 'static,
    P: FnOnce() -> mpsc::Receiver<Result<Bytes, E>> + Send,
    F: Future<Output = ()> + Send,
{
    let served = tokio::select! {
        biased;
        () = stop => Ok(()),
        served = serve(&mut socket, offering, open_payload, events) => served,
    };
    if served.is_ok() {
        // The target may have left already.
        let _ = timeout(GOODBYE, socket.shutdown()).await;
    }
    served
}

async fn serve<S, E, P>(
    socket: &mut S,
    offering: &Offering,
    open_payload: P,
    events: &mpsc::Sender<ServeEvent>,
) -> Result<(), ReplicationError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: Explain + Send + Sync + 'static,
    P: FnOnce() -> mpsc::Receiver<Result<Bytes, E>> + Send,
{
    const AWAITING: &str = "PSYNC from the target";
    let mut peer = Peer::new(offering);
    let mut input = BytesMut::new();
    let limit = offering.handshake_timeout;
    let wants_rdb = timeout(limit, shake_hands(socket, &mut peer, &mut input, offering.idle_timeout))
        .await
        .unwrap_or(Err(ReplicationError::Silent { awaiting: AWAITING, limit }))?;
    report(events, ServeEvent::HandshakeDone { listening_port: peer.listening_port() }).await;
    if wants_rdb {
        send_rdb(socket, offering, &peer, open_payload()).await?;
        report(events, ServeEvent::Loading).await;
    }
    follow(socket, &mut peer, &mut input, offering, events).await
}

/// Answers until the replica is attached; says whether it wants the RDB.
async fn shake_hands<S>(
    socket: &mut S,
    peer: &mut Peer<'_>,
    input: &mut BytesMut,
    idle: Duration,
) -> Result<bool, ReplicationError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    const AWAITING: &str = "PSYNC from the target";
    loop {
        while let Some(incoming) = command::decode(input)? {
            match peer.on_incoming(&incoming)? {
                Action::Nothing | Action::Acked(_) => {}
                Action::Reply(bytes) => send(socket, &bytes, idle).await?,
                Action::SendAll(bytes) => return send(socket, &bytes, idle).await.map(|()| true),
                Action::Continue(bytes) => return send(socket, &bytes, idle).await.map(|()| false),
            }
        }
        input.reserve(HANDSHAKE_ROOM);
        if socket.read_buf(input).await.map_err(ReplicationError::io(AWAITING))? == 0 {
            return Err(ReplicationError::Closed { awaiting: AWAITING });
        }
    }
}

/// Sends the RDB, all of it or not its last piece.
async fn send_rdb<S, E>(
    socket: &mut S,
    offering: &Offering,
    peer: &Peer<'_>,
    mut payload: mpsc::Receiver<Result<Bytes, E>>,
) -> Result<(), ReplicationError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: Explain + Send + Sync + 'static,
{
    let (idle, expected) = (offering.idle_timeout, offering.rdb_length);
    let mut header = Some(peer.payload_header());
    let mut held: Option<Bytes> = None;
    let mut got: u64 = 0;
    let mut keepalive = keepalive();
    loop {
        let piece = tokio::select! {
            biased;
            piece = payload.recv() => piece,
            // Allowed until the header is sent, while the producer opens its file.
            _ = keepalive.tick(), if header.is_some() => {
                send(socket, b"\n", idle).await?;
                continue;
            }
        };
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| ReplicationError::Payload {
            kind: error.kind(),
            hint: error.hint(),
            source: Box::new(error),
        })?;
        got += piece.len() as u64;
        if got > expected {
            return Err(ReplicationError::PayloadLong { expected });
        }
        if let Some(previous) = held.replace(piece) {
            if let Some(header) = header.take() {
                send(socket, &header, idle).await?;
            }
            send(socket, &previous, idle).await?;
        }
    }
    if got != expected {
        return Err(ReplicationError::PayloadShort { got, expected });
    }
    if let Some(header) = header {
        send(socket, &header, idle).await?;
    }
    send(socket, &held.unwrap_or_default(), idle).await
}

/// Keeps the link up without moving the position, and reports what the target acknowledges.
///
/// A bare newline refreshes the link and is not counted, as long as no command follows it
/// (`networking.c:commandProcessed` advances the offset at commands only).
async fn follow<S>(
    socket: &mut S,
    peer: &mut Peer<'_>,
    input: &mut BytesMut,
    offering: &Offering,
    events: &mpsc::Sender<ServeEvent>,
) -> Result<(), ReplicationError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut patience = Patience::new(offering.idle_timeout);
    let mut keepalive = keepalive();
    loop {
        while let Some(incoming) = command::decode(input)? {
            if let Action::Acked(offset) = peer.on_incoming(&incoming)? {
                report(events, ServeEvent::Acked(offset)).await;
            }
        }
        input.reserve(HANDSHAKE_ROOM);
        let alive = tokio::select! {
            read = patience.read(socket, input, "a sign of life of the target") => read.map(|bytes| bytes > 0),
            _ = keepalive.tick() => send(socket, b"\n", offering.idle_timeout).await.map(|()| true),
        };
        let has_all = peer.acknowledged() == Some(offering.position.offset);
        match alive {
            Ok(true) => {}
            // A target that was promoted closes the link, with our newlines unread.
            Ok(false) | Err(ReplicationError::Io { .. }) if has_all => return Ok(()),
            Ok(false) => return Err(ReplicationError::TargetLeft { acknowledged: peer.acknowledged() }),
            Err(error) => return Err(error),
        }
    }
}

async fn report(events: &mpsc::Sender<ServeEvent>, event: ServeEvent) {
    // Nobody listens: then nobody needs to know.
    let _ = events.send(event).await;
}

fn keepalive() -> Interval {
    let mut interval = interval_at(Instant::now() + KEEPALIVE, KEEPALIVE);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Writes and flushes; the other end must take something within `limit`, again and again.
async fn send<S>(socket: &mut S, mut bytes: &[u8], limit: Duration) -> Result<(), ReplicationError>
where
    S: AsyncWrite + Unpin,
{
    const AWAITING: &str = "the other end to take what we send";
    let stalled = |_| ReplicationError::Stalled { limit };
    let failed = || ReplicationError::io(AWAITING);
    while !bytes.is_empty() {
        let written = timeout(limit, socket.write(bytes)).await.map_err(stalled)?.map_err(failed())?;
        if written == 0 {
            return Err(failed()(ErrorKind::WriteZero.into()));
        }
        bytes = &bytes[written..];
    }
    timeout(limit, socket.flush()).await.map_err(stalled)?.map_err(failed())
}

/// Ends a silence that lasts too long, also one that is waited for in several attempts.
#[derive(Debug)]
struct Patience {
    limit: Duration,
    waiting_since: Option<Instant>,
}

impl Patience {
    /// No silence is worth more; also keeps the sum with any instant in range.
    const MOST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    fn new(limit: Duration) -> Self {
        Self { limit: limit.min(Self::MOST), waiting_since: None }
    }

    /// Reads what there is; zero at the end of the connection. Cancel safe.
    async fn read<S>(
        &mut self,
        socket: &mut S,
        input: &mut BytesMut,
        awaiting: &'static str,
    ) -> Result<usize, ReplicationError>
    where
        S: AsyncRead + Unpin,
    {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let read = timeout_at(since + self.limit, socket.read_buf(input))
            .await
            .map_err(|_| ReplicationError::Silent { awaiting, limit: self.limit })?
            .map_err(ReplicationError::io(awaiting))?;
        self.waiting_since = None;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
