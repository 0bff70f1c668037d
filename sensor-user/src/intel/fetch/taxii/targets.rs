//! `Targets`: the collections that a pull requests.

use std::collections::BTreeMap;

use reqwest::Url;

use crate::http::redacted_url;
use crate::intel::fetch::error::FetchError;

/// The requested collections.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// By their URLs.
    pub(super) readable: BTreeMap<String, Target>,
    /// URLs of collections, or of whole API roots, that cannot be read.
    pub(super) unreadable: Vec<Url>,
}

/// A collection to pull.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) objects: Url,
    /// True if the server lists the collection as readable.
    pub(super) is_listed: bool,
}

impl Targets {
    pub(super) fn one(target: Target) -> Self {
        let readable = BTreeMap::from([(target.url.to_string(), target)]);
        Self { readable, unreadable: Vec::new() }
    }

    /// Fails if one of `known`, the collections of the last pull, cannot be read any more: its indicators would be
    /// removed. One that is not listed any more is removed with its indicators.
    pub(super) fn check_known(&self, known: &BTreeMap<String, String>) -> Result<(), FetchError> {
        let is_unreadable = |name: &&String| {
            !self.readable.contains_key(*name)
                && self.unreadable.iter().any(|it| name.starts_with(it.as_str()))
        };
        match known.keys().find(is_unreadable) {
            None => Ok(()),
            Some(name) => Err(FetchError::Protocol(format!(
                "collection {} was pulled before and cannot be read now; check user, password and token, or wait \
                 for full_refresh_interval, which removes its indicators",
                name.parse().map_or_else(|_| String::new(), |url| redacted_url(&url))
            ))),
        }
    }
}
