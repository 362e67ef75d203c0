//! Whether saving now could hurt the server.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};
use urtext_types::ByteCount;

use super::CaptureError;
use crate::server::{Connection, Info};

/// A save forks the server, and the two share memory until one of them writes. In the worst case everything
/// is written meanwhile and memory doubles; a quarter is what busy servers are seen to need, and with less
/// the kernel may end the server itself.
const FORK_SHARE: u64 = 4;

/// How long another child of the server may take before we give up: saves of large servers last minutes.
const CHILD_LIMIT: Duration = Duration::from_secs(15 * 60);

const POLL: Duration = Duration::from_millis(200);

/// Whether a host with `available` bytes of memory can bear a fork of a server that uses `used`.
fn fork_fits(used: u64, available: u64) -> bool {
    available >= used / FORK_SHARE
}

/// Refuses to make a server on this host fork where there is too little memory for it.
pub(super) fn check_memory(info: &Info, is_local: bool) -> Result<(), CaptureError> {
    let available = if is_local { available_memory() } else { None };
    let used = info.number("used_memory").unwrap_or(0);
    match available {
        Some(available) if !fork_fits(used, available) => {
            Err(CaptureError::NoMemory { used: ByteCount::new(used), available: ByteCount::new(available) })
        }
        Some(_) | None => Ok(()),
    }
}

/// `MemAvailable`: what can be had without swapping.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Waits until the server has no child: it has only one at a time, and a second save is refused.
pub(super) async fn wait_until_childless(connection: &mut Connection) -> Result<Info, CaptureError> {
    let deadline = Instant::now() + CHILD_LIMIT;
    loop {
        let info = connection.info().await?;
        if !info.has_child() {
            return Ok(info);
        }
        if Instant::now() >= deadline {
            return Err(CaptureError::Busy { limit: CHILD_LIMIT });
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_needs_a_quarter_of_the_servers_memory() {
        assert!(fork_fits(4096, 1024));
        assert!(!fork_fits(4096, 1023));
        assert!(fork_fits(0, 0));
    }

    #[test]
    fn this_host_says_how_much_memory_is_left() {
        assert!(available_memory().is_some_and(|bytes| bytes > 1024 * 1024));
    }
}
