//! Delivery, through the library: contents and order of deliveries to a sink, and retries.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod local;
mod order;
mod outage;
mod parquet;
mod refusal;
mod reload;
mod shutdown;

use std::path::Path;
use std::time::Duration;

use sensor_tests::{Collector, RecordedRequest, RunningSinks, ScriptedResponse, wait_until};
use sensor_user::base::clock::FixedClock;
use sensor_user::deliver::{FileConfig, HttpConfig, SinkConfig, SinkKind};

/// Batching interval of rows; alerts arrive sooner, even on a busy machine.
const BATCH_WAIT: Duration = Duration::from_millis(500);

fn start(sinks: &[SinkConfig]) -> RunningSinks {
    RunningSinks::start(sinks, FixedClock("2026-11-24T10:00:00Z".parse().unwrap()))
}

/// An http sink with `batch`, for alerts and rows.
fn http(name: &str, collector: &Collector, batch: usize) -> SinkConfig {
    let url = collector.url().parse().unwrap();
    SinkConfig {
        rows: true,
        queue: 1000,
        batch,
        batch_wait: BATCH_WAIT,
        ..SinkConfig::new(name.to_owned(), SinkKind::Http(HttpConfig::new(url)))
    }
}

fn file(name: &str, path: &Path) -> SinkConfig {
    SinkConfig {
        queue: 1000,
        batch: 2,
        ..SinkConfig::new(name.to_owned(), SinkKind::File(FileConfig::new(path.to_owned())))
    }
}

/// Responds to the n-th request with the n-th of `responses`, and accepts all further requests.
fn first(
    responses: Vec<ScriptedResponse>,
) -> impl FnMut(usize, &RecordedRequest) -> ScriptedResponse + Send + 'static {
    move |number, _request| responses.get(number).cloned().unwrap_or(ScriptedResponse::OK)
}
