//! `Starter`: the agent's way to the launcher, or to the keeper.

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

use super::Kind;
use super::ipc::Channel;
use super::ipc::is_hung_up;

/// This executable, also when its file was replaced.
pub(super) const SELF: &str = "/proc/self/exe";

/// A process that starts others.
#[derive(Debug)]
pub struct Starter {
    name: &'static str,
    requests: OwnedFd,
    child: Child,
}

impl Starter {
    /// Starts the starter itself.
    pub(super) fn start(name: &'static str, log: &str, folder: Option<&Path>) -> io::Result<Self> {
        // Messages with ends: each is a request.
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new(SELF);
        command.args(["--log", log, "helper", name]).args(folder).env_clear();
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn()?;
        Ok(Self { name, requests: ours, child })
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its process, as this one numbers it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        is_hung_up(self.requests.as_fd())
    }

    /// Has a process started; gives the agent's end of its socket. What becomes of it is told there.
    pub fn start_child(&self, kind: &Kind, most: usize) -> io::Result<Channel> {
        let (ours, theirs) = UnixStream::pair()?;
        let request = postcard::to_stdvec(kind).map_err(io::Error::other)?;
        let descriptors = [theirs.as_fd()];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.requests, &[IoSlice::new(&request)], &mut control, flags)?;
        Ok(Channel::new(ours.into(), most))
    }
}
