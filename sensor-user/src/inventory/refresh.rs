//! Keeps the inventory: a row at the start and at each full hour, and Azure's answer while it is
//! true.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep_until};

use super::azure::SharedAzure;
use super::computer::Host;
use super::error::ImdsError;
use super::imds::{Imds, ImdsMode};
use super::network::interfaces;
use super::platform::is_azure;
use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::schema::ComputerRow;

const HOUR: Duration = Duration::from_hours(1);

/// Whether the metadata service is to be asked on the machine under `root`.
fn asks(mode: ImdsMode, root: &Path) -> bool {
    match mode {
        ImdsMode::Auto => is_azure(root),
        ImdsMode::On => true,
        ImdsMode::Off => false,
    }
}

/// Gives a row to `put` at the start, at each full hour, and when Azure has answered for the first
/// time; puts Azure's answer into `azure`. Runs until it is dropped.
///
/// The metadata service is asked at the start and before each hour's row; one that fails is asked
/// again after growing waits, and what it said before stays.
pub async fn keep(
    host: Host,
    (mode, imds): (ImdsMode, Imds),
    azure: SharedAzure,
    (clock, stats): (Arc<dyn Clock>, Arc<Stats>),
    mut put: impl FnMut(ComputerRow) + Send,
) {
    let asks = asks(mode, &host.root);
    let mut wait = imds.pace.retry_first;
    let mut row_due = true;
    loop {
        let mut next_ask = HOUR;
        if asks {
            match imds.ask().await {
                Ok(answer) => {
                    row_due |= azure.swap(Some(Arc::new(answer))).is_none();
                    wait = imds.pace.retry_first;
                }
                Err(error) => {
                    stats.azure_metadata_requests_failed.increment();
                    tell(&error, wait);
                    next_ask = wait;
                    wait = wait.saturating_mul(2).min(imds.pace.retry_most);
                }
            }
        }
        if std::mem::take(&mut row_due) {
            // The files are the kernel's or small, but a disk may be slow.
            let (host, now, known) = (host.clone(), clock.now(), azure.load_full());
            let read = tokio::task::spawn_blocking(move || {
                host.read(now, &interfaces(), known.as_deref())
            });
            if let Ok(row) = read.await {
                put(row);
            }
        }
        let to_hour = until_hour(clock.now());
        row_due = to_hour <= next_ask;
        sleep_until(Instant::now() + to_hour.min(next_ask)).await;
    }
}

/// Until the next full hour.
fn until_hour(now: Timestamp) -> Duration {
    let hour = SignedDuration::from_hours(1).as_nanos();
    let past = now.as_nanosecond().rem_euclid(hour);
    Duration::from_nanos(u64::try_from(hour - past).unwrap_or(u64::MAX))
}

fn tell(error: &ImdsError, wait: Duration) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let retry_in = humantime::format_duration(wait);
    let cause = escaped(&cause, 200);
    tracing::warn!(%retry_in, %error, cause, "azure instance metadata not read; see azure.imds");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_fall_due_at_full_hours() {
        for (now, secs) in [(0, 3600), (3599, 1), (3600, 3600), (-1, 1)] {
            let now = Timestamp::from_second(now).unwrap();
            assert_eq!(until_hour(now), Duration::from_secs(secs), "{now}");
        }
    }
}
