//! Keys for the access to the server of a `[[feed]]` or `[[sink]]`: credentials, headers,
//! certificates and proxy.

use super::form::{self, Form, boolean, text};
use super::key::keys;
use super::location::{SECRET, absolute_path, proxy_url, secret, texts_and_secrets};
use super::section::Section;
use crate::http::{
    Access, Certificate, HeaderText, Login, Proxy, TOKEN_HEADER, TlsConfig, is_header_name,
    is_header_value,
};

/// Defaults for the header of a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenHeader {
    pub(super) name: &'static str,
    /// Prefix of the token, if the header has its default name; "" for none.
    pub(super) scheme: &'static str,
}

impl TokenHeader {
    /// `Authorization` with a scheme.
    pub(super) const fn authorization(scheme: &'static str) -> Self {
        Self { name: TOKEN_HEADER, scheme }
    }
}

/// Credentials in each request.
pub(super) fn login(
    section: &mut Section<'_, '_>,
    group: &'static str,
    default: TokenHeader,
) -> Login {
    keys! { section, group, RELOAD;
        /// User name for HTTP Basic authentication.
        user: text() => optional("none");
        /// Password for HTTP Basic authentication.
        password: secret() => optional("none");
        /// API key or token, sent in a header.
        token: secret() => optional("none");
        /// Name of that header.
        token_header: header_name() => optional(format!("`{:?}`", default.name));
        /// Prefix of the token in the header, such as `"Token"`; `""` for none. If
        /// `token_header` is set, the default is `""`.
        token_scheme: scheme() => optional(format!("`{:?}`", default.scheme));
    }
    for key in ["token_header", "token_scheme"] {
        section.depends(key, "token", "is of no use without token; set token too, or leave it out");
    }
    let problem = format!("has no password; set password = {SECRET}");
    section.depends("user", "password", &problem);
    section.depends("password", "user", "has no user; set user");
    if section.has("user") && section.has("password") {
        let problem = "is one login, user and password are another; leave one out";
        section.refuse(&["token"], problem);
    }
    let scheme = if token_header.is_none() { default.scheme } else { "" };
    match (user, password, token) {
        (Some(user), Some(password), None) => Login::Basic { user, password },
        (_, _, Some(token)) => Login::Token {
            header: token_header.unwrap_or_else(|| default.name.to_owned()),
            scheme: token_scheme.unwrap_or_else(|| scheme.to_owned()),
            token,
        },
        _ => Login::None,
    }
}

/// Access with a login; `certificates` is the group of the keys for TLS.
pub(super) fn access(
    section: &mut Section<'_, '_>,
    group: &'static str,
    certificates: &'static str,
    login: Login,
) -> Access {
    keys! { section, group, RELOAD;
        /// Additional headers, `{ "X-Name" = "text", "X-Key" = { file = "/path" } }`.
        headers: headers() => optional("none");
    }
    let tls = tls_files(section, certificates);
    let proxy = proxy(section, group);
    let headers = headers.unwrap_or_default();
    Access { login, headers, certificate: tls.certificate, ca_file: tls.ca_file, proxy }
}

/// Certificates of both sides of a TLS connection.
fn tls_files(section: &mut Section<'_, '_>, group: &'static str) -> TlsConfig {
    keys! { section, group, RELOAD;
        /// Client certificate with its intermediate certificates (PEM).
        client_cert: absolute_path() => optional("none");
        /// Private key of that certificate (PEM, without a password).
        client_key: absolute_path() => optional("none");
        /// Certificate authorities to trust for this server (PEM), instead of those of the
        /// host.
        ca_file: absolute_path() => optional("those of the host");
    }
    section.depends("client_cert", "client_key", "has no key; set client_key to its PEM file");
    let problem = "has no certificate; set client_cert to its PEM file";
    section.depends("client_key", "client_cert", problem);
    let certificate = client_cert.zip(client_key);
    let certificate = certificate.map(|(chain, key)| Certificate { chain, key });
    TlsConfig { ca_file, certificate }
}

/// TLS if the sink enables it.
pub(super) fn tls(section: &mut Section<'_, '_>, group: &'static str) -> Option<TlsConfig> {
    keys! { section, group, RELOAD;
        /// Uses TLS (for `"syslog"`, RFC 5425), with `ca_file`, `client_cert` and `client_key` as above.
        tls: boolean() => default(false);
    }
    let config = tls_files(section, "sink tls");
    if !tls {
        let problem = "is of no use without TLS; set tls = true, or leave it out";
        section.refuse_group("sink tls", problem);
    }
    tls.then_some(config)
}

fn proxy(section: &mut Section<'_, '_>, group: &'static str) -> Proxy {
    keys! { section, group, RELOAD;
        /// `"none"`, or the URL of an `http:`, `https:`, `socks5:` or `socks5h:` proxy
        /// (the last one resolves names itself). `NO_PROXY` applies to it too.
        proxy: proxy_url()
            => optional("from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`");
        /// User name for the proxy.
        proxy_user: text() => optional("none");
        /// Password for the proxy.
        proxy_password: secret() => optional("none");
    }
    section.together(&["proxy_user", "proxy_password"], "proxy_user and proxy_password");
    let login = proxy_user.zip(proxy_password);
    match proxy {
        Some(Some(url)) => Proxy::Url { url, login },
        other => {
            if login.is_some() {
                let problem = "is of no use without the URL of a proxy; set proxy";
                section.add("proxy_user", problem);
            }
            if other.is_some() { Proxy::None } else { Proxy::Environment }
        }
    }
}

fn headers() -> Form<Vec<(String, HeaderText)>> {
    let accepts = "{ \"X-Name\" = \"text\" } or { \"X-Key\" = { file = \"/path\" } }";
    let check = |name: &str| {
        let problem = || format!("{name:?} is not the name of a header that can be set here");
        form::ensure(is_header_name(name), problem)
    };
    texts_and_secrets(accepts, check, |name| {
        let name = name.to_ascii_lowercase();
        ["auth", "key", "token", "secret", "cookie", "passw"].iter().any(|part| name.contains(part))
    })
    .checked(|headers| {
        let invalid = headers.iter().find(|(_, text)| match text {
            HeaderText::Plain(text) => !is_header_value(text),
            HeaderText::Secret(_) => false,
        });
        match invalid {
            Some((name, _)) => Err(format!(
                "{name}: has a line break or another control character, which no header can have; leave it out"
            )),
            None => Ok(()),
        }
    })
}

fn header_name() -> Form<String> {
    text().checked(|name| {
        let problem =
            || format!("{name:?} is not the name of a header; use one such as \"X-Api-Key\"");
        form::ensure(is_header_name(name), problem)
    })
}

/// Prefix of a token: one word, or nothing. Messages do not show it: it may be the token itself.
fn scheme() -> Form<String> {
    text().checked(|text| {
        let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let problem = || "is not one word; use \"Bearer\", \"Token\" or \"\"".to_owned();
        form::ensure(text.len() <= 32 && is_word, problem)
    })
}
