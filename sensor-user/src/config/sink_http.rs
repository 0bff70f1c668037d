//! The keys of the kinds of `[[sink]]` that send HTTP POST requests.

use super::access::{TokenHeader, access, login};
use super::form::{Form, HOUR, MINUTE, SECOND, boolean, choice, duration, path_word, text};
use super::key::keys;
use super::location::{SECRET, http_url, secret};
use super::section::Section;
use crate::deliver::{ElasticsearchConfig, HttpConfig, OtlpConfig, ServerConfig, SplunkConfig};
use crate::http::{Login, TOKEN_HEADER};

/// Keys of the kinds that send HTTP POST requests.
pub(super) fn server(section: &mut Section<'_, '_>, login: Login, compress: bool) -> ServerConfig {
    keys! { section, "sink server", RELOAD;
        /// Limit of one request.
        timeout: timeout() => default(ServerConfig::TIMEOUT);
        /// Compresses bodies with gzip.
        compress: boolean() => default(compress);
    }
    ServerConfig { access: access(section, "sink server", "sink tls", login), timeout, compress }
}

/// Limit of a request or of a send.
pub(super) fn timeout() -> Form<std::time::Duration> {
    duration(SECOND..=10 * MINUTE)
}

/// The key `url`.
fn url(section: &mut Section<'_, '_>) -> Option<reqwest::Url> {
    keys! { section, "sink server", RELOAD;
        /// `http:` or `https:`. Redirects are not followed: they would send alerts to an
        /// address that is not configured.
        url: http_url() => required("an http: or https: URL");
    }
    url
}

pub(super) fn http(section: &mut Section<'_, '_>) -> Option<HttpConfig> {
    let url = url(section);
    keys! { section, "sink server", RELOAD;
        /// `"array"`: `application/json`, one array. `"lines"`: `application/x-ndjson`.
        body: choice(&[("array", false), ("lines", true)]) => default(false);
        /// Accepts a web page with a success status as a response. Otherwise the sink waits, since a
        /// login page or a proxy may have taken the request.
        accept_web_page: boolean() => default(false);
    }
    let login = login(section, "sink server", TokenHeader::authorization("Bearer"));
    let server = server(section, login, false);
    Some(HttpConfig { url: url?, lines: body, accept_web_page, server: Box::new(server) })
}

pub(super) fn splunk(section: &mut Section<'_, '_>) -> Option<SplunkConfig> {
    let url = url(section);
    keys! { section, "sink server", RELOAD;
        /// Token of the collector.
        token: secret() => required(SECRET);
    }
    keys! { section, "sink splunk", RELOAD;
        /// Index of the events.
        index: text() => optional("that of the token");
        /// `source` of the events.
        source: text() => default(SplunkConfig::SOURCE.to_owned());
        /// `sourcetype` of the events; by default it depends on the type of the item.
        sourcetype: text() => optional("`netsensor:alert`, `netsensor:vmconnection`, …");
        /// Counts a batch as delivered only when the indexer acknowledges it. Enable
        /// indexer acknowledgement for the token too.
        acknowledge: boolean() => default(false);
        /// Limit of the wait for an acknowledgement; then the batch is sent again, and may
        /// be indexed twice.
        ack_timeout: duration(SECOND..=HOUR) => default(SplunkConfig::ACK_TIMEOUT);
    }
    if !acknowledge {
        section.refuse(&["ack_timeout"], "is of no use without acknowledge = true");
    }
    let scheme = "Splunk".to_owned();
    let header = TOKEN_HEADER.to_owned();
    let login = token.map_or(Login::None, |token| Login::Token { header, scheme, token });
    Some(SplunkConfig {
        server: server(section, login, true),
        url: url?,
        index,
        source,
        sourcetype,
        acknowledge: acknowledge.then_some(ack_timeout),
    })
}

pub(super) fn elasticsearch(section: &mut Section<'_, '_>) -> Option<ElasticsearchConfig> {
    let url = url(section);
    keys! { section, "sink elasticsearch", RELOAD;
        /// Index or data stream of alerts.
        alerts_index: path_word() => default(ElasticsearchConfig::ALERTS_INDEX.to_owned());
        /// Index or data stream of rows.
        rows_index: path_word() => default(ElasticsearchConfig::ROWS_INDEX.to_owned());
        /// Index or data stream of the agent's health lines.
        health_index: path_word() => default(ElasticsearchConfig::HEALTH_INDEX.to_owned());
    }
    let login = login(section, "sink server", TokenHeader::authorization("ApiKey"));
    let server = server(section, login, true);
    Some(ElasticsearchConfig { url: url?, alerts_index, rows_index, health_index, server })
}

pub(super) fn otlp(section: &mut Section<'_, '_>) -> Option<OtlpConfig> {
    let url = url(section);
    keys! { section, "sink otlp", RELOAD;
        /// `service.name` of the resource.
        service_name: text() => default(OtlpConfig::SERVICE_NAME.to_owned());
    }
    let login = login(section, "sink server", TokenHeader::authorization("Bearer"));
    let server = server(section, login, true);
    Some(OtlpConfig { url: url?, service_name, server })
}
