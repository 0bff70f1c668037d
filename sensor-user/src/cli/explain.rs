//! `netsensor explain`: the saved indicators that cover an address, and whether they would alert.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::base::escape::escaped;
use crate::intel::address::is_special;
use crate::intel::feeds::FeedFolder;
use crate::intel::set::segment::FeedSegment;
use crate::intel::{FeedConfig, Indicator, PortRange};
use crate::pipeline::matcher::{AllowList, embedded_ipv4};

/// Maximum length of a text of an indicator, characters.
const TEXT_MAX: usize = 200;

/// The indicators that cover `address` at `now`, as text.
pub fn explain(
    address: IpAddr,
    feeds: &[FeedConfig],
    folder: &FeedFolder,
    allow: &AllowList,
    now: Timestamp,
) -> String {
    let mut out = String::new();
    let address = address.to_canonical();
    let ends: Vec<(IpAddr, &str)> = std::iter::once((address, ""))
        .chain(embedded_ipv4(address).map(|(via, v4)| (v4.into(), via.as_str())))
        .collect();
    let mut count = 0;
    let mut details = String::new();
    for feed in feeds {
        let Some(saved) = folder.load(&feed.name, &feed.origin()) else {
            let _infallible = writeln!(details, "feed {}: no set is saved yet", feed.name);
            continue;
        };
        let validity = feed.validity(Some(saved.confirmed));
        let segment = FeedSegment::open(saved.set, feed.name.as_str().into(), validity);
        for (end, via) in &ends {
            for (number, prefix) in segment.covering(*end) {
                let Some(indicator) = segment.indicator(number, prefix) else { continue };
                let is_allowed = allow.contains(address) || allow.contains(*end);
                let since = segment.stored(number).map(|stored| stored.since);
                describe(&mut details, feed, &indicator, via, since);
                let _infallible = writeln!(details, "    {}", verdict(&indicator, now, is_allowed));
                count += 1;
            }
        }
    }
    let _infallible = writeln!(out, "{address}: {count} indicators cover it at {now}");
    if is_special(address) {
        out.push_str("private or special address: a feed needs allow_private for it\n");
    }
    out + &details
}

fn describe(
    out: &mut String,
    feed: &FeedConfig,
    indicator: &Indicator,
    via: &str,
    since: Option<Timestamp>,
) {
    let via = if via.is_empty() { String::new() } else { format!(", by {via}") };
    let text = |text: &str| escaped(text, TEXT_MAX);
    let _infallible = writeln!(
        out,
        "feed {} ({}): {} {}{via}",
        feed.name,
        feed.kind.name(),
        indicator.prefix,
        text(&indicator.id)
    );
    let time = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let _infallible = writeln!(
        out,
        "    version {}, here since {}, valid from {} until {}",
        time(indicator.version),
        time(since),
        time(indicator.valid_from),
        time(indicator.expires)
    );
    let parts = [
        ("named as", &indicator.entity),
        ("threat", &indicator.threat_type),
        ("description", &indicator.description),
        ("TLP", &indicator.tlp_level),
        ("more at", &indicator.url),
    ];
    let shown = parts.iter().filter(|(_, it)| !it.is_empty());
    let mut parts: Vec<String> =
        shown.map(|(name, it)| format!("{name} \"{}\"", text(it))).collect();
    parts.extend(indicator.confidence.map(|it| format!("confidence {it}")));
    if !parts.is_empty() {
        let _infallible = writeln!(out, "    {}", parts.join(", "));
    }
}

/// Verdict on a connection at `now`: would alert, or the reason why not.
fn verdict(indicator: &Indicator, now: Timestamp, is_allowed: bool) -> String {
    if is_allowed {
        return "would not alert: the address is in the allow-list".to_owned();
    }
    if indicator.valid_from.is_some_and(|from| from > now) {
        return "would not alert: it is not valid yet".to_owned();
    }
    if indicator.expires.is_some_and(|expires| expires <= now) {
        return "would not alert: it has expired".to_owned();
    }
    let ranges = |ranges: &[PortRange]| {
        let each = ranges.iter().map(|range| {
            if range.first == range.last {
                range.first.to_string()
            } else {
                format!("{} to {}", range.first, range.last)
            }
        });
        each.collect::<Vec<_>>().join(" or ")
    };
    let mut only = Vec::new();
    if !indicator.ports.remote.is_empty() {
        only.push(format!("remote port {}", ranges(&indicator.ports.remote)));
    }
    if !indicator.ports.local.is_empty() {
        only.push(format!("local port {}", ranges(&indicator.ports.local)));
    }
    if only.is_empty() {
        "would alert".to_owned()
    } else {
        format!("would alert with {}", only.join(" and "))
    }
}
