//! The helper's side: how it begins, and its loop.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ipc::Channel;

/// The first that a helper does. Gives its socket, which is its standard input.
pub(super) fn begin() -> io::Result<OwnedFd> {
    // Whoever started it is gone: it has nobody to work for.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // These are sent to all of a terminal, or of a service, when the agent is to end: it drains, and
    // may need its helpers until it has.
    let told = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    told.thread_block()?;
    io::stdin().as_fd().try_clone_to_owned()
}

/// Answers each question, in their order, until there are no more.
pub fn serve<Q: DeserializeOwned, A: Serialize>(
    mut channel: Channel,
    mut answer: impl FnMut(Q) -> A,
) -> io::Result<()> {
    while let Some((number, question)) = channel.receive::<(u64, Q)>()? {
        match channel.send(&(number, answer(question))) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            sent => sent?,
        }
    }
    Ok(())
}
