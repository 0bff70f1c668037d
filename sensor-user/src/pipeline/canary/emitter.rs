//! Making the canary's connections and its child.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, socket,
};

use super::detector::CanaryDetector;
use crate::base::clock::boot_ns;
use crate::pipeline::capture::Hooks;
use crate::privsep::{ChildProcess, Message, Spawner};

/// Any step of it may take this long: on loopback none takes a millisecond.
const STEP_LIMIT: Duration = Duration::from_secs(2);
/// How long the connections stay open: longer than an inbound connection waits for its owner, so
/// that who closes it is not taken for who accepted it.
const OPEN_FOR: Duration = Duration::from_millis(200);
/// When the next one follows after one was missed, instead of a whole interval later.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Pairs of ports remembered: those of the last sixteen canaries, until the last record has come.
const PAIRS_MAX: usize = 32;
/// Canaries that wait to be looked for at most.
const FLIGHTS_MAX: usize = 4;

/// Ports of one connection of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The end that connects.
    pub client: u16,
    /// The end that accepts.
    pub server: u16,
    /// Whether the accepting end writes before it reads.
    pub server_writes: bool,
}

/// What both sides know.
#[derive(Debug)]
pub struct Shared {
    /// An argument that no other process has.
    pub token: String,
    /// Network namespace of the agent, inode number; 0 when unknown.
    pub netns: u64,
    pairs: Mutex<VecDeque<Pair>>,
}

/// A canary that has flown.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) began_boot_ns: u64,
    pub(super) ended_boot_ns: u64,
    /// Why it could not, if so.
    pub(super) fault: Option<String>,
}

/// Starts canaries.
#[derive(Debug)]
pub struct Canary;

impl Canary {
    /// Starts the thread that makes one every `every`, the first at once; gives the eye for the
    /// pipeline. `hooks` are those that are expected to tell; `launcher` starts the child.
    pub fn start(
        every: Duration,
        hooks: &Hooks,
        launcher: Arc<Spawner>,
    ) -> io::Result<CanaryDetector> {
        let netns = std::fs::metadata("/proc/self/ns/net").map_or(0, |file| file.ino());
        let token = format!("canary-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let shared = Arc::new(Shared { token, netns, pairs: Mutex::default() });
        let (flights_in, flights) = sync_channel(FLIGHTS_MAX);
        let (again, again_out) = sync_channel(1);
        let mine = Arc::clone(&shared);
        let launcher_pid = launcher.pid();
        std::thread::Builder::new()
            .name("canary".to_owned())
            .spawn(move || fly_on(&mine, &launcher, (every, &flights_in, &again_out)))?;
        Ok(CanaryDetector::new((shared, launcher_pid), every, hooks, flights, again))
    }
}

impl Shared {
    /// The canary's connection with these ports, if it is one.
    pub fn pair(&self, client: u16, server: u16) -> Option<Pair> {
        let pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        pairs.iter().find(|pair| pair.client == client && pair.server == server).copied()
    }

    fn announce(&self, pair: Pair) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= PAIRS_MAX {
            pairs.pop_front();
        }
        pairs.push_back(pair);
    }
}

/// What the child does: nothing. That it was started and ended is what counts.
pub const fn child() {}

fn fly_on(
    shared: &Shared,
    launcher: &Spawner,
    (every, flights, again): (Duration, &SyncSender<Flight>, &Receiver<()>),
) {
    loop {
        let began_boot_ns = boot_ns();
        let fault = fly(shared, launcher).err().map(|error| error.to_string());
        let flight = Flight { began_boot_ns, ended_boot_ns: boot_ns(), fault };
        if matches!(flights.try_send(flight), Err(TrySendError::Disconnected(_))) {
            return;
        }
        let soon = AGAIN_AFTER.min(every);
        match again.recv_timeout(every) {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) => {
                if matches!(again.recv_timeout(soon), Err(RecvTimeoutError::Disconnected)) {
                    return;
                }
            }
        }
    }
}

/// One canary: two connections and a child.
fn fly(shared: &Shared, launcher: &Spawner) -> io::Result<()> {
    let named = |what: &'static str| move |error: io::Error| io::Error::other(Step(what, error));
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(named("listen on 127.0.0.1"))?;
    let SocketAddr::V4(target) = listener.local_addr()? else {
        return Err(io::Error::other("listen on 127.0.0.1: another family"));
    };
    let reads = call(shared, &listener, target, false).map_err(named("connect to 127.0.0.1"))?;
    let writes = call(shared, &listener, target, true).map_err(named("connect to 127.0.0.1"))?;
    spawn_child(&shared.token, launcher).map_err(named("start a process"))?;
    let (mut reader, _writer) = (reads.0, writes.0);
    // Nobody writes to it: this is the time that both stay open.
    reader.set_read_timeout(Some(OPEN_FOR))?;
    let _times_out = reader.read(&mut [0]);
    Ok(())
}

/// The two ends of a connection on which one byte has gone, to the accepting end, or from it.
fn call(
    shared: &Shared,
    listener: &TcpListener,
    target: SocketAddrV4,
    server_writes: bool,
) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let client = TcpStream::from(socket);
    // Of connect too (socket(7)).
    client.set_write_timeout(Some(STEP_LIMIT))?;
    client.set_read_timeout(Some(STEP_LIMIT))?;
    // The port is chosen before the call, so that the eye knows it before the first record.
    bind(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    let port = getsockname::<SockaddrIn>(client.as_raw_fd())?.port();
    shared.announce(Pair { client: port, server: target.port(), server_writes });
    connect(client.as_raw_fd(), &SockaddrIn::from(target))?;
    let server = accept(listener, port)?;
    server.set_write_timeout(Some(STEP_LIMIT))?;
    server.set_read_timeout(Some(STEP_LIMIT))?;
    let (mut from, mut to) = if server_writes { (&server, &client) } else { (&client, &server) };
    from.write_all(&[0])?;
    to.read_exact(&mut [0])?;
    Ok((client, server))
}

/// Accepts the connection from `port`; any other caller is turned away.
fn accept(listener: &TcpListener, port: u16) -> io::Result<TcpStream> {
    const CALLERS_MAX: u32 = 16;
    let limit = PollTimeout::try_from(STEP_LIMIT).unwrap_or(PollTimeout::ZERO);
    for _caller in 0..CALLERS_MAX {
        if poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], limit)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (stream, peer) = listener.accept()?;
        if peer.port() == port {
            return Ok(stream);
        }
    }
    Err(io::Error::other("others call"))
}

/// This very executable, whatever has become of its file, as a process that does nothing.
fn spawn_child(token: &str, launcher: &Spawner) -> io::Result<()> {
    let mut child = launcher.spawn(&ChildProcess::Canary(token.to_owned()), 0)?;
    match child.receive_bytes(Some(STEP_LIMIT))? {
        Some(Message::Exited(_)) => Ok(()),
        Some(_) => Err(io::Error::other("the launcher did not")),
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
