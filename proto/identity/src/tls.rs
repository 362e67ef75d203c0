//! The only place where rustls is configured.
//!
//! Between our own programs: TLS 1.3 alone, HTTP/2 alone, both sides with certificates of one authority.
//! Sessions are never resumed: a resumed one would carry over the certificate of the first handshake
//! without looking at it again, expired or not, and connections that live for weeks gain nothing by it.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use urtext_types::Secret;

use crate::{
    Credentials, IdentityError, Sha256Digest,
    credentials::{certificates, private_key, to_pem},
};

/// What every coordinator's certificate is made out to, and what our clients ask for, whatever address
/// they dialled. The authority gives this name, and the right to serve, to nobody else; so an address is
/// only ever *where* the coordinator is, and may change, be forwarded or be a bare IP.
pub(crate) const COORDINATOR_NAME: &str = "coordinator.urtext.internal";

/// HTTP/2, without which gRPC does not start.
const ALPN_HTTP2: &[u8] = b"h2";

/// The coordinator's side of TLS. Clones share the configuration, and a reload reaches all of them.
#[derive(Debug, Clone)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl ServerTls {
    /// Serves with `credentials` and believes certificates of their authority.
    ///
    /// A client without a certificate is let in, because one that is joining has none yet: whoever
    /// answers requests must look at the peer, and let nobody without a name do anything but enrol.
    pub fn new(credentials: &Credentials) -> Result<Self, IdentityError> {
        Ok(Self(Arc::new(ArcSwap::new(server_config(credentials)?))))
    }

    /// Uses `credentials` from the next connection on. If they are unusable, all stays as it was.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), IdentityError> {
        self.0.store(server_config(credentials)?);
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// The side of TLS that dials. Clones share the configuration, and a reload reaches all of them.
#[derive(Debug, Clone)]
pub struct ClientTls(Arc<ArcSwap<ClientConfig>>);

impl ClientTls {
    /// Presents the certificate of `credentials`, and believes only a coordinator of their authority.
    pub fn new(credentials: &Credentials) -> Result<Self, IdentityError> {
        Ok(Self(Arc::new(ArcSwap::new(client_config(credentials)?))))
    }

    /// Uses `credentials` from the next connection on. If they are unusable, all stays as it was.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), IdentityError> {
        self.0.store(client_config(credentials)?);
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ClientConfig> {
        self.0.load_full()
    }
}

/// A first connection: no certificate of our own yet, and of the authority only the fingerprint that the
/// join token carries.
#[derive(Debug)]
pub struct Joining {
    tls: ClientTls,
    pinned: Arc<PinnedAuthority>,
}

impl Joining {
    /// Believes only a coordinator whose authority's certificate has this SHA-256.
    pub fn new(ca_sha256: Sha256Digest) -> Result<Self, IdentityError> {
        let provider = provider();
        let pinned = Arc::new(PinnedAuthority { ca_sha256, provider: provider.clone(), seen: OnceLock::new() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(tls_failed)?
            .dangerous()
            .with_custom_certificate_verifier(pinned.clone())
            .with_no_client_auth();
        let config = Arc::new(for_our_coordinator(config));
        Ok(Self { tls: ClientTls(Arc::new(ArcSwap::new(config))), pinned })
    }

    /// For a [`crate::Connector`].
    pub fn tls(&self) -> ClientTls {
        self.tls.clone()
    }

    /// The authority's certificate, once a connection was made; its fingerprint is the expected one.
    pub fn ca_pem(&self) -> Option<String> {
        self.pinned.seen.get().map(|certificate| to_pem(std::slice::from_ref(certificate)))
    }
}

/// For a Redis or Valkey server that speaks TLS: any of its versions from 1.2 on, as those of OpenSSL may
/// be old. The server must present a certificate of the authority in `ca_pem`, made out to the name that
/// is dialled; `client` is the certificate chain and private key that `tls-auth-clients` asks for.
pub fn redis_client_config(
    ca_pem: &str,
    client: Option<(&str, &Secret<String>)>,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls_failed)?
        .with_root_certificates(roots(ca_pem, "the Redis server's CA certificate")?);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate_pem, key_pem)) => builder
            .with_client_auth_cert(
                certificates(certificate_pem, "the certificate for Redis")?,
                private_key(key_pem.expose(), "the private key for Redis")?,
            )
            .map_err(|error| key_failed(error, "the certificate for Redis"))?,
    };
    Ok(Arc::new(config))
}

fn server_config(credentials: &Credentials) -> Result<Arc<ServerConfig>, IdentityError> {
    let provider = provider();
    let authorities = Arc::new(roots(&credentials.ca_pem, "the CA certificate")?);
    let clients = WebPkiClientVerifier::builder_with_provider(authorities, provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| IdentityError::Verifier { problem: error.to_string() })?;
    let mut chain = certificates(&credentials.certificate_pem, "the certificate")?;
    // Who joins knows the authority by its fingerprint, and must find it in the chain.
    for authority in certificates(&credentials.ca_pem, "the CA certificate")? {
        if !chain.contains(&authority) {
            chain.push(authority);
        }
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(tls_failed)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, private_key(credentials.key_pem.expose(), "the private key")?)
        .map_err(|error| key_failed(error, "the certificate"))?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

pub(crate) fn client_config(credentials: &Credentials) -> Result<Arc<ClientConfig>, IdentityError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(tls_failed)?
        .with_root_certificates(roots(&credentials.ca_pem, "the CA certificate")?)
        .with_client_auth_cert(
            certificates(&credentials.certificate_pem, "the certificate")?,
            private_key(credentials.key_pem.expose(), "the private key")?,
        )
        .map_err(|error| key_failed(error, "the certificate"))?;
    Ok(Arc::new(for_our_coordinator(config)))
}

fn for_our_coordinator(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Named each time, so that nothing depends on what a process installed as its default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The authorities in `pem`.
pub(crate) fn roots(pem: &str, what: &'static str) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, what)? {
        roots.add(certificate).map_err(|error| IdentityError::Pem { what, problem: error.to_string() })?;
    }
    Ok(roots)
}

fn tls_failed(source: Error) -> IdentityError {
    IdentityError::Tls { source }
}

fn key_failed(source: Error, certificate: &'static str) -> IdentityError {
    match source {
        Error::InconsistentKeys(_) => IdentityError::KeyMismatch { certificate },
        source => IdentityError::Tls { source },
    }
}

/// The coordinator presented no authority with the fingerprint of the join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no certificate in the chain has the SHA-256 {ca_sha256}")]
pub(crate) struct OtherFingerprint {
    ca_sha256: Sha256Digest,
}

/// Finds the authority in the chain by its fingerprint, then verifies as usual, with it as the only root.
#[derive(Debug)]
struct PinnedAuthority {
    ca_sha256: Sha256Digest,
    provider: Arc<CryptoProvider>,
    seen: OnceLock<CertificateDer<'static>>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority =
            intermediates.iter().find(|candidate| Sha256Digest::of(candidate) == self.ca_sha256).ok_or_else(|| {
                let other = OtherFingerprint { ca_sha256: self.ca_sha256 };
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other))))
            })?;
        let authority = authority.clone().into_owned();
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        // All that get here have the one fingerprint, so it does not matter which was first.
        self.seen.get_or_init(|| authority);
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The check of a client's certificate at a time of the caller's choice, outside of any connection.
pub(crate) fn client_verifier(ca_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, IdentityError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem, "the CA certificate")?), provider())
        .build()
        .map_err(|error| IdentityError::Verifier { problem: error.to_string() })
}
