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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use urtext_types::Timestamp;

    use super::*;
    use crate::{AUTHORITY_LIFETIME, CertificateAuthority, CertificateRequest, Credentials, PeerId};

    /// Long past: every certificate here has expired.
    const THEN: Timestamp = Timestamp::from_millis(1_500_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MANIFEST: &[u8] = b"{\"backup\":\"01ARYZ6S410000000000000000\"}";

    fn authority() -> CertificateAuthority {
        CertificateAuthority::generate(THEN, AUTHORITY_LIFETIME).expect("an authority")
    }

    fn signer(authority: &CertificateAuthority) -> AgentSigner {
        let peer: PeerId = "spiffe://urtext/agent/orders/0/fra/fra-1".parse().expect("a peer");
        let request = CertificateRequest::generate().expect("a request");
        let identity = peer.agent().expect("an agent");
        let issued = authority.issue_agent(identity, &request.csr_pem, THEN, DAY).expect("a certificate");
        AgentSigner::new(&request.key_pem, &issued.certificate_pem).expect("a signer")
    }

    #[test]
    fn a_signature_says_who_signed_even_after_the_certificate_has_expired() {
        let authority = authority();
        let signer = signer(&authority);
        let signature = signer.sign(MANIFEST);
        let who = verify_signature(&authority.certificate_pem(), signer.certificate_pem(), MANIFEST, &signature)
            .expect("a good signature");
        assert_eq!(who.peer.to_string(), "spiffe://urtext/agent/orders/0/fra/fra-1");
        assert_eq!(who.not_after, THEN.plus(DAY));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let authority = authority();
        let signer = signer(&authority);
        let signature = signer.sign(MANIFEST);
        let verify = |bytes: &[u8], signature: &[u8]| {
            verify_signature(&authority.certificate_pem(), signer.certificate_pem(), bytes, signature)
        };
        for bit in 0..MANIFEST.len() * 8 {
            let mut changed = MANIFEST.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify(&changed, &signature), Err(SignatureError::Wrong)), "bit {bit} of the manifest");
        }
        for bit in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify(MANIFEST, &changed), Err(SignatureError::Wrong)), "bit {bit} of the signature");
        }
        for end in 0..signature.len() {
            assert!(verify(MANIFEST, &signature[..end]).is_err(), "{end} bytes of the signature");
        }
    }

    #[test]
    fn a_signer_of_another_authority_is_refused() {
        let (ours, theirs) = (authority(), authority());
        let signer = signer(&theirs);
        let signature = signer.sign(MANIFEST);
        let refused = verify_signature(&ours.certificate_pem(), signer.certificate_pem(), MANIFEST, &signature);
        assert!(matches!(refused, Err(SignatureError::OtherAuthority { .. })), "{refused:?}");
        // Putting its own authority, or ours, in the chain helps it nothing.
        let chain = format!("{}{}", signer.certificate_pem(), ours.certificate_pem());
        let refused = verify_signature(&ours.certificate_pem(), &chain, MANIFEST, &signature);
        assert!(matches!(refused, Err(SignatureError::OtherAuthority { .. })), "{refused:?}");
    }

    #[test]
    fn another_agents_certificate_does_not_fit_the_signature() {
        let authority = authority();
        let signature = signer(&authority).sign(MANIFEST);
        let other = signer(&authority);
        let refused = verify_signature(&authority.certificate_pem(), other.certificate_pem(), MANIFEST, &signature);
        assert!(matches!(refused, Err(SignatureError::Wrong)), "{refused:?}");
    }

    #[test]
    fn the_authoritys_own_certificate_signs_no_manifests() {
        let authority = authority();
        let ca_pem = authority.certificate_pem();
        assert!(verify_signature(&ca_pem, &ca_pem, MANIFEST, b"").is_err());
    }

    #[test]
    fn the_coordinators_certificate_signs_no_manifests() {
        let authority = authority();
        let Credentials { certificate_pem, key_pem, .. } =
            authority.issue_coordinator(&[], THEN, DAY).expect("a certificate");
        let signer = AgentSigner::new(&key_pem, &certificate_pem).expect("a signer");
        let signature = signer.sign(MANIFEST);
        let refused = verify_signature(&authority.certificate_pem(), &certificate_pem, MANIFEST, &signature);
        assert!(matches!(refused, Err(SignatureError::OtherAuthority { .. })), "{refused:?}");
    }

    #[test]
    fn a_key_that_is_not_the_certificates_does_not_sign() {
        let authority = authority();
        let other = CertificateRequest::generate().expect("a request");
        let refused = AgentSigner::new(&other.key_pem, signer(&authority).certificate_pem());
        assert!(matches!(refused, Err(IdentityError::KeyMismatch { .. })), "{refused:?}");
    }

    #[test]
    fn bytes_that_are_no_certificate_are_an_error() {
        let ca_pem = authority().certificate_pem();
        let garbage = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for certificate in ["", "no PEM", garbage, "-----BEGIN CERTIFICATE-----"] {
            assert!(verify_signature(&ca_pem, certificate, MANIFEST, b"").is_err(), "{certificate}");
        }
        assert!(verify_signature("", garbage, MANIFEST, b"").is_err());
    }
}
