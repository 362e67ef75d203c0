//! The invitation by which an agent gets its first certificate.

use std::{fmt, str::FromStr, time::Duration};

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use thiserror::Error;
use urtext_types::{ErrorKind, Explain, Secret, Timestamp};

use crate::{AgentIdentity, Sha256Digest};

/// What the operator hands to the host of a node: where the coordinator is, how to recognise it, and a
/// secret that is good for one enrolment.
///
/// Printed and parsed as one line that survives copy and paste: `urtext1-` and base64url without padding
/// of the bytes below. The length comes first and a checksum last, so that half a token is told apart from
/// a wrong one. Integers are big-endian.
///
/// ```text
/// u16 length of everything here | id 8 | secret 32 | SHA-256 of the CA certificate 32
/// | u64 expiry, milliseconds since 1970 | u8 count, then per endpoint: u8 length, text
/// | first 4 bytes of SHA-256 of all before
/// ```
#[derive(Clone)]
pub struct JoinToken {
    /// Names the invitation; not secret.
    pub id: TokenId,
    /// Proves the right to use it.
    pub secret: Secret<[u8; 32]>,
    /// The coordinator is the one whose certificate this authority issued.
    pub ca_sha256: Sha256Digest,
    /// `host:port`, at least one.
    pub endpoints: Vec<String>,
    /// For people. The coordinator goes by its own record and its own clock.
    pub expires_at: Timestamp,
}

/// What the coordinator keeps of an invitation: the secret only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub id: TokenId,
    /// The secret has 256 random bits, so a plain hash cannot be searched.
    pub secret_sha256: Sha256Digest,
    /// Who is invited. What the agent says about itself plays no part.
    pub identity: AgentIdentity,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it was redeemed; from then on it is spent.
    pub used_at: Option<Timestamp>,
}

/// The right to one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub id: TokenId,
    pub identity: AgentIdentity,
}

/// Why an invitation was not honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenRefused {
    #[error("this coordinator did not issue the join token")]
    Unknown,
    #[error("the join token's secret is wrong")]
    WrongSecret,
    #[error("the join token expired at {at}")]
    Expired { at: Timestamp },
    #[error("the join token was already used, at {at}")]
    AlreadyUsed { at: Timestamp },
}

impl Explain for TokenRefused {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Denied
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unknown | Self::WrongSecret => "check that the token is the one `urtext invite` printed here",
            Self::Expired { .. } => "make a new one with `urtext invite`; --ttl says how long it lives",
            Self::AlreadyUsed { .. } => {
                "if that was not you, somebody else has joined with it: see `urtext agents list`; \
                 otherwise make a new one with `urtext invite`"
            }
        };
        Some(hint.to_owned())
    }
}

/// Whether who presents `id` and `secret` may have a certificate, and in whose name.
///
/// `record` is what is stored under that id, if anything; `now` is the coordinator's clock. Single use
/// needs one more thing of the caller: to set `used_at` where it is still empty, in the transaction that
/// records the certificate, and to refuse if another was faster.
pub fn redeem(record: Option<&TokenRecord>, secret: &Secret<[u8; 32]>, now: Timestamp) -> Result<Grant, TokenRefused> {
    let presented = Sha256Digest::of(secret.expose());
    let record = record.ok_or(TokenRefused::Unknown)?;
    // First of all, so that nobody without the secret learns what became of the invitation.
    if !bool::from(presented.as_bytes().ct_eq(record.secret_sha256.as_bytes())) {
        return Err(TokenRefused::WrongSecret);
    }
    if let Some(at) = record.used_at {
        return Err(TokenRefused::AlreadyUsed { at });
    }
    if now >= record.expires_at {
        return Err(TokenRefused::Expired { at: record.expires_at });
    }
    Ok(Grant { id: record.id, identity: record.identity.clone() })
}

/// Text that is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidToken {
    #[error("this is not a join token: one begins with {PREFIX}")]
    NotAToken,
    #[error("this join token is of another version than this program's, {PREFIX}")]
    OtherVersion,
    #[error("the join token is cut off")]
    CutOff,
    #[error("the join token was changed on its way")]
    Changed,
    #[error("{endpoint:?} is not the address of a coordinator: write host:port")]
    Endpoint { endpoint: String },
    #[error("a join token carries 1 to {ENDPOINT_LIMIT} addresses, not {count}")]
    EndpointCount { count: usize },
}

impl Explain for InvalidToken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotAToken | Self::CutOff | Self::Changed => {
                "copy the whole line that `urtext invite` printed; it has no spaces"
            }
            Self::OtherVersion => "run the same version of urtext and urtext-agent",
            Self::Endpoint { .. } | Self::EndpointCount { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

const PREFIX: &str = "urtext1-";
const FAMILY: &str = "urtext";
const CHECKSUM: usize = 4;
const ENDPOINT_LIMIT: usize = 16;
/// Twice the longest token there is, 16 addresses of 255 bytes in base64; for text from anywhere.
const TEXT_LIMIT: usize = 12 * 1024;

/// A cut-off token may end within a byte: its last bits are then nothing, not an error.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

impl JoinToken {
    /// Invites the agent of one node: the token to hand out, and the record to keep.
    ///
    /// `entropy` is from a cryptographic generator: eight bytes make the id, the rest is the secret.
    pub fn invite(
        identity: AgentIdentity,
        ca_sha256: Sha256Digest,
        endpoints: Vec<String>,
        now: Timestamp,
        ttl: Duration,
        entropy: &Secret<[u8; 40]>,
    ) -> Result<(Self, TokenRecord), InvalidToken> {
        check_endpoints(&endpoints)?;
        let (id, secret) = entropy.expose().split_at(8);
        let id = TokenId(id.try_into().expect("eight bytes were split off"));
        let secret = Secret::new(<[u8; 32]>::try_from(secret).expect("forty bytes less eight are thirty-two"));
        let expires_at = now.plus(ttl);
        let record = TokenRecord {
            id,
            secret_sha256: Sha256Digest::of(secret.expose()),
            identity,
            created_at: now,
            expires_at,
            used_at: None,
        };
        Ok((Self { id, secret, ca_sha256, endpoints, expires_at }, record))
    }

    /// The one line to copy. It is a secret until it is redeemed.
    pub fn to_line(&self) -> Secret<String> {
        let mut bytes = vec![0; 2];
        bytes.extend(self.id.0);
        bytes.extend(self.secret.expose());
        bytes.extend(self.ca_sha256.as_bytes());
        bytes.extend(self.expires_at.as_millis().to_be_bytes());
        bytes.push(u8::try_from(self.endpoints.len()).expect("a token has at most 16 endpoints"));
        for endpoint in &self.endpoints {
            bytes.push(u8::try_from(endpoint.len()).expect("an endpoint has at most 255 bytes"));
            bytes.extend(endpoint.as_bytes());
        }
        let length = u16::try_from(bytes.len() + CHECKSUM).expect("16 endpoints of 255 bytes are below 65,536");
        bytes[..2].copy_from_slice(&length.to_be_bytes());
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        let bytes = Secret::new(bytes);
        Secret::new(format!("{PREFIX}{}", BASE64.encode(bytes.expose())))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;
    /// White space anywhere is ignored: terminals and mail programs break long lines.
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        if text.len() > TEXT_LIMIT {
            return Err(InvalidToken::NotAToken);
        }
        let text = Secret::new(text.split_ascii_whitespace().collect::<String>());
        let Some(body) = text.expose().strip_prefix(PREFIX) else {
            return Err(match text.expose().strip_prefix(FAMILY).and_then(|rest| rest.split_once('-')) {
                Some((version, _)) if version.parse::<u32>().is_ok() => InvalidToken::OtherVersion,
                _ => InvalidToken::NotAToken,
            });
        };
        // One character more than a multiple of four encodes no byte: a cut token may end there.
        let whole = if body.len() % 4 == 1 { body.len() - 1 } else { body.len() };
        let body = body.get(..whole).ok_or(InvalidToken::Changed)?;
        let bytes = Secret::new(BASE64.decode(body).map_err(|_| InvalidToken::Changed)?);
        let bytes = bytes.expose().as_slice();

        let length = bytes.first_chunk::<2>().ok_or(InvalidToken::CutOff)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if bytes.len() < length {
            return Err(InvalidToken::CutOff);
        }
        let (content, sum) =
            bytes.split_at_checked(bytes.len().saturating_sub(CHECKSUM)).ok_or(InvalidToken::CutOff)?;
        if bytes.len() > length || checksum(content) != sum {
            return Err(InvalidToken::Changed);
        }
        Self::decode(content).ok_or(InvalidToken::Changed)
    }
}

impl JoinToken {
    /// `content` has its checksum right. Whoever made it may still have made it wrong on purpose.
    fn decode(content: &[u8]) -> Option<Self> {
        let (_, rest) = content.split_first_chunk::<2>()?;
        let (id, rest) = rest.split_first_chunk::<8>()?;
        let (secret, rest) = rest.split_first_chunk::<32>()?;
        let (ca_sha256, rest) = rest.split_first_chunk::<32>()?;
        let (expires_at, rest) = rest.split_first_chunk::<8>()?;
        let (&count, mut rest) = rest.split_first()?;
        let mut endpoints = Vec::new();
        for _ in 0..count {
            let (&length, tail) = rest.split_first()?;
            let (endpoint, tail) = tail.split_at_checked(usize::from(length))?;
            endpoints.push(std::str::from_utf8(endpoint).ok()?.to_owned());
            rest = tail;
        }
        check_endpoints(&endpoints).ok()?;
        rest.is_empty().then(|| Self {
            id: TokenId(*id),
            secret: Secret::new(*secret),
            ca_sha256: Sha256Digest::from_bytes(*ca_sha256),
            endpoints,
            expires_at: Timestamp::from_millis(i64::from_be_bytes(*expires_at)),
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("secret", &self.secret)
            .field("ca_sha256", &self.ca_sha256)
            .field("endpoints", &self.endpoints)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

/// Catches what copying does to text; it is no protection against anybody.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    *Sha256Digest::of(bytes).as_bytes().first_chunk().expect("a SHA-256 is longer than four bytes")
}

fn check_endpoints(endpoints: &[String]) -> Result<(), InvalidToken> {
    if endpoints.is_empty() || endpoints.len() > ENDPOINT_LIMIT {
        return Err(InvalidToken::EndpointCount { count: endpoints.len() });
    }
    match endpoints.iter().find(|endpoint| !is_endpoint(endpoint)) {
        Some(endpoint) => Err(InvalidToken::Endpoint { endpoint: endpoint.chars().take(255).collect() }),
        None => Ok(()),
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    let Some((host, port)) = endpoint.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(host);
    endpoint.len() <= 255
        && rustls::pki_types::ServerName::try_from(host).is_ok()
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Names an invitation: sixteen hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId([u8; 8]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| "a join token's id is 16 hexadecimal digits".to_owned())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for TokenId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUED: Timestamp = Timestamp::from_millis(1_790_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn fra_1() -> AgentIdentity {
        AgentIdentity {
            deployment: "orders".parse().expect("a name"),
            shard: "0".parse().expect("a name"),
            site: "fra".parse().expect("a name"),
            node: "fra-1".parse().expect("a name"),
        }
    }

    fn invitation() -> (JoinToken, TokenRecord) {
        let endpoints = vec!["backup.example:7600".to_owned(), "[2001:db8::1]:7600".to_owned()];
        let entropy = Secret::new(std::array::from_fn(|i| i as u8));
        JoinToken::invite(fra_1(), Sha256Digest::of(b"ca"), endpoints, ISSUED, HOUR, &entropy).expect("an invitation")
    }

    #[test]
    fn a_token_reads_back_as_written() {
        let (token, record) = invitation();
        let line = token.to_line();
        let read: JoinToken = line.expose().parse().expect("a token");
        assert_eq!(
            (read.id, read.ca_sha256, &read.endpoints, read.expires_at),
            (token.id, token.ca_sha256, &token.endpoints, ISSUED.plus(HOUR))
        );
        assert_eq!(read.secret.expose(), token.secret.expose());
        assert_eq!(read.id, record.id);
        assert_eq!(redeem(Some(&record), &read.secret, ISSUED).map(|grant| grant.identity), Ok(fra_1()));
    }

    #[test]
    fn a_token_is_one_word_that_a_double_click_selects() {
        let (token, _) = invitation();
        let line = token.to_line();
        assert!(line.expose().starts_with("urtext1-"));
        assert!(line.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn white_space_from_a_terminal_does_not_hurt() {
        let (token, _) = invitation();
        let line = token.to_line();
        let (a, b) = line.expose().split_at(40);
        assert!(format!("  {a}\r\n   {b}\n").parse::<JoinToken>().is_ok());
    }

    #[test]
    fn every_cut_off_token_is_called_cut_off() {
        let (token, _) = invitation();
        let line = token.to_line();
        for end in PREFIX.len()..line.expose().len() {
            let error = line.expose()[..end].parse::<JoinToken>().expect_err("half a token");
            assert_eq!(error, InvalidToken::CutOff, "after {end} characters");
        }
    }

    #[test]
    fn no_changed_character_goes_unnoticed() {
        let (token, _) = invitation();
        let line = token.to_line();
        for at in PREFIX.len()..line.expose().len() {
            let mut changed = line.expose().clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'w' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            match changed.parse::<JoinToken>() {
                // Early on, the change is in the length.
                Err(InvalidToken::Changed | InvalidToken::CutOff) => {}
                // Bits beyond the last byte carry nothing.
                Ok(same) if at + 1 == line.expose().len() => {
                    assert_eq!(same.to_line().expose(), line.expose());
                }
                other => panic!("character {at}: {other:?}"),
            }
        }
    }

    #[track_caller]
    fn check_refused(text: &str, expect: InvalidToken) {
        assert_eq!(text.parse::<JoinToken>().expect_err("no token"), expect);
    }

    #[test]
    fn other_text_is_not_a_token() {
        let (token, _) = invitation();
        let line = token.to_line();
        check_refused("", InvalidToken::NotAToken);
        check_refused("urtext", InvalidToken::NotAToken);
        check_refused("urtext-agent", InvalidToken::NotAToken);
        check_refused("hunter2", InvalidToken::NotAToken);
        check_refused(&line.expose()[8..], InvalidToken::NotAToken);
        check_refused(&"x".repeat(1 << 20), InvalidToken::NotAToken);
        check_refused("urtext2-AAAA", InvalidToken::OtherVersion);
        check_refused("urtext1-", InvalidToken::CutOff);
        check_refused("urtext1-é", InvalidToken::Changed);
        check_refused("urtext1-aé€", InvalidToken::Changed);
        check_refused("urtext1-AAAA", InvalidToken::Changed);
        check_refused(&format!("{}{}", line.expose(), &line.expose()[8..]), InvalidToken::Changed);
    }

    #[test]
    fn a_token_made_wrong_on_purpose_is_an_error() {
        let seal = |mut content: Vec<u8>| {
            let length = u16::try_from(content.len() + CHECKSUM).expect("short");
            content[..2].copy_from_slice(&length.to_be_bytes());
            let sum = checksum(&content);
            content.extend(sum);
            format!("{PREFIX}{}", BASE64.encode(content))
        };
        let fixed = [0; 2 + 8 + 32 + 32 + 8];
        for tail in [
            &[][..],
            &[0],                            // no address
            &[255],                          // addresses that are not there
            &[1, 255, b'a'],                 // an address beyond the end
            &[1, 2, 0xff, 0xfe],             // not UTF-8
            &[1, 3, b'a', b':', 0],          // no port
            &[1, 3, b'a', b':', b'1', b'x'], // more than it says
        ] {
            check_refused(&seal([&fixed, tail].concat()), InvalidToken::Changed);
        }
        assert!(seal([&fixed[..], &[1, 3, b'a', b':', b'1']].concat()).parse::<JoinToken>().is_ok());
        check_refused(&seal(vec![0; 2]), InvalidToken::Changed);
    }

    #[test]
    fn an_address_must_have_a_host_and_a_port() {
        let check = |endpoint: &str, good| assert_eq!(is_endpoint(endpoint), good, "{endpoint}");
        check("backup.example:7600", true);
        check("10.0.0.5:7600", true);
        check("[::1]:7600", true);
        check("backup.example", false);
        check(":7600", false);
        check("backup.example:0", false);
        check("backup.example:port", false);
        check("https://backup.example:7600", false);
        let none = JoinToken::invite(fra_1(), Sha256Digest::of(b""), vec![], ISSUED, HOUR, &Secret::new([0; 40]));
        assert_eq!(none.map(|(_, record)| record), Err(InvalidToken::EndpointCount { count: 0 }));
    }

    #[track_caller]
    fn check_redeem(
        record: Option<TokenRecord>,
        secret: &Secret<[u8; 32]>,
        now: Timestamp,
        expect: Result<(), TokenRefused>,
    ) {
        assert_eq!(redeem(record.as_ref(), secret, now).map(drop), expect);
    }

    #[test]
    fn an_invitation_is_honoured_once_in_time_and_to_who_has_the_secret() {
        let (JoinToken { secret, expires_at, .. }, fresh) = invitation();
        let last = Timestamp::from_millis(expires_at.as_millis() - 1);
        let wrong = Secret::new([7; 32]);
        let used = TokenRecord { used_at: Some(ISSUED), ..fresh.clone() };
        let record = || Some(fresh.clone());
        check_redeem(record(), &secret, ISSUED, Ok(()));
        check_redeem(record(), &secret, last, Ok(()));
        check_redeem(record(), &secret, expires_at, Err(TokenRefused::Expired { at: expires_at }));
        check_redeem(record(), &wrong, ISSUED, Err(TokenRefused::WrongSecret));
        check_redeem(None, &secret, ISSUED, Err(TokenRefused::Unknown));
        check_redeem(Some(used.clone()), &secret, last, Err(TokenRefused::AlreadyUsed { at: ISSUED }));
        // A spent one that has expired as well: that it was used is what somebody should hear.
        check_redeem(Some(used.clone()), &secret, expires_at, Err(TokenRefused::AlreadyUsed { at: ISSUED }));
        // Without the secret nobody learns what became of it.
        check_redeem(Some(used), &wrong, expires_at, Err(TokenRefused::WrongSecret));
    }

    #[test]
    fn the_secret_is_neither_printed_nor_stored() {
        let (token, record) = invitation();
        let secret = hex::encode(token.secret.expose());
        let printed = format!("{token:?} {record:?} {:?}", token.to_line());
        let stored = serde_json::to_string(&record).expect("JSON");
        assert!(printed.contains("[redacted]"), "{printed}");
        assert!(!printed.contains(&secret) && !stored.contains(&secret));
        assert_eq!(serde_json::from_str::<TokenRecord>(&stored).ok(), Some(record));
    }
}
