//! `Launcher`: the loop of the launcher and of the supervisor. It starts processes, and reports how
//! they exited.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::ipc::Channel;
use super::oom_score::OomScore;
use super::spawn::SELF;
use super::{CANARY_COMMAND, ChildProcess, FEED_PARSER_COMMAND, WORKER_COMMAND, WorkerKind};

/// Maximum number of child processes; further requests are refused.
const CHILDREN_MAX: usize = 64;
/// Maximum size of a request, bytes.
const REQUEST_MAX: usize = 256;

/// Starts child processes on request.
pub(super) struct Launcher {
    requests: OwnedFd,
    child_exits: SignalFd,
    kind: WorkerKind,
    log: String,
    children: Vec<(Child, OwnedFd)>,
    oom_score: OomScore,
}

impl Launcher {
    pub(super) fn new(requests: OwnedFd, kind: WorkerKind, log: &str) -> io::Result<Self> {
        let signals = SigSet::from(Signal::SIGCHLD);
        signals.thread_block()?;
        let child_exits =
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self {
            requests,
            child_exits,
            kind,
            log: log.to_owned(),
            children: Vec::new(),
            oom_score: OomScore::open(),
        })
    }

    /// Serves requests until the agent exits.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let mut ready = [
                PollFd::new(self.requests.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.child_exits.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let is_ready = |it: &PollFd<'_>| it.any().unwrap_or(false);
            let [requested, exited] = [is_ready(&ready[0]), is_ready(&ready[1])];
            if exited {
                while self.child_exits.read_signal()?.is_some() {}
                self.reap();
            }
            if requested && !self.request()? {
                return Ok(());
            }
        }
    }

    /// Handles one request; false when the agent has closed the socket.
    fn request(&mut self) -> io::Result<bool> {
        let mut text = [0; REQUEST_MAX];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let parts = &mut [IoSliceMut::new(&mut text)];
        let received = recvmsg(&self.requests, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Ok(false);
        }
        let mut sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let process = postcard::from_bytes(text.get(..received.bytes).unwrap_or_default());
        // The requester sees its socket closed without a message, which means that nothing was started.
        let (Some(socket), Ok(process)) = (sockets.next(), process) else { return Ok(true) };
        if self.children.len() >= CHILDREN_MAX {
            tracing::warn!(max = CHILDREN_MAX, "too many child processes; request refused");
            return Ok(true);
        }
        let Some(mut command) = self.command(&process) else {
            tracing::warn!(?process, "request for a process that another worker starts; refused");
            return Ok(true);
        };
        let started = if matches!(process, ChildProcess::FeedParser) {
            self.oom_score.raised(|| start(&mut command, &socket))
        } else {
            start(&mut command, &socket)
        };
        match started {
            Ok(child) => self.children.push((child, socket)),
            Err(error) => tracing::warn!(%error, "start of a child process failed"),
        }
        Ok(true)
    }

    /// Command line of the process; `None` where this worker must not start it.
    fn command(&self, process: &ChildProcess) -> Option<Command> {
        if process.parent() != Some(self.kind) {
            return None;
        }
        let mut command = Command::new(SELF);
        match process {
            ChildProcess::Worker(kind) => {
                command.args(["--log", &self.log, WORKER_COMMAND, kind.name()])
            }
            ChildProcess::FeedParser => command.arg(FEED_PARSER_COMMAND),
            ChildProcess::Canary(token) => command.args([CANARY_COMMAND, token]),
        };
        command.env_clear();
        Some(command)
    }

    fn reap(&mut self) {
        self.children.retain_mut(|(child, socket)| {
            let Ok(Some(status)) = child.try_wait() else { return true };
            if let Ok(socket) = socket.try_clone() {
                // The requester may have closed its end.
                let _reader_gone = Channel::new(socket, 0).send_exited(status);
            }
            false
        });
    }
}

/// Starts a process with `socket` as its standard input and output.
fn start(command: &mut Command, socket: &OwnedFd) -> io::Result<Child> {
    command.stdin(Stdio::from(socket.try_clone()?)).stdout(Stdio::from(socket.try_clone()?));
    command.spawn()
}
