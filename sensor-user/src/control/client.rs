//! The asking end of the socket: `netsensor status` and `netsensor feeds`.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::feeds::FeedReport;
use super::status::StatusReport;
use super::{FEEDS, REJECTS, STATUS};
use crate::deliver::escaped;
use crate::health::State;

/// How long the agent may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const ANSWER_MAX: u64 = 256 << 20;

/// Asks the agent at `path` for its state.
pub fn ask_status(path: &Path) -> io::Result<StatusReport> {
    ask(path, STATUS)
}

/// Asks the agent at `path` how its feeds are, and where `with_rejects` what of them is not used.
pub fn ask_feeds(path: &Path, with_rejects: bool) -> io::Result<Vec<FeedReport>> {
    ask(path, if with_rejects { REJECTS } else { FEEDS })
}

fn ask<T: DeserializeOwned>(path: &Path, request: &str) -> io::Result<T> {
    let mut agent = UnixStream::connect(path)?;
    agent.set_read_timeout(Some(LIMIT))?;
    agent.set_write_timeout(Some(LIMIT))?;
    writeln!(agent, "{request}")?;
    let mut answer = Vec::new();
    agent.take(ANSWER_MAX).read_to_end(&mut answer)?;
    serde_json::from_slice(&answer).map_err(io::Error::from)
}

/// The state as one screen for people.
pub fn screen(report: &StatusReport) -> String {
    let mut out = String::new();
    let computer = escaped(&report.computer, 255);
    let _infallible = writeln!(
        out,
        "{}  netsensor {} on {computer}, process {}, since {}",
        report.state, report.version, report.process_id, report.started
    );
    let degraded = report.components.iter().filter(|it| it.state == State::Degraded);
    for component in degraded {
        let (name, reason) = (escaped(&component.name, 128), escaped(&component.reason, 512));
        let _infallible = writeln!(out, "DEGRADED  {name} since {}: {reason}", component.since);
    }
    let well = report.components.iter().filter(|it| it.state == State::Ok);
    let well: Vec<String> = well.map(|it| escaped(&it.name, 128)).collect();
    let _infallible = writeln!(out, "OK        {}", or_none(&well.join(", ")));
    let on = report.probes.iter().filter(|probe| probe.on);
    let on: Vec<&str> = on.map(|probe| probe.name.as_str()).collect();
    let _infallible = writeln!(out, "probes    {}", escaped(&on.join(", "), 2048));
    for probe in report.probes.iter().filter(|probe| !probe.on) {
        let (name, reason) = (escaped(&probe.name, 128), escaped(&probe.reason, 256));
        let _infallible = writeln!(out, "off       {name}: {reason}");
    }
    let _infallible = writeln!(out, "confined  {}", escaped(&report.confined, 512));
    let count = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    let _infallible = writeln!(
        out,
        "records   {} received, {} lost (ring full), {} discarded, {} dropped (simulated)",
        count("records_received"),
        count("kernel_tcp_ring_full") + count("kernel_process_ring_full"),
        count("records_discarded_decode"),
        count("records_dropped_simulated")
    );
    let held = ["hits_held_own_traffic", "hits_held_allowed", "hits_held_window"];
    let held: u64 = held.iter().map(|name| count(name)).sum();
    let _infallible = writeln!(
        out,
        "detection {} connections, {} hits, {held} held back, {} alerts raised",
        count("flows_observed"),
        count("hits_found"),
        count("alerts_raised")
    );
    let dropped = |kind: &str| -> u64 {
        let reasons = ["dropped_queue_full", "dropped_sink_closed", "discarded_rejected"];
        reasons.iter().map(|reason| count(&format!("{kind}_{reason}"))).sum()
    };
    let _infallible = writeln!(
        out,
        "delivery  {} alerts and {} rows delivered, {} and {} lost, {} tries again",
        count("alerts_delivered"),
        count("rows_delivered"),
        dropped("alerts"),
        dropped("rows"),
        count("deliveries_retried")
    );
    out.push_str(&report.delivery.lines());
    out
}

const fn or_none(text: &str) -> &str {
    if text.is_empty() { "nothing is known yet" } else { text }
}
