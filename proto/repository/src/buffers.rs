//! Buffers of a part's size that are used again and again.
//!
//! Allocated anew for each part on whichever thread seals it, they would stay behind in the allocator's
//! arenas: measured with glibc, five times the memory that is in use.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that are not in use now, at most `keep` of them.
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    keep: usize,
    idle: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// No buffers yet; later ones beyond `keep` are freed and not kept.
    pub(crate) fn new(keep: usize) -> Self {
        Self { keep, idle: Arc::default() }
    }

    /// An empty buffer with room for at least `capacity` bytes.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.reserve_exact(capacity);
        buffer
    }

    /// Makes a buffer into bytes, which give it back when nobody holds them any more.
    pub(crate) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut idle = self.home.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.home.keep {
            idle.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_holder_is_gone() {
        let buffers = Buffers::new(1);
        let mut buffer = buffers.take(100);
        buffer.extend_from_slice(b"first");
        let place = buffer.as_ptr();
        let bytes = buffers.lend(buffer);
        let view = bytes.slice(1..);
        drop(bytes);
        let other = buffers.take(100);
        assert_ne!(other.as_ptr(), place, "still held");
        assert_eq!(view, b"irst"[..]);
        drop(view);
        let again = buffers.take(100);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }
}
