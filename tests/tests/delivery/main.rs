//! Delivery, through the library: what a sink gets, in which order, and what happens when it does
//! not take it.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod end;
mod local;
mod order;
mod outage;
mod parquet;
mod refusal;
mod reload;

use std::path::Path;
use std::time::Duration;

use sensor_tests::{Collector, RecordedRequest, RunningSinks, ScriptedResponse, wait_until};
use sensor_user::clock::FixedClock;
use sensor_user::deliver::{FileConfig, HttpConfig, SinkConfig, SinkKind};

/// How long rows wait for each other: what is sent at once comes sooner, also on a busy machine.
const BATCH_WAIT: Duration = Duration::from_millis(500);

fn start(sinks: &[SinkConfig]) -> RunningSinks {
    RunningSinks::start(sinks, FixedClock("2026-11-24T10:00:00Z".parse().unwrap()))
}

/// An http sink with `batch`; alerts and rows.
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

/// Answers the n-th request by the n-th of `answers`, and takes all that follow.
fn first(
    answers: Vec<ScriptedResponse>,
) -> impl FnMut(usize, &RecordedRequest) -> ScriptedResponse + Send + 'static {
    move |number, _request| answers.get(number).cloned().unwrap_or(ScriptedResponse::OK)
}
