//! The road to an S3 server, on which things happen: answers that are late, lost, cut or wrong, requests that arrive
//! twice or not at all, listings of yesterday, and a traveller who is held up until something else has happened.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::ports::free_port;

/// How often is looked at what does not announce itself.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// Its answer comes so much later.
    Late(Duration),
    /// It arrives twice, and the second answer is the one that is heard.
    Twice,
    /// It does not arrive, and this status is the answer.
    Refused(u16),
    /// The connection breaks after so many bytes of its body.
    CutOff(usize),
    /// It arrives; of the answer's body so many bytes are heard.
    Lost(usize),
    /// A listing is answered as it was when its like was asked for first.
    Stale,
    /// One bit of the answer's body is another one.
    Flipped,
    /// It waits at the roadside until [`Road::let_go`], and does not arrive then.
    Held,
}

/// What passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// From 0, since the rule was set.
    pub number: usize,
    pub method: String,
    /// With its query.
    pub path: String,
}

impl Request {
    /// Whether it asks which objects there are.
    pub fn is_listing(&self) -> bool {
        self.path.contains("list-type=2")
    }
}

type Rule = dyn Fn(&Request) -> Option<Mishap> + Send + Sync;

/// An HTTP proxy to a port on loopback.
pub struct Road {
    port: u16,
    state: Arc<State>,
}

struct State {
    target: u16,
    closed: AtomicBool,
    traffic: Mutex<Traffic>,
    /// Something has come to be held, or was let go.
    moved: Condvar,
}

struct Traffic {
    rule: Arc<Rule>,
    passed: Vec<Request>,
    held: usize,
    /// How often everybody was let go.
    released: usize,
    /// The first answer to each listing.
    listings: BTreeMap<String, Vec<u8>>,
}

impl Road {
    /// A road to `target`, on which nothing happens.
    pub fn to(target: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen on a free port");
        let traffic =
            Traffic { rule: Arc::new(|_| None), passed: Vec::new(), held: 0, released: 0, listings: BTreeMap::new() };
        let state =
            State { target, closed: AtomicBool::new(false), traffic: Mutex::new(traffic), moved: Condvar::new() };
        let state = Arc::new(state);
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for client in listener.incoming().flatten() {
                    if state.closed.load(SeqCst) {
                        return;
                    }
                    let state = Arc::clone(&state);
                    // A connection that breaks is what this is for.
                    thread::spawn(move || carry(client, &state).unwrap_or_default());
                }
            }
        });
        Self { port, state }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on this happens; requests are counted anew.
    pub fn rule(&self, rule: impl Fn(&Request) -> Option<Mishap> + Send + Sync + 'static) {
        let mut traffic = self.state.traffic();
        traffic.rule = Arc::new(rule);
        traffic.passed.clear();
    }

    /// Nothing happens any more.
    pub fn clear(&self) {
        self.rule(|_| None);
    }

    /// The requests since the rule was set.
    pub fn passed(&self) -> Vec<Request> {
        self.state.traffic().passed.clone()
    }

    /// Waits until somebody is held up, or something is over; says whether somebody is.
    pub fn wait_until_held_or(&self, is_over: impl Fn() -> bool) -> bool {
        let mut traffic = self.state.traffic();
        while traffic.held == 0 && !is_over() {
            let waited = self.state.moved.wait_timeout(traffic, LOOK_AGAIN);
            traffic = waited.expect("no holder of this lock panics").0;
        }
        traffic.held > 0
    }

    /// Lets go of everybody who is held up: their connections break.
    pub fn let_go(&self) {
        self.state.traffic().released += 1;
        self.state.moved.notify_all();
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.state.closed.store(true, SeqCst);
        self.let_go();
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).map(drop).unwrap_or_default();
    }
}

impl State {
    fn traffic(&self) -> std::sync::MutexGuard<'_, Traffic> {
        self.traffic.lock().expect("no holder of this lock panics")
    }

    fn hold(&self) {
        let mut traffic = self.traffic();
        let until = traffic.released + 1;
        traffic.held += 1;
        self.moved.notify_all();
        let freed = self.moved.wait_while(traffic, |traffic| traffic.released < until);
        freed.expect("no holder of this lock panics").held -= 1;
    }
}

/// One request and its answer; the connection is closed after them.
fn carry(client: TcpStream, state: &State) -> std::io::Result<()> {
    let mut from_client = BufReader::new(client.try_clone()?);
    let (head, length) = head(&mut from_client)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (request, mishap) = {
        let mut traffic = state.traffic();
        let request = Request { number: traffic.passed.len(), method, path };
        traffic.passed.push(request.clone());
        let mishap = (traffic.rule)(&request);
        (request, mishap)
    };
    let mut body = vec![0; length];
    match mishap {
        Some(Mishap::CutOff(bytes)) => {
            from_client.read_exact(&mut body[..bytes.min(length)])?;
            return client.shutdown(Shutdown::Both);
        }
        _ => from_client.read_exact(&mut body)?,
    }
    let asked = [head.as_bytes(), &body].concat();
    let answer = match mishap {
        Some(Mishap::Refused(status)) => {
            format!("HTTP/1.1 {status} As Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
        }
        Some(Mishap::Held) => {
            state.hold();
            return client.shutdown(Shutdown::Both);
        }
        Some(Mishap::Stale) if request.is_listing() => {
            let known = state.traffic().listings.get(&request.path).cloned();
            known.map_or_else(|| ask(state.target, &asked), Ok)?
        }
        Some(Mishap::Twice) => {
            ask(state.target, &asked)?;
            ask(state.target, &asked)?
        }
        _ => ask(state.target, &asked)?,
    };
    if request.is_listing() {
        state.traffic().listings.entry(request.path.clone()).or_insert_with(|| answer.clone());
    }
    let mut client = client;
    match mishap {
        Some(Mishap::Late(by)) => {
            thread::sleep(by);
            client.write_all(&answer)?;
        }
        Some(Mishap::Lost(bytes)) => {
            let heard = body_of(&answer).map_or(0, |at| (at + bytes).min(answer.len()));
            client.write_all(&answer[..if bytes == 0 { 0 } else { heard }])?;
        }
        Some(Mishap::Flipped) => {
            let mut answer = answer;
            if let Some(at) = body_of(&answer).map(|at| at + (answer.len() - at) / 2).filter(|at| *at < answer.len()) {
                answer[at] ^= 1;
            }
            client.write_all(&answer)?;
        }
        _ => client.write_all(&answer)?,
    }
    client.shutdown(Shutdown::Both)
}

/// Where the body of an answer begins.
fn body_of(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The request as it goes on, with its connection closed after it, and how long its body is.
fn head(from: &mut impl BufRead) -> std::io::Result<(String, usize)> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
        if line == "\r\n" {
            head.push_str("Connection: close\r\n\r\n");
            return Ok((head, length));
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
}

/// The whole answer, head and body.
fn ask(target: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    server.write_all(request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}
