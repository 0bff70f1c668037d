//! `replay --live`: recorded connections through the live pipeline, by their own time.
//!
//! The input is what `record` writes, or rows of `VMConnection`: a row is then one connection that
//! is opened at its `TimeGenerated` and stands for as many as its links. The same input gives the
//! same alerts, byte for byte, on any machine.

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::at::{AtOptions, ReplayError};
use super::indicators;
use super::input;
use super::reject_log::RejectLog;
use super::rows;
use super::rows::{Head, Seen};
use super::rows_out::RowsOut;
use crate::base::counters::Stats;
use crate::base::lines::{Lines, json_error};
use crate::base::progress::Progress;
use crate::base::protocol::Protocol;
use crate::intel::IndicatorSet;
use crate::pipeline::aggregate::recorded::RecordedChange;
use crate::pipeline::aggregate::{
    Attribution, Change, ChangeKind, Direction, Flow, Phase, RowIdentity, RowTable,
};
use crate::pipeline::dedup::{Alert, Dedup, State};
use crate::pipeline::enrich::{DnsAnswer, Names, Process};
use crate::pipeline::matcher::{AllowList, Matcher};
use crate::pipeline::{Detection, PipelineOutput, RemoteFacts};
use crate::schema::TableRow;

/// Stands for the agent's id in the ids of replayed alerts.
const AGENT_ID: &str = "replay";
/// Windows open at once at most.
const MAX_KEYS: usize = 1_000_000;

/// Progress is told once in so many rows.
const ROWS_A_TIME: u64 = 4096;

/// What is replayed.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// Files of recorded changes or of rows, in the order in which they are read; `-` is standard
    /// input.
    pub connections: Vec<PathBuf>,
    /// Files of indicators, as in [`AtOptions::indicators`].
    /// Which rows decide is judged as of the first connection.
    pub indicators: Vec<PathBuf>,
    /// Indicator rows older than this are ignored.
    pub indicator_lookback: SignedDuration,
    /// Hits of one key within this time after its alert are counted, not raised.
    pub window: SignedDuration,
    /// Where the rows of recorded changes go: a file of JSON lines, or a folder for Parquet files.
    pub rows: Option<PathBuf>,
    /// Is told how far it is.
    pub progress: Progress,
}

/// What was read and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveSummary {
    /// Lines that are not blank.
    pub lines: u64,
    /// Malformed lines of all files, those of the indicators too.
    pub rejected: u64,
    /// What the input says was lost while it was recorded (`NetsensorLoss` lines).
    pub lost: u64,
    /// Alerts that were written.
    pub alerts: u64,
    /// Rows that were written.
    pub rows: u64,
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
    let mut log = RejectLog::new(rejects, "lines");
    let rows = options.rows.as_deref().map(RowsOut::open).transpose()?;
    let mut output = Output { out, alerts: 0, rows, error: None };
    let mut summary = LiveSummary::default();
    let mut detection: Option<Detection> = None;
    // Names of answers before the first connection.
    let mut early = Names::new(Names::MAX, Arc::default());
    for path in &options.connections {
        let failed = |source| ReplayError::Read { path: path.clone(), source };
        let mut lines = Lines::new(input::open(path, &options.progress).map_err(failed)?.reader);
        while let Some(line) = lines.next_line().map_err(failed)? {
            let parsed = line.bytes.map_or_else(|| Err("line too long".to_owned()), parse);
            let (time, told) = match parsed {
                Ok(Parsed::Blank) => continue,
                Ok(Parsed::Told(time, told)) => (time, told),
                Ok(Parsed::AgentEvent { lost }) => {
                    summary.lines += 1;
                    summary.lost = summary.lost.saturating_add(lost);
                    continue;
                }
                Err(reason) => {
                    log.add(path, line.number, &reason).map_err(ReplayError::WriteRejects)?;
                    summary.lines += 1;
                    continue;
                }
            };
            summary.lines += 1;
            if summary.lines % ROWS_A_TIME == 0 {
                options.progress.set_rows(summary.lines);
            }
            let change = match (told, &mut detection) {
                (Told::Change(change), _) => change,
                (Told::Answer(answer), Some(detection)) => {
                    detection.tick(time, &mut output);
                    detection.resolved(&answer);
                    continue;
                }
                (Told::Answer(answer), None) => {
                    early.learn(&answer);
                    continue;
                }
            };
            let detection = match &mut detection {
                Some(detection) => detection,
                none => {
                    let detection = none.insert(start(options, &change.flow, &mut log)?);
                    let names = std::mem::replace(&mut early, Names::new(0, Arc::default()));
                    detection.facts = RemoteFacts::new(names, None);
                    detection
                }
            };
            // A translation is told with the time of the beginning, which may be long past.
            if change.kind != ChangeKind::Translated {
                detection.tick(time, &mut output);
            }
            detection.observe(&change, &mut output);
            output.check()?;
        }
    }
    if let Some(detection) = &mut detection {
        while detection.finish(&mut output) {}
    }
    output.check()?;
    output.out.flush().map_err(ReplayError::WriteAlerts)?;
    summary.rows = output.rows.take().map_or(Ok(0), RowsOut::finish)?;
    summary.alerts = output.alerts;
    summary.rejected = log.finish().map_err(ReplayError::WriteRejects)?;
    Ok(summary)
}

/// Loads the indicators as of the first connection, and puts the stages together.
fn start(
    options: &LiveOptions,
    first: &Flow,
    log: &mut RejectLog<'_>,
) -> Result<Detection, ReplayError> {
    let of_rows = options.rows.is_some();
    let options = AtOptions {
        connections: Vec::new(),
        indicators: options.indicators.clone(),
        at: first.time,
        lookback: options.window,
        indicator_lookback: options.indicator_lookback,
        progress: options.progress.clone(),
    };
    let set = IndicatorSet::build(indicators::load(&options, log)?);
    let stats = Arc::new(Stats::default());
    let set = Arc::new(ArcSwap::from_pointee(set));
    let matcher = Matcher::new(set, AllowList::default(), HashSet::new(), Arc::clone(&stats));
    let dedup = Dedup::new(AGENT_ID.to_owned(), options.lookback, MAX_KEYS, Arc::clone(&stats));
    let rows = of_rows.then(|| {
        let identity = RowIdentity {
            computer: Arc::clone(&first.computer),
            agent_id: AGENT_ID.to_owned(),
            ..RowIdentity::default()
        };
        RowTable::new(identity, MAX_KEYS, Arc::clone(&stats))
    });
    Ok(Detection::new(rows, matcher, None, dedup, stats))
}

/// Alerts as JSON lines; the first failure is kept and ends the replay.
struct Output<'a> {
    out: &'a mut dyn Write,
    alerts: u64,
    rows: Option<RowsOut>,
    error: Option<ReplayError>,
}

impl PipelineOutput for Output<'_> {
    fn alerts(&mut self, alerts: Vec<Alert>, _state: Option<State>) {
        for alert in alerts {
            if self.error.is_some() {
                return;
            }
            let written = serde_json::to_writer(&mut *self.out, &alert)
                .map_err(std::io::Error::from)
                .and_then(|()| self.out.write_all(b"\n"));
            match written {
                Ok(()) => self.alerts += 1,
                Err(error) => self.error = Some(ReplayError::WriteAlerts(error)),
            }
        }
    }

    fn rows(&mut self, rows: Vec<TableRow>) {
        let Some(out) = self.rows.as_mut().filter(|_| self.error.is_none()) else { return };
        self.error = rows.iter().try_for_each(|row| out.write(row)).err();
    }
}

impl Output<'_> {
    fn check(&mut self) -> Result<(), ReplayError> {
        self.error.take().map_or(Ok(()), Err)
    }
}

/// What a line tells of the recorded host.
enum Told {
    Change(Box<Change>),
    Answer(DnsAnswer),
}

enum Parsed {
    Blank,
    Told(Timestamp, Told),
    AgentEvent { lost: u64 },
}

/// What a line is, or what is wrong with it.
fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Parsed::Blank);
    }
    let text = rows::text(bytes)?;
    let kind: Kind = serde_json::from_str(text).map_err(|error| json_error(&error))?;
    if kind.event.is_some() {
        let recorded: RecordedChange =
            serde_json::from_str(text).map_err(|error| json_error(&error))?;
        return Ok(change(recorded.into()));
    }
    match rows::head(text)? {
        rows::Line::Row(head) => Ok(change(opened(head, rows::seen(text, head)?))),
        rows::Line::Answer => {
            let answer: DnsAnswer =
                serde_json::from_str(text).map_err(|error| json_error(&error))?;
            Ok(Parsed::Told(answer.time_generated, Told::Answer(answer)))
        }
        rows::Line::AgentEvent { lost } => Ok(Parsed::AgentEvent { lost }),
    }
}

fn change(change: Change) -> Parsed {
    Parsed::Told(change.flow.time, Told::Change(Box::new(change)))
}

/// Tells what `record` wrote from a row.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "Event")]
    event: Option<IgnoredAny>,
}

/// A row as a connection that is opened at its time. Where it does not say who began, its
/// addresses do.
fn opened(head: Head, seen: Seen) -> Change {
    let row = Arc::unwrap_or_clone(seen.sighting);
    let address = |text: &str| text.parse().ok().map(|address: IpAddr| address.to_canonical());
    let (source, destination) = (address(&row.source_ip), address(&row.destination_ip));
    let direction = rows::direction(&row, head.remote);
    let (local, local_port, remote_port) = match direction {
        Direction::Inbound => (destination, row.destination_port, row.source_port),
        Direction::Outbound => (source, row.source_port, row.destination_port),
    };
    let process = Process {
        pid: row.process_id,
        name: row.process_name,
        path: row.process_path,
        command_line: row.command_line,
        user_name: row.user_name,
        parent_name: row.parent_process_name,
        container_id: row.container_id,
        ..Process::default()
    };
    let flow = Flow {
        time: head.time,
        phase: Phase::Opened,
        computer: row.computer.into(),
        direction,
        protocol: if row.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp },
        local: local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        local_port,
        remote: head.remote,
        remote_port,
        process: Arc::new(process),
        attribution: Attribution::Unknown,
        connections: seen.connections,
        preexisting: false,
        translated: None,
        bytes_sent: seen.bytes_sent,
        bytes_received: seen.bytes_received,
    };
    Change::new(ChangeKind::Opened, flow, 0, 0)
}
