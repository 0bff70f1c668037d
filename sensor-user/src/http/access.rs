//! Access to a server: credentials, headers, certificates and proxy, and the files that they are read
//! from before a request.

use std::fmt;
use std::path::PathBuf;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};

use super::error::AccessError;
use super::secret::{SECRET_MAX, Secret, SecretError, SecretText, read_bounded};

/// Maximum size of a CA bundle, bytes; that of a host has about 250 KiB.
const CA_BUNDLE_MAX: u64 = 8 << 20;

/// How a server is reached. Secrets are referred to, not held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Credentials of each request.
    pub login: Login,
    /// Additional headers of each request to that server, by name.
    pub headers: Vec<(String, HeaderText)>,
    /// Client certificate and its key, both PEM.
    pub certificate: Option<Certificate>,
    /// CA certificates to trust, PEM, in place of those of the host.
    pub ca_file: Option<PathBuf>,
    /// Proxy to the server.
    pub proxy: Proxy,
}

/// Credentials of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// No credentials.
    #[default]
    None,
    /// HTTP Basic (RFC 7617).
    Basic {
        /// User name.
        user: String,
        /// Password of the user.
        password: Secret,
    },
    /// API key or token in a header.
    Token {
        /// Name of the header.
        header: String,
        /// Prefix of the value, such as `Bearer`; "" for none.
        scheme: String,
        /// The token itself.
        token: Secret,
    },
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderText {
    /// Text from the configuration.
    Plain(String),
    /// Text that is read from a file before each use.
    Secret(Secret),
}

/// Client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Certificate chain without the root, PEM.
    pub chain: PathBuf,
    /// Private key, PEM, not encrypted.
    pub key: PathBuf,
}

/// Proxy to a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// From `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    #[default]
    Environment,
    /// No proxy, whatever the environment contains.
    None,
    /// The proxy at a URL.
    Url {
        /// `http:`, `https:` or `socks5h:` (the proxy resolves names).
        url: Url,
        /// User and password of the proxy.
        login: Option<(String, Secret)>,
    },
}

/// Contents of the files that [`Access`] refers to.
pub(crate) struct Material {
    login: Credentials,
    headers: HeaderMap,
    /// Client certificate and key, PEM.
    pub(crate) identity: Option<Vec<u8>>,
    pub(crate) authorities: Option<Vec<u8>>,
    pub(crate) proxy_password: Option<SecretText>,
}

enum Credentials {
    None,
    Basic(String, SecretText),
    Header(HeaderName, HeaderValue),
}

impl Access {
    /// All secrets that the access refers to.
    pub fn secrets(&self) -> Vec<&Secret> {
        let login = match &self.login {
            Login::None => None,
            Login::Basic { password, .. } => Some(password),
            Login::Token { token, .. } => Some(token),
        };
        let proxy = match &self.proxy {
            Proxy::Url { login: Some((_, password)), .. } => Some(password),
            _ => None,
        };
        let headers = self.headers.iter().filter_map(|(_, text)| match text {
            HeaderText::Plain(_) => None,
            HeaderText::Secret(secret) => Some(secret),
        });
        login.into_iter().chain(proxy).chain(headers).collect()
    }

    /// Reads the files; blocks on the disk.
    pub(crate) fn read(&self) -> Result<Material, AccessError> {
        let login = match &self.login {
            Login::None => Credentials::None,
            Login::Basic { user, password } => Credentials::Basic(user.clone(), password.read()?),
            Login::Token { header, scheme, token } => {
                let key = token.read()?;
                let space = if scheme.is_empty() { "" } else { " " };
                let text = format!("{scheme}{space}{}", key.text());
                Credentials::Header(name(header)?, value(header, &text)?)
            }
        };
        let mut headers = HeaderMap::new();
        for (header, text) in &self.headers {
            let text = match text {
                HeaderText::Plain(text) => value(header, text)?,
                HeaderText::Secret(secret) => value(header, secret.read()?.text())?,
            };
            headers.insert(name(header)?, text);
        }
        let identity = match &self.certificate {
            None => None,
            Some(Certificate { chain, key }) => {
                let mut pem = read_bounded(chain, SECRET_MAX)?;
                pem.push(b'\n');
                pem.extend(read_bounded(key, SECRET_MAX)?);
                Some(pem)
            }
        };
        let authorities = self.ca_file.as_ref().map(|path| read_authorities(path)).transpose()?;
        let proxy_password = match &self.proxy {
            Proxy::Url { login: Some((_, password)), .. } => Some(password.read()?),
            _ => None,
        };
        Ok(Material { login, headers, identity, authorities, proxy_password })
    }
}

impl Material {
    /// Adds credentials and configured headers to a request to the server that they are for.
    pub(crate) fn authenticate(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.headers(self.headers.clone());
        match &self.login {
            Credentials::None => request,
            Credentials::Basic(user, password) => request.basic_auth(user, Some(password.text())),
            Credentials::Header(name, value) => request.header(name, value),
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

/// CA bundle with at least one certificate.
pub(super) fn read_authorities(path: &std::path::Path) -> Result<Vec<u8>, SecretError> {
    let bytes = read_bounded(path, CA_BUNDLE_MAX)?;
    // An empty bundle trusts no server, and the error message would blame the server's certificate.
    if memchr::memmem::find(&bytes, b"-----BEGIN CERTIFICATE-----").is_none() {
        let what = "contains no certificate; use a PEM file of CA certificates";
        return Err(SecretError::Content { path: path.to_owned(), what });
    }
    Ok(bytes)
}

fn name(header: &str) -> Result<HeaderName, AccessError> {
    HeaderName::try_from(header).map_err(|_invalid| AccessError::Header(header.to_owned()))
}

/// Value of `header`, marked as sensitive so that it is in no log.
fn value(header: &str, text: &str) -> Result<HeaderValue, AccessError> {
    let mut value =
        HeaderValue::try_from(text).map_err(|_invalid| AccessError::Header(header.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// True if `text` can be the value of a header: it has no line break or other control character.
pub fn is_header_value(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

/// True if `name` is a valid header name, and not one that the client sets by itself.
pub fn is_header_name(name: &str) -> bool {
    const RESERVED: [&str; 8] = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "if-none-match",
        "if-modified-since",
    ];
    HeaderName::try_from(name).is_ok_and(|name| !RESERVED.contains(&name.as_str()))
}

/// Default header of a token.
pub const TOKEN_HEADER: &str = "Authorization";
