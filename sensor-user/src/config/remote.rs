//! The keys of a `[[feed]]` or `[[sink]]` that say how its server is reached. No secret is in the
//! file: its keys name one, `{ file = "/path" }` or `{ credential = "NAME" }`.

use std::path::PathBuf;

use toml::de::DeValue;

use super::base_dirs::BaseDirs;
use super::kind::FeedKindKey;
use super::reader::Section;
use super::values;
use crate::http::{
    Access, Certificate, HeaderText, Login, Proxy, Secret, TOKEN_HEADER, TlsConfig, is_header_name,
};
use crate::intel::FeedSource;

/// The keys that say who asks.
pub(super) const LOGIN: [&str; 5] = ["user", "password", "token", "token_header", "token_scheme"];

/// The keys that say by what way.
pub(super) const WAY: [&str; 7] =
    ["headers", "client_cert", "client_key", "ca_file", "proxy", "proxy_user", "proxy_password"];

/// Those of them that say by which certificates.
pub(super) const CERTIFICATES: [&str; 3] = ["client_cert", "client_key", "ca_file"];

/// The header of a token and what stands before it there, as the servers of a kind expect them.
pub(super) type UsualToken = (&'static str, &'static str);

/// How the server of a feed of `kind` at `source` is reached.
pub(super) fn feed_access(
    section: &mut Section<'_, '_>,
    kind: Option<FeedKindKey>,
    source: Option<&FeedSource>,
    place: BaseDirs<'_>,
) -> Access {
    if matches!(source, Some(FeedSource::File(_))) {
        for key in LOGIN.into_iter().chain(WAY) {
            section.refuse_here(key, "has no meaning for a file: URL, only for http: and https:");
        }
        return Access::default();
    }
    let usual = match kind {
        Some(FeedKindKey::Misp) => (TOKEN_HEADER, ""),
        Some(FeedKindKey::CrowdSec) => ("X-Api-Key", ""),
        _ => (TOKEN_HEADER, "Bearer"),
    };
    access(section, usual, place)
}

/// How a server is reached whose tokens are usually sent as `usual` says.
pub(super) fn access(
    section: &mut Section<'_, '_>,
    usual: UsualToken,
    place: BaseDirs<'_>,
) -> Access {
    let headers = section.read("headers", |value| headers(value, place)).unwrap_or_default();
    let login = login(section, usual, place);
    Access {
        login,
        headers,
        certificate: certificate(section),
        ca_file: section.read("ca_file", values::absolute_path),
        proxy: proxy(section, place),
    }
}

/// By which certificates a server and the agent know each other.
pub(super) fn tls(section: &mut Section<'_, '_>) -> TlsConfig {
    TlsConfig {
        certificate: certificate(section),
        ca_file: section.read("ca_file", values::absolute_path),
    }
}

fn login(section: &mut Section<'_, '_>, usual: UsualToken, place: BaseDirs<'_>) -> Login {
    let user = section.read("user", values::text);
    let password = section.read("password", |value| secret(value, place));
    let token = section.read("token", |value| secret(value, place));
    let header = section.read("token_header", header_name);
    let scheme = section.read("token_scheme", scheme);
    for key in ["token_header", "token_scheme"] {
        if section.has(key) && !section.has("token") {
            section.note(key, "is of no use without token; set token too, or leave it out");
        }
    }
    match (section.has("user"), section.has("password"), section.has("token")) {
        (true, false, _) => section.note(
            "user",
            "has no password; set password = { file = \"/path\" } or { credential = \"NAME\" }",
        ),
        (false, true, _) => section.note("password", "has no user; set user"),
        (true, true, true) => section
            .note("token", "is one way to log in, user and password are another; leave one out"),
        _ => {}
    }
    match (user, password, token) {
        (Some(user), Some(password), None) => Login::Basic { user, password },
        (_, _, Some(token)) => {
            let (usual_header, usual_scheme) = usual;
            let is_usual = header.is_none();
            Login::Token {
                header: header.unwrap_or_else(|| usual_header.to_owned()),
                scheme: scheme
                    .unwrap_or_else(|| if is_usual { usual_scheme } else { "" }.to_owned()),
                token,
            }
        }
        _ => Login::None,
    }
}

fn certificate(section: &mut Section<'_, '_>) -> Option<Certificate> {
    let chain = section.read("client_cert", values::absolute_path);
    let key = section.read("client_key", values::absolute_path);
    match (section.has("client_cert"), section.has("client_key")) {
        (true, false) => section.note("client_cert", "has no key; set client_key to its PEM file"),
        (false, true) => {
            section.note("client_key", "has no certificate; set client_cert to its PEM file");
        }
        _ => {}
    }
    Some(Certificate { chain: chain?, key: key? })
}

fn proxy(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> Proxy {
    let proxy = section.read("proxy", |value| {
        if value.as_str() == Some("none") {
            return Ok(Proxy::None);
        }
        values::proxy_url(value).map(|url| Proxy::Url { url, login: None })
    });
    let user = section.read("proxy_user", values::text);
    let password = section.read("proxy_password", |value| secret(value, place));
    section.together(&["proxy_user", "proxy_password"], "proxy_user and proxy_password");
    let login = user.zip(password);
    match proxy {
        Some(Proxy::Url { url, .. }) => Proxy::Url { url, login },
        other => {
            if login.is_some() {
                section.note("proxy_user", "is of no use without the URL of a proxy; set proxy");
            }
            other.unwrap_or_default()
        }
    }
}

/// `{ file = "/path" }` or `{ credential = "NAME" }`. What stands there instead is not shown: it
/// may be the secret.
pub(super) fn secret(value: &DeValue<'_>, place: BaseDirs<'_>) -> Result<Secret, String> {
    const FORM: &str = "use { file = \"/path\" } or { credential = \"NAME\" }";
    let Some(table) = value.as_table() else {
        return Err(format!("a secret does not stand in this file; {FORM}"));
    };
    let mut entries = table.iter();
    let (Some((key, value)), None) = (entries.next(), entries.next()) else {
        return Err(format!("names not one place; {FORM}"));
    };
    match key.get_ref().as_ref() {
        "file" => values::absolute_path(value.get_ref()).map(Secret::File),
        "credential" => values::name(value.get_ref())
            .map(|name| Secret::Credential { name, folder: place.credentials.map(PathBuf::from) }),
        other => Err(format!("{other:?} is not known here; {FORM}")),
    }
}

fn headers(value: &DeValue<'_>, place: BaseDirs<'_>) -> Result<Vec<(String, HeaderText)>, String> {
    let Some(table) = value.as_table() else {
        return Err("is not a table; use { \"X-Name\" = \"text\" } or { \"X-Key\" = { file = \
                    \"/path\" } }"
            .to_owned());
    };
    let mut all = Vec::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if !is_header_name(name) {
            return Err(format!("{name:?} is not the name of a header that can be set here"));
        }
        let told = |error| format!("{name}: {error}");
        let text = match value.get_ref() {
            DeValue::Table(_) => HeaderText::Secret(secret(value.get_ref(), place).map_err(told)?),
            _ if holds_secret(name) => {
                return Err(format!(
                    "{name} holds a secret, which does not stand in this file; use {{ file = \
                     \"/path\" }} or {{ credential = \"NAME\" }}"
                ));
            }
            other => HeaderText::Plain(values::text(other).map_err(told)?),
        };
        all.push((name.to_owned(), text));
    }
    Ok(all)
}

/// Whether a header of this name is one for secrets.
fn holds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "key", "token", "secret", "cookie", "passw"].iter().any(|part| name.contains(part))
}

fn header_name(value: &DeValue<'_>) -> Result<String, String> {
    let name = values::text(value)?;
    if is_header_name(&name) {
        return Ok(name);
    }
    Err(format!("{name:?} is not the name of a header; use one such as \"X-Api-Key\""))
}

/// What stands before a token: a word or nothing.
fn scheme(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    if text.len() <= 32 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Ok(text);
    }
    Err("is not one word; use \"Bearer\", \"Token\" or \"\"".to_owned())
}
