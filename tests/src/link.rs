//! A network link on loopback that can be cut, slowed, or cut after so many bytes.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::ports::free_port;

/// Small, so that a limit in bytes is hit in the middle of things.
const PIECE: usize = 16 * 1024;

/// A TCP proxy. Clients connect to [`Link::port`]; bytes go to the target until somebody cuts the link.
///
/// "Down" is the direction from the target to the client: a replication stream flows down.
#[derive(Debug)]
pub struct Link {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: u16,
    up: AtomicBool,
    closed: AtomicBool,
    /// Bytes that may still flow down before the link cuts itself; `u64::MAX` for no limit.
    allowance: AtomicU64,
    /// Waited before each piece, both ways, in microseconds.
    delay: AtomicU64,
    /// Bytes that have flowed down.
    carried: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A link to `target` on loopback, up.
    pub fn to(target: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen on a free port");
        let state = Arc::new(State {
            target,
            up: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            allowance: AtomicU64::new(u64::MAX),
            delay: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            streams: Mutex::default(),
        });
        thread::spawn({
            let state = Arc::clone(&state);
            move || accept(&listener, &state)
        });
        Self { port, state }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection; new ones are closed at once.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Lets new connections through again, without a limit.
    pub fn mend(&self) {
        self.state.allowance.store(u64::MAX, SeqCst);
        self.state.up.store(true, SeqCst);
    }

    /// Cuts the link once `bytes` more have flowed down.
    pub fn cut_after(&self, bytes: u64) {
        self.state.allowance.store(bytes, SeqCst);
    }

    /// Holds up every piece of up to 16 KiB, both ways: latency, and with it a rate.
    pub fn delay(&self, per_piece: Duration) {
        self.state.delay.store(per_piece.as_micros() as u64, SeqCst);
    }

    /// Bytes that have flowed down so far.
    pub fn carried(&self) -> u64 {
        self.state.carried.load(SeqCst)
    }

    pub fn is_up(&self) -> bool {
        self.state.up.load(SeqCst)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.closed.store(true, SeqCst);
        self.state.cut();
        // Wakes the accepting thread, so that it sees that it is over. Nobody is there: fine.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map(drop).unwrap_or_default();
    }
}

impl State {
    fn cut(&self) {
        self.up.store(false, SeqCst);
        for stream in self.streams.lock().expect("no holder of this lock panics").drain(..) {
            // The other end may have closed already.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }

    /// Takes up to `bytes` from the allowance; gives how many may pass.
    fn take(&self, bytes: u64) -> u64 {
        let take = |left: u64| Some(if left == u64::MAX { left } else { left.saturating_sub(bytes) });
        let before = self.allowance.fetch_update(SeqCst, SeqCst, take).unwrap_or_default();
        before.min(bytes)
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming() {
        if state.closed.load(SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if !state.up.load(SeqCst) {
            continue;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, state.target)) else { continue };
        let copies = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(client_again), Ok(server_again), Ok(client_held), Ok(server_held)) = copies else { continue };
        {
            let mut streams = state.streams.lock().expect("no holder of this lock panics");
            streams.extend([client_held, server_held]);
        }
        let (up, down) = (Arc::clone(state), Arc::clone(state));
        thread::spawn(move || carry(client, server, &up, false));
        thread::spawn(move || carry(server_again, client_again, &down, true));
    }
}

/// Moves bytes one way until either end closes or the link is cut, then closes both.
fn carry(mut from: TcpStream, mut to: TcpStream, state: &State, down: bool) {
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        let delay = state.delay.load(SeqCst);
        if delay > 0 {
            thread::sleep(Duration::from_micros(delay));
        }
        let allowed = if down { state.take(read as u64) as usize } else { read };
        if to.write_all(&piece[..allowed]).is_err() {
            break;
        }
        if down {
            state.carried.fetch_add(allowed as u64, SeqCst);
        }
        if allowed < read {
            state.cut();
            break;
        }
    }
    // Either may be closed already.
    from.shutdown(Shutdown::Both).unwrap_or_default();
    to.shutdown(Shutdown::Both).unwrap_or_default();
}
