//! Fetch: one pull of a feed, from a file or over the network: documents on disk, and where the
//! next pull goes on. What is in the documents is for others to read.
//!
//! A pull is bounded in size (all its documents together), in time (each request, a body that
//! stands still, all requests together) and in pages. A pull that fails leaves nothing behind: the
//! caller keeps its cursor, and the next pull asks for the same again.

mod body;
mod crowdsec;
mod error;
mod http;
mod local;
mod misp;
mod misp_feed;
mod plain;
mod scan;
mod sentinel;
mod taxii;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;

pub use error::FetchError;

use super::config::{FeedConfig, FeedSource};
use super::formats::kind::FeedKind;
use super::pull::{Cursor, PullOutcome};
use crate::base::clock::{Clock, signed};
use crate::http::{CachedClient, ConnectionSettings, is_sent_unencrypted};
use http::Session;

/// A body that does not move for so long is given up unless set.
const STALL: Duration = Duration::from_secs(30);
/// All requests of a pull together take no longer.
const LONGEST_PULL: Duration = Duration::from_mins(30);
/// Pages of one pull at most.
const MOST_PAGES: u32 = 10_000;

/// Pulls feeds. It remembers, a feed, its HTTP client and what the protocols need between pulls.
#[derive(Debug)]
pub struct Fetcher {
    clock: Arc<dyn Clock>,
    /// A body that does not move for so long is given up, whatever the limit of the whole.
    stall: Duration,
    memory: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of a feed until the agent ends.
#[derive(Debug, Default)]
struct Memory {
    client: Option<CachedClient>,
    /// When all of the feed was asked for last, or since when that is not known.
    full: Option<Timestamp>,
    /// The cursor of the last good pull of a stream.
    stream: Cursor,
    token: Option<sentinel::Token>,
    /// Whether it was told that a secret can be read by others, here or on its way.
    is_warned: bool,
}

/// One pull: the feed, where it goes on, and where its documents go.
#[derive(Debug, Clone, Copy)]
struct Task<'t> {
    feed: &'t FeedConfig,
    cursor: &'t Cursor,
    folder: &'t Path,
}

impl Fetcher {
    /// A fetcher whose time is that of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, stall: STALL, memory: Mutex::default() }
    }

    /// The same, which gives a body up that stands still for `stall` (30 s unless set).
    #[must_use]
    pub fn with_stall(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// Pulls `feed` from where `cursor` is; documents go to files in `folder`.
    ///
    /// The cursor that comes with new documents is to be kept once these are in the set, and not
    /// before: with the old one the same comes again. Files and embedded text have no version here:
    /// they are read each time, on a thread that may block.
    pub async fn pull(
        &self,
        feed: &FeedConfig,
        cursor: &Cursor,
        folder: &Path,
    ) -> Result<PullOutcome, FetchError> {
        let FeedSource::Http(url) = &feed.source else {
            let (feed, folder) = (feed.clone(), folder.to_owned());
            return blocking(move || local::pull(&feed, &folder)).await;
        };
        let limit = LONGEST_PULL.max(feed.timeout);
        let pull = Box::pin(self.pull_from(url, Task { feed, cursor, folder }));
        match tokio::time::timeout(limit, pull).await {
            Ok(pulled) => pulled,
            Err(_elapsed) => Err(FetchError::TooSlow(limit)),
        }
    }

    /// Pulls a feed that needs no network, on this thread.
    pub fn local(feed: &FeedConfig, folder: &Path) -> Result<PullOutcome, FetchError> {
        local::pull(feed, folder)
    }

    async fn pull_from(&self, url: &Url, mut task: Task<'_>) -> Result<PullOutcome, FetchError> {
        let session = self.session(url, task.feed).await?;
        if self.is_full_due(task.feed, session.now) {
            task.cursor = &Cursor::Start;
        }
        let pulled = match task.feed.kind {
            FeedKind::List | FeedKind::Sentinel | FeedKind::Stix => {
                plain::pull(&session, url, task).await
            }
            FeedKind::Taxii2 => taxii::pull(&session, url, task).await,
            FeedKind::Misp => misp::pull(&session, url, task).await,
            FeedKind::MispFeed => misp_feed::pull(&session, url, task).await,
            FeedKind::CrowdSec => self.pull_stream(&session, url, task).await,
            FeedKind::SentinelQuery => {
                let mut token = self.remember(task.feed, |memory| memory.token.take());
                let pulled = sentinel::pull(&session, url, task, &mut token).await;
                self.remember(task.feed, |memory| memory.token = token);
                pulled
            }
        }?;
        if *task.cursor == Cursor::Start {
            self.remember(task.feed, |memory| memory.full = Some(session.now));
        }
        Ok(pulled)
    }

    /// A stream goes on only where its last pull was good and is in the set: its cursor is the one
    /// that was given then.
    async fn pull_stream(
        &self,
        session: &Session<'_>,
        url: &Url,
        task: Task<'_>,
    ) -> Result<PullOutcome, FetchError> {
        let last = self.remember(task.feed, |memory| std::mem::take(&mut memory.stream));
        let goes_on = last != Cursor::Start && last == *task.cursor;
        let pulled = crowdsec::pull(session, url, task, !goes_on).await?;
        let cursor = match &pulled {
            PullOutcome::New { cursor, .. } => cursor.clone(),
            PullOutcome::NotModified => last,
        };
        self.remember(task.feed, |memory| memory.stream = cursor);
        Ok(pulled)
    }

    /// Reads the secrets and certificates of `feed`, and has a client for it.
    async fn session<'u>(
        &self,
        url: &'u Url,
        feed: &FeedConfig,
    ) -> Result<Session<'u>, FetchError> {
        let (old, is_warned) =
            self.remember(feed, |memory| (memory.client.clone(), memory.is_warned));
        let (access, stall) = (feed.access.clone(), self.stall);
        // For the pages of one pull; at the next an idle connection would be long dead.
        let tuning = ConnectionSettings {
            read_timeout: stall,
            idle_timeout: Duration::from_secs(5),
            idle_max: 1,
        };
        let (material, made, open) = blocking(move || {
            let material = access.read()?;
            let made = CachedClient::renewed(old.as_ref(), &access.proxy, tuning, &material)?;
            let open = access.secrets().into_iter().find(|secret| secret.is_world_readable());
            Ok((material, made, open.map(ToString::to_string)))
        })
        .await?;
        let is_bare = !feed.access.secrets().is_empty() && is_sent_unencrypted(url);
        if !is_warned {
            if let Some(secret) = &open {
                tracing::warn!(feed = feed.name, %secret, "secret is readable by all users; run chmod o-r");
            }
            if is_bare {
                tracing::warn!(
                    feed = feed.name,
                    "secrets are sent over the network without encryption; use https:"
                );
            }
        }
        let client = made.client();
        self.remember(feed, |memory| {
            memory.client = Some(made);
            memory.is_warned = open.is_some() || is_bare;
        });
        let now = self.clock.now();
        Ok(Session { client, material, home: url, timeout: feed.timeout, stall, now })
    }

    /// Whether it is time to ask for all of a feed that otherwise tells only what changed: what its
    /// server does not tell (that something was deleted, or came late) is then seen too.
    fn is_full_due(&self, feed: &FeedConfig, now: Timestamp) -> bool {
        if !matches!(feed.kind, FeedKind::Taxii2 | FeedKind::Misp) {
            return false;
        }
        let full = self.remember(feed, |memory| *memory.full.get_or_insert(now));
        now.duration_since(full) >= signed(feed.full_every)
    }

    fn remember<T>(&self, feed: &FeedConfig, with: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.lock();
        with(memory.entry(feed.name.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what blocks on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let stopped = |error| FetchError::File(std::io::Error::other(error));
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}
