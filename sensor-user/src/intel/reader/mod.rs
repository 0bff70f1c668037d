//! Reader: turns the documents of a pull into the next set of a feed, in a process of its own.
//!
//! Feed content is hostile, and reading it needs nothing but memory and two files. So the agent
//! starts itself again as `netsensor read-feed`, gives it a [`Job`] on standard input, and takes a
//! [`Report`] from its standard output. The child opens its files, gives up everything else
//! (`confine.rs`), and then reads the first byte of the feed.

mod confine;
mod job;

use confine::{MEMORY_MAX, confine};
pub use job::{Job, JobFault, Opened, read_document};

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};

use super::Merged;

/// Name of the hidden command.
pub const COMMAND: &str = "read-feed";

/// A job or a report is not longer than this, bytes.
const MESSAGE_MAX: u64 = 64 << 20;

/// What the child tells.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// The new set is written.
    Merged(Merged),
    /// Nothing of the documents can be used; why.
    Refused(String),
    /// The set that is there is damaged; how.
    Damaged(String),
}

impl From<JobFault> for Report {
    fn from(fault: JobFault) -> Self {
        match fault {
            JobFault::Before(_) => Self::Damaged(fault.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Where feeds are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// In a child that runs this program, which is `netsensor`.
    Child(PathBuf),
    /// On the caller's thread: for tests, and for what is not hostile.
    Here,
}

impl Reading {
    /// In a child that runs what this process runs, also when it was replaced on disk meanwhile.
    pub fn child() -> Self {
        Self::Child("/proc/self/exe".into())
    }
}

/// Why there is no new set.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReaderError {
    /// Nothing of the documents can be used.
    #[error("{0}")]
    Refused(String),
    /// The set that is there is damaged.
    #[error("{0}; the next pull asks for all of the feed")]
    Damaged(String),
    /// The child cannot be started, or talked to.
    #[error("start the reader {}; may the agent start processes?", program.display())]
    Start {
        /// What was started.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The child ended without a report.
    #[error(
        "the reader ended early ({0}); is the feed too large for its {limit} MiB of memory?",
        limit = MEMORY_MAX >> 20
    )]
    Ended(ExitStatus),
}

/// Does `job`; it takes as long as it takes, which the child's own limits bound.
pub(super) fn read(reading: &Reading, job: &Job) -> Result<Merged, ReaderError> {
    let program = match reading {
        Reading::Child(program) => program,
        Reading::Here => {
            let done = job.open().and_then(|opened| job.perform(opened));
            return outcome(done.map_or_else(Report::from, Report::Merged));
        }
    };
    let start = |source| ReaderError::Start { program: program.clone(), source };
    let mut child = Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let told = || -> io::Result<Vec<u8>> {
        let text = serde_json::to_vec(job)?;
        let mut input = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // A child that ended says more by its status than by the broken pipe.
        if let Err(error) = input.write_all(&text)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error);
        }
        drop(input);
        let mut report = Vec::new();
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        output.take(MESSAGE_MAX).read_to_end(&mut report)?;
        Ok(report)
    }();
    let status = child.wait().map_err(start)?;
    let report = told.map_err(start)?;
    match serde_json::from_slice(&report) {
        Ok(report) if status.success() => outcome(report),
        _ => Err(ReaderError::Ended(status)),
    }
}

fn outcome(report: Report) -> Result<Merged, ReaderError> {
    match report {
        Report::Merged(merged) => Ok(merged),
        Report::Refused(why) => Err(ReaderError::Refused(why)),
        Report::Damaged(how) => Err(ReaderError::Damaged(how)),
    }
}

/// The child: does the job of standard input.
pub fn child() -> io::Result<()> {
    // A child of an agent that is gone has nobody to tell.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    close_inherited()?;
    let mut text = Vec::new();
    io::stdin().lock().take(MESSAGE_MAX).read_to_end(&mut text)?;
    let job: Job = serde_json::from_slice(&text)?;
    drop(text);
    let done = job.open().and_then(|opened| {
        confine()?;
        job.perform(opened)
    });
    let report = done.map_or_else(Report::from, Report::Merged);
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &report)?;
    out.flush()
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
