//! The forms of single values. Each function's error is `what is wrong, with the value; the
//! accepted form`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;

use super::reader::hint;
use crate::intel::FeedSource;
use crate::pipeline::capture::programs;

/// Text.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    quoted(value, "text in quotes").map(str::to_owned)
}

/// One character.
pub(super) fn character(value: &DeValue<'_>) -> Result<char, String> {
    let text = quoted(value, "one character in quotes")?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(one), None) if one.is_ascii() => Ok(one),
        _ => Err(format!("{text:?} is not one ASCII character; use one such as \";\"")),
    }
}

/// A name of a feed or sink: 1 to 64 of letters, digits, `-`, `_` and `.`.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, String> {
    let form = "1 to 64 letters, digits, -, _ or . in quotes";
    let text = quoted(value, form)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(format!("{text:?} is not a name; use {form}"));
    }
    Ok(text.to_owned())
}

/// `true` or `false`.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false"))
}

/// A whole number in `range`.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, String>
where
    T: TryFrom<u64> + PartialOrd + Display,
{
    move |value| {
        let form = format!("a whole number from {} to {}", range.start(), range.end());
        let number = integer(value).ok_or_else(|| wrong_type(value, &form))?;
        let fitting = u64::try_from(number).ok().and_then(|number| T::try_from(number).ok());
        fitting
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{number} is out of range; use {form}"))
    }
}

/// A duration as `humantime` writes it, in `range`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        let (from, to) = (range.start(), range.end());
        let text = quoted(value, "a duration in quotes such as \"30s\", \"5m\" or \"1h 30m\"")?;
        let parsed = humantime::parse_duration(text).map_err(|error| {
            format!(
                "{text:?} is not a duration ({error}); use one such as \"30s\", \"5m\" or \"1h 30m\""
            )
        })?;
        if range.contains(&parsed) {
            return Ok(parsed);
        }
        let (from, to) = (humantime::format_duration(*from), humantime::format_duration(*to));
        Err(format!("{text:?} is out of range; use {from} to {to}"))
    }
}

/// A number of bytes: a whole number, or text with B, KiB, MiB or GiB; in `range`.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let form = "a size such as \"64KiB\", \"8MiB\" or \"1GiB\", or a number of bytes";
        let (bytes, shown) = match (value.as_str(), integer(value)) {
            (Some(text), _) => (size_of_text(text), format!("{text:?}")),
            (None, Some(number)) => (u64::try_from(number).ok(), number.to_string()),
            (None, None) => return Err(wrong_type(value, form)),
        };
        let bytes = bytes.ok_or_else(|| format!("{shown} is not a size; use {form}"))?;
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        let (from, to) = (size_text(*range.start()), size_text(*range.end()));
        Err(format!("{shown} is out of range; use {from} to {to}"))
    }
}

/// `8388608` as `8MiB`: the largest unit that divides it.
pub(crate) fn size_text(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30_u32), ("MiB", 20), ("KiB", 10)] {
        let whole = bytes >> shift;
        if whole > 0 && whole << shift == bytes {
            return format!("{whole}{unit}");
        }
    }
    format!("{bytes}B")
}

fn size_of_text(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.trim_start() {
        "" | "B" => 0_u32,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1_u64.checked_shl(shift)?)
}

/// One word of `words`; the result is its index.
pub(super) fn word(words: &[&str], value: &DeValue<'_>) -> Result<usize, String> {
    let list = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    let text = quoted(value, &list)?;
    words
        .iter()
        .position(|word| *word == text)
        .ok_or_else(|| format!("{text:?} is not known here; use {list}"))
}

/// A network, or an address that stands for itself.
pub(super) fn network(value: &DeValue<'_>) -> Result<IpNet, String> {
    let text = quoted(value, "a network in quotes such as \"10.0.0.0/8\"")?;
    let parsed = text
        .parse::<IpNet>()
        .or_else(|_not_a_network| text.parse::<std::net::IpAddr>().map(IpNet::from));
    match parsed {
        Ok(network) => Ok(network.trunc()),
        Err(_neither) => Err(format!("{text:?} is not a network such as 10.0.0.0/8")),
    }
}

/// An absolute path short enough for a unix socket: `sun_path` has 108 bytes (unix(7)).
pub(super) fn socket_path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    short(absolute_path(value)?)
}

/// The same of text.
pub(super) fn socket_path_of_text(text: &str) -> Result<PathBuf, String> {
    short(absolute(text, "an absolute path")?)
}

fn short(path: PathBuf) -> Result<PathBuf, String> {
    let bytes = path.as_os_str().len();
    if bytes > 107 {
        return Err(format!(
            "{} has {bytes} bytes; a socket's path has 107 at most",
            path.display()
        ));
    }
    Ok(path)
}

/// One of the BPF programs, by its name.
pub(super) fn program(value: &DeValue<'_>) -> Result<String, String> {
    let name = text(value)?;
    if programs().any(|program| program == name) {
        return Ok(name);
    }
    Err(format!("{name:?} is not a program; {}", hint(&name, &programs().collect::<Vec<_>>())))
}

/// An absolute path.
pub(super) fn absolute_path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let form = "an absolute path in quotes";
    absolute(quoted(value, form)?, form)
}

fn absolute(text: &str, form: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(format!("{:?} is not absolute; use {form}", path.display().to_string()))
}

/// An `http:` or `https:` URL without a user name or password.
pub(super) fn http_url(value: &DeValue<'_>) -> Result<reqwest::Url, String> {
    let form = "an http: or https: URL in quotes";
    http_url_of_text(quoted(value, form)?, form)
}

/// The URL of a proxy without a user name or password.
pub(super) fn proxy_url(value: &DeValue<'_>) -> Result<reqwest::Url, String> {
    let form = "\"none\", or an http:, https: or socks5h: URL in quotes";
    let url = url_of_text(quoted(value, form)?, &["http", "https", "socks5", "socks5h"], form)?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("names no host; use {form}"));
    }
    Ok(url)
}

/// Text that can stand in the path of a URL as it is.
pub(super) fn path_word(value: &DeValue<'_>) -> Result<String, String> {
    let form = "letters, digits, -, _, . and parentheses in quotes";
    let text = quoted(value, form)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
    if text.is_empty() || text.len() > 128 || text.starts_with('.') || !text.chars().all(plain) {
        return Err(format!("{text:?} is not a name; use {form}"));
    }
    Ok(text.to_owned())
}

/// The same value as JSON; `None` for one that holds a time, or is a number that JSON has not.
pub(super) fn json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        DeValue::String(text) => Value::String(text.as_ref().to_owned()),
        DeValue::Integer(_) => Value::from(integer(value)?),
        DeValue::Float(number) => {
            serde_json::Number::from_f64(number.as_str().parse().ok()?).map(Value::Number)?
        }
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => {
            items.iter().map(|item| json(item.get_ref())).collect::<Option<Vec<_>>>()?.into()
        }
        DeValue::Table(table) => {
            let pair = |(key, value): (
                &toml::Spanned<std::borrow::Cow<'_, str>>,
                &toml::Spanned<DeValue<'_>>,
            )| { Some((key.get_ref().to_string(), json(value.get_ref())?)) };
            Value::Object(table.iter().map(pair).collect::<Option<_>>()?)
        }
    })
}

/// A `file:` URL (absolute, or relative to `folder`), or an `http:` or `https:` one.
pub(super) fn feed_source(folder: &Path, value: &DeValue<'_>) -> Result<FeedSource, String> {
    let form = "\"file:PATH\" or an http: or https: URL";
    let text = quoted(value, form)?;
    let Some(path) = text.strip_prefix("file:") else {
        return http_url_of_text(text, form).map(FeedSource::Http).map_err(with_login_keys);
    };
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(format!("{text:?} names a host; use file:/absolute/path or file:relative"));
        }
        None => path,
    };
    if path.is_empty() {
        return Err(format!("{text:?} has no path; use file:/absolute/path or file:relative"));
    }
    Ok(FeedSource::File(folder.join(path)))
}

fn http_url_of_text(text: &str, form: &str) -> Result<reqwest::Url, String> {
    url_of_text(text, &["http", "https"], form)
}

fn url_of_text(text: &str, schemes: &[&str], form: &str) -> Result<reqwest::Url, String> {
    // The text itself is kept out of the messages where it may hold a password.
    let url =
        reqwest::Url::parse(text).map_err(|error| format!("is not a URL ({error}); use {form}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("has scheme {}; use {form}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(HOLDS_LOGIN.to_owned());
    }
    Ok(url)
}

/// A feed has keys for what its URL must not hold.
fn with_login_keys(what: String) -> String {
    if what != HOLDS_LOGIN {
        return what;
    }
    format!("{what}: set user, and password = {{ file = \"/path\" }}")
}

const HOLDS_LOGIN: &str =
    "holds a user name or password; leave it out, this file is not a place for secrets";

fn quoted<'v>(value: &'v DeValue<'_>, form: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| wrong_type(value, form))
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn wrong_type(value: &DeValue<'_>, form: &str) -> String {
    let shown = match value {
        DeValue::String(text) => format!("{text:?} is text"),
        DeValue::Integer(number) => format!("{number} is a number"),
        DeValue::Float(number) => format!("{number} is a decimal number"),
        DeValue::Boolean(truth) => format!("{truth} is a truth value"),
        DeValue::Datetime(time) => format!("{time} is a time"),
        DeValue::Array(_) => "is a list".to_owned(),
        DeValue::Table(_) => "is a section".to_owned(),
    };
    format!("{shown}; use {form}")
}
