//! `Spawner`: the agent's side of the launcher or of the supervisor.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

use super::ipc::Channel;
use super::ipc::is_hung_up;
use super::{ChildProcess, WORKER_COMMAND, WorkerKind};

/// This executable, also after its file was replaced by an upgrade.
pub(super) const SELF: &str = "/proc/self/exe";

/// A worker that starts processes on request.
#[derive(Debug)]
pub struct Spawner {
    kind: WorkerKind,
    requests: OwnedFd,
    child: Child,
}

impl Spawner {
    /// Starts the worker itself.
    pub(super) fn start(kind: WorkerKind, log: &str, folder: Option<&Path>) -> io::Result<Self> {
        // Message boundaries are kept: each message is a request.
        let (local, remote) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(SELF);
        command.args(["--log", log, WORKER_COMMAND, kind.name()]).args(folder).env_clear();
        let child = command.stdin(Stdio::from(remote)).stdout(Stdio::null()).spawn()?;
        Ok(Self { kind, requests: local, child })
    }

    /// Kind of the worker.
    pub const fn kind(&self) -> WorkerKind {
        self.kind
    }

    /// Process id, in the PID namespace of the agent.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True if the worker has exited.
    pub fn has_exited(&self) -> bool {
        is_hung_up(self.requests.as_fd())
    }

    /// Starts a process; returns the agent's end of its socket, with messages of at most
    /// `message_max` bytes. The exit status is received there as well.
    pub fn spawn(&self, process: &ChildProcess, message_max: usize) -> io::Result<Channel> {
        let (local, remote) = UnixStream::pair()?;
        let request = postcard::to_stdvec(process).map_err(io::Error::other)?;
        let descriptors = [remote.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.requests, &[IoSlice::new(&request)], &mut control, flags)?;
        Ok(Channel::new(local.into(), message_max))
    }
}
