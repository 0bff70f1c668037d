//! `replay --live`: recorded connections through the live pipeline, at their recorded times.
//!
//! The input is the output of `record`, or rows of `VMConnection`. Such a row becomes one connection
//! that is opened at its `TimeGenerated`, and counts as many connections as its links. The same input
//! gives the same alerts, byte for byte, on any machine.

use std::collections::HashSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::indicators;
use super::indicators::IndicatorInput;
use super::input;
use super::options::{LiveOptions, LiveSummary, ReplayError};
use super::recorded_row;
use super::recorded_row::{RecordedLine, RecordedRow, RowHead};
use super::reject_log::RejectLog;
use super::row_writer::RowWriter;
use crate::base::counters::Stats;
use crate::base::json_text::JsonText;
use crate::base::lines::{Lines, json_error};
use crate::base::protocol::Protocol;
use crate::pipeline::aggregate::RecordedChange;
use crate::pipeline::aggregate::{
    Attribution, Change, ChangeKind, Direction, Flow, Phase, RowIdentity, RowTable,
};
use crate::pipeline::dedup::{Alert, Dedup, DedupState};
use crate::pipeline::enrich::{DnsAnswer, DnsCache, Process};
use crate::pipeline::matcher::{AllowList, Matcher};
use crate::pipeline::{Detection, PipelineOutput, RemoteFacts};
use crate::schema::TableRow;

/// Agent id in the ids of replayed alerts.
const AGENT_ID: &str = "replay";
/// Limit of the open dedup windows, and of row keys.
const MAX_KEYS: usize = 1_000_000;
/// Interval of progress updates, in lines.
const PROGRESS_LINES: u64 = 4096;

/// Runs the replay. Writes each alert to `out` as a JSON line once it is raised, and malformed lines to
/// `rejects`.
pub fn run(
    options: &LiveOptions,
    out: &mut dyn Write,
    rejects: &mut dyn Write,
) -> Result<LiveSummary, ReplayError> {
    input::check_stdin(&options.connections, &options.indicators)?;
    let rows = options.rows.as_deref().map(RowWriter::open).transpose()?;
    let mut replay = LiveReplay {
        options,
        log: RejectLog::new(rejects, "lines"),
        output: ReplayOutput { out, alerts: 0, rows, error: None },
        detection: None,
        early_names: DnsCache::new(DnsCache::MAX, Arc::default()),
        summary: LiveSummary::default(),
    };
    for path in &options.connections {
        replay.read_file(path)?;
    }
    replay.finish()
}

struct LiveReplay<'r> {
    options: &'r LiveOptions,
    log: RejectLog<'r>,
    output: ReplayOutput<'r>,
    /// Built at the first connection, whose time the indicators depend on.
    detection: Option<Detection>,
    /// Names in DNS responses before the first connection.
    early_names: DnsCache,
    summary: LiveSummary,
}

impl LiveReplay<'_> {
    fn read_file(&mut self, path: &Path) -> Result<(), ReplayError> {
        let failed = |source| ReplayError::Read { path: path.to_owned(), source };
        let input = input::open_rows(path, &self.options.progress).map_err(failed)?;
        if let Some(hint) = input.hint() {
            self.log.note(path, 1, hint).map_err(ReplayError::WriteRejects)?;
        }
        let mut lines = Lines::new(JsonText::new(input.reader));
        while let Some(line) = lines.next_line().map_err(failed)? {
            if line.bytes.is_some_and(|bytes| bytes.trim_ascii().is_empty()) {
                continue;
            }
            self.summary.lines += 1;
            if self.summary.lines.is_multiple_of(PROGRESS_LINES) {
                self.options.progress.set_rows(self.summary.lines);
            }
            let mut unused = Vec::new();
            let parsed = line.bytes.map(|bytes| parse(bytes, &mut unused));
            for text in unused {
                self.log.note(path, line.number, &text).map_err(ReplayError::WriteRejects)?;
            }
            match parsed.unwrap_or_else(|| Err("line too long".to_owned())) {
                Ok(LiveLine::Change(change)) => self.observe(&change)?,
                Ok(LiveLine::DnsAnswer(answer)) => self.learn(&answer),
                Ok(LiveLine::AgentEvent { lost }) => {
                    self.summary.lost = self.summary.lost.saturating_add(lost);
                }
                Err(reason) => {
                    self.log.add(path, line.number, &reason).map_err(ReplayError::WriteRejects)?;
                }
            }
        }
        Ok(())
    }

    fn learn(&mut self, dns: &DnsAnswer) {
        match &mut self.detection {
            Some(detection) => {
                detection.tick(dns.time_generated, &mut self.output);
                detection.add_answer(dns);
            }
            None => self.early_names.insert(dns),
        }
    }

    fn observe(&mut self, change: &Change) -> Result<(), ReplayError> {
        let detection = match &mut self.detection {
            Some(detection) => detection,
            none => {
                let detection = none.insert(start(self.options, &change.flow, &mut self.log)?);
                let names = DnsCache::new(0, Arc::default());
                let names = std::mem::replace(&mut self.early_names, names);
                detection.facts = RemoteFacts::new(names, None);
                detection
            }
        };
        // A NAT mapping has the time of the connection's start, which may be long past.
        if change.kind != ChangeKind::Translated {
            detection.tick(change.flow.time, &mut self.output);
        }
        detection.observe(change, &mut self.output);
        self.output.check()
    }

    fn finish(mut self) -> Result<LiveSummary, ReplayError> {
        if let Some(detection) = &mut self.detection {
            while detection.finish(&mut self.output) {}
        }
        self.output.check()?;
        self.output.out.flush().map_err(ReplayError::WriteAlerts)?;
        Ok(LiveSummary {
            rows: self.output.rows.take().map_or(Ok(0), RowWriter::finish)?,
            alerts: self.output.alerts,
            rejected: self.log.finish().map_err(ReplayError::WriteRejects)?,
            ..self.summary
        })
    }
}

/// Loads the indicators as of the first connection, and builds the stages.
fn start(
    options: &LiveOptions,
    first: &Flow,
    log: &mut RejectLog<'_>,
) -> Result<Detection, ReplayError> {
    let indicator_input = IndicatorInput {
        files: &options.indicators,
        at: first.time,
        lookback: options.indicator_lookback,
        progress: &options.progress,
    };
    let set = indicators::load(&indicator_input, log)?;
    let stats = Arc::new(Stats::default());
    let set = Arc::new(ArcSwap::from_pointee(set));
    let matcher = Matcher::new(set, AllowList::default(), HashSet::new(), Arc::clone(&stats));
    let dedup = Dedup::new(AGENT_ID.to_owned(), options.window, MAX_KEYS, Arc::clone(&stats));
    let rows = options.rows.is_some().then(|| {
        let identity = RowIdentity {
            computer: Arc::clone(&first.computer),
            agent_id: AGENT_ID.to_owned(),
            ..RowIdentity::default()
        };
        RowTable::new(identity, MAX_KEYS, Arc::clone(&stats))
    });
    Ok(Detection::new(rows, matcher, None, dedup, stats))
}

/// Output of alerts as JSON lines, and of rows. The first error ends the replay.
struct ReplayOutput<'a> {
    out: &'a mut dyn Write,
    alerts: u64,
    rows: Option<RowWriter>,
    error: Option<ReplayError>,
}

impl PipelineOutput for ReplayOutput<'_> {
    fn alerts(&mut self, alerts: Vec<Alert>, _state: Option<DedupState>) {
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

impl ReplayOutput<'_> {
    fn check(&mut self) -> Result<(), ReplayError> {
        self.error.take().map_or(Ok(()), Err)
    }
}

/// Content of a line.
enum LiveLine {
    Change(Box<Change>),
    DnsAnswer(DnsAnswer),
    AgentEvent { lost: u64 },
}

/// Parses a line. Values that are not used are added to `unused`.
fn parse(bytes: &[u8], unused: &mut Vec<String>) -> Result<LiveLine, String> {
    let text = recorded_row::text(bytes)?;
    let event: EventColumn = from_json(text)?;
    if event.event.is_some() {
        let recorded: RecordedChange = from_json(text)?;
        return Ok(LiveLine::Change(Box::new(recorded.into())));
    }
    Ok(match recorded_row::parse_head(text)? {
        RecordedLine::Row(head) => {
            let mut row = recorded_row::parse_row(text, head)?;
            unused.append(&mut row.unused);
            LiveLine::Change(Box::new(opened(head, row)))
        }
        RecordedLine::DnsAnswer => LiveLine::DnsAnswer(from_json(text)?),
        RecordedLine::AgentEvent { lost } => LiveLine::AgentEvent { lost },
    })
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| json_error(&error))
}

/// The column that distinguishes recorded changes from rows.
#[derive(Deserialize)]
struct EventColumn {
    #[serde(rename = "Event")]
    event: Option<IgnoredAny>,
}

/// Converts a row to a connection that is opened at the row's time.
fn opened(head: RowHead, recorded: RecordedRow) -> Change {
    let row = Arc::unwrap_or_clone(recorded.sighting);
    let address = |text: &str| text.parse().ok().map(|address: IpAddr| address.to_canonical());
    let (source, destination) = (address(&row.source_ip), address(&row.destination_ip));
    let direction = recorded_row::direction(&row, head.remote);
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
        connections: recorded.connections,
        preexisting: false,
        translated: None,
        bytes_sent: recorded.bytes_sent,
        bytes_received: recorded.bytes_received,
    };
    Change::new(ChangeKind::Opened, flow, 0, 0)
}
