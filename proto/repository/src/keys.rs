//! Who can read: recipients (public) and identities (private).
//!
//! Both are spelled as the `age` tools spell them, so that `age-keygen` makes keys for us and `age -d`
//! opens what we write.

use std::{collections::BTreeSet, fmt, str::FromStr};

use age::secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Secret};

/// Text that is not a key. A private key is never repeated in the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidKey {
    #[error("{text:?} is not a recipient: {reason}")]
    Recipient { text: String, reason: &'static str },
    #[error("this is a private key where a recipient is expected")]
    IdentityAsRecipient,
    #[error("line {line} is not an identity: {reason}")]
    Identity { line: usize, reason: &'static str },
    #[error("there is no identity in this text")]
    NoIdentity,
    #[error("no recipients are given")]
    NoRecipients,
    #[error("{given} recipients are given, more than {MAX_RECIPIENTS}")]
    TooManyRecipients { given: usize },
}

impl Explain for InvalidKey {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Recipient { .. } => {
                Some("a recipient starts with age1; `age-keygen -y KEYFILE` prints it".to_owned())
            }
            Self::IdentityAsRecipient => {
                Some("keep it secret: anyone who saw it can read the backups made for it".to_owned())
            }
            Self::Identity { .. } | Self::NoIdentity => {
                Some("an identity file has one line that starts with AGE-SECRET-KEY-1".to_owned())
            }
            Self::NoRecipients => Some("name at least one recipient, or nobody can read the backup".to_owned()),
            Self::TooManyRecipients { .. } => None,
        }
    }
}

/// The public half of a key: what seals. Prints as `age1…`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recipient(age::x25519::Recipient);

impl Recipient {
    pub(crate) fn as_age(&self) -> &dyn age::Recipient {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(InvalidKey::IdentityAsRecipient);
        }
        text.parse().map(Self).map_err(|reason| InvalidKey::Recipient { text: text.chars().take(80).collect(), reason })
    }
}

impl TryFrom<String> for Recipient {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        text.parse()
    }
}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> String {
        recipient.to_string()
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The most recipients of one object: each adds some 100 bytes to every part's header.
pub const MAX_RECIPIENTS: usize = 32;

/// Everybody who can read what is sealed: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Recipient>", into = "Vec<Recipient>")]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    pub fn iter(&self) -> impl Iterator<Item = &Recipient> {
        self.0.iter()
    }

    /// Whether that is one of them.
    pub fn contains(&self, recipient: &Recipient) -> bool {
        self.0.contains(recipient)
    }

    /// Whether one of the identities opens what is sealed to these recipients.
    pub fn can_be_opened_by(&self, identities: &[Identity]) -> bool {
        identities.iter().any(|identity| self.0.contains(&identity.recipient()))
    }
}

impl TryFrom<Vec<Recipient>> for Recipients {
    type Error = InvalidKey;
    fn try_from(mut recipients: Vec<Recipient>) -> Result<Self, InvalidKey> {
        let mut seen = BTreeSet::new();
        recipients.retain(|recipient| seen.insert(recipient.to_string()));
        match recipients.len() {
            0 => Err(InvalidKey::NoRecipients),
            1..=MAX_RECIPIENTS => Ok(Self(recipients)),
            given => Err(InvalidKey::TooManyRecipients { given }),
        }
    }
}

impl From<Recipients> for Vec<Recipient> {
    fn from(recipients: Recipients) -> Self {
        recipients.0
    }
}

impl From<Recipient> for Recipients {
    fn from(recipient: Recipient) -> Self {
        Self(vec![recipient])
    }
}

impl fmt::Display for Recipients {
    /// `age1…, age1…`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, recipient) in self.0.iter().enumerate() {
            write!(f, "{}{recipient}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// The private half of a key: what opens. Never printed; [`Identity::to_secret`] is the one way out.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    /// `AGE-SECRET-KEY-1…`, for the one file that keeps it.
    pub fn to_secret(&self) -> Secret<String> {
        Secret::new(self.0.to_string().expose_secret().to_owned())
    }

    /// All identities of an identity file: one on each line, `#` starts a comment.
    ///
    /// # Errors
    /// A line that is no identity is named by its number; a text without any identity is refused.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, InvalidKey> {
        let identities: Vec<Self> = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, key)| key.parse().map(Self).map_err(|reason| InvalidKey::Identity { line, reason }))
            .collect::<Result<_, _>>()?;
        if identities.is_empty() { Err(InvalidKey::NoIdentity) } else { Ok(identities) }
    }

    pub(crate) fn as_age(&self) -> &dyn age::Identity {
        &self.0
    }
}

impl FromStr for Identity {
    type Err = InvalidKey;
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        text.trim().parse().map(Self).map_err(|reason| InvalidKey::Identity { line: 1, reason })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity([redacted], opens {})", self.recipient())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_written() {
        let identity = Identity::generate();
        let recipient = identity.recipient();
        assert!(recipient.to_string().starts_with("age1"));
        assert_eq!(recipient.to_string().parse(), Ok(recipient.clone()));
        let file = format!("# created: today\n# public key: {recipient}\n{}\n", identity.to_secret().expose());
        let read = Identity::parse_file(&file).expect("as age-keygen writes it");
        assert_eq!(read.iter().map(Identity::recipient).collect::<Vec<_>>(), [recipient]);
    }

    #[test]
    fn a_private_key_is_never_printed() {
        let identity = Identity::generate();
        let secret = identity.to_secret();
        assert!(!format!("{identity:?}").contains("SECRET"));
        let mistaken = secret.expose().parse::<Recipient>().expect_err("not a recipient");
        assert_eq!(mistaken, InvalidKey::IdentityAsRecipient);
        let broken = Identity::parse_file(&format!("\n{}x", secret.expose())).expect_err("one letter too many");
        assert!(!broken.to_string().contains("SECRET"), "{broken}");
        assert!(broken.to_string().contains("line 2"), "{broken}");
    }

    #[test]
    fn recipients_are_some_and_none_is_listed_twice() {
        assert_eq!(Recipients::try_from(vec![]), Err(InvalidKey::NoRecipients));
        let (one, other) = (Identity::generate(), Identity::generate());
        let twice = Recipients::try_from(vec![one.recipient(), one.recipient()]).expect("one");
        assert_eq!(twice.iter().count(), 1);
        assert!(twice.can_be_opened_by(&[other.clone(), one]));
        assert!(!twice.can_be_opened_by(&[other]));
        let many = (0..=MAX_RECIPIENTS).map(|_| Identity::generate().recipient()).collect::<Vec<_>>();
        assert!(matches!(Recipients::try_from(many), Err(InvalidKey::TooManyRecipients { given: 33 })));
        assert!("age1nonsense".parse::<Recipient>().is_err());
    }
}
