//! Server of the control socket, with the lock that allows one agent for a state directory.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::feeds::FeedReport;
use super::status::Status;
use super::stream::{READERS_MAX, Stream};
use super::{FEEDS, REJECTS, STATUS, STREAM};
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::intel::Intel;

/// Limit of a socket's path in bytes: `sun_path` of unix(7), without its NUL.
const PATH_MAX: usize = 107;
/// Limit of a request in bytes.
const REQUEST_MAX: u64 = 64;
/// Time limit of the request, and of the response to `status` and `feeds`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Limit of connected clients, without the readers of the stream. A further one replaces the oldest, so that
/// silent clients keep no request away.
const CLIENTS_MAX: usize = 64;

/// Errors that prevent the control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another agent uses it.
    #[error(
        "{}: another netsensor{} is running with this state; stop it, or set agent.state_dir to \
         another directory",
        path.display(),
        Process(*pid)
    )]
    Running {
        /// Path of the socket.
        path: PathBuf,
        /// Process id of the other agent, if known.
        pid: Option<u32>,
    },
    /// The path is too long for a socket.
    #[error(
        "{}: has {} bytes; a socket's path has at most {PATH_MAX}; set agent.control_socket",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// Configured path.
        path: PathBuf,
    },
    /// The path exists and is not a socket.
    #[error("{}: exists and is not a socket; move it, or set agent.control_socket", path.display())]
    NotASocket {
        /// Configured path.
        path: PathBuf,
    },
    /// The socket cannot be created.
    #[error(
        "create the control socket {}; does its directory exist, and may the agent write to it?",
        path.display()
    )]
    Io {
        /// Configured path.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
}

struct Process(Option<u32>);

impl std::fmt::Display for Process {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(out, " (process {pid})"))
    }
}

/// The control socket, protected by a lock file next to it: the lock of a killed agent is released,
/// while its socket file remains.
#[derive(Debug)]
pub struct ControlServer {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    _lock: Flock<File>,
}

impl ControlServer {
    /// Creates the socket at `path` (mode 0600), and replaces one that an agent left behind.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        if path.as_os_str().len() > PATH_MAX {
            return Err(ControlError::TooLong { path: path.to_owned() });
        }
        let failed = |source| ControlError::Io { path: path.to_owned(), source };
        let lock = lock(path)?;
        match std::fs::symlink_metadata(path) {
            Ok(existing) if existing.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(ControlError::NotASocket { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
        // Until here its directory protects it, and the check of the peer's user.
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// Serves requests until the future is dropped; must run on a tokio runtime.
    pub async fn serve(self, status: Arc<Status>, intel: Arc<Intel>, stream: Stream) {
        let listener = match self.listener.try_clone().and_then(UnixListener::from_std) {
            Ok(listener) => listener,
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "control socket: listening failed");
                return;
            }
        };
        let mut clients = Clients::default();
        loop {
            let client = match listener.accept().await {
                Ok((client, _)) => client,
                Err(error) => {
                    tracing::debug!(%error, "control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Before it can replace another.
            if !is_permitted(&client) {
                tracing::debug!("control socket: client of another user refused");
                continue;
            }
            let (status, intel) = (Arc::clone(&status), Arc::clone(&intel));
            let (stream, stats) = (stream.clone(), Arc::clone(status.stats()));
            let is_reader = Arc::new(AtomicBool::new(false));
            let reads = Arc::clone(&is_reader);
            let task = tokio::spawn(async move {
                if let Err(error) = serve_client(client, &status, &intel, &stream, &reads).await {
                    tracing::debug!(%error, "control socket: client disconnected");
                }
            });
            clients.add(Client { task: task.abort_handle(), is_reader }, &stats);
        }
    }
}

/// Connected clients, the oldest first.
#[derive(Debug, Default)]
struct Clients(VecDeque<Client>);

#[derive(Debug)]
struct Client {
    task: AbortHandle,
    /// Set when it reads the stream, which has a limit of its own.
    is_reader: Arc<AtomicBool>,
}

impl Clients {
    fn add(&mut self, client: Client, stats: &Stats) {
        self.0.retain(|it| !it.task.is_finished() && !it.is_reader.load(Ordering::Acquire));
        if self.0.len() >= CLIENTS_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.task.abort();
            stats.control_clients_evicted.increment();
        }
        self.0.push_back(client);
    }
}

/// True for root and for the agent's user.
fn is_permitted(client: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    client.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // The lock is still held, so this is the agent's own socket.
        let _removed = std::fs::remove_file(&self.path);
    }
}

/// Prevents an agent with this control socket from starting, until dropped.
#[derive(Debug)]
pub struct AgentLock {
    _lock: Flock<File>,
}

impl AgentLock {
    /// Locks the socket at `path`. Fails while an agent uses it.
    pub fn acquire(path: &Path) -> Result<Self, ControlError> {
        lock(path).map(|lock| Self { _lock: lock })
    }
}

/// Acquires the lock file next to the socket, and writes this process's id into it.
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

async fn serve_client(
    client: UnixStream,
    status: &Status,
    intel: &Intel,
    stream: &Stream,
    is_reader: &AtomicBool,
) -> io::Result<()> {
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read.take(REQUEST_MAX));
    let mut request = Vec::new();
    timeout(TIMEOUT, read.read_until(b'\n', &mut request)).await??;
    let request = String::from_utf8_lossy(&request);
    match request.trim_end() {
        STATUS => send(&mut write, &status.report(intel)).await,
        request @ (FEEDS | REJECTS) => {
            let feeds = intel.status();
            let reports: Vec<FeedReport> =
                feeds.iter().map(|feed| FeedReport::new(feed, request == REJECTS)).collect();
            send(&mut write, &reports).await
        }
        STREAM => {
            let Some(mut lines) = stream.join() else {
                let error = format!("the stream has {READERS_MAX} readers already");
                return send(&mut write, &json!({ "Error": error })).await;
            };
            is_reader.store(true, Ordering::Release);
            // From now on the client only disconnects.
            let mut read = read.into_inner().into_inner();
            let mut byte = [0];
            loop {
                tokio::select! {
                    line = lines.recv() => match line {
                        Some(line) => write.write_all(line.as_bytes()).await?,
                        None => return Ok(()),
                    },
                    length = read.read(&mut byte) => if length? == 0 { return Ok(()) },
                }
            }
        }
        other => {
            let other = escaped(other, 40);
            let error = format!("{other}: use {STATUS}, {FEEDS} or {STREAM}");
            send(&mut write, &json!({ "Error": error })).await
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, response: &(impl Serialize + Sync)) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    timeout(TIMEOUT, write.write_all(&line)).await?
}
