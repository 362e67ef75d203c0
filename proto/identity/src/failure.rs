//! Why a TLS connection was not made, in words for whoever reads the log.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};
use thiserror::Error as ThisError;
use urtext_types::{ErrorKind, Explain};

use crate::tls::OtherFingerprint;

/// What TLS found wrong, and on whose side.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum TlsFailure {
    /// The other end refused us.
    #[error("our certificate has expired")]
    OursExpired,
    #[error("the other end does not accept our certificate")]
    OursRefused,
    #[error("the other end asks for a certificate, and we have none")]
    OursMissing,
    /// We refused the other end.
    #[error("the other end's certificate has expired")]
    TheirsExpired,
    #[error("the other end's certificate is not valid yet")]
    TheirsNotYetValid,
    #[error("the other end's certificate is of an authority that we do not trust")]
    TheirsOfAnotherAuthority,
    #[error("the coordinator that answered is not the one that the join token is for")]
    TheirsOfAnotherFingerprint,
    #[error("the other end's certificate is not made out to the name that was dialled")]
    TheirsForAnotherName,
    #[error("the other end's certificate is not made for this use")]
    TheirsForAnotherUse,
    /// Nobody's certificate.
    #[error("the other end does not speak TLS")]
    NotTls,
    #[error("TLS failed: {problem}")]
    Other { problem: String },
}

impl TlsFailure {
    /// Looks for a failure of TLS in `error` and its causes.
    pub fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of(error));
            }
            if let Some(failure) = error.downcast_ref::<Self>() {
                return Some(failure.clone());
            }
            // An `io::Error` names as its source the source of what it holds, and so hides that itself.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(problem) => Self::of_their_certificate(problem),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other { problem: other.to_string() },
        }
    }

    fn of_their_certificate(problem: &CertificateError) -> Self {
        match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::TheirsExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::TheirsNotYetValid,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::TheirsOfAnotherAuthority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::TheirsForAnotherName
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::TheirsForAnotherUse
            }
            CertificateError::Other(other) if other.0.is::<OtherFingerprint>() => Self::TheirsOfAnotherFingerprint,
            other => Self::Other { problem: other.to_string() },
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::OursExpired,
            AlertDescription::CertificateRequired => Self::OursMissing,
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::OursRefused,
            other => Self::Other { problem: format!("the other end sent the alert {other:?}") },
        }
    }

    /// Whether it is about a certificate, and so for a person to mend; not about a port scan.
    pub fn is_about_a_certificate(&self) -> bool {
        !matches!(self, Self::NotTls | Self::Other { .. })
    }
}

impl Explain for TlsFailure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotTls | Self::Other { .. } => ErrorKind::Unavailable,
            Self::OursExpired
            | Self::OursRefused
            | Self::OursMissing
            | Self::TheirsExpired
            | Self::TheirsNotYetValid
            | Self::TheirsOfAnotherAuthority
            | Self::TheirsOfAnotherFingerprint
            | Self::TheirsForAnotherName
            | Self::TheirsForAnotherUse => ErrorKind::Denied,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::OursExpired => "check the clock; if it is right, enrol again with a token from `urtext invite`",
            Self::OursRefused => {
                "is this the coordinator that issued it? enrol again with a token from `urtext invite`"
            }
            Self::OursMissing => "enrol with a token from `urtext invite`",
            Self::TheirsExpired => "check the clocks of both hosts",
            Self::TheirsNotYetValid => "this host's clock is behind: certificates allow for an hour",
            Self::TheirsOfAnotherAuthority => {
                "another server answers at this address, or the coordinator was set up anew: check the address first"
            }
            Self::TheirsOfAnotherFingerprint => {
                "check the address in the token; if it is right, somebody is in between: do not go on"
            }
            Self::TheirsForAnotherName => "dial the server by a name that its certificate lists",
            Self::TheirsForAnotherUse => "another program answers at this address: check it",
            Self::NotTls => "check address and port, and that TLS is on at the other end",
            Self::Other { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
