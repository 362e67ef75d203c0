//! Sizes, for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes. Prints as `14.2 MiB`; the exact number is [`ByteCount::get`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteCount(u64);

impl ByteCount {
    pub const ZERO: Self = Self(0);

    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in UNITS {
            // 1023.95 KiB would print as 1024.0 KiB: move on to the next unit before that.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        f.pad(&format!("{value:.1} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let check = |bytes, expect: &str| assert_eq!(ByteCount::new(bytes).to_string(), expect);
        check(0, "0 B");
        check(766, "766 B");
        check(1024, "1.0 KiB");
        check(1024 * 1024 - 1, "1.0 MiB");
        check(16 * 1024 * 1024, "16.0 MiB");
        check(u64::MAX, "16.0 EiB");
    }
}
