//! Emitter: makes the canary's connections and its child process.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, socket,
};

use crate::base::clock::boot_ns;
use crate::privsep::{ChildProcess, Message, Spawner};

/// Loopback address of the canaries of every agent. (Its bytes are `NSC`.)
pub const CANARY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 78, 83, 67);

/// Time limit of each step; on loopback none takes a millisecond.
const STEP_LIMIT: Duration = Duration::from_secs(2);
/// Time that the connections stay open: longer than an inbound connection waits for its owner, so
/// that the closing process is not taken for the accepting one.
const OPEN_FOR: Duration = Duration::from_millis(200);
/// Interval to the next canary after a missed one, if shorter than the configured interval.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Maximum number of announced connections: those of the last sixteen canaries, until their last
/// record.
const ANNOUNCED_MAX: usize = 32;
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
    announced: Mutex<VecDeque<CanaryPorts>>,
}

/// A canary that was emitted, and not evaluated yet.
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
        Self { token, netns, announced: Mutex::default() }
    }

    /// The canary's connection with these ports, if there is one.
    pub fn ports(&self, client: u16, server: u16) -> Option<CanaryPorts> {
        let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.iter().find(|it| it.client == client && it.server == server).copied()
    }

    fn announce(&self, ports: CanaryPorts) {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        if announced.len() >= ANNOUNCED_MAX {
            announced.pop_front();
        }
        announced.push_back(ports);
    }
}

/// The child process: it exits at once. Only its start and exit matter.
pub const fn child() {}

/// The thread that emits canaries.
#[derive(Debug)]
pub(super) struct Emitter {
    pub(super) identity: Arc<CanaryIdentity>,
    pub(super) launcher: Arc<Spawner>,
    pub(super) interval: Duration,
    pub(super) in_flight: SyncSender<InFlight>,
    /// Requests of a canary ahead of the interval.
    pub(super) retry: Receiver<()>,
}

impl Emitter {
    /// Emits canaries until the detector is dropped.
    pub(super) fn run(self) {
        loop {
            let began_boot_ns = boot_ns();
            let error = self.emit().err().map(|error| error.to_string());
            let canary = InFlight { began_boot_ns, ended_boot_ns: boot_ns(), error };
            if matches!(self.in_flight.try_send(canary), Err(TrySendError::Disconnected(_))) {
                return;
            }
            let retry_after = RETRY_AFTER.min(self.interval);
            let mut waited = self.retry.recv_timeout(self.interval);
            if waited.is_ok() {
                waited = self.retry.recv_timeout(retry_after);
            }
            if waited == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Emits one canary: two connections and a child process.
    fn emit(&self) -> io::Result<()> {
        let listener = TcpListener::bind((CANARY_ADDRESS, 0))
            .map_err(|error| step("listen on 127.78.83.67", &error))?;
        let SocketAddr::V4(target) = listener.local_addr()? else {
            return Err(io::Error::other("listen on 127.78.83.67: another family"));
        };
        let connect = |server_writes| {
            self.connect_pair(&listener, target, server_writes)
                .map_err(|error| step("connect to 127.78.83.67", &error))
        };
        let (reads, writes) = (connect(false)?, connect(true)?);
        self.spawn_child().map_err(|error| step("start a process", &error))?;
        // Dropped first, so that the connecting ends close the connections.
        let (mut reader, _writer) = (reads.0, writes.0);
        // Nothing is written to it: the timeout is the time that both connections stay open.
        reader.set_read_timeout(Some(OPEN_FOR))?;
        let _times_out = reader.read(&mut [0]);
        Ok(())
    }

    /// Both ends of a connection after one byte, to the accepting end or from it.
    fn connect_pair(
        &self,
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
        bind(client.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(CANARY_ADDRESS, 0)))?;
        let port = getsockname::<SockaddrIn>(client.as_raw_fd())?.port();
        self.identity.announce(CanaryPorts { client: port, server: target.port(), server_writes });
        connect(client.as_raw_fd(), &SockaddrIn::from(target))?;
        let server = accept(listener, port)?;
        server.set_write_timeout(Some(STEP_LIMIT))?;
        server.set_read_timeout(Some(STEP_LIMIT))?;
        let (mut from, mut to) =
            if server_writes { (&server, &client) } else { (&client, &server) };
        from.write_all(&[0])?;
        to.read_exact(&mut [0])?;
        Ok((client, server))
    }

    /// Starts the child process: this executable, also if its file was replaced.
    fn spawn_child(&self) -> io::Result<()> {
        let process = ChildProcess::Canary(self.identity.token.clone());
        let mut child = self.launcher.spawn(&process, 0)?;
        match child.receive_bytes(Some(STEP_LIMIT))? {
            Some(Message::Exited(_)) => Ok(()),
            Some(_) => Err(io::Error::other("the launcher did not start it")),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }
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

fn step(name: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!("{name}: {error}"))
}
