//! The asking end of the socket: `netsensor status` and `netsensor feeds`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::feeds::FeedReport;
use super::status::StatusReport;
use super::{FEEDS, REJECTS, STATUS};

/// How long the agent may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const ANSWER_MAX: u64 = 256 << 20;

/// Asks the agent at `path` for its state.
pub fn request_status(path: &Path) -> io::Result<StatusReport> {
    ask(path, STATUS)
}

/// Asks the agent at `path` how its feeds are, and where `with_rejects` what of them is not used.
pub fn request_feeds(path: &Path, with_rejects: bool) -> io::Result<Vec<FeedReport>> {
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
