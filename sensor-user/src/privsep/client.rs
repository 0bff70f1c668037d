//! `WorkerClient`: the agent's side of a worker that responds to requests.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::ipc::Channel;
use super::ipc::Message;
use super::spawn::Spawner;
use super::{ChildProcess, WorkerKind};
use crate::base::counters::Stats;

/// Late responses in a row after which the worker is restarted.
const LATE_MAX: u32 = 3;
/// Minimum time between two starts.
const RESTART_INTERVAL: Duration = Duration::from_millis(500);

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The worker has exited, and is not restarted yet.
    #[error("not running")]
    Down,
    /// The worker exited while it handled the request.
    #[error("exited ({0})")]
    Exited(String),
    /// No response within the time limit.
    #[error("no response within {0:?}")]
    Late(Duration),
    /// The socket to the worker failed.
    #[error("exchange with it: {0}")]
    Io(#[from] io::Error),
    /// The response cannot be decoded.
    #[error("malformed response: {0}")]
    Malformed(#[from] postcard::Error),
}

/// Client of a worker; one request at a time.
pub struct WorkerClient {
    kind: WorkerKind,
    supervisor: Arc<Spawner>,
    connection: Mutex<Connection>,
    /// Why the worker is degraded. Apart from the connection, so that it can be read during a request.
    degraded: Mutex<Option<String>>,
    stats: Arc<Stats>,
}

impl fmt::Debug for WorkerClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("WorkerClient").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Connection to the worker.
struct Connection {
    /// `None` while the worker is down.
    channel: Option<Channel>,
    /// Number of the last request; a response repeats it.
    number: u64,
    late_in_a_row: u32,
    started: Instant,
}

impl WorkerClient {
    pub(super) fn start(
        kind: WorkerKind,
        supervisor: Arc<Spawner>,
        stats: &Arc<Stats>,
    ) -> io::Result<Self> {
        let channel = Some(spawn(kind, &supervisor)?);
        let connection =
            Connection { channel, number: 0, late_in_a_row: 0, started: Instant::now() };
        Ok(Self {
            kind,
            supervisor,
            connection: Mutex::new(connection),
            degraded: Mutex::default(),
            stats: Arc::clone(stats),
        })
    }

    /// Kind of the worker.
    pub const fn kind(&self) -> WorkerKind {
        self.kind
    }

    /// Sends a request and waits for its response, at most for the worker's time limit.
    pub fn request<Q, R>(&self, request: &Q) -> Result<R, WorkerError>
    where
        Q: Serialize,
        R: DeserializeOwned,
    {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let response = connection.request(request, self.kind.limits().timeout);
        match &response {
            Ok(_) => {
                connection.late_in_a_row = 0;
                self.set_degraded(None);
            }
            Err(WorkerError::Down) => {}
            Err(WorkerError::Late(_)) if connection.late_in_a_row < LATE_MAX => {
                connection.late_in_a_row += 1;
                self.stats.worker_responses_late.increment();
            }
            Err(error) => {
                connection.channel = None;
                self.set_degraded(Some(error.to_string()));
            }
        }
        response
    }

    /// Why the worker is degraded, if it is. A worker that has exited is restarted.
    pub fn check(&self) -> Option<String> {
        // While a request holds the lock, that request detects an exit by itself.
        if let Ok(mut connection) = self.connection.try_lock() {
            self.restart_if_exited(&mut connection);
        }
        self.degraded().clone()
    }

    fn restart_if_exited(&self, connection: &mut Connection) {
        match &mut connection.channel {
            Some(channel) if channel.is_hung_up() => {
                let status = exit_status(channel);
                connection.channel = None;
                self.set_degraded(Some(WorkerError::Exited(status).to_string()));
            }
            // It was restarted, and is alive.
            Some(_)
                if connection.late_in_a_row == 0
                    && connection.started.elapsed() >= RESTART_INTERVAL =>
            {
                self.set_degraded(None);
            }
            Some(_) => {}
            None if connection.started.elapsed() >= RESTART_INTERVAL => {
                connection.started = Instant::now();
                connection.late_in_a_row = 0;
                match spawn(self.kind, &self.supervisor) {
                    Ok(channel) => {
                        self.stats.workers_restarted.increment();
                        connection.channel = Some(channel);
                    }
                    Err(error) => self.set_degraded(Some(format!("restart failed: {error}"))),
                }
            }
            None => {}
        }
    }

    fn set_degraded(&self, reason: Option<String>) {
        *self.degraded() = reason;
    }

    fn degraded(&self) -> MutexGuard<'_, Option<String>> {
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn request<Q: Serialize, R: DeserializeOwned>(
        &mut self,
        request: &Q,
        timeout: Duration,
    ) -> Result<R, WorkerError> {
        self.number += 1;
        let deadline = Instant::now() + timeout;
        let channel = self.channel.as_mut().ok_or(WorkerError::Down)?;
        match channel.send(&(self.number, request)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(WorkerError::Exited(exit_status(channel)));
            }
            sent => sent?,
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match channel.receive_bytes(Some(left))? {
                None => return Err(WorkerError::Late(timeout)),
                Some(Message::Bytes(bytes)) => {
                    let (number, rest) = postcard::take_from_bytes::<u64>(&bytes)?;
                    // Another number is a late response to an earlier request.
                    if number == self.number {
                        return Ok(postcard::from_bytes(rest)?);
                    }
                }
                Some(Message::Exited(status)) => {
                    return Err(WorkerError::Exited(status.to_string()));
                }
                Some(Message::Closed) => {
                    return Err(WorkerError::Exited(NO_STATUS.to_owned()));
                }
            }
        }
    }
}

/// Reason where the socket was closed before an exit status was received.
const NO_STATUS: &str = "no exit status";

fn spawn(kind: WorkerKind, supervisor: &Spawner) -> io::Result<Channel> {
    supervisor.spawn(&ChildProcess::Worker(kind), kind.limits().message_max)
}

/// Exit status of a worker that has exited.
fn exit_status(channel: &mut Channel) -> String {
    loop {
        match channel.receive_bytes(Some(Duration::ZERO)) {
            Ok(Some(Message::Bytes(_))) => {}
            Ok(Some(Message::Exited(status))) => return status.to_string(),
            _ => return NO_STATUS.to_owned(),
        }
    }
}
