//! `Intel`: pulls every feed at its interval, keeps the last good entries of each, and swaps the
//! set as a whole.
//!
//! A pull that fails changes nothing but the feed's status. Pulls run beside each other, so a slow
//! feed delays no other; parsing runs off the runtime's own threads.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fetch::{self, FetchError, Fetched, Validators};
use super::{
    FeedConfig, FeedKind, FeedSource, Indicator, IndicatorSet, Parsed, PrefixPolicy, RowReader,
    parse_list,
};
use crate::clock::Clock;
use crate::stats::Stats;

/// Why a pull gave nothing. The last good set stays.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No body.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The body ends inside a row.
    #[error("{place}: last line is cut off; the body is not complete")]
    Truncated {
        /// Where.
        place: String,
    },
    /// No entry of the body is one.
    #[error("{place}: none of {entries} entries can be read; is its kind right? {first}")]
    Nothing {
        /// Where.
        place: String,
        /// Entries in it.
        entries: u64,
        /// The first of them, and why not.
        first: String,
    },
    /// Reading from memory failed, or the parser ended: a bug.
    #[error("{place}: parser failed; please report")]
    Parser {
        /// Where.
        place: String,
        /// The cause.
        source: io::Error,
    },
    /// There can be no HTTP client.
    #[error("set up the HTTP client for feeds")]
    Client(#[source] reqwest::Error),
}

/// How a feed stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedStatus {
    /// The last good pull, "not modified" included.
    pub last_good: Option<Timestamp>,
    /// Indicators in use.
    pub indicators: usize,
    /// Why the last pull failed; `None` when it was good.
    pub error: Option<String>,
    /// What of the last good body is not used, by reason.
    pub rejects: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Feed {
    config: Arc<FeedConfig>,
    validators: Validators,
    indicators: Vec<Arc<Indicator>>,
    failures: u32,
    due: Instant,
}

/// What a pull brings.
#[derive(Debug)]
enum Pulled {
    NotModified,
    Entries(Parsed, Validators),
}

/// All feeds of the agent.
#[derive(Debug)]
pub struct Intel {
    feeds: Vec<Feed>,
    set: Arc<ArcSwap<IndicatorSet>>,
    statuses: Arc<Mutex<BTreeMap<String, FeedStatus>>>,
    client: Client,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
}

impl Intel {
    /// Knows the feeds and has pulled none; the set is empty.
    pub fn new(
        feeds: Vec<FeedConfig>,
        clock: Arc<dyn Clock>,
        stats: Arc<Stats>,
    ) -> Result<Self, FeedError> {
        let client = fetch::client().map_err(FeedError::Client)?;
        let statuses =
            feeds.iter().map(|feed| (feed.name.clone(), FeedStatus::default())).collect();
        let feeds = feeds.into_iter().map(|config| Feed {
            config: Arc::new(config),
            validators: Validators::default(),
            indicators: Vec::new(),
            failures: 0,
            due: Instant::now(),
        });
        Ok(Self {
            feeds: feeds.collect(),
            set: Arc::new(ArcSwap::from_pointee(IndicatorSet::default())),
            statuses: Arc::new(Mutex::new(statuses)),
            client,
            clock,
            stats,
        })
    }

    /// What the matcher looks into.
    pub fn set(&self) -> Arc<ArcSwap<IndicatorSet>> {
        Arc::clone(&self.set)
    }

    /// How each feed stands, by name.
    pub fn statuses(&self) -> Arc<Mutex<BTreeMap<String, FeedStatus>>> {
        Arc::clone(&self.statuses)
    }

    /// Pulls the feeds that need no network, so that the first connection is matched already.
    pub async fn load_local(&mut self) {
        for index in 0..self.feeds.len() {
            let Some(feed) = self.feeds.get(index) else { break };
            if matches!(feed.config.source, FeedSource::Http(_)) {
                continue;
            }
            let pull = self.pull(feed);
            let result = pull.await;
            self.apply(index, result);
        }
        self.swap();
    }

    /// Pulls each feed when it is due, until `closing` turns true or its sender is gone.
    pub async fn run(mut self, mut closing: watch::Receiver<bool>) {
        let mut pulls = JoinSet::new();
        loop {
            let now = Instant::now();
            for (index, feed) in self.feeds.iter().enumerate() {
                if feed.due <= now {
                    let pull = self.pull(feed);
                    pulls.spawn(async move { (index, pull.await) });
                }
            }
            for feed in &mut self.feeds {
                if feed.due <= now {
                    // Not due again while it is under way; `apply` says when it is next.
                    feed.due = now + Duration::from_hours(24 * 365);
                }
            }
            let next = self.feeds.iter().map(|feed| feed.due).min();
            let next = next.unwrap_or(now + Duration::from_hours(24 * 365));
            tokio::select! {
                Some(Ok((index, result))) = pulls.join_next() => {
                    if self.apply(index, result) {
                        self.swap();
                    }
                }
                () = tokio::time::sleep_until(next) => {}
                changed = closing.changed() => {
                    if changed.is_err() || *closing.borrow() {
                        return;
                    }
                }
            }
        }
    }

    /// One pull, free of `self`.
    fn pull(&self, feed: &Feed) -> impl Future<Output = Result<Pulled, FeedError>> + use<> {
        let (client, config) = (self.client.clone(), Arc::clone(&feed.config));
        let (validators, now) = (feed.validators.clone(), self.clock.now());
        async move {
            let (body, validators) = match fetch::fetch(&client, &config, &validators).await? {
                Fetched::NotModified => return Ok(Pulled::NotModified),
                Fetched::Body(body, validators) => (body, validators),
            };
            let place = fetch::place(&config.source);
            let parsing = tokio::task::spawn_blocking(move || parse(&config, &body, now));
            let ended = |error| FeedError::Parser { place, source: io::Error::other(error) };
            Ok(Pulled::Entries(parsing.await.map_err(ended)??, validators))
        }
    }

    /// Takes the result of a pull in; true when the entries have changed.
    fn apply(&mut self, index: usize, result: Result<Pulled, FeedError>) -> bool {
        let now = self.clock.now();
        let Some(feed) = self.feeds.get_mut(index) else { return false };
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let status = statuses.entry(feed.config.name.clone()).or_default();
        let changed = match result {
            Ok(pulled) => {
                self.stats.feeds_pulled.increment();
                (feed.failures, status.error, status.last_good) = (0, None, Some(now));
                feed.due = Instant::now() + jittered(feed.config.interval);
                feed.take(pulled, now, status, &self.stats)
            }
            Err(error) => {
                self.stats.feeds_failed.increment();
                feed.failures = feed.failures.saturating_add(1);
                feed.due = Instant::now() + retry_wait(feed.failures, feed.config.interval);
                let text = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!(
                    kept = feed.indicators.len(),
                    "feed {}: {text}; the last good set stays",
                    feed.config.name
                );
                status.error = Some(text);
                false
            }
        };
        status.indicators = feed.indicators.len();
        changed
    }

    /// Builds a set of all feeds' entries aside and puts it in place of the old one.
    fn swap(&self) {
        let all = self.feeds.iter().flat_map(|feed| feed.indicators.iter().map(Arc::clone));
        let set = IndicatorSet::build(all.collect());
        tracing::info!(indicators = set.len(), "indicators loaded");
        self.set.store(Arc::new(set));
    }
}

impl Feed {
    fn take(
        &mut self,
        pulled: Pulled,
        now: Timestamp,
        status: &mut FeedStatus,
        stats: &Stats,
    ) -> bool {
        match pulled {
            Pulled::Entries(parsed, validators) => {
                stats.feed_entries_rejected.add(parsed.rejects.total());
                status.rejects.clone_from(parsed.rejects.counts());
                self.indicators = parsed.indicators.into_iter().map(Arc::new).collect();
                self.validators = validators;
                true
            }
            Pulled::NotModified => match self.config.kind {
                // Their validity counts from the pull.
                FeedKind::List => {
                    let expires = Some(list_expiry(&self.config, now));
                    for indicator in &mut self.indicators {
                        Arc::make_mut(indicator).expires = expires;
                    }
                    !self.indicators.is_empty()
                }
                // Rows leave with the look-back, also when the body stays as it is.
                FeedKind::Sentinel => {
                    let before = self.indicators.len();
                    let oldest = now.checked_sub(signed(self.config.indicator_lookback));
                    let oldest = oldest.unwrap_or(Timestamp::MIN);
                    self.indicators.retain(|indicator| indicator.time_generated >= oldest);
                    self.indicators.len() != before
                }
            },
        }
    }
}

fn parse(config: &FeedConfig, body: &[u8], now: Timestamp) -> Result<Parsed, FeedError> {
    let feed: Arc<str> = config.name.as_str().into();
    let place = || fetch::place(&config.source);
    let parser = |source| FeedError::Parser { place: place(), source };
    let policy = PrefixPolicy::from(config);
    let parsed = match config.kind {
        FeedKind::List => parse_list(body, &feed, policy, (now, Some(list_expiry(config, now))))
            .map_err(parser)?,
        FeedKind::Sentinel => {
            if last_line_is_cut(body) {
                return Err(FeedError::Truncated { place: place() });
            }
            let lookback = signed(config.indicator_lookback);
            let mut rows = RowReader::new(feed, policy, now, lookback);
            rows.read(body).map_err(parser)?;
            rows.finish(now)
        }
    };
    let rejects = &parsed.rejects;
    if parsed.indicators.is_empty() && rejects.total() > 0 && rejects.malformed() == rejects.total()
    {
        let first = rejects
            .kept()
            .first()
            .map(|it| format!("line {}: \"{}\": {}", it.line, it.text.escape_debug(), it.reason));
        let (entries, first) = (rejects.total(), first.unwrap_or_default());
        return Err(FeedError::Nothing { place: place(), entries, first });
    }
    Ok(parsed)
}

/// A last line without line ending that is no whole JSON value.
fn last_line_is_cut(body: &[u8]) -> bool {
    let last = body.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    !last.trim_ascii().is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(last).is_err()
}

fn list_expiry(config: &FeedConfig, now: Timestamp) -> Timestamp {
    now.checked_add(signed(config.default_ttl)).unwrap_or(Timestamp::MAX)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Up to a tenth more, so that a fleet does not ask at once.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + fastrand::f64() / 10.0)
}

/// 15 s, doubled with each failure, at most the feed's own interval.
fn retry_wait(failures: u32, interval: Duration) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    jittered(Duration::from_secs(15).saturating_mul(doubled).min(interval))
}
