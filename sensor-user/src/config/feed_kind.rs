//! The keys of a `[[feed]]` that only some kinds have.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::base_dirs::BaseDirs;
use super::kind::FeedKindKey;
use super::reader::Section;
use super::remote::secret;
use super::sections::{DAY, SECOND};
use super::values;
use crate::intel::{
    CrowdSecQuery, FeedKind, FeedQuery, FeedSource, ListFormat, MispQuery, TaxiiQuery,
    WorkspaceQuery,
};

/// What the keys of a kind say.
#[derive(Debug)]
pub(super) struct OfKind {
    pub(super) kind: FeedKind,
    pub(super) query: FeedQuery,
    pub(super) full_refresh_interval: Option<Duration>,
    pub(super) list: ListFormat,
}

/// Keys, the kinds that have them, and these in words.
type Owned = (&'static [&'static str], &'static [FeedKindKey], &'static str);

/// The keys that only some kinds have.
const OWNED: [Owned; 7] = [
    (&["preset", "format", "separator", "columns"], &[FeedKindKey::List], "\"list\""),
    (&["collections"], &[FeedKindKey::Taxii2], "\"taxii2\""),
    (
        &["page_size"],
        &[FeedKindKey::Taxii2, FeedKindKey::Misp, FeedKindKey::Sentinel],
        "\"taxii2\", \"misp\" and \"sentinel\"",
    ),
    (
        &["full_refresh_interval"],
        &[FeedKindKey::Taxii2, FeedKindKey::Misp],
        "\"taxii2\" and \"misp\"",
    ),
    (&["mode", "types", "filter", "overlap"], &[FeedKindKey::Misp], "\"misp\""),
    (
        &["scopes", "origins", "scenarios_containing", "scenarios_not_containing"],
        &[FeedKindKey::CrowdSec],
        "\"crowdsec\"",
    ),
    (&WORKSPACE, &[FeedKindKey::Sentinel], "\"sentinel\""),
];

const WORKSPACE: [&str; 7] = [
    "subscription",
    "resource_group",
    "workspace",
    "tenant",
    "client_id",
    "client_secret",
    "login_url",
];

/// Reads the keys of `kind` and refuses those of others; `None` where something is missing.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    kind: Option<FeedKindKey>,
    source: Option<&FeedSource>,
    place: BaseDirs<'_>,
) -> Option<OfKind> {
    for (keys, owners, named) in OWNED {
        for key in keys.iter().filter(|_| kind.is_none_or(|kind| !owners.contains(&kind))) {
            section.refuse(key, kind.map(FeedKindKey::word).unwrap_or_default(), named);
        }
    }
    let kind = kind?;
    let full_refresh_interval = matches!(kind, FeedKindKey::Taxii2 | FeedKindKey::Misp)
        .then(|| section.read("full_refresh_interval", values::duration(SECOND..=365 * DAY)))
        .flatten();
    let (kind, query) = match kind {
        FeedKindKey::List => (FeedKind::List, FeedQuery::Document),
        FeedKindKey::Stix => (FeedKind::Stix, FeedQuery::Document),
        FeedKindKey::Taxii2 => (FeedKind::Taxii2, FeedQuery::Taxii(taxii(section))),
        FeedKindKey::Misp => misp(section, source),
        FeedKindKey::CrowdSec => (FeedKind::CrowdSec, FeedQuery::CrowdSec(crowdsec(section))),
        FeedKindKey::Sentinel => sentinel(section, source, place)?,
    };
    let list = if kind == FeedKind::List { list(section) } else { ListFormat::default() };
    Some(OfKind { kind, query, full_refresh_interval, list })
}

fn words(section: &mut Section<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    section.read_list(key, "words in quotes", values::text)
}

fn taxii(section: &mut Section<'_, '_>) -> TaxiiQuery {
    let collections = words(section, "collections");
    let page_size = section.read("page_size", values::number(1..=100_000_u32));
    TaxiiQuery {
        collections: collections.unwrap_or_default(),
        page_size: page_size.unwrap_or(TaxiiQuery::PAGE_SIZE),
    }
}

fn misp(section: &mut Section<'_, '_>, source: Option<&FeedSource>) -> (FeedKind, FeedQuery) {
    let mode = section.read("mode", |value| values::word(&["search", "feed"], value));
    let is_manifest = matches!(source, Some(FeedSource::Http(url))
        if url.path().ends_with("/manifest.json"));
    let is_feed = mode.map_or(is_manifest, |mode| mode == 1);
    let usual = MispQuery::default();
    if is_feed {
        for key in ["types", "filter", "overlap", "page_size", "full_refresh_interval"] {
            section
                .refuse_here(key, "has no meaning for a feed of events, only for mode \"search\"");
        }
        return (FeedKind::MispFeed, FeedQuery::Document);
    }
    let types = words(section, "types");
    let filter = section.read("filter", filter);
    let page_size = section.read("page_size", values::number(1..=100_000_u32));
    let overlap = section.read("overlap", values::duration(Duration::ZERO..=30 * DAY));
    let query = MispQuery {
        types: types.unwrap_or(usual.types),
        filter: filter.unwrap_or_default(),
        page_size: page_size.unwrap_or(MispQuery::PAGE_SIZE),
        overlap: overlap.unwrap_or(MispQuery::OVERLAP),
    };
    (FeedKind::Misp, FeedQuery::Misp(query))
}

/// Parameters of a search; those that make it what it is are not to be set.
fn filter(value: &DeValue<'_>) -> Result<BTreeMap<String, serde_json::Value>, String> {
    const OURS: [&str; 8] = [
        "returnFormat",
        "page",
        "limit",
        "type",
        "deleted",
        "attribute_timestamp",
        "timestamp",
        "last",
    ];
    let form = "a table such as { tags = [\"tlp:green\"], published = true }";
    let Some(table) = value.as_table() else { return Err(format!("is not a table; use {form}")) };
    let mut all = BTreeMap::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if OURS.contains(&name) {
            return Err(format!("{name:?} is set by the agent; leave it out"));
        }
        let json = values::json(value.get_ref())
            .ok_or_else(|| format!("{name:?} is a time; use text in quotes or a number"))?;
        all.insert(name.to_owned(), json);
    }
    Ok(all)
}

fn crowdsec(section: &mut Section<'_, '_>) -> CrowdSecQuery {
    CrowdSecQuery {
        scopes: words(section, "scopes").unwrap_or_default(),
        origins: words(section, "origins").unwrap_or_default(),
        scenarios_containing: words(section, "scenarios_containing").unwrap_or_default(),
        scenarios_not_containing: words(section, "scenarios_not_containing").unwrap_or_default(),
    }
}

/// Rows, or where a workspace is named, its indicators.
fn sentinel(
    section: &mut Section<'_, '_>,
    source: Option<&FeedSource>,
    place: BaseDirs<'_>,
) -> Option<(FeedKind, FeedQuery)> {
    if !section.has("workspace") {
        for key in WORKSPACE.into_iter().chain(["page_size"]) {
            section.refuse_here(key, "has no meaning without workspace; set workspace too");
        }
        return Some((FeedKind::Sentinel, FeedQuery::Document));
    }
    if matches!(source, Some(FeedSource::File(_))) {
        section.note("workspace", "has no meaning for a file: URL; leave url out");
    }
    for key in ["user", "password", "token"] {
        section.refuse_here(key, "has no meaning for a workspace; set client_id and client_secret");
    }
    let form = "its name in quotes";
    let subscription = section.require("subscription", "its id in quotes", values::path_word);
    let resource_group = section.require("resource_group", form, values::path_word);
    let workspace = section.require("workspace", form, values::path_word);
    let client_id = section.require("client_id", "the id of the application", values::text);
    let form = "{ file = \"/path\" } or { credential = \"NAME\" }";
    let client_secret = section.require("client_secret", form, |value| secret(value, place));
    let form = "the id or domain of the tenant";
    let tenant = section.require("tenant", form, values::path_word);
    let login_url = match section.read("login_url", values::http_url) {
        Some(url) => Some(url),
        None => WorkspaceQuery::LOGIN_URL.parse().ok(),
    };
    let page_size = section.read("page_size", values::number(1..=100_000_u32));
    let query = WorkspaceQuery {
        subscription: subscription?,
        resource_group: resource_group?,
        workspace: workspace?,
        tenant: tenant?,
        client_id: client_id?,
        client_secret: client_secret?,
        login_url: login_url?,
        page_size: page_size.unwrap_or(WorkspaceQuery::PAGE_SIZE),
    };
    Some((FeedKind::SentinelQuery, FeedQuery::Sentinel(Box::new(query))))
}

/// The format of a list, checked as a whole: what is wrong with it is noted at the key it is about.
fn list(section: &mut Section<'_, '_>) -> ListFormat {
    let preset = section.read("preset", values::text);
    let shape = section.read("format", values::text);
    let separator = section.read("separator", values::character);
    let columns = section.read("columns", columns).unwrap_or_default();
    match ListFormat::from_config(preset.as_deref(), shape.as_deref(), separator, &columns) {
        Ok(format) => format,
        Err(fault) => {
            section.note(fault.key(), &fault.to_string());
            ListFormat::default()
        }
    }
}

/// Columns by the name of each field: one or several, by name or by number.
fn columns(value: &DeValue<'_>) -> Result<BTreeMap<String, Vec<String>>, String> {
    let form = "a table such as { address = \"dst_ip\", port = \"dst_port\" }";
    let column = |name: &str, value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("{name}: is no column; use its name, or its number")),
    };
    let table = value.as_table().ok_or_else(|| format!("is not a table; use {form}"))?;
    let mut columns = BTreeMap::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let named = match values::json(value.get_ref()) {
            Some(serde_json::Value::Array(several)) => {
                several.iter().map(|one| column(name, one)).collect::<Result<_, _>>()?
            }
            Some(one) => vec![column(name, &one)?],
            None => return Err(format!("{name}: is no column; use its name, or its number")),
        };
        columns.insert(name.to_owned(), named);
    }
    Ok(columns)
}

/// All keys that only some kinds have.
#[cfg(test)]
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    OWNED.iter().flat_map(|(keys, ..)| keys.iter().copied())
}
