//! Reader: turns the documents of a pull into the next set of a feed, in a process of its own.
//!
//! Feed content is hostile, and reading it needs nothing but memory and two files. So the agent has
//! the launcher start `netsensor parse-feed`, gives it a [`ParseJob`] over its standard input, which is a
//! socket, and takes a [`ParserReport`] from there. The child opens its files, gives up everything else
//! (`privsep::sandbox::confine_feed_parser`), and then reads the first byte of the feed.

pub(super) mod merge;

mod job;

pub use job::{JobError, OpenedJob, ParseJob, read_document};

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::privsep::sandbox::{FEED_PARSER_MEMORY_MAX, confine_feed_parser};
use crate::privsep::{Channel, ChildProcess, FEED_PARSER_COMMAND, Message, Spawner};
use merge::MergeSummary;

/// A job or a report is not longer than this, bytes.
const MESSAGE_MAX: usize = 64 << 20;

/// What the child tells.
#[derive(Debug, Serialize, Deserialize)]
enum ParserReport {
    /// The new set is written.
    Merged(MergeSummary),
    /// Nothing of the documents can be used; why.
    Refused(String),
    /// The set that is there is damaged; how.
    Damaged(String),
}

impl From<JobError> for ParserReport {
    fn from(fault: JobError) -> Self {
        match fault {
            JobError::Before(_) => Self::Damaged(fault.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Where feeds are read.
#[derive(Debug, Clone)]
pub enum ParserMode {
    /// In a process that the launcher starts.
    Launcher(Arc<Spawner>),
    /// In a child that runs this program, which is `netsensor`.
    Child(PathBuf),
    /// On the caller's thread: for tests, and for what is not hostile.
    InProcess,
}

/// Why there is no new set.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParserError {
    /// Nothing of the documents can be used.
    #[error("{0}")]
    Refused(String),
    /// The set that is there is damaged.
    #[error("{0}; the next pull asks for all of the feed")]
    Damaged(String),
    /// The child cannot be started, or talked to.
    #[error("start the reader, or talk to it; is the limit of processes or memory reached?")]
    Start(#[from] io::Error),
    /// The child ended without a report.
    #[error(
        "the reader ended early ({}); is the feed too large for its {limit} MiB of memory?",
        .0.map_or_else(|| "without a word".to_owned(), |status| status.to_string()),
        limit = FEED_PARSER_MEMORY_MAX >> 20
    )]
    Ended(Option<ExitStatus>),
}

/// Does `job`; it takes as long as it takes, which the child's own limits bound.
pub(super) fn read(reading: &ParserMode, job: &ParseJob) -> Result<MergeSummary, ParserError> {
    let (mut channel, mut child) = match reading {
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
    // A child that ended says more by its status than by the broken pipe.
    match channel.send_bytes(&serde_json::to_vec(job).map_err(io::Error::from)?) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    let said = match channel.receive_bytes(None)? {
        Some(Message::Bytes(report)) => serde_json::from_slice(&report).ok(),
        Some(Message::Exited(status)) => return Err(ParserError::Ended(Some(status))),
        Some(Message::Closed) | None => None,
    };
    // What it said counts when it ended well, too.
    let status = match &mut child {
        Some(child) => Some(child.wait()?),
        None => match channel.receive_bytes(None)? {
            Some(Message::Exited(status)) => Some(status),
            _ => None,
        },
    };
    match said {
        Some(report) if status.is_some_and(|status| status.success()) => outcome(report),
        _ => Err(ParserError::Ended(status)),
    }
}

/// Starts `program` with a socket for its input and output.
fn start(program: &PathBuf) -> io::Result<(Channel, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = OwnedFd::from(theirs);
    let mut command = Command::new(program);
    command.arg(FEED_PARSER_COMMAND).env_clear();
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
    let child = command.spawn()?;
    Ok((Channel::new(ours.into(), MESSAGE_MAX), child))
}

fn outcome(report: ParserReport) -> Result<MergeSummary, ParserError> {
    match report {
        ParserReport::Merged(merged) => Ok(merged),
        ParserReport::Refused(why) => Err(ParserError::Refused(why)),
        ParserReport::Damaged(how) => Err(ParserError::Damaged(how)),
    }
}

/// The child: does the job that comes over standard input.
pub fn run_feed_parser() -> io::Result<()> {
    // A child of an agent that is gone has nobody to tell.
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
        confine_feed_parser()?;
        job.perform(opened)
    });
    let report = done.map_or_else(ParserReport::from, ParserReport::Merged);
    channel.send_bytes(&serde_json::to_vec(&report)?)
}

/// Closes what whoever started the agent left open for it: nothing here owns any of it.
fn close_inherited() -> io::Result<()> {
    const STANDARD: i32 = 2;
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > STANDARD) {
        // The one of the listing itself is closed already.
        let _closed = nix::unistd::close(number);
    }
    Ok(())
}
