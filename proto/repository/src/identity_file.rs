//! A file of identities: plain, as `age-keygen` writes it, or itself encrypted with a passphrase, as
//! `age-keygen | age -p` makes it, armored or not.

use std::io::{Read, Write};

use age::{armor, secrecy::SecretString};
use thiserror::Error;
use urtext_types::{ByteCount, ErrorKind, Explain, Secret};
use zeroize::Zeroizing;

use crate::{Identity, InvalidKey, MAX_SECRET_BYTES, SealError};

/// The most work that is done for a passphrase, as a power of two: a GiB of memory, four times what `age -p`
/// asks for. Whoever gives somebody else's file to us could ask for any amount.
pub const MAX_PASSPHRASE_WORK: u8 = 20;

/// What we ask for, the same as `age -p`.
const OWN_PASSPHRASE_WORK: u8 = 18;

/// Why a file gives no identities.
#[derive(Debug, Error)]
pub enum IdentityFileError {
    #[error(transparent)]
    Key(#[from] InvalidKey),
    #[error("it has {size}, and an identity file has at most {limit}", limit = ByteCount::new(MAX_SECRET_BYTES as u64))]
    TooLarge { size: ByteCount },
    #[error("it is encrypted to another key, not with a passphrase")]
    NoPassphrase,
    #[error("the passphrase does not open it")]
    WrongPassphrase,
    #[error("its passphrase asks for more work than is done here: 2^{asked}, more than 2^{MAX_PASSPHRASE_WORK}")]
    TooMuchWork { asked: u8 },
    #[error("it is not a whole, unchanged age file")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Explain for IdentityFileError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Key(error) => error.kind(),
            Self::TooLarge { .. } | Self::NoPassphrase | Self::TooMuchWork { .. } => ErrorKind::Usage,
            Self::WrongPassphrase => ErrorKind::Denied,
            Self::Damaged(_) => ErrorKind::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Key(error) => error.hint(),
            Self::TooLarge { .. } => Some("name the file that `age-keygen` or `urtext init` wrote".to_owned()),
            Self::NoPassphrase => Some("open it first: age -d -i OTHER-KEY FILE > IDENTITY".to_owned()),
            Self::TooMuchWork { .. } => Some("open it with age itself: age -d FILE > IDENTITY".to_owned()),
            Self::WrongPassphrase | Self::Damaged(_) => None,
        }
    }
}

/// A file of identities, as far as it can be read without its passphrase.
#[derive(Debug)]
pub enum IdentityFile {
    Plain(Vec<Identity>),
    /// It needs its passphrase: [`SealedIdentities::open`].
    Sealed(SealedIdentities),
}

/// Identities under a passphrase.
#[derive(Debug)]
pub struct SealedIdentities(Vec<u8>);

impl IdentityFile {
    /// Takes a file apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentityFileError> {
        if bytes.len() > MAX_SECRET_BYTES {
            return Err(IdentityFileError::TooLarge { size: ByteCount::new(bytes.len() as u64) });
        }
        let is_armored = bytes.trim_ascii_start().starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----");
        if is_armored || bytes.starts_with(b"age-encryption.org/") {
            let sealed = SealedIdentities(bytes.to_vec());
            return if sealed.decryptor()?.is_scrypt() {
                Ok(Self::Sealed(sealed))
            } else {
                Err(IdentityFileError::NoPassphrase)
            };
        }
        // A file in another encoding holds no identity; what it holds is not repeated.
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidKey::NoIdentity)?;
        Ok(Self::Plain(Identity::parse_file(text)?))
    }
}

impl SealedIdentities {
    fn decryptor(&self) -> Result<age::Decryptor<impl Read + '_>, IdentityFileError> {
        age::Decryptor::new_buffered(armor::ArmoredReader::new(self.0.as_slice())).map_err(damaged)
    }

    /// The identities. Takes about a second and some hundred MiB, on purpose: run it on a blocking thread.
    pub fn open(&self, passphrase: &Secret<String>) -> Result<Vec<Identity>, IdentityFileError> {
        let mut key = age::scrypt::Identity::new(SecretString::from(passphrase.expose().clone()));
        key.set_max_work_factor(MAX_PASSPHRASE_WORK);
        let opened = self.decryptor()?.decrypt(std::iter::once(&key as &dyn age::Identity));
        let opened = opened.map_err(|error| match error {
            age::DecryptError::DecryptionFailed
            | age::DecryptError::KeyDecryptionFailed
            | age::DecryptError::NoMatchingKeys => IdentityFileError::WrongPassphrase,
            age::DecryptError::ExcessiveWork { required, .. } => IdentityFileError::TooMuchWork { asked: required },
            other => damaged(other),
        })?;
        // Reserved at once: a vector that grows leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
        opened.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut text).map_err(damaged)?;
        let text = std::str::from_utf8(&text).map_err(|_| InvalidKey::NoIdentity)?;
        Ok(Identity::parse_file(text)?)
    }
}

/// The text of an identity file, sealed with a passphrase and armored: what [`IdentityFile::parse`] and
/// `age -d` open.
pub fn seal_with_passphrase(text: &Secret<String>, passphrase: &Secret<String>) -> Result<String, SealError> {
    seal_with_work(text, passphrase, OWN_PASSPHRASE_WORK)
}

fn seal_with_work(text: &Secret<String>, passphrase: &Secret<String>, work: u8) -> Result<String, SealError> {
    let mut key = age::scrypt::Recipient::new(SecretString::from(passphrase.expose().clone()));
    key.set_work_factor(work);
    let armored = armor::ArmoredWriter::wrap_output(Vec::new(), armor::Format::AsciiArmor).map_err(SealError::new)?;
    let mut sealed = age::Encryptor::with_recipients(std::iter::once(&key as &dyn age::Recipient))
        .map_err(SealError::new)?
        .wrap_output(armored)
        .map_err(SealError::new)?;
    sealed.write_all(text.expose().as_bytes()).map_err(SealError::new)?;
    let armored = sealed.finish().and_then(|armored| armored.finish()).map_err(SealError::new)?;
    String::from_utf8(armored).map_err(SealError::new)
}

fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> IdentityFileError {
    IdentityFileError::Damaged(cause.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Recipients, seal_bytes};

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn file_of(identities: &[Identity]) -> Secret<String> {
        Secret::new(identities.iter().map(|one| format!("# a key\n{}\n", one.to_secret().expose())).collect())
    }

    #[test]
    fn identities_under_a_passphrase_open_with_it_alone() {
        let identities = [Identity::generate(), Identity::generate()];
        let sealed = seal_with_work(&file_of(&identities), &secret("correct horse"), 10).expect("sealed");
        assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"), "{sealed}");
        let Ok(IdentityFile::Sealed(file)) = IdentityFile::parse(sealed.as_bytes()) else { panic!("sealed") };
        let opened = file.open(&secret("correct horse")).expect("opens");
        let recipients = |all: &[Identity]| all.iter().map(Identity::recipient).collect::<Vec<_>>();
        assert_eq!(recipients(&opened), recipients(&identities));
        let wrong = file.open(&secret("battery staple")).expect_err("another passphrase");
        assert!(matches!(wrong, IdentityFileError::WrongPassphrase), "{wrong:?}");
    }

    #[test]
    fn a_passphrase_does_not_ask_for_any_amount_of_work() {
        let greedy = "age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 40\n\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n\
                      --- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAA";
        let Ok(IdentityFile::Sealed(file)) = IdentityFile::parse(greedy.as_bytes()) else { panic!("sealed") };
        let refused = file.open(&secret("any")).expect_err("refused");
        assert!(matches!(refused, IdentityFileError::TooMuchWork { asked: 40 }), "{refused:?}");
    }

    #[test]
    fn what_is_no_identity_file_is_an_error_that_repeats_nothing() {
        let check = |bytes: &[u8], expect: &str| {
            let error = IdentityFile::parse(bytes).expect_err("refused").to_string();
            assert!(error.contains(expect) && !error.contains("hunter2"), "{error}");
        };
        check(b"", "no identity");
        check(b"hunter2", "line 1 is not an identity");
        check(b"\xff\xfehunter2", "no identity");
        check(&vec![b'#'; MAX_SECRET_BYTES + 1], "at most");
        check(b"age-encryption.org/v1\nhunter2", "not a whole, unchanged age file");
        check(b"-----BEGIN AGE ENCRYPTED FILE-----\nhunter2", "not a whole, unchanged age file");
        let to_a_key = seal_bytes(&Recipients::from(Identity::generate().recipient()), b"hunter2").expect("sealed");
        check(&to_a_key, "not with a passphrase");
    }
}
