//! Refresh of the inventory: a row at startup and at each full hour, with the latest metadata of
//! Azure.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep_until};

use super::azure::SharedAzure;
use super::computer::Host;
use super::error::ImdsError;
use super::imds::{Imds, ImdsMode};
use super::network::interface_addresses;
use super::platform::is_azure;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::schema::ComputerRow;

const HOUR: Duration = Duration::from_hours(1);

/// True if the metadata service is queried on the machine under `root`.
fn is_imds_enabled(mode: ImdsMode, root: &Path) -> bool {
    match mode {
        ImdsMode::Auto => is_azure(root),
        ImdsMode::On => true,
        ImdsMode::Off => false,
    }
}

/// Background task of the inventory.
#[derive(Debug)]
pub struct InventoryRefresh {
    /// Host whose files are read.
    pub host: Host,
    /// Condition under which the metadata service is queried.
    pub mode: ImdsMode,
    /// Client of the metadata service.
    pub imds: Imds,
    /// Receives the latest metadata of Azure.
    pub azure: SharedAzure,
    /// Time of the rows.
    pub clock: Arc<dyn Clock>,
    /// Counters of the agent.
    pub stats: Arc<Stats>,
}

impl InventoryRefresh {
    /// Passes a row to `put` at startup, at each full hour, and after the first response of Azure. Runs
    /// until it is dropped.
    ///
    /// The metadata service is queried at startup and before each hourly row. After a failure the
    /// request is retried with growing delays, and the metadata of the last response stays valid.
    pub async fn run(self, mut put: impl FnMut(ComputerRow) + Send) {
        let Self { host, mode, imds, azure, clock, stats } = self;
        let is_imds_enabled = is_imds_enabled(mode, &host.root);
        let mut retry_delay = imds.retry.retry_first;
        let mut is_row_pending = true;
        loop {
            let mut next_fetch = HOUR;
            if is_imds_enabled {
                match imds.fetch().await {
                    Ok(metadata) => {
                        is_row_pending |= azure.swap(Some(Arc::new(metadata))).is_none();
                        retry_delay = imds.retry.retry_first;
                    }
                    Err(error) => {
                        stats.azure_metadata_requests_failed.increment();
                        log_failure(&error, retry_delay);
                        next_fetch = retry_delay;
                        retry_delay = retry_delay.saturating_mul(2).min(imds.retry.retry_max);
                    }
                }
            }
            if std::mem::take(&mut is_row_pending) {
                // The files are small or the kernel's, but a slow disk must not block the runtime.
                let (host, now, azure) = (host.clone(), clock.now(), azure.load_full());
                let read = tokio::task::spawn_blocking(move || {
                    host.read(now, &interface_addresses(), azure.as_deref())
                });
                if let Ok(row) = read.await {
                    put(row);
                }
            }
            let to_hour = until_hour(clock.now());
            is_row_pending = to_hour <= next_fetch;
            sleep_until(Instant::now() + to_hour.min(next_fetch)).await;
        }
    }
}

/// Time to the next full hour.
fn until_hour(now: Timestamp) -> Duration {
    let hour = SignedDuration::from_hours(1).as_nanos();
    let past = now.as_nanosecond().rem_euclid(hour);
    Duration::from_nanos(u64::try_from(hour - past).unwrap_or(u64::MAX))
}

fn log_failure(error: &ImdsError, retry_delay: Duration) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let retry_in = humantime::format_duration(retry_delay);
    let cause = escaped(&cause, 200);
    tracing::warn!(%retry_in, %error, cause, "azure instance metadata not read; see azure.imds");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_emitted_at_full_hours() {
        for (now, secs) in [(0, 3600), (3599, 1), (3600, 3600), (-1, 1)] {
            let now = Timestamp::from_second(now).unwrap();
            assert_eq!(until_hour(now), Duration::from_secs(secs), "{now}");
        }
    }
}
