//! Forms of locations: paths, addresses, URLs, and references to secrets.

use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;
use reqwest::Url;
use serde_json::{Value, json};

use super::form::{Form, ensure, matching, name, quoted, table, text, text_as};
use crate::http::{HeaderText, Secret, redacted_url};
use crate::intel::FeedSource;

/// The accepted form of a secret. Messages never show the value: it may be the secret itself.
pub(super) const SECRET: &str = "{ file = \"/path\" } or { credential = \"NAME\" }";

/// Host and port; an IPv6 address is in brackets.
pub(super) fn host_and_port() -> Form<String> {
    let accepts = "HOST:PORT in quotes such as \"logs.example.net:6514\"";
    let pattern = concat!(
        r"^(\[[!-.0-?A-~]+\]|[!-.0-9;-?A-~]+):",
        "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
    );
    matching("HOST:PORT", accepts, pattern)
}

/// A network, or an address, which is a network of its own.
pub(super) fn network() -> Form<IpNet> {
    text_as("a network in quotes such as \"10.0.0.0/8\"")
        .try_map(|text| {
            let address = |_not_a_network| text.parse::<std::net::IpAddr>().map(IpNet::from);
            let network = text.parse::<IpNet>().or_else(address);
            let problem = |_neither| format!("{text:?} is not a network such as 10.0.0.0/8");
            network.map(|network| network.trunc()).map_err(problem)
        })
        .shown(|network| json!(network.to_string()))
}

/// An absolute path.
pub(super) fn absolute_path() -> Form<PathBuf> {
    let form = matching("absolute", "an absolute path in quotes", "^/");
    form.try_map(|text| Ok(PathBuf::from(text))).shown(|path| json!(path.display().to_string()))
}

/// Refuses a path that is too long for a unix socket: `sun_path` has 108 bytes (unix(7)).
pub(super) fn short_enough(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().len();
    ensure(bytes <= 107, || {
        format!("{} has {bytes} bytes; the path of a socket has at most 107", path.display())
    })
}

/// An `http:` or `https:` URL without a user name or password.
pub(super) fn http_url() -> Form<Url> {
    let accepts = "an http: or https: URL in quotes";
    let url = text_as(accepts).try_map(|text| parse_url(&text, &["http", "https"], accepts));
    url.with_pattern("^https?:").shown(|url| json!(redacted_url(url)))
}

/// The URL of a proxy without a user name or password; `None` for no proxy.
pub(super) fn proxy_url() -> Form<Option<Url>> {
    let accepts = "\"none\", or an http:, https: or socks5h: URL in quotes";
    let url = text_as(accepts).try_map(move |text| {
        if text == "none" {
            return Ok(None);
        }
        let url = parse_url(&text, &["http", "https", "socks5", "socks5h"], accepts)?;
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        ensure(has_host, || format!("has no host; use {accepts}"))?;
        Ok(Some(url))
    });
    url.with_pattern("^(none$|https?:|socks5h?:)")
        .shown(|url| json!(url.as_ref().map_or_else(|| "none".to_owned(), redacted_url)))
}

/// The one spelling of `path`: a saved set of a feed belongs to it, however `--config` was spelled. A path with
/// `..` is resolved, as far as it exists.
fn canonical_spelling(path: PathBuf) -> PathBuf {
    let path = std::path::absolute(&path).unwrap_or(path);
    if !path.components().any(|it| it == Component::ParentDir) {
        return path;
    }
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// Location of a feed: a `file:` URL (absolute, or relative to the configuration file), or an
/// `http:` or `https:` URL.
pub(super) fn feed_source() -> Form<FeedSource> {
    let form = "\"file:PATH\" or an http: or https: URL";
    let schema = json!({ "type": "string", "pattern": "^(file|https?):" });
    Form::new(form, schema, move |value, dirs| {
        let text = quoted(value, form)?;
        let Some(path) = text.strip_prefix("file:") else {
            let url = parse_url(text, &["http", "https"], form).map(FeedSource::Http);
            let login = "set user, and password = { file = \"/path\" }";
            let add_login = |it| if it == HAS_LOGIN { format!("{it}: {login}") } else { it };
            return url.map_err(add_login);
        };
        let problem = match path.strip_prefix("//") {
            Some(rest) if !rest.starts_with('/') => "names a host",
            _ if path.is_empty() => "has no path",
            absolute => {
                let path = dirs.folder.join(absolute.unwrap_or(path));
                return Ok(FeedSource::File(canonical_spelling(path)));
            }
        };
        Err(format!("{text:?} {problem}; use file:/absolute/path or file:relative"))
    })
    .shown(|source| match source {
        FeedSource::File(path) => json!(format!("file:{}", path.display())),
        other => json!(other.shown()),
    })
}

/// Location of a secret.
pub(super) fn secret() -> Form<Secret> {
    let only = |key: &str, value: Value| {
        json!({
            "type": "object",
            "properties": { key: value },
            "required": [key],
            "additionalProperties": false,
        })
    };
    let locations = [only("file", absolute_path().schema), only("credential", name().schema)];
    Form::new(SECRET, json!({ "oneOf": locations }), |value, dirs| {
        let table = value.as_object();
        let table =
            table.ok_or_else(|| format!("a secret must not be in this file; use {SECRET}"))?;
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return Err(format!("does not name exactly one location; use {SECRET}"));
        };
        let folder = dirs.credentials.map(PathBuf::from);
        match key.as_str() {
            "file" => absolute_path().parse_one(value, dirs).map(Secret::File),
            "credential" => {
                let name = name().parse_one(value, dirs);
                name.map(|name| Secret::Credential { name, folder })
            }
            other => Err(format!("{other:?} is not known here; use {SECRET}")),
        }
    })
}

/// A table of texts and secrets. `is_secret` refuses plain text for the names of secrets.
pub(super) fn texts_and_secrets(
    accepts: &'static str,
    check_name: impl Fn(&str) -> Result<(), String> + 'static,
    is_secret: impl Fn(&str) -> bool + 'static,
) -> Form<Vec<(String, HeaderText)>> {
    let schema = json!({
        "type": "object",
        "additionalProperties": { "anyOf": [{ "type": "string" }, secret().schema] },
    });
    table(accepts, schema, move |name, value, dirs| {
        check_name(name)?;
        let text = match value {
            Value::Object(_) => secret().parse_one(value, dirs).map(HeaderText::Secret),
            _ if is_secret(name) => {
                let problem = "holds a secret, which must not be in this file";
                return Err(format!("{name} {problem}; use {SECRET}"));
            }
            _ => text().parse_one(value, dirs).map(HeaderText::Plain),
        };
        text.map_err(|problem| format!("{name}: {problem}"))
    })
}

const HAS_LOGIN: &str =
    "holds a user name or password; leave it out, secrets must not be in this file";

fn parse_url(text: &str, schemes: &[&str], form: &str) -> Result<Url, String> {
    // No message shows the text: it may contain a password.
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}); use {form}"))?;
    let scheme = url.scheme();
    ensure(schemes.contains(&scheme), || format!("has scheme {scheme}; use {form}"))?;
    let has_login = !url.username().is_empty() || url.password().is_some();
    ensure(!has_login, || HAS_LOGIN.to_owned())?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        let expected = root.join("list.txt");
        for spelled in
            ["list.txt", "./list.txt", ".//list.txt", "a/../list.txt", "./a/./../list.txt"]
        {
            assert_eq!(canonical_spelling(root.join(spelled)), expected, "{spelled}");
        }
        let relative = std::env::current_dir().unwrap().join("list.txt");
        assert_eq!(canonical_spelling("list.txt".into()), relative);
        // What does not exist stays as it is.
        let none = root.join("none/../list.txt");
        assert_eq!(canonical_spelling(none.clone()), none);
    }
}
