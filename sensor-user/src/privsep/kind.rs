//! The processes of the agent besides its own, by kind.

use serde::{Deserialize, Serialize};

/// A worker process, by its name on the command line, in `netsensor status` and in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum WorkerKind {
    /// Starts feed parsers and the canary's child process; has no privileges to pass on.
    Launcher,
    /// Starts the privileged workers below, again when one has exited.
    Supervisor,
    /// Lists the open sockets of all network namespaces, with their owners.
    SocketScan,
    /// Queries the kernel's connection tracking for NAT mappings.
    Nat,
    /// Reads process facts from /proc.
    Proc,
}

impl WorkerKind {
    /// All workers, in the order in which they are started.
    pub const ALL: [Self; 5] =
        [Self::Launcher, Self::Supervisor, Self::SocketScan, Self::Nat, Self::Proc];

    /// Name of the worker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Supervisor => "supervisor",
            Self::SocketScan => "socket-scan",
            Self::Nat => "nat",
            Self::Proc => "proc",
        }
    }

    /// Component of the agent's health that the worker is.
    pub const fn component(self) -> &'static str {
        match self {
            Self::Launcher => "worker launcher",
            Self::Supervisor => "worker supervisor",
            Self::SocketScan => "worker socket-scan",
            Self::Nat => "worker nat",
            Self::Proc => "worker proc",
        }
    }
}

/// A process that the launcher or the supervisor starts on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildProcess {
    /// A privileged worker; started by the supervisor.
    Worker(WorkerKind),
    /// Parser of one pull of one feed; started by the launcher.
    FeedParser,
    /// Child process of the canary, which exits at once; started by the launcher. The token is an
    /// argument that no other process has.
    Canary(String),
}

impl ChildProcess {
    /// The worker that starts this process. `None` for the launcher and the supervisor: the agent
    /// starts them before it confines itself, and nobody on request.
    pub const fn parent(&self) -> Option<WorkerKind> {
        match self {
            Self::Worker(WorkerKind::Launcher | WorkerKind::Supervisor) => None,
            Self::Worker(WorkerKind::SocketScan | WorkerKind::Nat | WorkerKind::Proc) => {
                Some(WorkerKind::Supervisor)
            }
            Self::FeedParser | Self::Canary(_) => Some(WorkerKind::Launcher),
        }
    }
}

/// Name of the hidden command of a worker.
pub const WORKER_COMMAND: &str = "worker";
/// Name of the hidden command of a feed parser.
pub const FEED_PARSER_COMMAND: &str = "parse-feed";
/// Name of the hidden command of the canary's child process.
pub const CANARY_COMMAND: &str = "canary";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_starts_a_launcher_or_a_supervisor() {
        for (process, parent) in [
            (ChildProcess::Worker(WorkerKind::Launcher), None),
            (ChildProcess::Worker(WorkerKind::Supervisor), None),
            (ChildProcess::Worker(WorkerKind::SocketScan), Some(WorkerKind::Supervisor)),
            (ChildProcess::Worker(WorkerKind::Nat), Some(WorkerKind::Supervisor)),
            (ChildProcess::Worker(WorkerKind::Proc), Some(WorkerKind::Supervisor)),
            (ChildProcess::FeedParser, Some(WorkerKind::Launcher)),
            (ChildProcess::Canary(String::new()), Some(WorkerKind::Launcher)),
        ] {
            assert_eq!(process.parent(), parent, "{process:?}");
        }
    }
}
