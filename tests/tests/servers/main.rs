//! Pulls from real threat intelligence servers (medallion, opentaxii, `CrowdSec` and a MISP), with
//! expired state, restarts and refusals; and from mock servers for cases that no real one produces.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends with a panic"
)]

mod agent;
mod crowdsec;
mod decisions;
mod end_to_end;
mod http;
mod medallion;
mod misp_feed;
mod mmisp;
mod opentaxii;
mod paging;
mod sentinel;
mod taxii;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sensor_tests::skip_unless;
use sensor_user::base::clock::{Clock as _, SystemClock};
use sensor_user::base::error_chain::chain;
use sensor_user::http::{Login, Secret};
use sensor_user::intel::{
    Cursor, Extent, FeedConfig, FeedKind, FeedSource, FetchError, Fetcher, OpenDocuments,
    PullOutcome, PullProgress,
};
use serde_json::Value;
use tempfile::TempDir;

/// A feed and its fetcher.
struct Puller {
    fetcher: Fetcher,
    feed: FeedConfig,
    folder: TempDir,
}

/// The result of a pull with new data.
#[derive(Debug)]
struct New {
    documents: Vec<String>,
    extent: Extent,
    cursor: Cursor,
}

impl Puller {
    fn new(kind: FeedKind, url: &str) -> Self {
        let source = FeedSource::Http(url.parse().unwrap());
        let feed = FeedConfig {
            timeout: Duration::from_mins(1),
            ..FeedConfig::new("test".to_owned(), kind, source)
        };
        let folder = tempfile::tempdir().unwrap();
        Self { fetcher: Fetcher::new(Arc::new(SystemClock)), feed, folder }
    }

    fn basic(mut self, user: &str, password: PathBuf) -> Self {
        let user = user.to_owned();
        self.feed.access.login = Login::Basic { user, password: Secret::File(password) };
        self
    }

    fn token(mut self, header: &str, token: PathBuf) -> Self {
        let (header, scheme) = (header.to_owned(), String::new());
        self.feed.access.login = Login::Token { header, scheme, token: Secret::File(token) };
        self
    }

    /// Simulates a restart of the agent.
    fn restart(&mut self) {
        self.fetcher = Fetcher::new(Arc::new(SystemClock));
    }

    /// Pulls; `None` if nothing has changed.
    async fn pull(&self, cursor: &Cursor) -> Result<Option<New>, FetchError> {
        let progress = PullProgress::new(SystemClock.now());
        let pulled = self.fetcher.pull(&self.feed, cursor, self.folder.path(), &progress).await;
        let new = match pulled? {
            PullOutcome::NotModified => None,
            PullOutcome::New { mut documents, extent, cursor } => {
                let (path, lengths) = documents.finish();
                let mut open = OpenDocuments::open(path, lengths.to_vec()).unwrap();
                let mut all = Vec::new();
                while let Some(mut document) = open.next_document() {
                    all.push(std::io::read_to_string(&mut document).unwrap());
                }
                Some(New { documents: all, extent, cursor })
            }
        };
        let left = std::fs::read_dir(self.folder.path()).unwrap().count();
        assert_eq!(left, 0, "a pull leaves no file behind");
        Ok(new)
    }

    /// Pulls, and asserts that there is new data.
    async fn new_from(&self, cursor: &Cursor) -> New {
        self.pull(cursor).await.unwrap().expect("something new")
    }

    /// Pulls, asserts that it fails, and returns the error.
    async fn pull_error(&self, cursor: &Cursor) -> String {
        let error = self.pull(cursor).await.expect_err("an error");
        chain(&error)
    }
}

impl New {
    /// The items at `path` (keys) of all documents.
    fn items(&self, path: &[&str]) -> Vec<Value> {
        let mut all = Vec::new();
        for document in &self.documents {
            let mut value: Value = serde_json::from_str(document).unwrap();
            for key in path {
                value = value[*key].take();
            }
            if let Value::Array(items) = value {
                all.extend(items);
            }
        }
        all
    }

    /// The text at `key` of each of these items, sorted.
    fn texts(&self, path: &[&str], key: &str) -> Vec<String> {
        let text = |item: &Value| item[key].as_str().unwrap_or_default().to_owned();
        let mut all: Vec<String> = self.items(path).iter().map(text).collect();
        all.sort_unstable();
        all
    }
}

/// Starts the server; ends the test if it is not installed.
macro_rules! start {
    ($server:ty) => {{
        let server = tokio::task::spawn_blocking(<$server>::start).await.unwrap();
        let reason = concat!(stringify!($server), " is not installed; run cargo xtask test");
        if $crate::skip_unless(server.is_some(), reason) {
            return;
        }
        server.unwrap()
    }};
}
use start;
