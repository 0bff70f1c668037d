//! `[[feed]]`: the keys of every feed; those of its server and of its kind are in files of their
//! own.

use super::base_dirs::BaseDirs;
use super::feed_kind;
use super::kind::FeedKindKey;
use super::reader::Section;
use super::sections::{DAY, MINUTE, SECOND};
use super::{remote, values};
use crate::intel::{FeedConfig, FeedSource};

/// One `[[feed]]` and the line of its name; `None` where something that it needs is missing or
/// wrong (noted). A relative `file:` URL is relative to the folder of the configuration.
pub(super) fn feed(
    mut section: Section<'_, '_>,
    place: BaseDirs<'_>,
) -> Option<(FeedConfig, usize)> {
    let line = section.line_of("name");
    let name = section.require("name", "a short unique name", values::name);
    let kind = section
        .require("kind", FeedKindKey::FORM, |value| values::word(&FeedKindKey::WORDS, value));
    let kind = kind.and_then(|at| FeedKindKey::ALL.get(at)).copied();
    let source = source(&mut section, kind, place);
    let interval = section.read("interval", values::duration(SECOND..=30 * DAY));
    let default_ttl = section.read("default_ttl", values::duration(SECOND..=3650 * DAY));
    let lookback = section.read("indicator_lookback", values::duration(SECOND..=3650 * DAY));
    let allow_private = section.read("allow_private", values::boolean);
    let min_prefix_v4 = section.read("min_prefix_v4", values::number(0..=32_u8));
    let min_prefix_v6 = section.read("min_prefix_v6", values::number(0..=128_u8));
    let timeout = section.read("timeout", values::duration(SECOND..=10 * MINUTE));
    let max_bytes = section.read("max_size", values::size(1 << 10..=4 << 30));
    let min_confidence = section.read("min_confidence", values::number(0..=100_u8));
    let quarantine = section.read("quarantine", values::boolean);
    let access = remote::feed_access(&mut section, kind, source.as_ref(), place);
    let of_kind = feed_kind::read(&mut section, kind, source.as_ref(), place);
    section.finish();
    let of_kind = of_kind?;
    let mut feed = FeedConfig::new(name?, of_kind.kind, source?);
    feed.interval = interval.unwrap_or(feed.interval);
    feed.default_ttl = default_ttl.unwrap_or(feed.default_ttl);
    feed.indicator_lookback = lookback.unwrap_or(feed.indicator_lookback);
    feed.allow_private = allow_private.unwrap_or(feed.allow_private);
    feed.min_prefix_v4 = min_prefix_v4.unwrap_or(feed.min_prefix_v4);
    feed.min_prefix_v6 = min_prefix_v6.unwrap_or(feed.min_prefix_v6);
    feed.timeout = timeout.unwrap_or(feed.timeout);
    feed.max_bytes = max_bytes.unwrap_or(feed.max_bytes);
    feed.min_confidence = min_confidence;
    feed.quarantine = quarantine.unwrap_or(feed.quarantine);
    feed.access = access;
    feed.query = of_kind.query;
    feed.full_refresh_interval =
        of_kind.full_refresh_interval.unwrap_or(feed.full_refresh_interval);
    feed.list = of_kind.list;
    Some((feed, line))
}

/// Where it is; a Sentinel workspace is where Azure is unless told otherwise.
fn source(
    section: &mut Section<'_, '_>,
    kind: Option<FeedKindKey>,
    place: BaseDirs<'_>,
) -> Option<FeedSource> {
    let form = "\"file:PATH\" or an http: or https: URL";
    let parse = |value: &toml::de::DeValue<'_>| values::feed_source(place.folder, value);
    if kind == Some(FeedKindKey::Sentinel) && section.has("workspace") && !section.has("url") {
        return crate::intel::WorkspaceQuery::URL.parse().ok().map(FeedSource::Http);
    }
    section.require("url", form, parse)
}
