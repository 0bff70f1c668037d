//! Log: what the agent says of itself, to standard error or the journal.
//!
//! A line is one line, whatever it holds; the same line within ten seconds is told once with its
//! number; a place in the code has so many lines a minute, and the rest is told as a number; the
//! journal never makes the agent wait.

mod fold;
mod journal;
mod limit;
mod line;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::base::clock::Clock;
use crate::base::counters::Stats;
use crate::base::environment::Environment;
use fold::Fold;
use journal::Journal;
use limit::{LINES_A_MINUTE, Limit, PLACES_MAX};
use line::Line;

/// Where the log goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Target {
    /// To the journal where standard error is the journal, else to standard error.
    #[default]
    Auto,
    /// To standard error.
    Stderr,
    /// To the journal; to standard error while there is none.
    Journald,
}

/// What is logged, and where.
#[derive(Debug, Clone, Copy)]
pub struct Options<'o> {
    /// What was asked for on the command line: it wins, also over what is configured later.
    pub asked: Option<&'o str>,
    /// What is configured, in `tracing`'s directives.
    pub filter: &'o str,
    /// Where it goes.
    pub target: Target,
    /// Says which stream is the journal.
    pub environment: &'o Environment,
}

/// Why the log does not start, or does not change.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be.
    #[error(
        "{filter:?} is not a log filter; use one such as \"info\" or \"warn,sensor_user=debug\""
    )]
    Filter {
        /// What it says.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// There is no socket to be had.
    #[error("make a socket for the journal")]
    Socket(#[source] io::Error),
    /// Something else logs already.
    #[error("start the log")]
    Started(#[source] TryInitError),
    /// The log has ended.
    #[error("change the log's filter")]
    Ended(#[source] reload::Error),
}

/// The log of this process. What is held back is told when it goes.
#[derive(Debug)]
pub struct Handle {
    filter: reload::Handle<EnvFilter, Registry>,
    /// The command line's filter stays.
    pinned: bool,
    shared: Arc<Shared>,
}

/// Logs from here on.
pub fn start(options: Options<'_>, clock: Arc<dyn Clock>) -> Result<Handle, LogError> {
    let filter = parse(options.asked.unwrap_or(options.filter))?;
    let journal = || Journal::at(PathBuf::from(journal::SOCKET)).map_err(LogError::Socket);
    let journal_stream = options.environment.journal_stream.as_deref();
    let journal = match options.target {
        Target::Stderr => None,
        Target::Journald => Some(journal()?),
        Target::Auto if journal::is_journal(journal_stream, io::stderr()) => {
            Some(journal()?).filter(Journal::listens)
        }
        Target::Auto => None,
    };
    let output = Output::new(journal, Box::new(io::stderr()));
    let shared = Arc::new(Shared::new(output, LINES_A_MINUTE, clock));
    let (filter, handle) = reload::Layer::new(filter);
    tracing_subscriber::registry()
        .with(filter)
        .with(Teller(Arc::clone(&shared)))
        .try_init()
        .map_err(LogError::Started)?;
    Ok(Handle { filter: handle, pinned: options.asked.is_some(), shared })
}

impl Handle {
    /// Logs what `filter` says from here on, unless the command line has said it.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let filter = parse(filter)?;
        if self.pinned { Ok(()) } else { self.filter.reload(filter).map_err(LogError::Ended) }
    }

    /// Tells what was held back and of which it is time, and counts what is not in the log: to be
    /// called about once a second.
    pub fn look(&self, stats: &Stats) {
        self.shared.look();
        self.shared.count(stats);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.flush();
    }
}

/// What NATS's client logs is said by the sinks, with their names: it is told only to who asks for it.
const UNLESS_ASKED: &str = "async_nats=off";

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let failed = |source| LogError::Filter { filter: filter.to_owned(), source };
    // What stands later counts.
    format!("{UNLESS_ASKED},{filter}").parse().map_err(failed)
}

/// The part of `tracing`'s subscriber that tells.
struct Teller(Arc<Shared>);

impl<S: Subscriber> Layer<S> for Teller {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.0.take(Line::of(event));
    }
}

/// What all threads log with.
#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// What a line goes through, in this order.
#[derive(Debug)]
struct State {
    fold: Fold,
    limit: Limit,
    output: Output,
}

impl Shared {
    /// With so many lines a minute for each place in the code.
    fn new(output: Output, lines: u64, clock: Arc<dyn Clock>) -> Self {
        let (fold, limit) = (Fold::new(fold::LINES_MAX), Limit::new(lines, PLACES_MAX));
        Self { clock, state: Mutex::new(State { fold, limit, output }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, line: Line) {
        self.fold(|fold, now, say| fold.take(line, now, say));
    }

    fn look(&self) {
        self.fold(|fold, now, say| fold.look(now, say));
        let now = self.clock.now();
        let State { limit, output, .. } = &mut *self.state();
        limit.look(now, &mut |line, repeats| output.say(line, repeats, now));
    }

    fn flush(&self) {
        self.fold(|fold, _now, say| fold.flush(say));
        let now = self.clock.now();
        let State { limit, output, .. } = &mut *self.state();
        limit.flush(&mut |line, repeats| output.say(line, repeats, now));
    }

    /// What `work` has said goes on through the limit.
    fn fold(&self, work: impl FnOnce(&mut Fold, Timestamp, &mut dyn FnMut(&Line, u64))) {
        let now = self.clock.now();
        let State { fold, limit, output } = &mut *self.state();
        let mut say = |line: &Line, repeats| output.say(line, repeats, now);
        work(fold, now, &mut |line, repeats| limit.take(line, repeats, now, &mut say));
    }

    fn count(&self, stats: &Stats) {
        let mut state = self.state();
        stats.log_lines_dropped_over_rate.add(state.limit.take_held_back());
        stats.log_lines_dropped_journal.add(std::mem::take(&mut state.output.uncounted));
    }
}

/// Where lines go.
struct Output {
    journal: Option<Journal>,
    /// Lines that the journal did not take, and has not been told of.
    lost: u64,
    /// Lines that the journal did not take, and that are in no counter yet.
    uncounted: u64,
    stderr: Box<dyn io::Write + Send>,
}

impl Output {
    fn new(journal: Option<Journal>, stderr: Box<dyn io::Write + Send>) -> Self {
        Self { journal, lost: 0, uncounted: 0, stderr }
    }

    fn say(&mut self, line: &Line, repeats: u64, now: Timestamp) {
        if let Some(journal) = &self.journal {
            match journal.send(&journal::datagram(line, repeats)) {
                Ok(()) => {
                    if self.lost > 0 && journal.send(&journal::lost(self.lost)).is_ok() {
                        self.lost = 0;
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.lost = self.lost.saturating_add(1);
                    self.uncounted = self.uncounted.saturating_add(1);
                    return;
                }
                // There is none, or it may not be spoken to.
                Err(_gone) => {}
            }
        }
        // Nobody there to read is no failure.
        let _reader_gone = self.stderr.write_all(line.for_people(now, repeats).as_bytes());
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal, lost, .. } = self;
        formatter.debug_struct("Output").field("journal", journal).field("lost", lost).finish()
    }
}
