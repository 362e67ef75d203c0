//! What one party needs to prove who it is, and to check who the others are.

use std::path::Path;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use urtext_types::Secret;

use crate::{IdentityError, PeerCertificate, files, renew_at, tls};

/// An authority to trust, and a certificate with its private key.
///
/// On disk: `ca.pem`, and `identity.pem` with the private key and the certificate in one file, so that a
/// renewal replaces both or neither.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The authority's certificate: whoever it vouches for is believed.
    pub ca_pem: String,
    /// Our certificate, and after it what leads from there to the authority, if anything does.
    pub certificate_pem: String,
    /// The private key to it, PKCS#8.
    pub key_pem: Secret<String>,
}

const CA_FILE: &str = "ca.pem";
const IDENTITY_FILE: &str = "identity.pem";

impl Credentials {
    /// Reads what [`Credentials::save`] wrote, and checks that the parts belong together.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let ca_pem = files::read_text(&dir.join(CA_FILE))?;
        let identity = Secret::new(files::read_text(&dir.join(IDENTITY_FILE))?);
        let key = private_key(identity.expose(), "the private key")?;
        let credentials = Self {
            ca_pem,
            certificate_pem: to_pem(&certificates(identity.expose(), "the certificate")?),
            key_pem: key_to_pem(&key),
        };
        credentials.check()?;
        Ok(credentials)
    }

    /// Writes both files durably, in place of older ones, after checking that the parts belong together.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        self.check()?;
        files::replace_public(&dir.join(CA_FILE), &self.ca_pem)?;
        let identity = Secret::new(format!("{}{}", self.key_pem.expose(), self.certificate_pem));
        files::replace_private(&dir.join(IDENTITY_FILE), identity.expose())
    }

    /// Whether `dir` already holds an identity.
    pub fn exist(dir: &Path) -> bool {
        dir.join(IDENTITY_FILE).exists()
    }

    /// A finding if others than the owner can read the private key in `dir`.
    pub fn check_private(dir: &Path) -> Result<Option<files::ExposedKey>, IdentityError> {
        files::check_private(&dir.join(IDENTITY_FILE))
    }

    /// What our own certificate says.
    pub fn certificate(&self) -> Result<PeerCertificate, IdentityError> {
        let chain = certificates(&self.certificate_pem, "the certificate")?;
        Ok(PeerCertificate::from_der(&chain[0])?)
    }

    /// When our certificate should be renewed.
    pub fn renew_at(&self) -> Result<urtext_types::Timestamp, IdentityError> {
        let certificate = self.certificate()?;
        Ok(renew_at(certificate.not_before, certificate.not_after))
    }

    /// A key that does not fit its certificate would otherwise show only at the next connection.
    fn check(&self) -> Result<(), IdentityError> {
        tls::client_config(self)?;
        self.certificate().map(drop)
    }
}

/// All certificates in `pem`, at least one.
pub(crate) fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::Pem { what, problem: error.to_string() })?;
    if chain.is_empty() {
        return Err(IdentityError::Pem { what, problem: "it holds no certificate".to_owned() });
    }
    Ok(chain)
}

/// The private key in `pem`.
pub(crate) fn private_key(pem: &str, what: &'static str) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
        // What the parser says of other errors may quote the text, and the text is a secret.
        let problem = match error {
            pem::Error::NoItemsFound => "it holds no private key",
            _ => "it cannot be decoded",
        };
        IdentityError::Pem { what, problem: problem.to_owned() }
    })
}

/// `certificates` as PEM, one after the other.
pub(crate) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| block("CERTIFICATE", certificate)).collect()
}

fn key_to_pem(key: &PrivateKeyDer<'_>) -> Secret<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    Secret::new(block(label, key.secret_der()))
}

/// RFC 7468: base64 in lines of 64 characters between two labels.
fn block(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        text.push_str(&STANDARD.encode(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use urtext_types::{ErrorKind, Explain, Timestamp};

    use super::*;
    use crate::{AUTHORITY_LIFETIME, CertificateAuthority};

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn operator() -> Credentials {
        let authority = CertificateAuthority::generate(NOW, AUTHORITY_LIFETIME).expect("an authority");
        let ada = "ada".parse().expect("a name");
        authority.issue_operator(&ada, NOW, Duration::from_secs(30 * 3600)).expect("a certificate")
    }

    #[test]
    fn credentials_read_back_as_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let written = operator();
        assert!(!Credentials::exist(dir.path()));
        written.save(dir.path()).expect("to write");
        assert!(Credentials::exist(dir.path()));
        assert_eq!(Credentials::check_private(dir.path()).expect("metadata"), None);

        let read = Credentials::load(dir.path()).expect("to read");
        assert_eq!(
            (&read.ca_pem, &read.certificate_pem, read.key_pem.expose()),
            (&written.ca_pem, &written.certificate_pem, written.key_pem.expose())
        );
        let certificate = read.certificate().expect("a certificate");
        assert_eq!(certificate.peer.to_string(), "spiffe://urtext/operator/ada");
        // An hour before, thirty after: two thirds of thirty-one hours.
        assert_eq!(
            read.renew_at().expect("a time"),
            NOW.minus(Duration::from_secs(3600)).plus(Duration::from_secs(74_400))
        );
    }

    #[test]
    fn a_key_of_other_credentials_is_refused_before_it_replaces_anything() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = operator();
        good.save(dir.path()).expect("to write");
        let mixed = Credentials { key_pem: operator().key_pem, ..operator() };
        assert!(matches!(mixed.save(dir.path()), Err(IdentityError::KeyMismatch { .. })));
        assert_eq!(Credentials::load(dir.path()).expect("to read").certificate_pem, good.certificate_pem);
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = dir.path().join("ca.pem");
        let error = Credentials::load(dir.path()).expect_err("nothing there");
        assert_eq!((error.to_string(), error.kind()), (format!("read {}", ca.display()), ErrorKind::NotFound));

        operator().save(dir.path()).expect("to write");
        let identity = dir.path().join("identity.pem");
        let whole = fs::read_to_string(&identity).expect("to read");
        let check = |content: &str, expect: &str| {
            fs::write(&identity, content).expect("to write");
            let error = Credentials::load(dir.path()).expect_err(expect);
            assert_eq!(error.to_string(), expect);
            assert_eq!(error.kind(), ErrorKind::Integrity);
        };
        check("", "the private key is not valid PEM of that kind: it holds no private key");
        let without_certificate = &whole[..whole.find("-----BEGIN CERTIFICATE").expect("a certificate")];
        check(without_certificate, "the certificate is not valid PEM of that kind: it holds no certificate");
        let damaged = whole.replacen("M", "*", 1);
        check(&damaged, "the private key is not valid PEM of that kind: it cannot be decoded");
    }

    #[test]
    fn no_private_key_is_printed() {
        let credentials = operator();
        let line = credentials.key_pem.expose().lines().nth(1).expect("base64").to_owned();
        let printed = format!("{credentials:?}");
        assert!(printed.contains("[redacted]") && !printed.contains(&line), "{printed}");
    }
}
