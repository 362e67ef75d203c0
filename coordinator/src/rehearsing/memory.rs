//! Whether a data set fits into this machine beside everything else.

use std::fs;

use urtext_types::{ByteCount, ErrorKind};

use crate::Fault;

/// Refuses a data set that would push others out of memory: the server needs what the captured one used, and a
/// quarter more while it loads.
///
/// # Errors
/// It does not fit. Where the system does not say what is free, it is tried.
pub fn check_fits(used_by_origin: u64, available: Option<u64>) -> Result<(), Fault> {
    let needed = used_by_origin.saturating_add(used_by_origin / 4);
    match available {
        Some(available) if needed > available => {
            let (needed, available) = (ByteCount::new(needed), ByteCount::new(available));
            let message = format!("the rehearsing server would need some {needed}, and {available} are available here");
            Err(Fault::new(ErrorKind::Refused, message).with_hint("rehearse on a larger machine; nothing was started"))
        }
        _ => Ok(()),
    }
}

/// What can be used without swapping: `MemAvailable` of /proc/meminfo, see proc_meminfo(5).
pub fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_must_fit_with_a_quarter_to_spare() {
        assert!(check_fits(80, Some(100)).is_ok());
        let refused = check_fits(81 << 30, Some(100 << 30)).expect_err("refused");
        assert!(refused.to_string().contains("101"), "{refused}");
        assert!(check_fits(u64::MAX, None).is_ok());
        assert!(available().is_some_and(|bytes| bytes > 0));
    }
}
