//! One short value that stands for all the data of a copy.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Text that is not the digest of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a content digest: it must be a number, a colon and 64 lower-case hexadecimal digits")]
pub struct InvalidDataDigest {
    text: String,
}

/// The digest of a data set's content: equal for equal data, in whatever order, layout and engine it is
/// stored. `urtext-rdb` makes it. Prints as `1:` and 64 hex digits.
///
/// The number before the colon is the construction's version. Digests of different constructions say nothing
/// about each other: compare with [`DataDigest::agrees_with`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataDigest {
    version: u32,
    bytes: [u8; 32],
}

impl DataDigest {
    /// The construction that this version of Urtext makes. A new number goes with every change that gives the
    /// same data another digest.
    pub const CURRENT_VERSION: u32 = 1;

    /// A digest of the current construction.
    pub fn current(bytes: [u8; 32]) -> Self {
        Self { version: Self::CURRENT_VERSION, bytes }
    }

    /// Whether the two stand for the same data; `None` if that cannot be told.
    pub fn agrees_with(&self, other: &Self) -> Option<bool> {
        (self.version == other.version).then_some(self.bytes == other.bytes)
    }
}

impl fmt::Display for DataDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.version)?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DataDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DataDigest {
    type Err = InvalidDataDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDataDigest> {
        let invalid = || InvalidDataDigest { text: text.chars().take(80).collect() };
        let (number, digits) = text.split_once(':').ok_or_else(invalid)?;
        // One spelling only, so that equal digests are equal text.
        let version: u32 = number.parse().ok().filter(|n: &u32| n.to_string() == number).ok_or_else(invalid)?;
        let digits = digits.as_bytes();
        if digits.len() != 64 {
            return Err(invalid());
        }
        let digit = |c: u8| (c as char).to_digit(16).filter(|_| !c.is_ascii_uppercase()).ok_or_else(invalid);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self { version, bytes })
    }
}

impl TryFrom<String> for DataDigest {
    type Error = InvalidDataDigest;
    fn try_from(text: String) -> Result<Self, InvalidDataDigest> {
        text.parse()
    }
}

impl From<DataDigest> for String {
    fn from(digest: DataDigest) -> String {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let text = format!("1:{}", "0f".repeat(32));
        let digest: DataDigest = text.parse().expect("a digest");
        assert_eq!(digest, DataDigest::current([0x0f; 32]));
        assert_eq!(digest.to_string(), text);
        for wrong in ["", "1:", &text[2..], &text.to_uppercase(), &text[..65], &format!("+{text}"), &format!("0{text}")]
        {
            assert!(wrong.parse::<DataDigest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn digests_of_different_constructions_say_nothing_about_each_other() {
        let ours = DataDigest::current([1; 32]);
        assert_eq!(ours.agrees_with(&DataDigest::current([1; 32])), Some(true));
        assert_eq!(ours.agrees_with(&DataDigest::current([2; 32])), Some(false));
        assert_eq!(ours.agrees_with(&DataDigest { version: 99, ..ours }), None);
    }
}
