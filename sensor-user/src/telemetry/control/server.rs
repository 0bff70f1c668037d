//! The answering end of the socket.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::feeds::FeedReport;
use super::status::Status;
use super::stream::{READERS_MAX, Stream};
use super::{FEEDS, REJECTS, STATUS, STREAM};
use crate::base::escape::escaped;
use crate::intel::Intel;

/// Bytes of a socket's path at most: `sun_path` of unix(7), less its NUL.
const PATH_MAX: usize = 107;
/// Bytes of a request at most.
const REQUEST_MAX: u64 = 64;
/// How long a caller may take to ask, and to take the answer to `status`.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Callers at once at most: all readers, and some that ask.
const CALLERS_MAX: usize = READERS_MAX + 8;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another agent has it.
    #[error(
        "{}: another netsensor{} is running with this state; stop it, or set agent.state_dir to \
         another folder",
        path.display(),
        Process(*pid)
    )]
    Running {
        /// Which socket.
        path: PathBuf,
        /// The other agent, where it says.
        pid: Option<u32>,
    },
    /// No socket can have this path.
    #[error(
        "{}: has {} bytes, and a socket's path has {PATH_MAX} at most; set agent.control_socket",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{}: is there and is no socket; move it away, or set agent.control_socket", path.display())]
    NotASocket {
        /// Which.
        path: PathBuf,
    },
    /// The system says no.
    #[error("make the control socket {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

struct Process(Option<u32>);

impl std::fmt::Display for Process {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(out, " (process {pid})"))
    }
}

/// The socket, held by a lock beside it: the lock of a killed agent is gone with it, the socket's
/// file is not.
#[derive(Debug)]
pub struct Server {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Server {
    /// Makes the socket at `path` (mode 0600), in the place of one that nobody answers any more.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        if path.as_os_str().len() > PATH_MAX {
            return Err(ControlError::TooLong { path: path.to_owned() });
        }
        let failed = |source| ControlError::Io { path: path.to_owned(), source };
        let lock = lock(path)?;
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(ControlError::NotASocket { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
        // Until here it is protected by its folder, and by who is answered.
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// Answers until it is dropped; must run on a tokio runtime.
    pub async fn serve(self, status: Arc<Status>, intel: Arc<Intel>, stream: Stream) {
        let listener = match self.listener.try_clone().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "control socket: it cannot be listened on");
                return;
            }
        };
        let callers = Arc::new(Semaphore::new(CALLERS_MAX));
        loop {
            // More callers than these wait in the kernel, unanswered.
            let Ok(place) = Arc::clone(&callers).acquire_owned().await else { return };
            let caller = match listener.accept().await {
                Ok((caller, _)) => caller,
                Err(error) => {
                    tracing::debug!(%error, "control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (status, intel) = (Arc::clone(&status), Arc::clone(&intel));
            let stream = stream.clone();
            tokio::spawn(async move {
                if let Err(error) = answer(caller, (&status, &intel), &stream).await {
                    tracing::debug!(%error, "control socket: caller gone");
                }
                drop(place);
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The lock is still held: it is this agent's.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// Keeps any agent with this control socket from starting, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    _lock: Flock<File>,
}

impl Hold {
    /// Holds the socket at `path`; refused while an agent has it.
    pub fn take(path: &Path) -> Result<Self, ControlError> {
        lock(path).map(|lock| Self { _lock: lock })
    }
}

/// The lock beside the socket, with this process's number in it.
fn lock(path: &Path) -> Result<Flock<File>, ControlError> {
    let failed = |source| ControlError::Io { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&name).map_err(failed)?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let read = file.take(16).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(ControlError::Running { path: path.to_owned(), pid });
        }
        Err((_, errno)) => return Err(failed(errno.into())),
    };
    let written = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(failed)?;
    Ok(lock)
}

async fn answer(
    caller: UnixStream,
    (status, intel): (&Status, &Intel),
    stream: &Stream,
) -> io::Result<()> {
    let user = caller.peer_cred()?.uid();
    if user != 0 && user != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let (read, mut write) = caller.into_split();
    let mut read = BufReader::new(read.take(REQUEST_MAX));
    let mut request = Vec::new();
    timeout(CALL_LIMIT, read.read_until(b'\n', &mut request)).await??;
    let request = String::from_utf8_lossy(&request);
    match request.trim_end() {
        STATUS => {
            let mut report = serde_json::to_vec(&status.report(intel))?;
            report.push(b'\n');
            timeout(CALL_LIMIT, write.write_all(&report)).await?
        }
        request @ (FEEDS | REJECTS) => {
            let feeds = intel.status();
            let reports: Vec<FeedReport> =
                feeds.iter().map(|feed| FeedReport::new(feed, request == REJECTS)).collect();
            let mut report = serde_json::to_vec(&reports)?;
            report.push(b'\n');
            timeout(CALL_LIMIT, write.write_all(&report)).await?
        }
        STREAM => {
            let Some(mut lines) = stream.join() else {
                let said = format!("{{\"Error\":\"{READERS_MAX} read already\"}}\n");
                return timeout(CALL_LIMIT, write.write_all(said.as_bytes())).await?;
            };
            // What is read from then on is only that it has gone.
            let mut read = read.into_inner().into_inner();
            let mut byte = [0];
            loop {
                tokio::select! {
                    line = lines.recv() => match line {
                        Some(line) => write.write_all(line.as_bytes()).await?,
                        None => return Ok(()),
                    },
                    gone = read.read(&mut byte) => if gone? == 0 { return Ok(()) },
                }
            }
        }
        other => {
            let other = escaped(other, 40).replace(['"', '\\'], "");
            let said = format!("{{\"Error\":\"{other}: use {STATUS}, {FEEDS} or {STREAM}\"}}\n");
            timeout(CALL_LIMIT, write.write_all(said.as_bytes())).await?
        }
    }
}
