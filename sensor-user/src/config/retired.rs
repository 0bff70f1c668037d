//! Retired configuration keys and values, each with its present name.

/// Retired keys, as `section.key`, with the key that replaces each.
const KEYS: &[(&str, &str)] = &[
    ("capture.look_every", "capture.scan_interval"),
    ("feed.full_every", "feed.full_refresh_interval"),
    ("health.canary_every", "health.canary_interval"),
];

/// Retired values of keys, with the value that replaces each.
const VALUES: &[(&str, &str, &str)] = &[("sink.kind", "readable", "console")];

/// The key that replaces the retired `section.key`.
pub(super) fn key(section: &str, key: &str) -> Option<&'static str> {
    let found = KEYS.iter().find(|(retired, _)| is_key(retired, section, key));
    found.map(|(_, replacement)| *replacement)
}

/// The retired value and the value that replaces it, if `value` of the key is retired.
pub(super) fn value(section: &str, key: &str, value: &str) -> Option<(&'static str, &'static str)> {
    let found = VALUES.iter().find(|(name, old, _)| *old == value && is_key(name, section, key));
    found.map(|(_, old, new)| (*old, *new))
}

fn is_key(name: &str, section: &str, key: &str) -> bool {
    name.split_once('.') == Some((section, key))
}
