//! A certificate authority of the test's own, for servers that speak TLS only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A server certificate for 127.0.0.1 and localhost, its key, and the authority that signed it.
#[derive(Debug)]
pub struct Certificates {
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    ca_pem: String,
}

impl Certificates {
    /// Makes all three as PEM files in `folder`.
    pub fn make(folder: &Path) -> Self {
        // The process's provider, for our own connections; whoever came first chose the same.
        rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap_or_default();
        let ca_key = KeyPair::generate().expect("make a key");
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "authority of a test");
        let ca_pem = ca.self_signed(&ca_key).expect("sign the authority").pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().expect("make a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let leaf = CertificateParams::new(names).expect("two valid names").signed_by(&key, &issuer).expect("sign");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("write a PEM file");
            path
        };
        Self {
            ca_file: write("ca.pem", &ca_pem),
            cert_file: write("server.pem", &leaf.pem()),
            key_file: write("server.key", &key.serialize_pem()),
            ca_pem,
        }
    }

    /// What a client must trust.
    pub fn for_client(&self) -> redis::TlsCertificates {
        redis::TlsCertificates { client_tls: None, root_cert: Some(self.ca_pem.clone().into_bytes()) }
    }
}
