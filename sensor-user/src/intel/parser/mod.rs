//! Feed parser: builds the next set of a feed from the documents of a pull, in a separate process.
//!
//! Feed content is hostile, and parsing it needs only memory and two files. So the launcher starts
//! `netsensor parse-feed` for each pull. The agent sends a [`ParseJob`] over the child's standard
//! input, which is a socket, and receives a [`ParserReport`] from it. The child opens its files,
//! drops all other privileges (`privsep::sandbox::confine_feed_parser`), and only then reads the
//! feed.

pub(super) mod merge;

pub(super) mod applied;
mod job;

pub use job::{JobError, OpenedJob, ParseJob};

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::privsep::sandbox::confine_feed_parser;
use crate::privsep::{Channel, ChildProcess, FEED_PARSER_COMMAND, Message, Spawner};
use merge::MergeSummary;

/// Maximum size of a job or a report in bytes.
const MESSAGE_MAX: usize = 64 << 20;

/// Report of the child.
#[derive(Debug, Serialize, Deserialize)]
enum ParserReport {
    /// The new set is written.
    Merged(MergeSummary),
    /// The documents cannot be used; the text is the reason.
    Refused(String),
    /// The previous set is damaged; the text is the reason.
    Damaged(String),
}

impl From<JobError> for ParserReport {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Previous(_) => Self::Damaged(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Process in which feeds are parsed.
#[derive(Debug, Clone)]
pub enum ParserMode {
    /// A process that the launcher starts.
    Launcher(Arc<Spawner>),
    /// A child process of this program, which is `netsensor`.
    Child(PathBuf),
    /// The caller's thread: for tests, and for input that is not hostile.
    InProcess,
}

/// The parser built no new set.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParserError {
    /// The documents cannot be used.
    #[error("{0}")]
    Refused(String),
    /// The previous set is damaged.
    #[error("{0}; the next pull fetches the whole feed")]
    Damaged(String),
    /// The child cannot be started, or its socket failed.
    #[error(
        "start the parser, or exchange data with it; is the limit of processes or memory reached?"
    )]
    Start(#[from] io::Error),
    /// The child exited without a report.
    #[error(
        "the parser exited early ({}); is the feed too large for its {} MiB of memory, half of what this \
         host gives the agent (MemoryMax= of the unit)?",
        .status.map_or_else(|| "without a status".to_owned(), |status| status.to_string()),
        .memory >> 20
    )]
    Ended {
        /// Exit status of the child, if known.
        status: Option<ExitStatus>,
        /// Its address space, bytes.
        memory: u64,
    },
}

/// Runs `job`. Its duration is bounded by the child's resource limits only.
pub(super) fn run_job(mode: &ParserMode, job: &ParseJob) -> Result<MergeSummary, ParserError> {
    let (mut channel, mut child) = match mode {
        ParserMode::Launcher(launcher) => {
            (launcher.spawn(&ChildProcess::FeedParser, MESSAGE_MAX)?, None)
        }
        ParserMode::Child(program) => {
            let (channel, child) = start(program)?;
            (channel, Some(child))
        }
        ParserMode::InProcess => {
            let done = job.open().and_then(|opened| job.perform(opened));
            return outcome(done.map_or_else(ParserReport::from, ParserReport::Merged));
        }
    };
    // On a broken pipe go on: the exit status of the child is the better error.
    match channel.send_bytes(&serde_json::to_vec(job).map_err(io::Error::from)?) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    let report = match channel.receive_bytes(None)? {
        Some(Message::Bytes(report)) => serde_json::from_slice(&report).ok(),
        Some(Message::Exited(status)) => {
            return Err(ParserError::Ended { status: Some(status), memory: job.memory });
        }
        Some(Message::Closed) | None => None,
    };
    // A report counts only if the child also exited successfully.
    let status = match &mut child {
        Some(child) => Some(child.wait()?),
        None => match channel.receive_bytes(None)? {
            Some(Message::Exited(status)) => Some(status),
            _ => None,
        },
    };
    match report {
        Some(report) if status.is_some_and(|status| status.success()) => outcome(report),
        _ => Err(ParserError::Ended { status, memory: job.memory }),
    }
}

/// Starts `program` with one end of a socket pair as its standard input.
fn start(program: &PathBuf) -> io::Result<(Channel, Child)> {
    let (parent_end, child_end) = UnixStream::pair()?;
    let child_end = OwnedFd::from(child_end);
    let mut command = Command::new(program);
    command.arg(FEED_PARSER_COMMAND).env_clear();
    command.stdin(Stdio::from(child_end)).stdout(Stdio::null());
    let child = command.spawn()?;
    Ok((Channel::new(parent_end.into(), MESSAGE_MAX), child))
}

fn outcome(report: ParserReport) -> Result<MergeSummary, ParserError> {
    match report {
        ParserReport::Merged(merged) => Ok(merged),
        ParserReport::Refused(reason) => Err(ParserError::Refused(reason)),
        ParserReport::Damaged(reason) => Err(ParserError::Damaged(reason)),
    }
}

/// Main function of the child: runs the job that it receives on standard input.
pub fn run_feed_parser() -> io::Result<()> {
    // Without its agent the child would parse for nobody.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    close_inherited()?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let mut channel = Channel::new(socket, MESSAGE_MAX);
    let Some(Message::Bytes(text)) = channel.receive_bytes(None)? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let job: ParseJob = serde_json::from_slice(&text)?;
    drop(text);
    let done = job.open().and_then(|opened| {
        confine_feed_parser(job.memory)?;
        job.perform(opened)
    });
    let report = done.map_or_else(ParserReport::from, ParserReport::Merged);
    channel.send_bytes(&serde_json::to_vec(&report)?)
}

/// Closes descriptors that the agent's own parent left open; nothing in this process owns them.
fn close_inherited() -> io::Result<()> {
    const STANDARD: i32 = 2;
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > STANDARD) {
        // The descriptor of the listing itself is closed already.
        let _closed = nix::unistd::close(number);
    }
    Ok(())
}
