//! Certificates for tests, as PEM files.
#![expect(clippy::expect_used, reason = "a test ends with a panic")]

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// Temporary directory with a certificate authority `ca`, the certificates that it signed, `server`
/// (`logs.example.net` and `127.0.0.1`) and `client`, and the keys `server.key` and `client.key`.
pub fn certificates() -> TempDir {
    let folder = tempfile::tempdir().expect("a certificate");
    let write = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).expect("a certificate");
    };
    let mut params = CertificateParams::default();
    // OpenSSL considers a certificate whose subject equals its issuer self-signed.
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a certificate"))
            .expect("a certificate");
    write("ca", authority.pem());
    for (name, hosts) in
        [("server", &["logs.example.net", "127.0.0.1"][..]), ("client", &["sensor.example.net"])]
    {
        let key = KeyPair::generate().expect("a certificate");
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("a certificate");
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        write(name, params.signed_by(&key, &authority).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    folder
}

/// TLS acceptor with the certificate `server` of [`certificates`], without client certificates.
pub fn tls_acceptor(files: &Path) -> TlsAcceptor {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("TLS versions");
    let certificate = CertificateDer::from_pem_file(files.join("server")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(files.join("server.key")).expect("a key");
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
}
