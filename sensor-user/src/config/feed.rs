//! `[[feed]]`: keys of all feeds, and those of each kind.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::access::{TokenHeader, access, login};
use super::form::{
    self, DAY, Form, MINUTE, SECOND, boolean, choice, duration, ensure, list, number, path_word,
    size, table, text,
};
use super::key::{KeyDefault, keys};
use super::location::{SECRET, feed_source, http_url, secret};
use super::section::Section;
use crate::intel::{
    CrowdSecQuery, FeedConfig, FeedKind, FeedQuery, FeedSource, ListField, ListFormat, MispQuery,
    PRESETS, TaxiiQuery, WorkspaceQuery,
};

/// The values of `feed.kind`.
pub(super) const KINDS: [FeedKind; 6] = [
    FeedKind::List,
    FeedKind::Sentinel,
    FeedKind::Stix,
    FeedKind::Taxii2,
    FeedKind::Misp,
    FeedKind::CrowdSec,
];

/// The group of the keys that a workspace needs.
const WORKSPACE: &str = "feed sentinel";
const SERVER: &str = "feed server";
const WITH_WORKSPACE: KeyDefault = KeyDefault::RequiredWith { with: "workspace" };

/// One `[[feed]]`; `None` if a key that it needs is missing or invalid. A relative `file:` URL is
/// relative to the directory of the configuration.
pub(super) fn feed(section: &mut Section<'_, '_>) -> Option<FeedConfig> {
    let default = FeedConfig::new(String::new(), FeedKind::List, FeedSource::Embedded(""));
    keys! { section, "feed", RELOAD;
        /// Unique name, which appears in alerts and logs.
        name: form::name() => required("a short unique name");
        /// Format and protocol of the feed, see below.
        kind: choice(&KINDS.map(|kind| (kind.name(), kind)))
            => required("\"list\", \"sentinel\", \"stix\", \"taxii2\", \"misp\" or \"crowdsec\"");
    }
    section.keys.kind = kind.map(FeedKind::name);
    let condition = match kind {
        Some(FeedKind::Sentinel) => KeyDefault::RequiredWithout { without: "workspace" },
        _ => KeyDefault::Required,
    };
    keys! { section, "feed", RELOAD;
        /// `"file:PATH"` (a relative path is relative to the configuration file), or an
        /// `http:` or `https:` URL. With `workspace`, that of the management API, by
        /// default `https://management.azure.com/`.
        url: feed_source() => required_if(condition, "\"file:PATH\" or an http: or https: URL");
        /// Interval between pulls.
        interval: duration(SECOND..=30 * DAY) => default(default.interval);
        /// Validity of an entry without an expiry, from the time of the pull. Rows contain
        /// their own expiry: a row without one is not used.
        default_ttl: duration(SECOND..=3650 * DAY) => default(default.default_ttl);
        /// Rows that were generated longer ago are ignored.
        indicator_lookback: duration(SECOND..=3650 * DAY) => default(default.indicator_lookback);
        /// Accepts private and special addresses, and entries that are exactly an address
        /// of this host.
        allow_private: boolean() => default(default.allow_private);
        /// Shortest accepted IPv4 prefix.
        min_prefix_v4: number(0..=32) => default(default.min_prefix_v4);
        /// Shortest accepted IPv6 prefix.
        min_prefix_v6: number(0..=128) => default(default.min_prefix_v6);
        /// Minimum confidence. Entries below it are not used; entries without a confidence
        /// are.
        min_confidence: number(0..=100) => optional("none");
        /// Quarantines a suspicious pull: more than half of the entries gone, or a hundred
        /// times as many ([feeds.md](feeds.md)).
        quarantine: boolean() => default(default.quarantine);
        /// Limit of one request, from connect to the last byte. A body without progress
        /// for 30 s and a pull of more than 30 minutes are aborted too.
        timeout: duration(SECOND..=10 * MINUTE) => default(default.timeout);
        /// Limit of all bodies of a pull together, after decompression.
        max_size: size(1 << 10..=4 << 30) => default(default.max_bytes);
    }
    let token_header = match kind {
        Some(FeedKind::Misp) => TokenHeader::authorization(""),
        Some(FeedKind::CrowdSec) => TokenHeader { name: "X-Api-Key", scheme: "" },
        _ => TokenHeader::authorization("Bearer"),
    };
    let login = login(section, SERVER, token_header);
    let access = access(section, SERVER, SERVER, login);
    if matches!(url, Some(FeedSource::File(_))) {
        section.refuse_group(SERVER, "has no meaning for a file: URL, only for http: and https:");
    }
    let of_kind = kind_keys(section, kind?, url.as_ref())?;
    let workspace_url = || WorkspaceQuery::URL.parse().ok().map(FeedSource::Http);
    let is_workspace = of_kind.kind == FeedKind::SentinelQuery;
    Some(FeedConfig {
        name: name?,
        kind: of_kind.kind,
        source: url.or_else(|| workspace_url().filter(|_| is_workspace))?,
        interval,
        default_ttl,
        indicator_lookback,
        allow_private,
        min_prefix_v4,
        min_prefix_v6,
        timeout,
        max_bytes: max_size,
        min_confidence,
        quarantine,
        access,
        query: of_kind.query,
        full_refresh_interval: of_kind.full_refresh.unwrap_or(default.full_refresh_interval),
        list: of_kind.list,
    })
}

/// Values of the keys that only some kinds have.
struct KindKeys {
    kind: FeedKind,
    query: FeedQuery,
    full_refresh: Option<Duration>,
    list: ListFormat,
}

/// Reads the keys of `kind`; `None` if one that it needs is missing or invalid.
fn kind_keys(
    section: &mut Section<'_, '_>,
    mut kind: FeedKind,
    url: Option<&FeedSource>,
) -> Option<KindKeys> {
    let (mut full_refresh, mut list) = (None, ListFormat::default());
    let mut query = FeedQuery::Document;
    match kind {
        FeedKind::List => list = list_format(section),
        FeedKind::Taxii2 => {
            query = FeedQuery::Taxii(taxii2(section));
            full_refresh = Some(full_refresh_interval(section, "feed taxii2"));
        }
        FeedKind::Misp => {
            let (search, is_feed) = misp(section, url);
            full_refresh = Some(full_refresh_interval(section, "feed misp"));
            if is_feed {
                kind = FeedKind::MispFeed;
                let problem = "has no meaning for a feed of events, only for mode \"search\"";
                let keys = ["types", "filter", "overlap", "page_size", "full_refresh_interval"];
                section.refuse(&keys, problem);
            } else {
                query = FeedQuery::Misp(search);
            }
        }
        FeedKind::CrowdSec => query = FeedQuery::CrowdSec(crowdsec(section)),
        FeedKind::Sentinel => {
            let workspace = workspace(section);
            if section.has("workspace") {
                let problem = "has no meaning for a workspace; set client_id and client_secret";
                section.refuse(&["user", "password", "token"], problem);
                if matches!(url, Some(FeedSource::File(_))) {
                    section.add("workspace", "has no meaning for a file: URL; leave url out");
                }
                kind = FeedKind::SentinelQuery;
                query = FeedQuery::Sentinel(Box::new(workspace?));
            } else {
                let problem = "has no meaning without workspace; set workspace too";
                section.refuse_group(WORKSPACE, problem);
            }
        }
        _ => {}
    }
    Some(KindKeys { kind, query, full_refresh, list })
}

fn words() -> Form<Vec<String>> {
    list(text(), "words in quotes")
}

fn page_size() -> Form<u32> {
    number(1..=100_000)
}

fn full_refresh_interval(section: &mut Section<'_, '_>, group: &'static str) -> Duration {
    keys! { section, group, RELOAD;
        /// Interval of complete pulls. Other pulls fetch only changes: TAXII does not report deletions,
        /// and in MISP an attribute that came from another server keeps its old time.
        full_refresh_interval: duration(SECOND..=365 * DAY) => default(DAY);
    }
    full_refresh_interval
}

fn taxii2(section: &mut Section<'_, '_>) -> TaxiiQuery {
    keys! { section, "feed taxii2", RELOAD;
        /// Ids, aliases or titles. Each of them must exist.
        collections: words() => optional("all that may be read");
        /// Objects per page; servers may return fewer.
        page_size: page_size() => default(TaxiiQuery::PAGE_SIZE);
    }
    TaxiiQuery { collections: collections.unwrap_or_default(), page_size }
}

/// The query of mode `"search"`, and true for mode `"feed"`.
fn misp(section: &mut Section<'_, '_>, source: Option<&FeedSource>) -> (MispQuery, bool) {
    let default = MispQuery::default();
    keys! { section, "feed misp", RELOAD;
        /// `"search"`: attributes of a server, by `restSearch`; `feed.url` is the server,
        /// `feed.token` the key of a user. `"feed"`: a manifest, and one file per event;
        /// `feed.url` is their directory or the manifest.
        mode: choice(&[("search", false), ("feed", true)])
            => optional("`\"search\"`; of a `…/manifest.json` `\"feed\"`");
        /// `"search"`: types of attributes.
        types: words() => default(default.types);
        /// `"search"`: additional parameters, such as `{ tags = ["tlp:green"], published =
        /// true, enforceWarninglist = true }`.
        filter: filter() => optional("none");
        /// `"search"`: attributes per page.
        page_size: page_size() => default(default.page_size);
        /// `"search"`: changes are requested from this long before the start of the last
        /// pull.
        overlap: duration(Duration::ZERO..=30 * DAY) => default(default.overlap);
    }
    let is_manifest = matches!(source, Some(FeedSource::Http(url))
        if url.path().ends_with("/manifest.json"));
    let query = MispQuery { types, filter: filter.unwrap_or_default(), page_size, overlap };
    (query, mode.unwrap_or(is_manifest))
}

/// Parameters of a search, except those that the agent sets.
fn filter() -> Form<BTreeMap<String, Value>> {
    const RESERVED: [&str; 8] = [
        "returnFormat",
        "page",
        "limit",
        "type",
        "deleted",
        "attribute_timestamp",
        "timestamp",
        "last",
    ];
    let accepts = "a table such as { tags = [\"tlp:green\"], published = true }";
    table(accepts, json!({ "type": "object" }), |name, value, _| {
        if RESERVED.contains(&name) {
            return Err(format!("{name:?} is set by the agent; leave it out"));
        }
        let problem = || format!("{name:?} is a time; use text in quotes or a number");
        ensure(!has_null(value), problem)?;
        Ok(value.clone())
    })
}

/// True if a time, which JSON lacks, is in the value.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(entries) => entries.values().any(has_null),
        other => other.is_null(),
    }
}

fn crowdsec(section: &mut Section<'_, '_>) -> CrowdSecQuery {
    keys! { section, "feed crowdsec", RELOAD;
        /// Scopes to request. Decisions of scopes other than `ip` and `range` are not used.
        scopes: words() => optional("ip and range");
        /// For example `["crowdsec", "CAPI"]`.
        origins: words() => optional("all");
        /// Only scenarios that contain at least one of these words.
        scenarios_containing: words() => optional("all");
        /// Only scenarios that contain none of these words.
        scenarios_not_containing: words() => optional("none");
    }
    CrowdSecQuery {
        scopes: scopes.unwrap_or_default(),
        origins: origins.unwrap_or_default(),
        scenarios_containing: scenarios_containing.unwrap_or_default(),
        scenarios_not_containing: scenarios_not_containing.unwrap_or_default(),
    }
}

/// The query of a workspace; `None` without one.
fn workspace(section: &mut Section<'_, '_>) -> Option<WorkspaceQuery> {
    let name = "its name in quotes";
    keys! { section, WORKSPACE, RELOAD;
        /// Name of the Log Analytics workspace. The following keys are required with it,
        /// and only with it.
        workspace: path_word() => optional("none");
        /// Id of its subscription.
        subscription: path_word() => required_if(WITH_WORKSPACE, "its id in quotes");
        /// Name of its resource group.
        resource_group: path_word() => required_if(WITH_WORKSPACE, name);
        /// Id or domain of the tenant.
        tenant: path_word() => required_if(WITH_WORKSPACE, "its id or domain in quotes");
        /// Id of the client application; it needs the role Microsoft Sentinel Reader.
        client_id: text() => required_if(WITH_WORKSPACE, "the id of the application");
        /// Secret of the application.
        client_secret: secret() => required_if(WITH_WORKSPACE, SECRET);
        /// Token endpoint; set it for other clouds.
        login_url: http_url()
            => optional(format!("that of Azure, `{}`", WorkspaceQuery::LOGIN_URL));
        /// Indicators per page.
        page_size: page_size() => default(WorkspaceQuery::PAGE_SIZE);
    }
    Some(WorkspaceQuery {
        subscription: subscription?,
        resource_group: resource_group?,
        workspace: workspace?,
        tenant: tenant?,
        client_id: client_id?,
        client_secret: client_secret?,
        login_url: login_url.or_else(|| WorkspaceQuery::LOGIN_URL.parse().ok())?,
        page_size,
    })
}

/// The format of a list, checked as a whole; an error is reported at the key that caused it.
fn list_format(section: &mut Section<'_, '_>) -> ListFormat {
    let presets = form::one_of("a preset", "the name of a preset in quotes", PRESETS.to_vec());
    let formats = ["plain", "csv", "json", "jsonl"].map(|format| (format, format));
    keys! { section, "feed list", RELOAD;
        /// Predefined list layout.
        preset: presets => optional("none");
        /// Format of the document.
        format: choice(&formats) => optional("that of the preset, or `\"plain\"`");
        /// Column separator of a CSV list.
        separator: character() => optional("`\",\"`, or that of the preset");
        /// Columns of the values, `{ address = "dst_ip", port = "dst_port" }`.
        columns: columns() => optional("none");
    }
    let columns = columns.unwrap_or_default();
    ListFormat::from_config(preset.as_deref(), format, separator, &columns).unwrap_or_else(
        |error| {
            section.add(error.key(), &error.to_string());
            ListFormat::default()
        },
    )
}

fn character() -> Form<char> {
    let form = form::matching("one ASCII character", "one character in quotes", r"^[\x00-\x7f]$");
    form.try_map(|text| text.chars().next().ok_or_else(String::new))
}

/// One or several columns for each field, by name or number.
fn columns() -> Form<BTreeMap<String, Vec<String>>> {
    let column = json!({ "type": ["string", "integer"] });
    let schema = json!({
        "type": "object",
        "propertyNames": { "enum": ListField::ALL.map(ListField::name) },
        "additionalProperties": { "anyOf": [column, { "type": "array", "items": column }] },
    });
    let accepts = "a table such as { address = \"dst_ip\", port = \"dst_port\" }";
    table(accepts, schema, |name, value, _| {
        let columns = match value {
            Value::Array(columns) => columns.as_slice(),
            column => std::slice::from_ref(column),
        };
        let columns = columns.iter().map(|column| match column {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(format!("{name}: is not a column; use its name, or its number")),
        });
        columns.collect()
    })
}
