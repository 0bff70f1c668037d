//! Emitter: makes the canary's connections and its child process.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, socket,
};

use crate::base::clock::boot_ns;
use crate::privsep::{ChildProcess, Message, Spawner};

/// Time limit of each step; on loopback none takes a millisecond.
const STEP_LIMIT: Duration = Duration::from_secs(2);
/// Time that the connections stay open: longer than an inbound connection waits for its owner, so that the
/// closing process is not taken for the accepting one.
const OPEN_FOR: Duration = Duration::from_millis(200);
/// Interval to the next canary after a missed one, if shorter than the configured interval.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Maximum number of remembered port pairs: those of the last sixteen canaries, until their last record.
const PAIRS_MAX: usize = 32;
/// Maximum number of emitted canaries that wait for detection.
pub(super) const IN_FLIGHT_MAX: usize = 4;

/// Ports of one connection of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryPorts {
    /// Port of the connecting end.
    pub client: u16,
    /// Port of the accepting end.
    pub server: u16,
    /// True if the accepting end writes before it reads.
    pub server_writes: bool,
}

/// Identity of the canary, shared by emitter and detector.
#[derive(Debug)]
pub struct CanaryIdentity {
    /// An argument that no other process has.
    pub token: String,
    /// Network namespace of the agent, inode number; 0 if unknown.
    pub netns: u64,
    pairs: Mutex<VecDeque<CanaryPorts>>,
}

/// A canary that was emitted, and not judged yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) began_boot_ns: u64,
    pub(super) ended_boot_ns: u64,
    /// Why it could not be emitted, if so.
    pub(super) error: Option<String>,
}

impl CanaryIdentity {
    /// The identity of this process's canary.
    pub(super) fn new() -> Self {
        let netns = std::fs::metadata("/proc/self/ns/net").map_or(0, |file| file.ino());
        let token = format!("canary-{}-{:016x}", std::process::id(), fastrand::u64(..));
        Self { token, netns, pairs: Mutex::default() }
    }

    /// The canary's connection with these ports, if there is one.
    pub fn pair(&self, client: u16, server: u16) -> Option<CanaryPorts> {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.iter().find(|pair| pair.client == client && pair.server == server).copied()
    }

    fn announce(&self, pair: CanaryPorts) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= PAIRS_MAX {
            pairs.pop_front();
        }
        pairs.push_back(pair);
    }
}

/// The child process: it exits at once. Only its start and exit matter.
pub const fn child() {}

pub(super) fn emit_periodically(
    identity: &CanaryIdentity,
    launcher: &Spawner,
    (every, in_flight, retry): (Duration, &SyncSender<InFlight>, &Receiver<()>),
) {
    loop {
        let began_boot_ns = boot_ns();
        let error = emit(identity, launcher).err().map(|error| error.to_string());
        let canary = InFlight { began_boot_ns, ended_boot_ns: boot_ns(), error };
        if matches!(in_flight.try_send(canary), Err(TrySendError::Disconnected(_))) {
            return;
        }
        let soon = RETRY_AFTER.min(every);
        match retry.recv_timeout(every) {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) => {
                if matches!(retry.recv_timeout(soon), Err(RecvTimeoutError::Disconnected)) {
                    return;
                }
            }
        }
    }
}

/// Emits one canary: two connections and a child process.
fn emit(identity: &CanaryIdentity, launcher: &Spawner) -> io::Result<()> {
    let named = |what: &'static str| move |error: io::Error| io::Error::other(Step(what, error));
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(named("listen on 127.0.0.1"))?;
    let SocketAddr::V4(target) = listener.local_addr()? else {
        return Err(io::Error::other("listen on 127.0.0.1: another family"));
    };
    let reads =
        connect_pair(identity, &listener, target, false).map_err(named("connect to 127.0.0.1"))?;
    let writes =
        connect_pair(identity, &listener, target, true).map_err(named("connect to 127.0.0.1"))?;
    spawn_child(&identity.token, launcher).map_err(named("start a process"))?;
    let (mut reader, _writer) = (reads.0, writes.0);
    // Nothing is written to it: the timeout is the time that both connections stay open.
    reader.set_read_timeout(Some(OPEN_FOR))?;
    let _times_out = reader.read(&mut [0]);
    Ok(())
}

/// Both ends of a connection after one byte, to the accepting end or from it.
fn connect_pair(
    identity: &CanaryIdentity,
    listener: &TcpListener,
    target: SocketAddrV4,
    server_writes: bool,
) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let client = TcpStream::from(socket);
    // Also the timeout of connect (socket(7)).
    client.set_write_timeout(Some(STEP_LIMIT))?;
    client.set_read_timeout(Some(STEP_LIMIT))?;
    // Bound before connect, so that the detector knows the port before the first record.
    bind(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    let port = getsockname::<SockaddrIn>(client.as_raw_fd())?.port();
    identity.announce(CanaryPorts { client: port, server: target.port(), server_writes });
    connect(client.as_raw_fd(), &SockaddrIn::from(target))?;
    let server = accept(listener, port)?;
    server.set_write_timeout(Some(STEP_LIMIT))?;
    server.set_read_timeout(Some(STEP_LIMIT))?;
    let (mut from, mut to) = if server_writes { (&server, &client) } else { (&client, &server) };
    from.write_all(&[0])?;
    to.read_exact(&mut [0])?;
    Ok((client, server))
}

/// Accepts the connection from `port`; others are closed.
fn accept(listener: &TcpListener, port: u16) -> io::Result<TcpStream> {
    const PEERS_MAX: u32 = 16;
    let limit = PollTimeout::try_from(STEP_LIMIT).unwrap_or(PollTimeout::ZERO);
    for _peer in 0..PEERS_MAX {
        if poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], limit)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (stream, peer) = listener.accept()?;
        if peer.port() == port {
            return Ok(stream);
        }
    }
    Err(io::Error::other("other peers connect to the canary's port"))
}

/// Starts the child process: this executable, also if its file was replaced.
fn spawn_child(token: &str, launcher: &Spawner) -> io::Result<()> {
    let mut child = launcher.spawn(&ChildProcess::Canary(token.to_owned()), 0)?;
    match child.receive_bytes(Some(STEP_LIMIT))? {
        Some(Message::Exited(_)) => Ok(()),
        Some(_) => Err(io::Error::other("the launcher did not start it")),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[derive(Debug)]
struct Step(&'static str, io::Error);

impl std::fmt::Display for Step {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.0, self.1)
    }
}

impl std::error::Error for Step {}
