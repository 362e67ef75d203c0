//! The name that a certificate carries.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use urtext_types::{
    DeploymentName, ErrorKind, Explain, InvalidName, NodeName, ShardName, SiteName, Timestamp, UserName,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Who somebody is. Printed and parsed as the URI in a certificate:
///
/// ```text
/// spiffe://urtext/agent/<deployment>/<shard>/<site>/<node>
/// spiffe://urtext/operator/<name>
/// spiffe://urtext/viewer/<name>
/// spiffe://urtext/coordinator
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PeerId {
    /// The agent of one node.
    Agent(AgentIdentity),
    /// May look and act.
    Operator(UserName),
    /// May look.
    Viewer(UserName),
    /// The coordinator.
    Coordinator,
}

/// What a peer is to us. What each role may do is the coordinator's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Agent,
    Operator,
    Viewer,
    Coordinator,
}

/// Which node an agent speaks for. Decided by the operator who invites it, never by the agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentIdentity {
    pub deployment: DeploymentName,
    pub shard: ShardName,
    pub site: SiteName,
    pub node: NodeName,
}

/// A certificate, or the URI in it, that does not name a peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidPeer {
    #[error("the certificate cannot be read")]
    NotACertificate,
    #[error("the certificate names nobody: it has no URI")]
    NoUri,
    #[error("the certificate has {count} URIs where it must have one")]
    SeveralUris { count: usize },
    #[error(
        "{uri:?} is not a peer: it must be {PREFIX}agent/…, {PREFIX}operator/…, {PREFIX}viewer/… or {PREFIX}coordinator"
    )]
    NotOurs { uri: String },
    #[error("a name in {uri:?} cannot be used")]
    Name {
        uri: String,
        #[source]
        source: InvalidName,
    },
}

impl Explain for InvalidPeer {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Denied
    }

    fn hint(&self) -> Option<String> {
        Some("use a certificate that this Urtext's own authority issued".to_owned())
    }
}

const PREFIX: &str = "spiffe://urtext/";

/// Four names of at most 63 bytes and what joins them stay below this; a longer URI is not ours, and
/// is not repeated in full by an error.
const URI_LIMIT: usize = 320;

impl PeerId {
    pub fn role(&self) -> Role {
        match self {
            Self::Agent(_) => Role::Agent,
            Self::Operator(_) => Role::Operator,
            Self::Viewer(_) => Role::Viewer,
            Self::Coordinator => Role::Coordinator,
        }
    }

    /// The node that this peer is the agent of, if it is an agent.
    pub fn agent(&self) -> Option<&AgentIdentity> {
        match self {
            Self::Agent(identity) => Some(identity),
            Self::Operator(_) | Self::Viewer(_) | Self::Coordinator => None,
        }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(agent) => write!(f, "{PREFIX}agent/{agent}"),
            Self::Operator(name) => write!(f, "{PREFIX}operator/{name}"),
            Self::Viewer(name) => write!(f, "{PREFIX}viewer/{name}"),
            Self::Coordinator => write!(f, "{PREFIX}coordinator"),
        }
    }
}

impl FromStr for PeerId {
    type Err = InvalidPeer;
    fn from_str(uri: &str) -> Result<Self, InvalidPeer> {
        let short = || uri.chars().take(URI_LIMIT).collect::<String>();
        let not_ours = || InvalidPeer::NotOurs { uri: short() };
        let name = |source| InvalidPeer::Name { uri: short(), source };
        if uri.len() > URI_LIMIT {
            return Err(not_ours());
        }
        let path: Vec<&str> = uri.strip_prefix(PREFIX).ok_or_else(not_ours)?.split('/').collect();
        match path[..] {
            ["agent", deployment, shard, site, node] => Ok(Self::Agent(AgentIdentity {
                deployment: deployment.parse().map_err(name)?,
                shard: shard.parse().map_err(name)?,
                site: site.parse().map_err(name)?,
                node: node.parse().map_err(name)?,
            })),
            ["operator", user] => Ok(Self::Operator(user.parse().map_err(name)?)),
            ["viewer", user] => Ok(Self::Viewer(user.parse().map_err(name)?)),
            ["coordinator"] => Ok(Self::Coordinator),
            _ => Err(not_ours()),
        }
    }
}

impl TryFrom<String> for PeerId {
    type Error = InvalidPeer;
    fn try_from(uri: String) -> Result<Self, InvalidPeer> {
        uri.parse()
    }
}

impl From<PeerId> for String {
    fn from(peer: PeerId) -> String {
        peer.to_string()
    }
}

impl fmt::Display for AgentIdentity {
    /// `deployment/shard/site/node`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.deployment, self.shard, self.site, self.node)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Coordinator => "coordinator",
        })
    }
}

/// A certificate's serial number as lower-case hex digits without leading zeros.
///
/// The latest enrolment of a node replaces earlier ones, so the coordinator remembers which serial is
/// the current one, and refuses the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateSerial(String);

/// RFC 5280, 4.1.2.2: a serial number has at most 20 octets.
const SERIAL_LIMIT: usize = 20;

impl CertificateSerial {
    /// A serial from its big-endian bytes; `None` if there are more than a certificate can have.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
        let significant = &bytes[start..];
        (significant.len() <= SERIAL_LIMIT).then(|| Self(hex::encode(significant)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertificateSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for CertificateSerial {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_start_matches('0');
        let is_serial = digits.len() <= 2 * SERIAL_LIMIT && digits.bytes().all(|b| b.is_ascii_hexdigit());
        // From bytes, "0x0a" prints as two digits: keep whole bytes.
        let padding = if digits.len() % 2 == 1 { "0" } else { "" };
        is_serial
            .then(|| Self(format!("{padding}{}", digits.to_ascii_lowercase())))
            .ok_or_else(|| "a certificate's serial number is at most 40 hexadecimal digits".to_owned())
    }
}

impl TryFrom<String> for CertificateSerial {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CertificateSerial> for String {
    fn from(serial: CertificateSerial) -> String {
        serial.0
    }
}

/// What a certificate says. Nothing here proves it: rustls verified the chain of a connection's peer,
/// and [`crate::verify_signature`] that of a signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    pub peer: PeerId,
    pub serial: CertificateSerial,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl PeerCertificate {
    /// Reads the certificate that a verified connection's peer presented: the first of its chain.
    pub fn from_der(certificate: &[u8]) -> Result<Self, InvalidPeer> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| InvalidPeer::NotACertificate)?;
        Self::from_x509(&certificate)
    }

    pub(crate) fn from_x509(certificate: &X509Certificate<'_>) -> Result<Self, InvalidPeer> {
        let names = certificate.subject_alternative_name().map_err(|_| InvalidPeer::NotACertificate)?;
        let names = names.map_or(&[][..], |extension| &extension.value.general_names);
        let uris: Vec<&str> =
            names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect();
        let peer = match uris[..] {
            [] => return Err(InvalidPeer::NoUri),
            [uri] => uri.parse()?,
            _ => return Err(InvalidPeer::SeveralUris { count: uris.len() }),
        };
        let time = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
        Ok(Self {
            peer,
            serial: CertificateSerial::from_bytes(certificate.raw_serial()).ok_or(InvalidPeer::NotACertificate)?,
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_reads_back_as_written() {
        for uri in [
            "spiffe://urtext/agent/orders/0/fra/fra-1",
            "spiffe://urtext/operator/ada",
            "spiffe://urtext/viewer/ada",
            "spiffe://urtext/coordinator",
        ] {
            assert_eq!(uri.parse::<PeerId>().map(|peer| peer.to_string()), Ok(uri.to_owned()));
        }
    }

    #[test]
    fn a_uri_that_is_not_ours_names_nobody() {
        for uri in [
            "",
            "spiffe://urtext/",
            "spiffe://urtext/agent/orders/0/fra",
            "spiffe://urtext/agent/orders/0/fra/fra-1/more",
            "spiffe://urtext/agent/orders/0/fra/",
            "spiffe://urtext/agent/orders/0/../fra-1",
            "spiffe://urtext/agent/orders/0/fra/FRA-1",
            "spiffe://urtext/coordinator/",
            "spiffe://urtext/operator/a%2Fb",
            "spiffe://urtext.example/coordinator",
            "SPIFFE://urtext/coordinator",
            &format!("spiffe://urtext/operator/{}", "x".repeat(1_000_000)),
        ] {
            let error = uri.parse::<PeerId>().expect_err(uri);
            assert!(error.to_string().len() < 1000, "{error}");
        }
    }

    #[test]
    fn the_longest_names_make_a_uri_that_reads_back() {
        let name = "x".repeat(63);
        let uri = format!("spiffe://urtext/agent/{name}/{name}/{name}/{name}");
        assert!(uri.parse::<PeerId>().is_ok());
    }

    #[test]
    fn a_serial_has_one_spelling() {
        let check =
            |text: &str, expect| assert_eq!(text.parse::<CertificateSerial>().map(|s| s.0), Ok(expect), "{text}");
        check("00000A1", "a1".to_owned());
        check("a1b", "0a1b".to_owned());
        check("0", String::new());
        assert_eq!(CertificateSerial::from_bytes(&[0, 0x0a, 0x1b]).map(|s| s.0), Some("0a1b".to_owned()));
        assert_eq!(CertificateSerial::from_bytes(&[1; 21]), None);
        assert!("x1".parse::<CertificateSerial>().is_err());
        assert!("1".repeat(41).parse::<CertificateSerial>().is_err());
    }

    #[test]
    fn bytes_that_are_no_certificate_are_an_error() {
        for bytes in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"-----BEGIN CERTIFICATE-----"] {
            assert_eq!(PeerCertificate::from_der(bytes), Err(InvalidPeer::NotACertificate));
        }
    }
}
