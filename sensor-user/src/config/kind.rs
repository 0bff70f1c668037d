//! `FeedKindKey`: the values of `feed.kind`.

/// Value of the key `feed.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedKindKey {
    List,
    Sentinel,
    Stix,
    Taxii2,
    Misp,
    CrowdSec,
}

impl FeedKindKey {
    pub(super) const ALL: [Self; 6] =
        [Self::List, Self::Sentinel, Self::Stix, Self::Taxii2, Self::Misp, Self::CrowdSec];
    pub(super) const WORDS: [&str; 6] = ["list", "sentinel", "stix", "taxii2", "misp", "crowdsec"];
    pub(super) const FORM: &str =
        "\"list\", \"sentinel\", \"stix\", \"taxii2\", \"misp\" or \"crowdsec\"";

    /// The kind as written.
    pub(super) fn word(self) -> &'static str {
        let at = Self::ALL.iter().position(|kind| *kind == self);
        at.and_then(|at| Self::WORDS.get(at)).copied().unwrap_or_default()
    }
}
