//! Fetch: one pull of a feed, from a file or over the network. It yields documents on disk, and the cursor
//! of the next pull; the parser reads the documents.
//!
//! A pull is bounded in size (all its documents together), in time (each request, a stalled body, all
//! requests together) and in pages. A failed pull has no effect: the caller keeps its cursor, and the next
//! pull requests the same again.

mod body;
mod crowdsec;
mod error;
mod http;
mod local;
mod misp;
mod misp_feed;
mod pages;
mod plain;
mod progress;
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
pub use progress::PullProgress;

use super::config::{FeedConfig, FeedSource};
use super::formats::kind::FeedKind;
use super::pull::{Cursor, PullOutcome};
use crate::base::clock::{Clock, signed};
use crate::http::{CachedClient, ConnectionSettings, is_sent_unencrypted};
use http::Session;

/// Default time without a byte after which a body is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of all requests of a pull together.
const PULL_TIMEOUT: Duration = Duration::from_mins(30);

/// Pulls feeds. It keeps the HTTP client of each feed, and the state that protocols need between pulls.
#[derive(Debug)]
pub struct Fetcher {
    clock: Arc<dyn Clock>,
    /// Time without a byte after which a body is given up.
    stall: Duration,
    states: Mutex<HashMap<String, FetchState>>,
}

/// State of a feed between pulls; it is not saved.
#[derive(Debug, Default)]
struct FetchState {
    client: Option<CachedClient>,
    /// Time of the last full refresh, or of the first pull.
    full_refresh: Option<Timestamp>,
    /// Cursor of the last good pull of a stream.
    stream: Cursor,
    token: Option<sentinel::Token>,
    /// True if a warning was logged about a secret that others can read, in its file or on the network.
    is_warned: bool,
}

/// One pull: the feed, its cursor, and the directory of its documents.
#[derive(Debug, Clone, Copy)]
struct Task<'t> {
    feed: &'t FeedConfig,
    cursor: &'t Cursor,
    folder: &'t Path,
    progress: &'t PullProgress,
}

impl Fetcher {
    /// A fetcher with the time of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, stall: STALL_TIMEOUT, states: Mutex::default() }
    }

    /// The same fetcher with another time limit for a stalled body (default: 30 s).
    #[must_use]
    pub fn with_stall(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// Pulls `feed` from `cursor` on; writes documents to files in `folder`, and the reached page to `progress`.
    ///
    /// The caller must keep the returned cursor only after the documents are in the set: with the old cursor
    /// they are returned again. Files and embedded text have no version: they are read each time, on a
    /// blocking thread.
    pub async fn pull(
        &self,
        feed: &FeedConfig,
        cursor: &Cursor,
        folder: &Path,
        progress: &PullProgress,
    ) -> Result<PullOutcome, FetchError> {
        let FeedSource::Http(url) = &feed.source else {
            let (feed, folder) = (feed.clone(), folder.to_owned());
            return blocking(move || local::pull(&feed, &folder)).await;
        };
        let limit = PULL_TIMEOUT.max(feed.timeout);
        let pull = Box::pin(self.pull_from(url, Task { feed, cursor, folder, progress }));
        match tokio::time::timeout(limit, pull).await {
            Ok(pulled) => pulled,
            Err(_elapsed) => Err(FetchError::TooSlow { limit, page: progress.page() }),
        }
    }

    /// Pulls a feed without network access, on this thread.
    pub fn local(feed: &FeedConfig, folder: &Path) -> Result<PullOutcome, FetchError> {
        local::pull(feed, folder)
    }

    async fn pull_from(&self, url: &Url, mut task: Task<'_>) -> Result<PullOutcome, FetchError> {
        let session = self.session(url, task).await?;
        if self.needs_full_refresh(task.feed, session.now) {
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
                let mut token = self.with_state(task.feed, |state| state.token.take());
                let pulled = sentinel::pull(&session, url, task, &mut token).await;
                self.with_state(task.feed, |state| state.token = token);
                pulled
            }
        }?;
        if *task.cursor == Cursor::Start {
            self.with_state(task.feed, |state| state.full_refresh = Some(session.now));
        }
        Ok(pulled)
    }

    /// A stream continues only if its last pull was good and is in the set: the cursor is then the one that
    /// was returned.
    async fn pull_stream(
        &self,
        session: &Session<'_>,
        url: &Url,
        task: Task<'_>,
    ) -> Result<PullOutcome, FetchError> {
        let last = self.with_state(task.feed, |state| std::mem::take(&mut state.stream));
        let continues = last != Cursor::Start && last == *task.cursor;
        let pulled = crowdsec::pull(session, url, task, !continues).await?;
        let cursor = match &pulled {
            PullOutcome::New { cursor, .. } => cursor.clone(),
            PullOutcome::NotModified => last,
        };
        self.with_state(task.feed, |state| state.stream = cursor);
        Ok(pulled)
    }

    /// Reads the secrets and certificates of `feed`, and creates its client.
    async fn session<'u>(
        &self,
        url: &'u Url,
        Task { feed, progress, .. }: Task<'u>,
    ) -> Result<Session<'u>, FetchError> {
        let (old, is_warned) =
            self.with_state(feed, |state| (state.client.clone(), state.is_warned));
        let (access, stall) = (feed.access.clone(), self.stall);
        // Connections are reused for the pages of one pull; at the next pull they would be stale.
        let settings = ConnectionSettings {
            read_timeout: stall,
            idle_timeout: Duration::from_secs(5),
            idle_max: 1,
        };
        let (material, cached, open) = blocking(move || {
            let material = access.read()?;
            let cached = CachedClient::renewed(old.as_ref(), &access.proxy, settings, &material)?;
            let open = access.secrets().into_iter().find(|secret| secret.is_world_readable());
            Ok((material, cached, open.map(ToString::to_string)))
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
        let client = cached.client();
        self.with_state(feed, |state| {
            state.client = Some(cached);
            state.is_warned = open.is_some() || is_bare;
        });
        let now = self.clock.now();
        Ok(Session { client, material, home: url, timeout: feed.timeout, stall, now, progress })
    }

    /// True if a feed that returns only changes must be pulled as a whole: deletions, and entries that the
    /// server added with an old date, are then seen too.
    fn needs_full_refresh(&self, feed: &FeedConfig, now: Timestamp) -> bool {
        if !matches!(feed.kind, FeedKind::Taxii2 | FeedKind::Misp) {
            return false;
        }
        let full = self.with_state(feed, |state| *state.full_refresh.get_or_insert(now));
        now.duration_since(full) >= signed(feed.full_refresh_interval)
    }

    fn with_state<T>(&self, feed: &FeedConfig, with: impl FnOnce(&mut FetchState) -> T) -> T {
        let mut states = self.lock();
        with(states.entry(feed.name.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, FetchState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let stopped = |error| FetchError::File(std::io::Error::other(error));
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}
