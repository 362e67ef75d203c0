//! Whose signature a manifest must carry, and whose a change of keys.

use urtext_identity::{PeerCertificate, PeerId, verify_signature};
use urtext_repository::{Manifest, ManifestVerifier, OperatorVerifier, SignatureError};

/// Believes the agent of the node that the manifest names, and nobody else.
#[derive(Debug, Clone)]
pub struct AuthorityVerifier {
    /// Authorities, any of which may have issued the certificate.
    authorities: Vec<String>,
}

impl AuthorityVerifier {
    pub fn new(ca_pem: String) -> Self {
        Self { authorities: vec![ca_pem] }
    }

    /// One that believes several authorities; none, and it believes nobody.
    pub fn of_any(authorities: Vec<String>) -> Self {
        Self { authorities }
    }

    fn signer(&self, certificate: &str, bytes: &[u8], signature: &[u8]) -> Result<PeerCertificate, SignatureError> {
        let mut last = None;
        for authority in &self.authorities {
            match verify_signature(authority, certificate, bytes, signature) {
                Ok(signer) => return Ok(signer),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| "no authority is known whose signatures could be believed".into(), Into::into))
    }
}

impl ManifestVerifier for AuthorityVerifier {
    fn verify(
        &self,
        certificate_pem: &str,
        bytes: &[u8],
        signature: &[u8],
        manifest: &Manifest,
    ) -> Result<(), SignatureError> {
        let signer = self.signer(certificate_pem, bytes, signature)?;
        let is_its_agent = signer.peer.agent().is_some_and(|agent| {
            (&agent.deployment, &agent.shard, &agent.node) == (&manifest.deployment, &manifest.shard, &manifest.node)
        });
        if is_its_agent {
            Ok(())
        } else {
            Err(format!("it is signed by {}, which is not the agent of {}", signer.peer, manifest.node).into())
        }
    }
}

impl OperatorVerifier for AuthorityVerifier {
    fn verify_operator(&self, certificate_pem: &str, bytes: &[u8], signature: &[u8]) -> Result<String, SignatureError> {
        match self.signer(certificate_pem, bytes, signature)?.peer {
            PeerId::Operator(name) => Ok(name.to_string()),
            other => Err(format!("it is signed by {other}, which is no operator").into()),
        }
    }
}
