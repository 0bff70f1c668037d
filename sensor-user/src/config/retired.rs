//! Retired names of the configuration, each with its present name.

/// Sections, keys and values, with the replacement of each.
const RETIRED: [(&str, &str); 7] = [
    ("geo", "[geoip]"),
    ("names", "[dns]"),
    ("capture.look_every", "capture.scan_interval"),
    ("capture.udp_idle", "capture.udp_idle_timeout"),
    ("feed.full_every", "feed.full_refresh_interval"),
    ("health.canary_every", "health.canary_interval"),
    ("sink.kind = readable", "\"console\""),
];

/// The replacement of a retired section, `section.key` or `section.key = value`.
pub(super) fn replacement(name: &str) -> Option<&'static str> {
    RETIRED.iter().find(|(retired, _)| *retired == name).map(|(_, replacement)| *replacement)
}
