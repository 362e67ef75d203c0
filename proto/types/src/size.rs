//! Sizes, for people.

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

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

/// Bytes in a second: a limit for a link. Written like `20 MiB/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteRate(NonZeroU64);

/// Text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a rate: write like \"20 MiB/s\" or \"500 kB/s\"")]
pub struct InvalidByteRate(String);

impl ByteRate {
    /// `None` for zero: nothing would ever arrive.
    pub const fn new(bytes_per_second: u64) -> Option<Self> {
        match NonZeroU64::new(bytes_per_second) {
            Some(rate) => Some(Self(rate)),
            None => None,
        }
    }

    /// Bytes in a second.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// How long that many bytes take.
    pub fn time_of(self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.get() as f64)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", ByteCount::new(self.get())))
    }
}

/// So that it reads back as the same: shorter only where that is exact.
impl From<ByteRate> for String {
    fn from(rate: ByteRate) -> Self {
        let short = rate.to_string();
        if short.parse() == Ok(rate) { short } else { format!("{} B/s", rate.get()) }
    }
}

impl TryFrom<String> for ByteRate {
    type Error = InvalidByteRate;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for ByteRate {
    type Err = InvalidByteRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidByteRate(text.to_owned());
        let amount = text.trim().strip_suffix("/s").ok_or_else(invalid)?;
        let unit_at = amount.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, unit) = amount.split_at(unit_at);
        let factor: f64 = match unit.trim() {
            "B" => 1.0,
            "kB" | "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(invalid()),
        };
        let bytes = number.parse::<f64>().map_err(|_| invalid())? * factor;
        // The cast saturates: more than any link has is no limit either way.
        Self::new(bytes as u64).ok_or_else(invalid)
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

    #[test]
    fn rates_are_read_as_people_write_them() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(text.parse::<ByteRate>().ok().map(ByteRate::get), expect, "{text}");
        };
        check("20 MiB/s", Some(20 * 1024 * 1024));
        check("20MiB/s", Some(20 * 1024 * 1024));
        check("1.5 GB/s", Some(1_500_000_000));
        check("500 kB/s", Some(500_000));
        check("7 B/s", Some(7));
        for wrong in ["", "20", "20 MiB", "0 MiB/s", "-1 MiB/s", "MiB/s", "1.2.3 MB/s", "20 Mbit/s", "20 miles/s"] {
            check(wrong, None);
        }
        let rate: ByteRate = "20 MiB/s".parse().expect("a rate");
        for exact in [1, 1_500_001, 20 * 1024 * 1024, u64::MAX >> 12] {
            let rate = ByteRate::new(exact).expect("not zero");
            assert_eq!(String::from(rate).parse(), Ok(rate));
        }
        assert_eq!(
            (rate.to_string().as_str(), rate.time_of(10 * 1024 * 1024)),
            ("20.0 MiB/s", Duration::from_millis(500))
        );
    }
}
