//! Schedule of the pulls, and the reload of the feeds' configuration.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::Intel;
use super::feed::Feed;
use crate::intel::config::FeedConfig;
use crate::intel::fetch::PullProgress;

/// Delay after the first failure; doubled after each further failure, up to the feed's interval.
const FIRST_RETRY: Duration = Duration::from_secs(30);

impl Intel {
    /// Replaces the feeds. A feed with an unchanged configuration continues, and is read again if it
    /// needs no network. A new or changed feed is pulled at once, and its saved set is used until then.
    /// Blocks while local feeds are read.
    pub fn reload(&self, configs: Vec<FeedConfig>) {
        let mut before = self.feeds.load().to_vec();
        let mut feeds = Vec::with_capacity(configs.len());
        for config in configs {
            let old = before.iter().position(|feed| feed.config.name == config.name);
            let old = old.map(|index| before.swap_remove(index));
            if let Some(unchanged) = old.as_ref().filter(|old| old.config == config) {
                feeds.push(Arc::clone(unchanged));
                continue;
            }
            if let Some(old) = &old {
                old.retire();
            }
            let feed = Feed::new(config, old.as_deref());
            self.take_saved(&feed);
            feeds.push(Arc::new(feed));
        }
        for removed in before {
            removed.retire();
            self.folder.forget(&removed.name);
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

    /// Pulls each feed at once (except local feeds that are already loaded), then at its interval, until
    /// `shutdown` completes.
    pub async fn run(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        // The loops stop when the set is dropped.
        let mut loops = JoinSet::new();
        let mut running: Vec<(Arc<Feed>, AbortHandle)> = Vec::new();
        loop {
            let feeds = self.feeds.load_full();
            running.retain(|(feed, handle)| {
                let is_configured = feeds.iter().any(|it| Arc::ptr_eq(it, feed));
                if !is_configured {
                    handle.abort();
                }
                is_configured
            });
            for feed in feeds.iter() {
                if !running.iter().any(|(it, _)| Arc::ptr_eq(it, feed)) {
                    let handle = loops.spawn(Arc::clone(&self).pull_at_interval(Arc::clone(feed)));
                    running.push((Arc::clone(feed), handle));
                }
            }
            while loops.try_join_next().is_some() {}
            tokio::select! {
                () = &mut shutdown => return,
                () = self.changed.notified() => {}
            }
        }
    }

    async fn pull_at_interval(self: Arc<Self>, feed: Arc<Feed>) {
        loop {
            let (last_pull, failures, not_before) = {
                let state = feed.state();
                (state.status.last_pull, state.status.failures, state.not_before)
            };
            if last_pull.is_some() {
                let random = fastrand::u64(..);
                let requested = not_before.map(|time| time.duration_since(self.clock.now()));
                let requested = requested.and_then(|it| Duration::try_from(it).ok());
                let delay = pull_delay(feed.config.interval, failures, random);
                tokio::time::sleep(delay.max(requested.unwrap_or_default())).await;
            }
            self.pull(&feed).await;
        }
    }

    async fn pull(self: &Arc<Self>, feed: &Arc<Feed>) {
        let progress = Arc::new(PullProgress::new(self.clock.now()));
        let cursor = {
            let mut state = feed.state();
            state.status.running = Some(Arc::clone(&progress));
            state.cursor.clone()
        };
        let folder = self.folder.path();
        let pulled = self.fetcher.pull(&feed.config, &cursor, folder, &progress).await;
        // Parsing and building take up to seconds, which must not block a worker of the runtime.
        let (intel, pulled_feed) = (Arc::clone(self), Arc::clone(feed));
        let processed = tokio::task::spawn_blocking(move || {
            if intel.process_pull(&pulled_feed, pulled) {
                intel.rebuild();
            }
        });
        if let Err(error) = processed.await {
            tracing::error!(feed = &*feed.name, %error, "processing of a pull panicked; please report");
        }
        feed.state().status.running = None;
    }
}

/// Time to the next pull: the interval, or after failures a shorter delay that doubles. Up to a tenth is
/// added, so that the hosts of a fleet do not send their requests in the same second.
fn pull_delay(interval: Duration, failures: u32, random: u64) -> Duration {
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

    use super::pull_delay;

    #[test]
    fn failures_are_retried_soon_and_requests_of_a_fleet_are_spread() {
        let hour = Duration::from_hours(1);
        let secs = Duration::from_secs;
        for (interval, failures, random, delay) in [
            (hour, 0, 0, hour),
            (hour, 0, 100, secs(3960)),
            (hour, 1, 0, secs(30)),
            (hour, 2, 100, secs(66)),
            (hour, 99, 0, hour),
            (secs(10), 1, 0, secs(10)),
            (Duration::ZERO, 0, 0, secs(1)),
        ] {
            assert_eq!(pull_delay(interval, failures, random), delay, "{failures} {random}");
        }
    }
}
