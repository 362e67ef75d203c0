//! An agent's half of enrolment.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use urtext_types::Secret;

use crate::IdentityError;

/// A fresh private key, and the request to certify it. The key never leaves the host that made it.
///
/// The request names nobody: who the holder of the key is, the coordinator knows from the invitation, or
/// from the certificate that is being renewed.
#[derive(Debug)]
pub struct CertificateRequest {
    /// ECDSA P-256, PKCS#8.
    pub key_pem: Secret<String>,
    /// PKCS#10.
    pub csr_pem: String,
}

impl CertificateRequest {
    /// A new key from the system's random generator, and its request.
    pub fn generate() -> Result<Self, IdentityError> {
        let failed = |error: rcgen::Error| IdentityError::Issue { problem: error.to_string() };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr_pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
        Ok(Self { key_pem: Secret::new(key.serialize_pem()), csr_pem })
    }
}
