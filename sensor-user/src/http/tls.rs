//! TLS for protocols other than HTTP: trusted CA certificates, and the client certificate. The files
//! are read at each connect, so that a replaced certificate takes effect.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::access::{Certificate, read_authorities};
use super::error::AccessError;
use super::secret::{SECRET_MAX, SecretError, read_bounded};

/// TLS settings of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// CA certificates to trust, PEM, in place of those of the host.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key.
    pub certificate: Option<Certificate>,
}

impl TlsConfig {
    /// Reads the files; blocks on the disk.
    pub(crate) fn client(&self) -> Result<ClientConfig, AccessError> {
        super::crypto_provider::install_provider();
        let builder = ClientConfig::builder();
        let builder = match &self.ca_file {
            None => builder.with_platform_verifier().map_err(AccessError::Tls)?,
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path, &read_authorities(path)?)? {
                    roots.add(authority).map_err(AccessError::Tls)?;
                }
                builder.with_root_certificates(roots)
            }
        };
        match &self.certificate {
            None => Ok(builder.with_no_client_auth()),
            Some(Certificate { chain, key }) => {
                let chain = certificates(chain, &read_bounded(chain, SECRET_MAX)?)?;
                let pem = read_bounded(key, SECRET_MAX)?;
                let key = PrivateKeyDer::from_pem_slice(&pem)
                    .map_err(|_none| content(key, "contains no key; use a PEM file with one"))?;
                builder.with_client_auth_cert(chain, key).map_err(AccessError::Tls)
            }
        }
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SecretError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.map_err(|_broken| content(path, "contains a malformed certificate; use a PEM file"))
}

fn content(path: &Path, what: &'static str) -> SecretError {
    SecretError::Content { path: path.to_owned(), what }
}
