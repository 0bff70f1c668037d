//! `replay --live`: recorded connections through the live pipeline, by their own time.
//!
//! The input is what `record` writes, or rows of `VMConnection`: a row is then one connection that
//! is opened at its `TimeGenerated` and stands for as many as its links. The same input gives the
//! same alerts, byte for byte, on any machine.

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::at::{AtOptions, ReplayError};
use super::indicators;
use super::input;
use super::recorded::RecordedChange;
use super::reject_log::RejectLog;
use crate::aggregate::{Attribution, Change, Direction, Flow, Phase, Protocol, Row, What};
use crate::dedup::{Alert, Dedup};
use crate::enrich::Process;
use crate::intel::{IndicatorSet, integer, time};
use crate::lines::Lines;
use crate::matcher::{AllowList, Matcher};
use crate::pipeline::{Detection, Outlet};
use crate::stats::Stats;

/// Stands for the agent's id in the ids of replayed alerts.
const AGENT_ID: &str = "replay";
/// Windows open at once at most.
const MAX_KEYS: usize = 1_000_000;

/// What is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// Files of recorded changes or of rows, in the order in which they are read; `-` is standard
    /// input.
    pub connections: Vec<PathBuf>,
    /// Files of indicators: rows of `ThreatIntelligenceIndicator` as JSON lines, or plain lists.
    /// Which rows decide is judged as of the first connection.
    pub indicators: Vec<PathBuf>,
    /// Indicator rows older than this are ignored.
    pub indicator_lookback: SignedDuration,
    /// Hits of one key within this time after its alert are counted, not raised.
    pub window: SignedDuration,
}

/// What was read and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveSummary {
    /// Lines that are not blank.
    pub lines: u64,
    /// Of these, malformed ones.
    pub lines_rejected: u64,
    /// Entries of indicator files that are malformed.
    pub indicators_rejected: u64,
    /// Alerts that were written.
    pub alerts: u64,
}

/// Replays; `out` gets one alert as JSON a line as they are raised, `rejects` the malformed lines.
pub fn run(
    options: &LiveOptions,
    out: &mut dyn Write,
    rejects: &mut dyn Write,
) -> Result<LiveSummary, ReplayError> {
    let stdin = options.connections.iter().chain(&options.indicators);
    let stdin = stdin.filter(|path| input::is_stdin(path)).count();
    if stdin > 1 {
        return Err(ReplayError::StdinRepeated(stdin));
    }
    let mut output = Output { out, alerts: 0, error: None };
    let mut detection = None;
    let mut summary = LiveSummary::default();
    let mut lines_log = Vec::new();
    for path in &options.connections {
        let failed = |source| ReplayError::Read { path: path.clone(), source };
        let mut lines = Lines::new(input::open(path).map_err(failed)?.reader);
        while let Some(line) = lines.next_line().map_err(failed)? {
            let change = match line.bytes.map(parse) {
                Some(Ok(None)) => continue,
                Some(Ok(Some(change))) => Ok(change),
                Some(Err(reason)) => Err(reason),
                None => Err("line too long".to_owned()),
            };
            summary.lines += 1;
            match change {
                Err(reason) => {
                    summary.lines_rejected += 1;
                    keep(&mut lines_log, path, line.number, reason);
                }
                Ok(change) => {
                    let detection = match &mut detection {
                        Some(detection) => detection,
                        none => {
                            none.insert(start(options, change.flow.time, rejects, &mut summary)?)
                        }
                    };
                    detection.tick(change.flow.time, &mut output);
                    detection.observe(&change, &mut output);
                    output.check()?;
                }
            }
        }
    }
    if let Some(detection) = &mut detection {
        detection.finish(&mut output);
    }
    output.check()?;
    output.out.flush().map_err(ReplayError::WriteAlerts)?;
    summary.alerts = output.alerts;
    write_rejects(&lines_log, summary.lines_rejected, rejects)?;
    Ok(summary)
}

type Kept = (PathBuf, u64, String);

/// The first malformed lines are told in full at the end, the rest counted.
fn keep(log: &mut Vec<Kept>, path: &Path, line: u64, reason: String) {
    if log.len() < usize::try_from(super::reject_log::SHOWN_MAX).unwrap_or(usize::MAX) {
        log.push((path.to_owned(), line, reason));
    }
}

fn write_rejects(kept: &[Kept], all: u64, rejects: &mut dyn Write) -> Result<(), ReplayError> {
    let mut log = RejectLog::new(rejects, "lines");
    for (path, line, reason) in kept {
        log.add(path, *line, reason).map_err(ReplayError::WriteRejects)?;
    }
    log.add_unseen(all.saturating_sub(kept.len() as u64));
    log.finish().map(drop).map_err(ReplayError::WriteRejects)
}

/// Loads the indicators as of the first connection, and puts the stages together.
fn start(
    options: &LiveOptions,
    first: Timestamp,
    rejects: &mut dyn Write,
    summary: &mut LiveSummary,
) -> Result<Detection, ReplayError> {
    let options = AtOptions {
        connections: Vec::new(),
        indicators: options.indicators.clone(),
        at: first,
        lookback: options.window,
        indicator_lookback: options.indicator_lookback,
    };
    let mut log = RejectLog::new(rejects, "indicators");
    let set = IndicatorSet::build(indicators::load(&options, &mut log)?);
    summary.indicators_rejected = log.finish().map_err(ReplayError::WriteRejects)?;
    let stats = Arc::new(Stats::default());
    let set = Arc::new(ArcSwap::from_pointee(set));
    let matcher = Matcher::new(set, AllowList::default(), HashSet::new(), Arc::clone(&stats));
    let dedup = Dedup::new(AGENT_ID.to_owned(), options.lookback, MAX_KEYS, Arc::clone(&stats));
    Ok(Detection::new(None, matcher, dedup, stats))
}

/// Alerts as JSON lines; the first failure is kept and ends the replay.
struct Output<'a> {
    out: &'a mut dyn Write,
    alerts: u64,
    error: Option<std::io::Error>,
}

impl Outlet for Output<'_> {
    fn alert(&mut self, alert: Alert) {
        if self.error.is_some() {
            return;
        }
        let written = serde_json::to_writer(&mut *self.out, &alert)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        match written {
            Ok(()) => self.alerts += 1,
            Err(error) => self.error = Some(error),
        }
    }

    fn rows(&mut self, _rows: Vec<Row>) {}
}

impl Output<'_> {
    fn check(&mut self) -> Result<(), ReplayError> {
        self.error.take().map_or(Ok(()), |error| Err(ReplayError::WriteAlerts(error)))
    }
}

/// `None` on a blank line; otherwise a change, or what is wrong.
fn parse(bytes: &[u8]) -> Result<Option<Change>, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let kind: Kind = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if kind.event.is_some() {
        let recorded: RecordedChange =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        return Ok(Some(recorded.into()));
    }
    let row: RowLine = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    row.change().map(Some)
}

/// Tells what `record` wrote from a row.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "Event")]
    event: Option<IgnoredAny>,
}

/// What the pipeline needs of a `VMConnection` row; columns that are absent are empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RowLine {
    #[serde(deserialize_with = "time")]
    time_generated: Option<Timestamp>,
    remote_ip: Option<String>,
    computer: Option<String>,
    direction: Option<String>,
    protocol: Option<String>,
    source_ip: Option<String>,
    destination_ip: Option<String>,
    #[serde(deserialize_with = "integer")]
    destination_port: Option<u16>,
    #[serde(deserialize_with = "integer")]
    source_port: Option<u16>,
    #[serde(deserialize_with = "integer")]
    links_established: Option<u64>,
    #[serde(deserialize_with = "integer")]
    links_failed: Option<u64>,
    #[serde(deserialize_with = "integer")]
    bytes_sent: Option<u64>,
    #[serde(deserialize_with = "integer")]
    bytes_received: Option<u64>,
    #[serde(deserialize_with = "integer")]
    process_id: Option<u32>,
    process_name: Option<String>,
    process_path: Option<String>,
    command_line: Option<String>,
    user_name: Option<String>,
    parent_process_name: Option<String>,
    container_id: Option<String>,
}

impl RowLine {
    fn change(self) -> Result<Change, String> {
        let time = self.time_generated.ok_or("TimeGenerated is missing")?;
        let address = |text: &Option<String>| {
            let address: Option<IpAddr> = text.as_deref().unwrap_or_default().parse().ok();
            address.map(|address| address.to_canonical())
        };
        let remote = address(&self.remote_ip)
            .ok_or_else(|| format!("RemoteIp: {:?} is not an address", self.remote_ip))?;
        let (source, destination) = (address(&self.source_ip), address(&self.destination_ip));
        let direction = match self.direction.as_deref() {
            Some("inbound") => Direction::Inbound,
            Some("outbound") => Direction::Outbound,
            _ if source == Some(remote) => Direction::Inbound,
            _ => Direction::Outbound,
        };
        let (local, local_port, remote_port) = match direction {
            Direction::Inbound => (destination, self.destination_port, self.source_port),
            Direction::Outbound => (source, self.source_port, self.destination_port),
        };
        let process = Process {
            pid: self.process_id,
            name: self.process_name.unwrap_or_default(),
            path: self.process_path.unwrap_or_default(),
            command_line: self.command_line.unwrap_or_default(),
            user_name: self.user_name.unwrap_or_default(),
            parent_name: self.parent_process_name.unwrap_or_default(),
            container_id: self.container_id.unwrap_or_default(),
            ..Process::default()
        };
        let links = self.links_established.unwrap_or(0) + self.links_failed.unwrap_or(0);
        let flow = Flow {
            time,
            phase: Phase::Opened,
            computer: self.computer.unwrap_or_default().into(),
            direction,
            protocol: match self.protocol.as_deref() {
                Some("udp") => Protocol::Udp,
                _ => Protocol::Tcp,
            },
            local: local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            local_port,
            remote,
            remote_port,
            process: Arc::new(process),
            attribution: Attribution::Unknown,
            connections: links.max(1),
            bytes_sent: self.bytes_sent.unwrap_or(0),
            bytes_received: self.bytes_received.unwrap_or(0),
        };
        Ok(Change {
            what: What::Opened,
            flow,
            number: 0,
            netns: 0,
            error: 0,
            rtt_us: 0,
            duration: Duration::ZERO,
        })
    }
}
