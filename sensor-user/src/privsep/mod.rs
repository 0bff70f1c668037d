//! Privilege separation: worker processes do what the confined agent must not.
//!
//! Workers are this same executable, started before the agent loads its programs. The launcher starts
//! feed parsers and the canary's child process; the supervisor starts the privileged workers and
//! restarts them when one exits. The agent sends each worker requests over a socketpair (`ipc`), one at
//! a time (`client`). A message is a number and [`postcard`] of one type. ARCHITECTURE.md tabulates the
//! privileges of each process.
//!
//! Invariants. A worker exits with the agent: the kernel kills it when its parent exits, and it exits
//! when its socket is closed. Both ends enforce a maximum message size. The pipeline never waits for a
//! worker longer than a limit; after that it goes on without the response, and counts it.

pub mod sandbox;

mod client;
mod ipc;
mod kind;
mod launcher;
mod oom_score;
mod serve;
mod spawn;

pub use client::{WorkerClient, WorkerError};
pub use ipc::{Channel, Message};
pub use kind::{CANARY_COMMAND, ChildProcess, FEED_PARSER_COMMAND, WORKER_COMMAND, WorkerKind};
pub use serve::serve;
pub use spawn::Spawner;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::counters::Stats;

/// Limits of the exchange with a worker.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Maximum size of a message, bytes.
    message_max: usize,
    /// Time for a response.
    timeout: Duration,
}

impl WorkerKind {
    const fn limits(self) -> Limits {
        match self {
            // The launcher and the supervisor only receive requests, and respond by starting a process.
            Self::Launcher | Self::Supervisor => Limits { message_max: 0, timeout: Duration::ZERO },
            // A hundred bytes for each of the sockets that are tracked at most. A scan takes 20
            // seconds at most; reading the owners from /proc comes on top.
            Self::SocketScan => Limits { message_max: 256 << 20, timeout: Duration::from_mins(2) },
            // The connections of one iteration of the pipeline.
            Self::Nat => Limits { message_max: 4 << 20, timeout: Duration::from_secs(10) },
            // Three paths and a command line; the pipeline waits for them.
            Self::Proc => Limits { message_max: 64 << 10, timeout: Duration::from_millis(100) },
        }
    }
}

/// All workers of an agent.
#[derive(Debug)]
pub struct Workers {
    /// Starts processes without privileges.
    pub launcher: Arc<Spawner>,
    supervisor: Arc<Spawner>,
    /// Lists open sockets.
    pub socket_scan: Arc<WorkerClient>,
    /// Queries the connection tracking.
    pub nat: Arc<WorkerClient>,
    /// Reads process facts from /proc.
    pub proc: Arc<WorkerClient>,
}

impl Workers {
    /// Starts all workers. `log` is their log filter, and `feeds` the directory that the launcher's
    /// children may write to.
    pub fn start(log: &str, feeds: Option<&Path>, stats: &Arc<Stats>) -> io::Result<Self> {
        let launcher = Arc::new(Spawner::start(WorkerKind::Launcher, log, feeds)?);
        let supervisor = Arc::new(Spawner::start(WorkerKind::Supervisor, log, None)?);
        let worker = |kind| WorkerClient::start(kind, Arc::clone(&supervisor), stats).map(Arc::new);
        Ok(Self {
            socket_scan: worker(WorkerKind::SocketScan)?,
            nat: worker(WorkerKind::Nat)?,
            proc: worker(WorkerKind::Proc)?,
            launcher,
            supervisor,
        })
    }

    /// Component name of each privileged worker, and why it is degraded, if it is. A worker that has
    /// exited is restarted.
    pub fn check(&self) -> [(&'static str, Option<String>); 3] {
        [&self.socket_scan, &self.nat, &self.proc].map(|it| (it.kind().component(), it.check()))
    }

    /// An error where the launcher or the supervisor has exited: nothing can be started any more.
    pub fn check_spawners(&self) -> anyhow::Result<()> {
        match [&self.launcher, &self.supervisor].into_iter().find(|it| it.has_exited()) {
            None => Ok(()),
            Some(exited) => anyhow::bail!(
                "worker {}: exited, so that no feed can be parsed or no worker restarted",
                exited.kind().name()
            ),
        }
    }
}

/// The launcher or the supervisor: confines itself, then starts processes until the agent closes its
/// socket. `feeds` is the directory that the launcher's children may write to, `log` their filter.
pub fn run_spawner(kind: WorkerKind, feeds: Option<&Path>, log: &str) -> io::Result<()> {
    let launcher = launcher::Launcher::new(serve::begin()?, kind, log)?;
    sandbox::confine_worker(kind, feeds)?;
    launcher.run()
}

/// A privileged worker: confines itself, then has `serve` respond to requests until the agent closes
/// its socket.
pub fn run_worker(
    kind: WorkerKind,
    serve: impl FnOnce(Channel) -> io::Result<()>,
) -> io::Result<()> {
    let socket = serve::begin()?;
    sandbox::confine_worker(kind, None)?;
    serve(Channel::new(socket, kind.limits().message_max))
}
