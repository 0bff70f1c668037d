//! Log: the agent's messages, to standard error or the journal.
//!
//! A message is always one line. Equal lines within ten seconds are logged once with their number. Each
//! log statement in the code has a limit of lines per minute, and the excess is logged as a number.
//! Logging never waits for the journal.

mod journal;
mod line;
mod rate_limit;
mod repeats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::environment::Environment;
use journal::Journal;
use line::LogLine;
use rate_limit::{CALLSITES_MAX, LINES_PER_MINUTE, RateLimit};
use repeats::RepeatFilter;

/// Destination of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// The journal if standard error is connected to it, else standard error.
    #[default]
    Auto,
    /// Standard error.
    Stderr,
    /// The journal; standard error while there is none.
    Journald,
}

/// Options of the log.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions<'o> {
    /// Filter of the command line; overrides the configured filter, also after a reload.
    pub command_line: Option<&'o str>,
    /// Configured filter, in `tracing`'s directives.
    pub filter: &'o str,
    /// Destination of the log.
    pub target: LogTarget,
    /// Environment, which identifies the journal's stream.
    pub environment: &'o Environment,
}

/// Errors at the start of the log, or of a change.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is invalid.
    #[error(
        "{filter:?} is not a log filter; use one such as \"info\" or \"warn,sensor_user=debug\""
    )]
    Filter {
        /// Text of the filter.
        filter: String,
        /// Error in the filter.
        source: ParseError,
    },
    /// No socket can be created.
    #[error("create a socket for the journal")]
    Socket(#[source] io::Error),
    /// The process has a subscriber already.
    #[error("start the log")]
    Started(#[source] TryInitError),
    /// The subscriber is gone.
    #[error("change the log's filter")]
    Ended(#[source] reload::Error),
}

/// The log of this process. Pending lines are flushed on drop.
#[derive(Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    /// True if the command line sets the filter, which then never changes.
    is_pinned: bool,
    logger: Arc<Logger>,
}

/// Starts the log of this process.
pub fn start(options: LogOptions<'_>, clock: Arc<dyn Clock>) -> Result<LogHandle, LogError> {
    let filter = parse(options.command_line.unwrap_or(options.filter))?;
    let journal = || Journal::open(PathBuf::from(journal::SOCKET)).map_err(LogError::Socket);
    let journal_stream = options.environment.journal_stream.as_deref();
    let journal = match options.target {
        LogTarget::Stderr => None,
        LogTarget::Journald => Some(journal()?),
        LogTarget::Auto if journal::is_journal(journal_stream, io::stderr()) => {
            Some(journal()?).filter(Journal::is_listening)
        }
        LogTarget::Auto => None,
    };
    let output = LogOutput::new(journal, Box::new(io::stderr()));
    let logger = Arc::new(Logger::new(output, LINES_PER_MINUTE, clock));
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(filter)
        .with(LogLayer(Arc::clone(&logger)))
        .try_init()
        .map_err(LogError::Started)?;
    Ok(LogHandle { filter: handle, is_pinned: options.command_line.is_some(), logger })
}

impl LogHandle {
    /// Changes the filter, unless the command line sets it.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse(filter)?;
        if self.is_pinned { Ok(()) } else { self.filter.reload(filter).map_err(LogError::Ended) }
    }

    /// Emits pending lines whose time is over, and counts dropped lines in `stats`. To be called
    /// about once a second.
    pub fn poll(&self, stats: &Stats) {
        self.logger.poll();
        self.logger.count_dropped(stats);
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.logger.flush();
    }
}

/// Messages of NATS's client repeat those of the sinks, which name the sink: off unless a filter names
/// the client.
/// Minimum time between two polls of a filter.
const POLL_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

const DEFAULT_DIRECTIVES: &str = "async_nats=off";

/// Checks a log filter. A word alone must be a level: as a target, which it is for `tracing` otherwise, it
/// would silence everything else.
pub fn check_filter(filter: &str) -> Result<(), String> {
    let remedy = "use one such as \"info\" or \"warn,sensor_user=debug\"";
    let invalid =
        |reason: &dyn Display| Err(format!("{filter:?} is not a log filter ({reason}); {remedy}"));
    let mut parts = filter.split(',').map(str::trim).filter(|part| !part.is_empty()).peekable();
    if parts.peek().is_none() {
        return invalid(&"it is empty");
    }
    if let Err(error) = filter.parse::<EnvFilter>() {
        return invalid(&error);
    }
    // A directive for a target or a span has one of these.
    let is_word = |part: &&str| !part.contains(['=', '[']);
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    match parts.filter(is_word).find(|word| !is_level(word)) {
        Some(word) => invalid(&format_args!(
            "{word:?} is not a level: error, warn, info, debug, trace or off"
        )),
        None => Ok(()),
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let failed = |source| LogError::Filter { filter: filter.to_owned(), source };
    // A later directive overrides an earlier one.
    format!("{DEFAULT_DIRECTIVES},{filter}").parse().map_err(failed)
}

struct LogLayer(Arc<Logger>);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.0.push(LogLine::from_event(event));
    }
}

/// Receiver of lines, each with the number of repeats that it stands for: 0 for the line itself.
type Emit<'e> = &'e mut dyn FnMut(&LogLine, u64);

/// The log, shared by all threads.
#[derive(Debug)]
struct Logger {
    clock: Arc<dyn Clock>,
    stages: Mutex<LogStages>,
}

/// Stages of a line, in this order.
#[derive(Debug)]
struct LogStages {
    repeats: RepeatFilter,
    rate_limit: RateLimit,
    output: LogOutput,
}

impl Logger {
    fn new(output: LogOutput, max_lines: u64, clock: Arc<dyn Clock>) -> Self {
        let repeats = RepeatFilter::new(repeats::LINES_MAX);
        let rate_limit = RateLimit::new(max_lines, CALLSITES_MAX);
        Self { clock, stages: Mutex::new(LogStages { repeats, rate_limit, output }) }
    }

    fn stages(&self) -> MutexGuard<'_, LogStages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: LogLine) {
        self.run(
            |repeats, now, emit| repeats.push(line, now, emit),
            // Summaries wait for the next poll.
            |_rate_limit, _now, _emit| {},
        );
    }

    fn poll(&self) {
        self.run(RepeatFilter::poll, RateLimit::poll);
    }

    fn flush(&self) {
        self.run(
            |repeats, _now, emit| repeats.flush(emit),
            |rate_limit, _now, emit| rate_limit.flush(emit),
        );
    }

    /// Runs `first` on the repeat filter, which emits through the rate limit, then `second` on the
    /// rate limit itself.
    fn run(
        &self,
        first: impl FnOnce(&mut RepeatFilter, Timestamp, Emit<'_>),
        second: impl FnOnce(&mut RateLimit, Timestamp, Emit<'_>),
    ) {
        let now = self.clock.now();
        let LogStages { repeats, rate_limit, output } = &mut *self.stages();
        let mut write = |line: &LogLine, repeats| output.write(line, repeats, now);
        first(repeats, now, &mut |line, repeats| {
            rate_limit.push(line, repeats, now, &mut write);
        });
        second(rate_limit, now, &mut write);
    }

    fn count_dropped(&self, stats: &Stats) {
        let mut stages = self.stages();
        stats.log_lines_dropped_over_rate.add(stages.rate_limit.take_suppressed());
        stats.log_lines_dropped_journal.add(std::mem::take(&mut stages.output.uncounted));
    }
}

struct LogOutput {
    journal: Option<Journal>,
    /// Lines that the journal did not accept, not yet reported to it.
    unreported: u64,
    /// Lines that the journal did not accept, not yet in the counters.
    uncounted: u64,
    stderr: Box<dyn io::Write + Send>,
}

impl LogOutput {
    fn new(journal: Option<Journal>, stderr: Box<dyn io::Write + Send>) -> Self {
        Self { journal, unreported: 0, uncounted: 0, stderr }
    }

    fn write(&mut self, line: &LogLine, repeats: u64, now: Timestamp) {
        if let Some(journal) = &self.journal {
            match journal.send(&journal::datagram(line, repeats)) {
                Ok(()) => {
                    if self.unreported > 0 && journal.send(&journal::lost(self.unreported)).is_ok()
                    {
                        self.unreported = 0;
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unreported = self.unreported.saturating_add(1);
                    self.uncounted = self.uncounted.saturating_add(1);
                    return;
                }
                // There is no journal, or the agent may not connect to it: use standard error.
                Err(_unavailable) => {}
            }
        }
        // A closed standard error is no reason to fail.
        let _closed = self.stderr.write_all(line.to_text(now, repeats).as_bytes());
    }
}

impl fmt::Debug for LogOutput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal, unreported, .. } = self;
        formatter
            .debug_struct("LogOutput")
            .field("journal", journal)
            .field("unreported", unreported)
            .finish_non_exhaustive()
    }
}

/// True once `period` has passed since `since`, also if the clock was set back.
fn has_passed(since: Timestamp, period: SignedDuration, now: Timestamp) -> bool {
    now < since || now.duration_since(since) >= period
}
