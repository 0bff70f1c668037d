//! `Launch`: what the launcher and the keeper do: start processes, and say how they ended.

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
use super::spawn::SELF;
use super::{HelperName, Kind};
use crate::intel::READ_COMMAND;

/// Processes that run at once at most; what is asked for beyond is not started.
const CHILDREN_MAX: usize = 64;
/// Bytes of a request at most.
const REQUEST_MAX: usize = 256;

/// Starts processes.
pub(super) struct Launch {
    requests: OwnedFd,
    ends: SignalFd,
    name: HelperName,
    log: String,
    children: Vec<(Child, OwnedFd)>,
}

impl Launch {
    pub(super) fn new(requests: OwnedFd, name: HelperName, log: &str) -> io::Result<Self> {
        let ended = SigSet::from(Signal::SIGCHLD);
        ended.thread_block()?;
        let ends = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { requests, ends, name, log: log.to_owned(), children: Vec::new() })
    }

    /// Until the agent ends.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let mut ready = [
                PollFd::new(self.requests.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.ends.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let is_ready = |it: &PollFd<'_>| it.any().unwrap_or(false);
            let [asked, ended] = [is_ready(&ready[0]), is_ready(&ready[1])];
            if ended {
                while self.ends.read_signal()?.is_some() {}
                self.reap();
            }
            if asked && !self.request()? {
                return Ok(());
            }
        }
    }

    /// Takes a request; false at the end.
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
        let kind = postcard::from_bytes(text.get(..received.bytes).unwrap_or_default());
        // Whose socket is closed without more knows that nothing was started.
        let (Some(socket), Ok(kind)) = (sockets.next(), kind) else { return Ok(true) };
        if self.children.len() >= CHILDREN_MAX {
            tracing::warn!(most = CHILDREN_MAX, "more processes run than are started");
            return Ok(true);
        }
        let Some(mut command) = self.command(&kind) else {
            tracing::warn!(?kind, "asked for what another starts");
            return Ok(true);
        };
        match start(&mut command, &socket) {
            Ok(child) => self.children.push((child, socket)),
            Err(error) => tracing::warn!(%error, "start a process"),
        }
        Ok(true)
    }

    /// What is started; `None` where that is not for this process to do.
    fn command(&self, kind: &Kind) -> Option<Command> {
        let mut command = Command::new(SELF);
        let is_keeper = self.name == HelperName::Keeper;
        let mut helper = |name| {
            command.args(["--log", &self.log, "helper", name]);
            is_keeper
        };
        let may = match kind {
            Kind::Looks => helper("looks"),
            Kind::Translations => helper("translations"),
            Kind::Processes => helper("processes"),
            Kind::ReadFeed => {
                command.arg(READ_COMMAND);
                !is_keeper
            }
            Kind::Canary(token) => {
                command.args(["canary", token]);
                !is_keeper
            }
        };
        command.env_clear();
        may.then_some(command)
    }

    fn reap(&mut self) {
        self.children.retain_mut(|(child, socket)| {
            let Ok(Some(status)) = child.try_wait() else { return true };
            if let Ok(socket) = socket.try_clone() {
                // Nobody may be there to read it.
                let _told = Channel::new(socket, 0).send_ended(status);
            }
            false
        });
    }
}

/// Starts a process whose input and output are `socket`.
fn start(command: &mut Command, socket: &OwnedFd) -> io::Result<Child> {
    command.stdin(Stdio::from(socket.try_clone()?)).stdout(Stdio::from(socket.try_clone()?));
    command.spawn()
}
