//! The master's side: what to answer to one replica, without I/O.

use std::time::Duration;

use bytes::Bytes;
use urtext_types::{Offset, Position};

use crate::{
    Quoted, ReplicationError,
    command::{Incoming, parse_number},
};

/// What is offered to one target.
#[derive(Debug, Clone)]
pub struct Offering {
    /// Where the RDB was taken, in its original history, so that the target's new history has it for a
    /// parent. For an RDB without identity: a fresh random history, which is then a new root.
    pub position: Position,
    /// The exact length of the RDB in bytes.
    pub rdb_length: u64,
    /// What the target will announce: its `replica-announce-port` if set, else its `tls-port` with
    /// `tls-replication`, else its `port`. Anyone else is refused. `None` accepts anyone.
    pub expected_listening_port: Option<u16>,
    /// Whether this target got all of the RDB over an earlier connection ([`ServeEvent::Loading`] was
    /// seen): if it then comes back and asks to continue where the RDB ends, it may.
    pub delivered: bool,
    /// The longest time from connection to `PSYNC`.
    pub handshake_timeout: Duration,
    /// The longest silence of a target that loads (it sends a newline each second) or follows (it
    /// acknowledges each second), and the longest time it may take no bytes.
    pub idle_timeout: Duration,
}

/// What the target has done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeEvent {
    /// The target is the expected one, and is given the RDB or continues.
    HandshakeDone { listening_port: Option<u16> },
    /// The last byte of the RDB is on its way; the target loads it. Not seen when it continues.
    Loading,
    /// The target has loaded everything up to this offset. Said once for each offset.
    Acked(Offset),
}

/// One replica that talks to us.
#[derive(Debug)]
pub struct Peer<'a> {
    offering: &'a Offering,
    announced: Option<Bytes>,
    knows_psync2: bool,
    attached: bool,
    acknowledged: Option<Offset>,
}

/// What to do about something that the replica sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// Send this.
    Reply(Vec<u8>),
    /// Send this, then the RDB.
    SendAll(Vec<u8>),
    /// Send this; the replica has the RDB already.
    Continue(Vec<u8>),
    /// A new offset was acknowledged.
    Acked(Offset),
}

impl<'a> Peer<'a> {
    pub fn new(offering: &'a Offering) -> Self {
        Self { offering, announced: None, knows_psync2: false, attached: false, acknowledged: None }
    }

    /// The port that the replica announced, if it is one.
    pub fn listening_port(&self) -> Option<u16> {
        self.announced.as_deref().and_then(parse_number).and_then(|port| u16::try_from(port).ok())
    }

    /// The last offset that the replica acknowledged.
    pub fn acknowledged(&self) -> Option<Offset> {
        self.acknowledged
    }

    /// The line that announces the RDB, to be sent right before its first byte.
    pub fn payload_header(&self) -> Vec<u8> {
        format!("${}\r\n", self.offering.rdb_length).into_bytes()
    }

    pub fn on_incoming(&mut self, incoming: &Incoming) -> Result<Action, ReplicationError> {
        let words = match incoming {
            Incoming::Newline => return Ok(Action::Nothing),
            Incoming::Command(words) => words,
        };
        let (name, arguments) = match words.split_first() {
            Some((name, arguments)) => (name.to_ascii_uppercase(), arguments),
            None => return Ok(Action::Nothing),
        };
        match (name.as_slice(), self.attached) {
            (b"REPLCONF", attached) => self.on_replconf(arguments, attached),
            (b"PSYNC", false) => self.on_psync(arguments),
            (b"PING", false) => Ok(Action::Reply(b"+PONG\r\n".to_vec())),
            // `masterauth` of the target: whoever it takes us for, we need no proof.
            (b"AUTH", false) => Ok(Action::Reply(b"+OK\r\n".to_vec())),
            (_, false) => Ok(Action::Reply(b"-ERR only a replica is served here\r\n".to_vec())),
            (name, true) => Err(ReplicationError::BadCommand { what: format!("{} from a replica", Quoted::new(name)) }),
        }
    }

    /// Pairs of an option and its value. Once attached, nothing is answered: it would be taken for data.
    fn on_replconf(&mut self, arguments: &[Bytes], attached: bool) -> Result<Action, ReplicationError> {
        let mut action = if attached { Action::Nothing } else { Action::Reply(b"+OK\r\n".to_vec()) };
        for pair in arguments.chunks(2) {
            let [option, value] = pair else {
                return Ok(if attached { action } else { Action::Reply(b"-ERR syntax error\r\n".to_vec()) });
            };
            match option.to_ascii_lowercase().as_slice() {
                b"listening-port" if !attached => {
                    self.announced = Some(value.clone());
                    self.check_stranger()?;
                }
                b"capa" if value.eq_ignore_ascii_case(b"psync2") => self.knows_psync2 = true,
                b"ack" if attached => action = self.on_ack(value)?,
                // An acknowledgement before PSYNC: servers ignore it and do not answer.
                b"ack" => action = Action::Nothing,
                _ => {}
            }
        }
        Ok(action)
    }

    fn on_ack(&mut self, value: &[u8]) -> Result<Action, ReplicationError> {
        let offset = parse_number(value)
            .and_then(Offset::new)
            .ok_or_else(|| ReplicationError::BadCommand { what: format!("REPLCONF ACK {}", Quoted::new(value)) })?;
        if self.acknowledged == Some(offset) {
            return Ok(Action::Nothing);
        }
        self.acknowledged = Some(offset);
        Ok(Action::Acked(offset))
    }

    fn on_psync(&mut self, arguments: &[Bytes]) -> Result<Action, ReplicationError> {
        self.check_stranger()?;
        let [history, next] = arguments else {
            return Ok(Action::Reply(b"-ERR wrong number of arguments for 'psync' command\r\n".to_vec()));
        };
        self.attached = true;
        let position = self.offering.position;
        let wanted = (position.history.to_string(), position.offset.get() + 1);
        // Only after a delivery: a target that had this position all along is to get the copy's bytes.
        let is_back = self.offering.delivered
            && history.eq_ignore_ascii_case(wanted.0.as_bytes())
            && parse_number(next) == Some(wanted.1);
        Ok(match (is_back, self.knows_psync2) {
            (false, _) => Action::SendAll(format!("+FULLRESYNC {} {}\r\n", wanted.0, position.offset).into_bytes()),
            (true, true) => Action::Continue(format!("+CONTINUE {}\r\n", wanted.0).into_bytes()),
            (true, false) => Action::Continue(b"+CONTINUE\r\n".to_vec()),
        })
    }

    fn check_stranger(&self) -> Result<(), ReplicationError> {
        match self.offering.expected_listening_port {
            Some(expected) if self.listening_port() != Some(expected) => {
                Err(ReplicationError::Stranger { expected, announced: self.announced.as_deref().map(Quoted::new) })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
