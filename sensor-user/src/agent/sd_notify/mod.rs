//! Service: what the agent tells the service manager that started it, by `sd_notify(3)`.
//!
//! A message is one datagram and never waits: what the manager's socket has no room for is left out,
//! and said again at the next look. Where nobody asked to be told, nothing is sent.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::base::clock;
use crate::base::environment::Environment;
use crate::base::escape::escaped;

/// Characters of a status at most.
const STATUS_MAX: usize = 200;

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that `NOTIFY_SOCKET` and `WATCHDOG_USEC` name. One that cannot be reached is told in
    /// the log: the manager would wait for nothing.
    pub fn new(environment: &Environment) -> Self {
        let Some(name) = &environment.notify_socket else { return Self::default() };
        let bytes = name.as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let socket = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => Self { socket: Some(socket), watchdog: environment.watchdog() },
            Err(error) => {
                let socket = escaped(&name.to_string_lossy(), 120);
                tracing::error!(socket, %error, "the service manager cannot be told anything");
                Self::default()
            }
        }
    }

    /// How long the manager waits between two signs of life; `None` where it does not.
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The agent works, and how it is.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", escaped(status, STATUS_MAX)));
    }

    /// How the agent is, for people.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", escaped(status, STATUS_MAX)));
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The configuration is being read again; [`Self::ready`] says that it was.
    pub fn reloading(&self) {
        let now = clock::monotonic_ns() / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reads its configuration"));
    }

    /// The agent is on its way to its end, which takes `limit` at most from here.
    pub fn stopping(&self, limit: Duration) {
        let limit = limit.as_micros();
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}\nSTATUS=sends what waits"));
    }

    fn send(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        match socket.send(text.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::debug!("the service manager is busy");
            }
            Err(error) => tracing::debug!(%error, "tell the service manager"),
        }
    }
}

#[cfg(test)]
mod tests;
