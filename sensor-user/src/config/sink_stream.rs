//! The keys of sinks that send over connections of their own, without HTTP.

use toml::de::DeValue;

use super::base_dirs::BaseDirs;
use super::reader::Section;
use super::sections::{MINUTE, SECOND};
use super::{remote, values};
use crate::deliver::{Framing, NatsConfig, NatsLogin, SyslogConfig};
use crate::http::{Secret, TlsConfig};

/// Facilities by their numbers (RFC 5424, table 1).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

pub(super) fn syslog(section: &mut Section<'_, '_>) -> Option<SyslogConfig> {
    let form = "a host and a port, as \"logs.example.net:6514\"";
    let address = section.require("address", form, address);
    let tls = tls(section);
    let server_name = section.read("server_name", host);
    if server_name.is_some() && tls.is_none() {
        section.note("server_name", "is of no use without TLS; set tls = true, or leave it out");
    }
    let framing = section.read("framing", |value| values::word(&["octets", "newline"], value));
    let facility = section.read("facility", |value| values::word(&FACILITIES, value));
    let facility = facility.and_then(|number| u8::try_from(number).ok());
    let app_name = section.read("app_name", values::name);
    let hostname = section.read("hostname", host);
    let sd_id = section.read("sd_id", sd_id);
    let timeout = section.read("timeout", values::duration(SECOND..=10 * MINUTE));
    Some(SyslogConfig {
        tls,
        server_name,
        framing: if framing == Some(1) { Framing::Newline } else { Framing::Octets },
        facility: facility.unwrap_or(SyslogConfig::FACILITY),
        app_name: app_name.unwrap_or_else(|| SyslogConfig::APP_NAME.to_owned()),
        hostname,
        sd_id: sd_id.unwrap_or_else(|| SyslogConfig::SD_ID.to_owned()),
        timeout: timeout.unwrap_or(SyslogConfig::TIMEOUT),
        address: address?,
    })
}

pub(super) fn nats(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> Option<NatsConfig> {
    let servers = servers(section, "hosts and ports, as \"nats.example.net:4222\"");
    let login = nats_login(section, place);
    let tls = tls(section);
    let prefix = section.read("subject_prefix", subject);
    let site = section.read("site", values::name);
    let create = section.read("create_stream", values::boolean).unwrap_or(false);
    let stream = section.read("stream", values::name);
    if stream.is_some() && !create {
        section.note("stream", "is of no use alone; set create_stream = true, or leave it out");
    }
    let timeout = section.read("timeout", values::duration(SECOND..=10 * MINUTE));
    Some(NatsConfig {
        servers: servers?,
        login,
        tls,
        prefix: prefix.unwrap_or_else(|| NatsConfig::PREFIX.to_owned()),
        site: site.unwrap_or_else(|| NatsConfig::SITE.to_owned()),
        create_stream: create.then(|| stream.unwrap_or_else(|| NatsConfig::STREAM.to_owned())),
        timeout: timeout.unwrap_or(NatsConfig::TIMEOUT),
    })
}

/// Hosts and ports, one at least; `form` says so with an example.
pub(super) fn servers(section: &mut Section<'_, '_>, form: &str) -> Option<Vec<String>> {
    let servers = section.read_list("servers", form, address);
    if !section.has("servers") || servers.as_ref().is_some_and(Vec::is_empty) {
        section.note("servers", &format!("names none; set it to a list of {form}"));
    }
    servers.filter(|servers| !servers.is_empty())
}

/// One way to log in, or none.
fn nats_login(section: &mut Section<'_, '_>, place: BaseDirs<'_>) -> NatsLogin {
    let user = section.read("user", values::text);
    let mut read = |key| section.read(key, |value| remote::secret(value, place));
    let [password, token, nkey, credentials] =
        ["password", "token", "nkey", "credentials"].map(&mut read);
    section.together(&["user", "password"], "user and password");
    let ways: Vec<&str> = ["user", "token", "nkey", "credentials"]
        .into_iter()
        .filter(|key| section.has(key))
        .collect();
    if let [_, second, ..] = ways.as_slice() {
        section.note(second, "is one more way to log in; leave all but one out");
    }
    let secret = |wrap: fn(Secret) -> NatsLogin, secret: Option<Secret>| secret.map(wrap);
    let by_name = user.zip(password);
    by_name
        .map(|(user, password)| NatsLogin::Password { user, password })
        .or_else(|| secret(NatsLogin::Token, token))
        .or_else(|| secret(NatsLogin::Nkey, nkey))
        .or_else(|| secret(NatsLogin::Credentials, credentials))
        .unwrap_or_default()
}

/// The beginning of a subject: parts with a dot between two.
fn subject(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_plain);
    if text.len() <= 128 && text.split('.').all(is_part) {
        return Ok(text);
    }
    Err(format!("{text:?} is no beginning of a subject; use one such as \"netsensor\""))
}

/// TLS where it is asked for; certificates are of no use without.
pub(super) fn tls(section: &mut Section<'_, '_>) -> Option<TlsConfig> {
    let wanted = section.read("tls", values::boolean).unwrap_or(false);
    if !wanted {
        for key in remote::CERTIFICATES {
            section.refuse_here(key, "is of no use without TLS; set tls = true, or leave it out");
        }
        return None;
    }
    Some(remote::tls(section))
}

/// `host:port`, with an address of IPv6 in brackets.
pub(super) fn address(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    let parts = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        let is_bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        let is_plain = host.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '@'));
        (!host.is_empty() && is_bare && is_plain).then_some(port)
    });
    if parts.is_some() {
        return Ok(text);
    }
    Err(format!("{text:?} is not a host and a port; use one such as \"logs.example.net:6514\""))
}

/// A host's name.
fn host(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !text.is_empty() && text.len() <= 255 && text.chars().all(is_plain) {
        return Ok(text);
    }
    Err(format!("{text:?} is not a host's name; use one such as \"logs.example.net\""))
}

/// A name of structured data (RFC 5424, section 6.3.2).
fn sd_id(value: &DeValue<'_>) -> Result<String, String> {
    let text = values::text(value)?;
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
    if !text.is_empty() && text.len() <= 32 && text.chars().all(is_plain) {
        return Ok(text);
    }
    Err(format!(
        "{text:?} is not a name of structured data; use 1 to 32 letters, digits and signs, such as \
         \"netsensor@32473\""
    ))
}
