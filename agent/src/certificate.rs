//! The agent's certificate: in use for TLS and for signatures, and renewed while it still has a third to live.

use std::sync::{Arc, Mutex};

use thiserror::Error;
use tonic::transport::Channel;
use urtext_identity::{CertificateRequest, ClientTls, Credentials, IdentityError};
use urtext_proto::{RpcError, pb, pb::enrolment_client::EnrolmentClient};
use urtext_repository::ManifestSigner;
use urtext_types::{ErrorKind, Explain, Timestamp};

use crate::{
    home::{Home, HomeError},
    trust::CertificateSigner,
    uplink,
};

/// The certificate in use, wherever it is used.
pub struct Certificate {
    home: Home,
    tls: ClientTls,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    credentials: Credentials,
    signer: Arc<dyn ManifestSigner>,
}

/// Why the certificate was not renewed. The old one stays in use.
#[derive(Debug, Error)]
pub enum RenewError {
    #[error("ask the coordinator for a new certificate")]
    Refused(#[source] RpcError),
    #[error("the new certificate cannot be used")]
    Unusable(#[source] IdentityError),
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl Explain for RenewError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(error) => error.kind(),
            Self::Unusable(error) => error.kind(),
            Self::Home(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(error) => error.hint(),
            Self::Unusable(error) => error.hint(),
            Self::Home(error) => error.hint(),
        }
    }
}

impl Certificate {
    pub fn new(home: Home, credentials: Credentials) -> Result<Self, HomeError> {
        let tls = ClientTls::new(&credentials)?;
        Ok(Self { home, tls, current: Mutex::new(Current::new(credentials)?) })
    }

    /// For connections to the coordinator; follows renewals.
    pub fn tls(&self) -> ClientTls {
        self.tls.clone()
    }

    /// What signs manifests now.
    pub fn signer(&self) -> Arc<dyn ManifestSigner> {
        self.current().signer
    }

    /// The authority that is believed.
    pub fn ca_pem(&self) -> String {
        self.current().credentials.ca_pem
    }

    /// When to renew.
    pub fn renew_at(&self) -> Result<Timestamp, IdentityError> {
        self.current().credentials.renew_at()
    }

    /// Gets a new key and certificate, keeps them, and uses them from the next connection on.
    pub async fn renew(&self, channel: Channel) -> Result<(), RenewError> {
        let request = CertificateRequest::generate().map_err(RenewError::Unusable)?;
        let answer = EnrolmentClient::new(channel)
            .renew(pb::RenewRequest { csr_pem: request.csr_pem })
            .await
            .map_err(|status| RenewError::Refused(uplink::explain(status)))?
            .into_inner();
        let pb::RenewResponse { certificate_pem, ca_pem } = answer;
        let credentials = Credentials { ca_pem, certificate_pem, key_pem: request.key_pem };
        let current = Current::new(credentials)?;
        current.credentials.save(self.home.path()).map_err(RenewError::Unusable)?;
        self.tls.reload(&current.credentials).map_err(RenewError::Unusable)?;
        *self.lock() = current;
        Ok(())
    }

    fn current(&self) -> Current {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().expect("nothing that holds this lock panics")
    }
}

impl Current {
    fn new(credentials: Credentials) -> Result<Self, HomeError> {
        let signer = Arc::new(CertificateSigner(Home::signer(&credentials)?));
        Ok(Self { credentials, signer })
    }
}
