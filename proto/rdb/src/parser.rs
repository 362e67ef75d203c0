//! The push parser: bytes in, in any split; events out.

use crc_fast::{CrcAlgorithm, Digest};

use crate::{
    Checksum, Depth, Event, RdbError, RdbHeader,
    cursor::{Cursor, Fault, FaultKind, Stop},
    machine::Machine,
    walk::Limits,
};

/// Reads an RDB that is fed to it.
///
/// Memory: what one unit needs (a key, a packed structure) while it is split over several feeds, and
/// its decompressed form. A string of any size passes through.
#[derive(Debug)]
pub struct Parser {
    machine: Machine,
    /// The beginning of a unit that is not complete yet.
    carry: Vec<u8>,
    /// `carry` is worth a try when it has this many bytes.
    need: usize,
    /// How often in a row `carry` was tried and nothing was complete.
    tries: u32,
    /// Offset in the file of the window's first byte: of `carry`, or of what comes next.
    offset: u64,
    fed: u64,
    crc: Digest,
    ended: Option<Checksum>,
    failed: Option<RdbError>,
}

/// Input is taken in steps of this size, so that what the checksum has read is still in the cache.
const STEP: usize = 64 << 10;

/// Nearly every unit is complete after so many tries; see [`Parser::parse`].
const EASY_TRIES: u32 = 4;

impl Parser {
    pub fn new(depth: Depth, limits: Limits) -> Self {
        Self {
            machine: Machine::new(depth, limits),
            carry: Vec::new(),
            need: 0,
            tries: 0,
            offset: 0,
            fed: 0,
            crc: Digest::new(CrcAlgorithm::Crc64Redis),
            ended: None,
            failed: None,
        }
    }

    /// Takes the next bytes of the file and tells `sink` what they hold. After an error every call
    /// gives the same error.
    pub fn feed<F: FnMut(Event<'_>)>(&mut self, input: &[u8], sink: &mut F) -> Result<(), RdbError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        for step in input.chunks(STEP) {
            if let Err(error) = self.take_step(step, sink) {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends the input.
    pub fn finish(self) -> Result<Checksum, RdbError> {
        match (self.failed, self.ended) {
            (Some(error), _) => Err(error),
            (None, Some(checksum)) => Ok(checksum),
            (None, None) if self.machine.header().is_none() && !RdbHeader::may_begin_with(&self.carry) => {
                Err(RdbError::NotRdb { found: self.carry })
            }
            (None, None) => Err(RdbError::Truncated { bytes: self.fed }),
        }
    }

    /// Whether the end mark and its checksum have been read.
    pub fn is_complete(&self) -> bool {
        self.ended.is_some()
    }

    /// Bytes fed so far.
    pub fn bytes_fed(&self) -> u64 {
        self.fed
    }

    /// Bytes fed beyond the end of the RDB.
    pub fn trailing_bytes(&self) -> u64 {
        self.machine.trailing_bytes()
    }

    fn take_step<F: FnMut(Event<'_>)>(&mut self, step: &[u8], sink: &mut F) -> Result<(), RdbError> {
        let (start, before) = (self.fed, self.crc);
        self.fed += step.len() as u64;
        // First, since it reads straight ahead, which memory is made for; parsing jumps, and finds all in the cache.
        self.crc.update(step);
        self.parse(step, sink)?;
        if self.ended.is_some() {
            return Ok(());
        }
        if let Some(end) = self.machine.covered_by_checksum() {
            // The end mark is in this step, or in an earlier one and the checksum behind it in this one.
            let covered = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(step.len());
            self.crc = before;
            self.crc.update(&step[..covered]);
        }
        if let Some(stored) = self.machine.stored_checksum() {
            let checksum = self.judge(stored)?;
            self.ended = Some(checksum);
            sink(Event::End(checksum));
        }
        Ok(())
    }

    fn judge(&self, stored: Option<u64>) -> Result<Checksum, RdbError> {
        let computed = self.crc.finalize();
        match stored {
            // All zero: the server was told not to compute it (rdb.c: "checksum was disabled at saving").
            None | Some(0) => Ok(Checksum::NotComputed),
            Some(stored) if stored == computed => Ok(Checksum::Verified(stored)),
            Some(stored) => Err(RdbError::WrongChecksum { stored, computed }),
        }
    }

    fn parse<F: FnMut(Event<'_>)>(&mut self, step: &[u8], sink: &mut F) -> Result<(), RdbError> {
        let mut rest = step;
        while !self.carry.is_empty() {
            // What tells its size bit by bit is read from its start each time: not too often.
            let size = if self.tries < EASY_TRIES { self.need } else { self.need.max(2 * self.carry.len()) };
            let wanted = size.saturating_sub(self.carry.len()).min(rest.len());
            let (now, later) = rest.split_at(wanted);
            self.carry.extend_from_slice(now);
            rest = later;
            if self.carry.len() < self.need {
                return Ok(());
            }
            let window = std::mem::take(&mut self.carry);
            let done = self.run(&window, sink)?;
            self.carry = window;
            self.carry.drain(..done);
            self.tries = if done == 0 { self.tries + 1 } else { 0 };
        }
        if rest.is_empty() {
            return Ok(());
        }
        let done = self.run(rest, sink)?;
        self.tries = 0;
        self.carry.extend_from_slice(&rest[done..]);
        Ok(())
    }

    /// Reads as much of `window` as is complete; gives how much that was.
    fn run<F: FnMut(Event<'_>)>(&mut self, window: &[u8], sink: &mut F) -> Result<usize, RdbError> {
        let mut cursor = Cursor::new(window);
        match self.machine.run(&mut cursor, self.offset, sink) {
            Stop::More(need) => {
                let done = cursor.mark();
                self.offset += done as u64;
                self.need = need;
                Ok(done)
            }
            Stop::Fault(fault) => Err(self.explain(*fault)),
        }
    }

    fn explain(&self, fault: Fault) -> RdbError {
        let offset = self.offset.saturating_add_signed(fault.at);
        match (fault.kind, self.machine.header()) {
            (FaultKind::Damaged(what), _) => RdbError::Damaged { offset, what },
            (FaultKind::TooLarge { what, bytes, limit }, _) => RdbError::TooLarge { what, offset, bytes, limit },
            (FaultKind::Header(error), _) => error,
            (FaultKind::UnknownType(byte), Some(header)) => RdbError::UnknownType { byte, offset, header },
            (FaultKind::UnknownOpcode(byte), Some(header)) => RdbError::UnknownOpcode { byte, offset, header },
            (FaultKind::Unreadable(what, byte), Some(header)) => RdbError::Unreadable { what, byte, offset, header },
            (FaultKind::UnknownType(_) | FaultKind::UnknownOpcode(_) | FaultKind::Unreadable(..), None) => {
                unreachable!("types and opcodes are read behind the header only")
            }
        }
    }
}
