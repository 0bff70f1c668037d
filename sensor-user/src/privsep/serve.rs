//! The worker's side of the exchange: its start, and its loop.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ipc::Channel;

/// First step of a worker. Returns its socket, which is its standard input.
pub(super) fn begin() -> io::Result<OwnedFd> {
    // A worker does not outlive its parent.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // A terminal and a service manager send these to every process of the agent; the agent drains its
    // queues first, and needs its workers until then.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    io::stdin().as_fd().try_clone_to_owned()
}

/// Responds to each request in order, until the agent closes the channel.
pub fn serve<Q: DeserializeOwned, R: Serialize>(
    mut channel: Channel,
    mut respond: impl FnMut(Q) -> R,
) -> io::Result<()> {
    while let Some((number, request)) = channel.receive::<(u64, Q)>()? {
        match channel.send(&(number, respond(request))) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            sent => sent?,
        }
    }
    Ok(())
}
