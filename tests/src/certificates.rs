//! Certificates for tests, as PEM files.
#![expect(clippy::expect_used, reason = "a test ends with a panic")]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;

/// An authority, and what it certified: `ca`, `server` (`logs.example.net` and `127.0.0.1`),
/// `client`, and the keys `server.key` and `client.key`.
pub fn certificates() -> TempDir {
    let folder = tempfile::tempdir().expect("a certificate");
    let write = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).expect("a certificate");
    };
    let mut params = CertificateParams::default();
    // OpenSSL takes what has its issuer's name for its own issuer.
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
