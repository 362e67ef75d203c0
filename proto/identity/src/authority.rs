//! The authority that says who is who.

use std::{net::IpAddr, path::Path, time::Duration};

use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use urtext_types::{Secret, Timestamp, UserName};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    AgentIdentity, CertificateSerial, Credentials, IdentityError, PeerId, Sha256Digest,
    credentials::{certificates, private_key, to_pem},
    files,
    tls::COORDINATOR_NAME,
};

/// Certificates begin this long before they are issued: an agent whose clock is up to an hour behind the
/// coordinator's would otherwise call a certificate of this minute "not yet valid", and could not join
/// before somebody had mended its clock. Clocks that are ahead meet the other end of the life, which
/// renewal at two thirds keeps days away.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Ten years: replacing the authority means enrolling every agent again.
pub const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3653);
/// The coordinator holds the authority and renews its own certificate at every start and while it runs.
pub const COORDINATOR_LIFETIME: Duration = DAY.saturating_mul(90);
/// An agent renews after twenty days, which leaves ten for a coordinator that is away.
pub const AGENT_LIFETIME: Duration = DAY.saturating_mul(30);
/// People renew by hand.
pub const USER_LIFETIME: Duration = DAY.saturating_mul(365);

const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca.key";

/// A request with an RSA key of 4096 bits has 1.7 KiB; ours have less than 1 KiB.
const CSR_LIMIT: usize = 16 * 1024;

/// Issues every certificate of one Urtext. Whoever holds its key can be anybody.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    key_pem: Secret<String>,
    not_after: Timestamp,
}

/// A certificate that was just made, to be given to whom it names.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    pub peer: PeerId,
    /// The certificate, and after it the authority's.
    pub certificate_pem: String,
    pub serial: CertificateSerial,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// When a certificate should be replaced: at two thirds of its life, so that the last third is there for
/// a coordinator that does not answer.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    let life = not_after.since(not_before);
    not_before.plus(life / 3 * 2)
}

impl CertificateAuthority {
    /// A new authority with a new key.
    pub fn generate(now: Timestamp, lifetime: Duration) -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue_failed)?;
        let mut params = CertificateParams::default();
        // Verifiers look authorities up by name: the digits of the key keep two Urtexts apart.
        let name = format!("Urtext authority {}", &Sha256Digest::of(key.public_key_raw()).to_string()[..8]);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        set_validity(&mut params, now.minus(CLOCK_TOLERANCE), now.plus(lifetime))?;
        params.serial_number = Some(random_serial()?);
        // It vouches for peers and for no other authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(issue_failed)?;
        Self::from_parts(certificate.der().clone(), &Secret::new(key.serialize_pem()))
    }

    /// An authority from its certificate and private key, checked to belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &Secret<String>) -> Result<Self, IdentityError> {
        let mut chain = certificates(certificate_pem, "the CA certificate")?;
        Self::from_parts(chain.swap_remove(0), key_pem)
    }

    /// Reads `ca.pem` and `ca.key`.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let certificate = files::read_text(&dir.join(CERTIFICATE_FILE))?;
        let key = Secret::new(files::read_text(&dir.join(KEY_FILE))?);
        Self::from_pem(&certificate, &key)
    }

    /// Writes `ca.pem` and `ca.key`, the latter readable by its owner alone. Never overwrites a key.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        files::create_private(&dir.join(KEY_FILE), self.key_pem.expose())?;
        files::replace_public(&dir.join(CERTIFICATE_FILE), &self.certificate_pem())
    }

    /// A finding if others than the owner can read the authority's key in `dir`.
    pub fn check_private(dir: &Path) -> Result<Option<files::ExposedKey>, IdentityError> {
        files::check_private(&dir.join(KEY_FILE))
    }

    /// The certificate that everybody trusts.
    pub fn certificate_pem(&self) -> String {
        to_pem(std::slice::from_ref(&self.certificate))
    }

    /// SHA-256 of the certificate's DER: what join tokens carry, and what
    /// `openssl x509 -fingerprint -sha256` prints.
    pub fn fingerprint(&self) -> Sha256Digest {
        Sha256Digest::of(&self.certificate)
    }

    /// A key and a certificate for the coordinator.
    ///
    /// `names` are the host names and IP addresses at which others than our own clients look for it, such
    /// as a browser or a load balancer: our own ask for [`PeerId::Coordinator`], wherever it may live.
    pub fn issue_coordinator(
        &self,
        names: &[String],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Credentials, IdentityError> {
        let mut params = CertificateParams::default();
        let reserved = COORDINATOR_NAME.to_owned();
        for name in [&reserved].into_iter().chain(names) {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue_with_new_key(params, PeerId::Coordinator, now, lifetime)
    }

    /// A key and a certificate for somebody who may look and act.
    pub fn issue_operator(
        &self,
        name: &UserName,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Credentials, IdentityError> {
        self.issue_with_new_key(client_params(), PeerId::Operator(name.clone()), now, lifetime)
    }

    /// A key and a certificate for somebody who may look.
    pub fn issue_viewer(
        &self,
        name: &UserName,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Credentials, IdentityError> {
        self.issue_with_new_key(client_params(), PeerId::Viewer(name.clone()), now, lifetime)
    }

    /// A certificate for the agent's own key, at enrolment and at each renewal.
    ///
    /// From the request comes the public key and nothing else: `identity` is the invited one, or that of
    /// the certificate with which a renewal was asked for. The request's signature is checked, which
    /// proves that the asker holds the private key.
    pub fn issue_agent(
        &self,
        identity: &AgentIdentity,
        csr_pem: &str,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<IssuedCertificate, IdentityError> {
        let unusable = |problem: &str| IdentityError::Request { problem: problem.to_owned() };
        if csr_pem.len() > CSR_LIMIT {
            return Err(unusable("it is too large"));
        }
        let request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| IdentityError::Request { problem: error.to_string() })?;
        // 65 bytes that begin with 4: a P-256 point, uncompressed. The algorithm alone would not tell, as
        // it is that of the signature.
        let key = request.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 || key.der_bytes()[0] != 4 {
            return Err(unusable("its key must be ECDSA on the curve P-256"));
        }
        self.issue(client_params(), &key, PeerId::Agent(identity.clone()), now, lifetime)
    }

    fn from_parts(certificate: CertificateDer<'static>, key_pem: &Secret<String>) -> Result<Self, IdentityError> {
        let unusable = |problem: String| IdentityError::Pem { what: "the CA certificate", problem };
        let der = private_key(key_pem.expose(), "the CA key")?;
        let key = KeyPair::try_from(&der)
            .map_err(|_| IdentityError::Pem { what: "the CA key", problem: "it is of no known kind".to_owned() })?;
        let key_pem = Secret::new(key.serialize_pem());
        let not_after = {
            let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|error| unusable(error.to_string()))?;
            if !parsed.is_ca() {
                return Err(unusable("it is not an authority's certificate".to_owned()));
            }
            if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
                return Err(IdentityError::KeyMismatch { certificate: "the CA certificate" });
            }
            Timestamp::from_millis(parsed.validity().not_after.timestamp().saturating_mul(1000))
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { issuer, certificate, key_pem, not_after })
    }

    fn issue_with_new_key(
        &self,
        params: CertificateParams,
        peer: PeerId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Credentials, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(issue_failed)?;
        let issued = self.issue(params, &key, peer, now, lifetime)?;
        Ok(Credentials {
            ca_pem: self.certificate_pem(),
            certificate_pem: issued.certificate_pem,
            key_pem: Secret::new(key.serialize_pem()),
        })
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        peer: PeerId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<IssuedCertificate, IdentityError> {
        if now >= self.not_after {
            return Err(IdentityError::AuthorityExpired { at: self.not_after });
        }
        // Certificates count whole seconds. None outlives the authority: some verifiers would refuse it.
        let whole = |time: Timestamp| Timestamp::from_millis(time.as_millis().div_euclid(1000) * 1000);
        let not_before = whole(now.minus(CLOCK_TOLERANCE));
        let not_after = whole(now.plus(lifetime)).min(self.not_after);
        let serial = random_serial()?;
        let uri = peer.to_string().try_into().map_err(issue_failed)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name(&peer));
        set_validity(&mut params, not_before, not_after)?;
        params.serial_number = Some(serial.clone());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer).map_err(issue_failed)?;
        Ok(IssuedCertificate {
            peer,
            certificate_pem: to_pem(&[certificate.der().clone(), self.certificate.clone()]),
            serial: CertificateSerial::from_bytes(&serial.to_bytes()).expect("our serial numbers have sixteen bytes"),
            not_before,
            not_after,
        })
    }
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("fingerprint", &self.fingerprint())
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn client_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// For people who look at a certificate; the URI is what counts. At most 64 characters (RFC 5280, A.1).
fn common_name(peer: &PeerId) -> String {
    match peer {
        PeerId::Agent(agent) => agent.node.to_string(),
        PeerId::Operator(name) | PeerId::Viewer(name) => name.to_string(),
        PeerId::Coordinator => "coordinator".to_owned(),
    }
}

fn server_name(name: &str) -> Result<SanType, IdentityError> {
    let invalid = || IdentityError::ServerName { name: name.to_owned() };
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => {
            rustls::pki_types::DnsName::try_from(name).map_err(|_| invalid())?;
            Ok(SanType::DnsName(name.try_into().map_err(|_| invalid())?))
        }
    }
}

/// Sixteen bytes from the system's generator, of which 126 bits are random: positive, and of one length.
fn random_serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)
        .map_err(|_| IdentityError::Issue { problem: "the system gave no random bytes".to_owned() })?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// 9999-12-31T23:59:59Z, the last second that a certificate can name (RFC 5280, 4.1.2.5).
const LAST_SECOND: i64 = 253_402_300_799;

/// Writes both ends of a certificate's life, in whole seconds.
fn set_validity(
    params: &mut CertificateParams,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<(), IdentityError> {
    let since_1970 = |time: Timestamp| {
        let seconds = time.as_millis().div_euclid(1000);
        match u64::try_from(seconds) {
            Ok(positive) if seconds <= LAST_SECOND => Ok(Duration::from_secs(positive)),
            _ => Err(IdentityError::Lifetime { at: time }),
        }
    };
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(not_before)?;
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(not_after)?;
    Ok(())
}

fn issue_failed(error: rcgen::Error) -> IdentityError {
    IdentityError::Issue { problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use urtext_types::{ErrorKind, Explain};
    use x509_parser::prelude::GeneralName;

    use super::*;
    use crate::{CertificateRequest, PeerCertificate};

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_123);

    fn authority() -> CertificateAuthority {
        CertificateAuthority::generate(NOW, AUTHORITY_LIFETIME).expect("an authority")
    }

    fn fra_1() -> AgentIdentity {
        let peer: PeerId = "spiffe://urtext/agent/orders/0/fra/fra-1".parse().expect("a peer");
        peer.agent().expect("an agent").clone()
    }

    #[test]
    fn a_request_that_claims_names_gets_only_the_granted_one() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut claims = CertificateParams::new([COORDINATOR_NAME.to_owned(), "10.0.0.5".to_owned()]).expect("names");
        let uri = "spiffe://urtext/operator/mallory".try_into().expect("a URI");
        claims.subject_alt_names.push(SanType::URI(uri));
        claims.distinguished_name.push(DnType::CommonName, "mallory");
        claims.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        claims.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let csr_pem = claims.serialize_request(&key).and_then(|csr| csr.pem()).expect("a request");

        let issued = authority().issue_agent(&fra_1(), &csr_pem, NOW, AGENT_LIFETIME).expect("a certificate");
        let chain = certificates(&issued.certificate_pem, "the certificate").expect("PEM");
        let (_, certificate) = X509Certificate::from_der(&chain[0]).expect("a certificate");
        let names = certificate.subject_alternative_name().expect("one extension").expect("names");
        assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://urtext/agent/orders/0/fra/fra-1")]);
        assert_eq!(certificate.subject().to_string(), "CN=fra-1");
        let purposes = certificate.extended_key_usage().expect("one extension").expect("purposes").value;
        assert!(purposes.client_auth && !purposes.server_auth && !purposes.any);
        assert!(!certificate.is_ca());
        let usage = certificate.key_usage().expect("one extension").expect("usage").value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        assert_eq!(certificate.public_key().subject_public_key.data, key.public_key_raw());
    }

    #[test]
    fn what_is_issued_is_what_the_certificate_says() {
        let request = CertificateRequest::generate().expect("a request");
        let issued = authority().issue_agent(&fra_1(), &request.csr_pem, NOW, AGENT_LIFETIME).expect("a certificate");
        let chain = certificates(&issued.certificate_pem, "the certificate").expect("PEM");
        let read = PeerCertificate::from_der(&chain[0]).expect("a peer");
        assert_eq!(
            (read.peer, read.serial, read.not_before, read.not_after),
            (issued.peer, issued.serial, issued.not_before, issued.not_after)
        );
        assert_eq!(read.not_before, Timestamp::from_millis(1_790_000_000_000).minus(CLOCK_TOLERANCE));
        assert_eq!(read.not_after, Timestamp::from_millis(1_790_000_000_000).plus(AGENT_LIFETIME));
    }

    #[test]
    fn no_two_certificates_have_one_serial() {
        let (authority, request) = (authority(), CertificateRequest::generate().expect("a request"));
        let issue = || authority.issue_agent(&fra_1(), &request.csr_pem, NOW, AGENT_LIFETIME).expect("a certificate");
        let (a, b) = (issue(), issue());
        assert_ne!(a.serial, b.serial);
        assert_eq!(a.serial.as_str().len(), 32);
    }

    #[test]
    fn a_request_with_a_foreign_key_or_a_broken_signature_is_refused() {
        let check = |csr_pem: &str| {
            let error = authority().issue_agent(&fra_1(), csr_pem, NOW, AGENT_LIFETIME).expect_err("a refusal");
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        };
        let request_of = |key: &KeyPair| {
            CertificateParams::default().serialize_request(key).and_then(|csr| csr.pem()).expect("a request")
        };
        check(&request_of(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key")));
        check(&request_of(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA256).expect("a key")));
        check(&request_of(&KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key")));

        let request = CertificateRequest::generate().expect("a request");
        let mut lines: Vec<String> = request.csr_pem.lines().map(str::to_owned).collect();
        let last = lines.len() - 2;
        let swapped = if lines[last].starts_with('A') { "B" } else { "A" };
        lines[last].replace_range(..1, swapped);
        check(&lines.join("\n"));
        check("");
        check("-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n");
        check(&"x".repeat(CSR_LIMIT + 1));
    }

    #[test]
    fn an_authority_reads_back_as_written_and_overwrites_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = authority();
        authority.save(dir.path()).expect("to write");
        assert_eq!(CertificateAuthority::check_private(dir.path()).expect("metadata"), None);
        let read = CertificateAuthority::load(dir.path()).expect("to read");
        assert_eq!(read.fingerprint(), authority.fingerprint());
        // What the one that was read issues, the original vouches for.
        let operator = read.issue_operator(&"ada".parse().expect("a name"), NOW, USER_LIFETIME).expect("a certificate");
        let signer = crate::AgentSigner::new(&operator.key_pem, &operator.certificate_pem).expect("a signer");
        let signature = signer.sign(b"x");
        crate::verify_signature(&authority.certificate_pem(), &operator.certificate_pem, b"x", &signature)
            .expect("a good signature");

        let error = self::authority().save(dir.path()).expect_err("it exists");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(CertificateAuthority::load(dir.path()).expect("to read").fingerprint(), authority.fingerprint());
    }

    #[test]
    fn key_and_certificate_of_different_authorities_are_refused() {
        let (a, b) = (authority(), authority());
        let error = CertificateAuthority::from_pem(&a.certificate_pem(), &b.key_pem).expect_err("a mismatch");
        assert_eq!(error.to_string(), "the private key does not belong to the CA certificate");
        let operator = a.issue_operator(&"ada".parse().expect("a name"), NOW, USER_LIFETIME).expect("a certificate");
        let error = CertificateAuthority::from_pem(&operator.certificate_pem, &operator.key_pem).expect_err("no CA");
        assert!(error.to_string().contains("not an authority's certificate"), "{error}");
    }

    #[test]
    fn an_expired_authority_issues_nothing_and_none_outlives_it() {
        let authority = CertificateAuthority::generate(NOW, DAY).expect("an authority");
        let ada = "ada".parse().expect("a name");
        let operator = authority.issue_operator(&ada, NOW, USER_LIFETIME).expect("a certificate");
        let end = Timestamp::from_millis(1_790_000_000_000).plus(DAY);
        assert_eq!(operator.certificate().expect("a certificate").not_after, end);
        let error = authority.issue_operator(&ada, NOW.plus(DAY), USER_LIFETIME).expect_err("expired");
        assert!(matches!(error, IdentityError::AuthorityExpired { at } if at == end), "{error}");
    }

    #[test]
    fn times_that_no_certificate_can_say_are_an_error() {
        for now in [i64::MIN, 0, i64::MAX] {
            let refused = CertificateAuthority::generate(Timestamp::from_millis(now), AUTHORITY_LIFETIME);
            assert!(matches!(refused, Err(IdentityError::Lifetime { .. })), "{now}");
        }
    }

    #[test]
    fn only_host_names_and_addresses_are_names_of_a_server() {
        let issue = |name: &str| authority().issue_coordinator(&[name.to_owned()], NOW, DAY).map(drop);
        for good in ["backup.example", "10.0.0.5", "::1", "localhost"] {
            issue(good).expect(good);
        }
        for bad in ["", "https://backup.example", "a b", "backup.example:7600", "ü.example"] {
            assert!(matches!(issue(bad), Err(IdentityError::ServerName { .. })), "{bad}");
        }
    }

    #[test]
    fn renewal_is_due_at_two_thirds() {
        let at = |millis| Timestamp::from_millis(millis);
        assert_eq!(renew_at(at(1000), at(31_000)), at(21_000));
        // A life that ends before it begins is over.
        assert_eq!(renew_at(at(1000), at(500)), at(1000));
    }
}
