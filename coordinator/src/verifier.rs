//! Whose signature a manifest must carry.

use urtext_identity::verify_signature;
use urtext_repository::{Manifest, ManifestVerifier, SignatureError};

/// Believes the agent of the node that the manifest names, and nobody else.
#[derive(Debug, Clone)]
pub struct AuthorityVerifier {
    ca_pem: String,
}

impl AuthorityVerifier {
    pub fn new(ca_pem: String) -> Self {
        Self { ca_pem }
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
        let signer = verify_signature(&self.ca_pem, certificate_pem, bytes, signature)?;
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
