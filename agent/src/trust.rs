//! Manifests are signed with the agent's certificate, and believed if another agent's is under them.

use urtext_identity::{AgentSigner, verify_signature};
use urtext_repository::{Manifest, ManifestSigner, ManifestVerifier, SignatureError};

/// Signs as this agent.
pub struct CertificateSigner(pub AgentSigner);

impl ManifestSigner for CertificateSigner {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(bytes))
    }

    fn certificate_pem(&self) -> &str {
        self.0.certificate_pem()
    }
}

/// Believes the agent of the node that a manifest names, by the coordinator's authority.
pub struct AuthorityVerifier {
    pub ca_pem: String,
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
        let names_the_node = signer.peer.agent().is_some_and(|agent| {
            agent.deployment == manifest.deployment && agent.shard == manifest.shard && agent.node == manifest.node
        });
        if names_the_node { Ok(()) } else { Err(format!("it was signed by {}", signer.peer).into()) }
    }
}
