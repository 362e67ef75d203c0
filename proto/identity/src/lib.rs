//! Who is on the other end.
//!
//! The one package that touches certificates and builds rustls configurations. It is the authority
//! that issues certificates ([`CertificateAuthority`]), the invitation by which an agent gets its
//! first one ([`JoinToken`]), the name that a certificate carries ([`PeerId`]), both ends of a
//! connection ([`incoming`], [`Connector`]), and the signature under what an agent wrote
//! ([`AgentSigner`], [`verify_signature`]).
//!
//! It decides *who* somebody is and never what they may do. It never sends anything without TLS and has
//! no switch that skips a check. Time comes in as an argument, except where rustls asks for it itself.

mod authority;
mod connector;
mod credentials;
mod digest;
mod error;
mod failure;
mod files;
mod listener;
mod peer;
mod request;
mod signing;
mod tls;
mod token;

pub use authority::{
    AGENT_LIFETIME, AUTHORITY_LIFETIME, CLOCK_TOLERANCE, COORDINATOR_LIFETIME, CertificateAuthority, IssuedCertificate,
    USER_LIFETIME, renew_at,
};
pub use connector::{ConnectError, Connector};
pub use credentials::Credentials;
pub use digest::Sha256Digest;
pub use error::IdentityError;
pub use failure::TlsFailure;
pub use files::{ExposedKey, check_private, create_private, read_text, replace_private, replace_public};
pub use listener::incoming;
pub use peer::{AgentIdentity, CertificateSerial, InvalidPeer, PeerCertificate, PeerId, Role};
pub use request::CertificateRequest;
pub use signing::{AgentSigner, SignatureError, verify_signature};
pub use tls::{ClientTls, Joining, ServerTls, redis_client_config};
pub use token::{Grant, InvalidToken, JoinToken, TokenId, TokenRecord, TokenRefused, redeem};
