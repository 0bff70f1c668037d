//! Access: what a server asks of its client (who it is, over which proxy, by which certificates),
//! and what of it is read before it is asked.

use std::fmt;
use std::path::PathBuf;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};

use super::error::AccessError;
use super::secret::{MAX, Revealed, Secret, SecretError, read_bounded};

/// A bundle of authorities is not larger, bytes; those of a host take about 250 KiB.
const AUTHORITIES: u64 = 8 << 20;

/// How a server is reached. Secrets are named, not held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Who asks.
    pub login: Login,
    /// Further headers of each request to that server, by name.
    pub headers: Vec<(String, HeaderText)>,
    /// A certificate of the client and its key, both PEM.
    pub certificate: Option<Certificate>,
    /// The authorities to trust for it, PEM, in place of those of the host.
    pub ca_file: Option<PathBuf>,
    /// By what way.
    pub proxy: Proxy,
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// Anybody.
    #[default]
    None,
    /// HTTP Basic (RFC 7617).
    Basic {
        /// Name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A key in a header.
    Token {
        /// The header's name.
        header: String,
        /// What stands before the key; "" for nothing.
        scheme: String,
        /// The key.
        token: Secret,
    },
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderText {
    /// As configured.
    Plain(String),
    /// Read before it is sent.
    Secret(Secret),
}

/// A certificate of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, and those between it and its authority, PEM.
    pub chain: PathBuf,
    /// Its key, PEM, without a password.
    pub key: PathBuf,
}

/// By what way a server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// As `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// Directly, whatever they say.
    None,
    /// Over this one.
    Url {
        /// `http:`, `https:` or `socks5h:` (names are resolved there).
        url: Url,
        /// Who asks the proxy.
        login: Option<(String, Secret)>,
    },
}

/// What is read of [`Access`].
pub(crate) struct Material {
    login: Credentials,
    headers: HeaderMap,
    /// Certificate and key.
    pub(crate) identity: Option<Vec<u8>>,
    pub(crate) authorities: Option<Vec<u8>>,
    pub(crate) proxy_password: Option<Revealed>,
}

enum Credentials {
    None,
    Basic(String, Revealed),
    Header(HeaderName, HeaderValue),
}

impl Access {
    /// All secrets that are named.
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

    /// Reads what the files say now. It blocks.
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
                let mut pem = read_bounded(chain, MAX)?;
                pem.push(b'\n');
                pem.extend(read_bounded(key, MAX)?);
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
    /// Adds who asks, and the configured headers, to a request to the server that asks for them.
    pub(crate) fn introduce(&self, request: RequestBuilder) -> RequestBuilder {
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

/// A bundle of authorities that has one.
pub(super) fn read_authorities(path: &std::path::Path) -> Result<Vec<u8>, SecretError> {
    let bytes = read_bounded(path, AUTHORITIES)?;
    // Without one nobody would be trusted, and the fault would be told as the server's.
    if memchr::memmem::find(&bytes, b"-----BEGIN CERTIFICATE-----").is_none() {
        let what = "holds no certificate; name a PEM file of authorities";
        return Err(SecretError::Content { path: path.to_owned(), what });
    }
    Ok(bytes)
}

fn name(header: &str) -> Result<HeaderName, AccessError> {
    HeaderName::try_from(header).map_err(|_invalid| AccessError::Header(header.to_owned()))
}

/// The value of `header`; it is kept out of logs.
fn value(header: &str, text: &str) -> Result<HeaderValue, AccessError> {
    let mut value =
        HeaderValue::try_from(text).map_err(|_invalid| AccessError::Header(header.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether `name` can be the name of a header, and is none that a request has anyway.
pub fn is_header_name(name: &str) -> bool {
    const OURS: [&str; 8] = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "accept-encoding",
        "if-none-match",
        "if-modified-since",
    ];
    HeaderName::try_from(name).is_ok_and(|name| !OURS.contains(&name.as_str()))
}

/// The header that carries a key unless another is named.
pub const TOKEN_HEADER: &str = "Authorization";
