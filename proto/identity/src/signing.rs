//! The signature under what an agent wrote.

use std::time::Duration;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Secret};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    IdentityError, InvalidPeer, PeerCertificate,
    credentials::{certificates, private_key},
    tls,
};

/// Signs with the key of an agent's certificate: ECDSA P-256 over SHA-256, ASN.1 encoded, which is what
/// `openssl dgst -sha256 -verify` checks.
///
/// The same key proves the agent's identity in TLS 1.3. The two cannot be confused as long as nothing is
/// signed here that begins with 64 spaces, as what TLS signs does (RFC 8446, 4.4.3).
pub struct AgentSigner {
    key: EcdsaKeyPair,
    random: SystemRandom,
    certificate_pem: String,
}

impl AgentSigner {
    /// A signer, if key and certificate belong together.
    pub fn new(key_pem: &Secret<String>, certificate_pem: &str) -> Result<Self, IdentityError> {
        let unusable = |problem: &str| IdentityError::Pem { what: "the private key", problem: problem.to_owned() };
        let PrivateKeyDer::Pkcs8(der) = private_key(key_pem.expose(), "the private key")? else {
            return Err(unusable("it is not PKCS#8"));
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der())
            .map_err(|_| unusable("it is not ECDSA on the curve P-256"))?;
        let chain = certificates(certificate_pem, "the certificate")?;
        let (_, certificate) = X509Certificate::from_der(&chain[0]).map_err(|_| InvalidPeer::NotACertificate)?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key().as_ref() {
            return Err(IdentityError::KeyMismatch { certificate: "the certificate" });
        }
        Ok(Self { key, random: SystemRandom::new(), certificate_pem: certificate_pem.to_owned() })
    }

    /// The signature of `bytes`; a different one each time, all of them valid.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&self.random, bytes).expect("a valid key signs anything");
        signature.as_ref().to_vec()
    }

    /// The certificate chain to store beside the signature.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
}

impl std::fmt::Debug for AgentSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentSigner").finish_non_exhaustive()
    }
}

/// Why a signature proves nothing.
#[derive(Debug, Error)]
pub enum SignatureError {
    #[error("the signature does not fit: what was signed has been changed since, or another key signed it")]
    Wrong,
    #[error("the signer's certificate is not of this authority")]
    OtherAuthority {
        #[source]
        source: rustls::Error,
    },
    #[error("the signer's certificate is not meant for signatures")]
    OtherUse,
    #[error("the signer's certificate is unusable")]
    Certificate(#[source] IdentityError),
    #[error("the signer's certificate names no peer")]
    Peer(#[from] InvalidPeer),
}

impl Explain for SignatureError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Integrity
    }
}

/// Verifies that the holder of `certificate_pem`, which the authority in `ca_pem` issued, signed `bytes`.
///
/// The certificate must be good at the moment at which its validity began, not now: certificates live for
/// weeks, what they signed is kept for years, and a backup does not become false by an expiry. Whether the
/// signer was who may sign this, and had not been revoked, is for the caller to judge by what is returned.
pub fn verify_signature(
    ca_pem: &str,
    certificate_pem: &str,
    bytes: &[u8],
    signature: &[u8],
) -> Result<PeerCertificate, SignatureError> {
    let verifier = tls::client_verifier(ca_pem).map_err(SignatureError::Certificate)?;
    let chain = certificates(certificate_pem, "the signer's certificate").map_err(SignatureError::Certificate)?;
    let (_, certificate) = X509Certificate::from_der(&chain[0]).map_err(|_| InvalidPeer::NotACertificate)?;
    let signer = PeerCertificate::from_x509(&certificate)?;

    let began = u64::try_from(signer.not_before.as_millis()).map_or(Duration::ZERO, Duration::from_millis);
    verifier
        .verify_client_cert(&chain[0], &chain[1..], UnixTime::since_unix_epoch(began))
        .map_err(|source| SignatureError::OtherAuthority { source })?;
    // rustls does not look at this extension.
    match certificate.key_usage() {
        Ok(Some(usage)) if usage.value.digital_signature() => {}
        _ => return Err(SignatureError::OtherUse),
    }
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(bytes, signature).map_err(|_| SignatureError::Wrong)?;
    Ok(signer)
}
