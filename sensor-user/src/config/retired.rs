//! Retired configuration keys and values, each with its present name.

/// Retired keys, as `section.key`, with the key that replaces each.
const KEYS: &[(&str, &str)] = &[
    ("capture.look_every", "capture.scan_interval"),
    ("feed.full_every", "feed.full_refresh_interval"),
    ("health.canary_every", "health.canary_interval"),
];

/// Retired values of `sink.kind`, with the kind that replaces each.
const SINK_KINDS: &[(&str, &str)] = &[("readable", "console")];

/// The key that replaces the retired `section.key`.
pub(super) fn replacement(section: &str, key: &str) -> Option<&'static str> {
    let is_retired = |name: &str| {
        name.split_once('.').is_some_and(|(of, retired)| of == section && retired == key)
    };
    KEYS.iter().find(|(name, _)| is_retired(name)).map(|(_, replacement)| *replacement)
}

/// The retired `sink.kind` and the kind that replaces it, if `kind` is retired.
pub(super) fn sink_kind(kind: &str) -> Option<(&'static str, &'static str)> {
    SINK_KINDS.iter().find(|(retired, _)| *retired == kind).copied()
}
