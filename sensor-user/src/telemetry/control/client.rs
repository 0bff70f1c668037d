//! Client of the control socket, for `netsensor status` and `netsensor feeds`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::feeds::FeedReport;
use super::status::StatusReport;
use super::{FEEDS, REJECTS, STATUS};

/// Time limit of each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit of a response in bytes.
const RESPONSE_MAX: u64 = 256 << 20;

/// Requests the status of the agent at `path`.
pub fn request_status(path: &Path) -> io::Result<StatusReport> {
    request(path, STATUS)
}

/// Requests the state of the feeds of the agent at `path`, with rejected entries if `with_rejects`.
pub fn request_feeds(path: &Path, with_rejects: bool) -> io::Result<Vec<FeedReport>> {
    request(path, if with_rejects { REJECTS } else { FEEDS })
}

fn request<T: DeserializeOwned>(path: &Path, request: &str) -> io::Result<T> {
    let mut agent = UnixStream::connect(path)?;
    agent.set_read_timeout(Some(TIMEOUT))?;
    agent.set_write_timeout(Some(TIMEOUT))?;
    writeln!(agent, "{request}")?;
    let mut response = Vec::new();
    agent.take(RESPONSE_MAX).read_to_end(&mut response)?;
    serde_json::from_slice(&response).map_err(io::Error::from)
}
