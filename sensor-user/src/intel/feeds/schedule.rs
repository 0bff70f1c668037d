//! When feeds are pulled, and what becomes of another configuration of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::Intel;
use super::feed::Feed;
use crate::intel::config::FeedConfig;

/// Wait after the first of several failures; it doubles up to the feed's interval.
const FIRST_RETRY: Duration = Duration::from_secs(30);

impl Intel {
    /// Goes on with other feeds. What is configured as before goes on as it was, but that feeds
    /// which need no network are read again; a feed that is new or configured otherwise is pulled
    /// at once, and gives what was kept of it until then. It blocks: feeds are read.
    pub fn reload(&self, configs: Vec<FeedConfig>) {
        let mut before = self.feeds.load().to_vec();
        let mut feeds = Vec::with_capacity(configs.len());
        for config in configs {
            let known = before.iter().position(|feed| feed.config.name == config.name);
            let known = known.map(|at| before.swap_remove(at));
            if let Some(same) = known.as_ref().filter(|known| known.config == config) {
                feeds.push(Arc::clone(same));
                continue;
            }
            if let Some(known) = &known {
                known.retire();
            }
            let feed = Feed::new(config, known.as_deref());
            self.take_saved(&feed);
            feeds.push(Arc::new(feed));
        }
        for gone in before {
            gone.retire();
            self.folder.forget(&gone.name);
        }
        self.feeds.store(Arc::new(feeds));
        self.load_local();
        self.changed.notify_one();
    }

    /// Pulls every feed once, one after the other.
    pub async fn pull_all(self: &Arc<Self>) {
        for feed in self.feeds.load_full().iter() {
            self.pull(feed).await;
        }
    }

    /// Pulls each feed at once (local ones were just loaded, where they were) and then at its
    /// interval, until `shutdown` completes.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        // Dropping the loops afterwards stops them.
        let mut loops = JoinSet::new();
        let mut kept: Vec<(Arc<Feed>, AbortHandle)> = Vec::new();
        loop {
            let feeds = self.feeds.load_full();
            kept.retain(|(feed, running)| {
                let stays = feeds.iter().any(|it| Arc::ptr_eq(it, feed));
                if !stays {
                    running.abort();
                }
                stays
            });
            for feed in feeds.iter() {
                if !kept.iter().any(|(it, _)| Arc::ptr_eq(it, feed)) {
                    let running = loops.spawn(Arc::clone(&self).keep(Arc::clone(feed)));
                    kept.push((Arc::clone(feed), running));
                }
            }
            while loops.try_join_next().is_some() {}
            tokio::select! {
                () = &mut shutdown => return,
                () = self.changed.notified() => {}
            }
        }
    }

    async fn keep(self: Arc<Self>, feed: Arc<Feed>) {
        loop {
            let (last_pull, failures, not_before) = {
                let state = feed.state();
                (state.status.last_pull, state.status.failures, state.not_before)
            };
            if last_pull.is_some() {
                let random = fastrand::u64(..);
                let asked = not_before.map(|then| then.duration_since(self.clock.now()));
                let asked = asked.and_then(|it| Duration::try_from(it).ok()).unwrap_or_default();
                let wait = wait(feed.config.interval, failures, random).max(asked);
                tokio::time::sleep(wait).await;
            }
            self.pull(&feed).await;
        }
    }

    async fn pull(self: &Arc<Self>, feed: &Arc<Feed>) {
        let cursor = feed.state().cursor.clone();
        let pulled = self.fetcher.pull(&feed.config, &cursor, self.folder.path()).await;
        // Reading and building take up to seconds; a runtime's worker must not.
        let (intel, of_task) = (Arc::clone(self), Arc::clone(feed));
        let settled = tokio::task::spawn_blocking(move || {
            if intel.settle(&of_task, pulled) {
                intel.rebuild();
            }
        });
        if let Err(error) = settled.await {
            tracing::error!(feed = &*feed.name, %error, "bug: reading a feed stopped; please report");
        }
    }
}

/// Time to the next pull: the interval, or after failures a shorter time that doubles; and up to
/// a tenth more, so that many hosts do not ask in the same second.
fn wait(interval: Duration, failures: u32, random: u64) -> Duration {
    let base = match failures {
        0 => interval,
        _ => FIRST_RETRY.saturating_mul(1 << (failures - 1).min(16)).min(interval),
    };
    let base = base.max(Duration::from_secs(1));
    let thousandths = u32::try_from(random % 101).unwrap_or(0);
    base + base / 1000 * thousandths
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;

    #[test]
    fn failures_are_retried_soon_and_hosts_do_not_ask_together() {
        let hour = Duration::from_hours(1);
        let secs = Duration::from_secs;
        for (interval, failures, random, waited) in [
            (hour, 0, 0, hour),
            (hour, 0, 100, secs(3960)),
            (hour, 1, 0, secs(30)),
            (hour, 2, 100, secs(66)),
            (hour, 99, 0, hour),
            (secs(10), 1, 0, secs(10)),
            (Duration::ZERO, 0, 0, secs(1)),
        ] {
            assert_eq!(wait(interval, failures, random), waited, "{failures} {random}");
        }
    }
}
