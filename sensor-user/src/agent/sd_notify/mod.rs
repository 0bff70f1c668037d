//! Notifications to the service manager, by [`sd_notify(3)`].
//!
//! A message is one datagram, and sending it never blocks: if the manager's socket is full, the message is
//! dropped, and repeated at the next check. Without `NOTIFY_SOCKET` nothing is sent.
//!
//! [`sd_notify(3)`]: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::base::clock;
use crate::base::environment::Environment;
use crate::base::escape::escaped;

/// Maximum length of a status, characters.
const STATUS_MAX: usize = 200;

/// Socket of the service manager.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`. A socket that cannot be reached is logged, since the
    /// manager would wait in vain.
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
                tracing::error!(socket, %error, "NOTIFY_SOCKET cannot be reached");
                Self::default()
            }
        }
    }

    /// Watchdog timeout of the manager; `None` if it has none.
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Reports that the agent is ready, with its status.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", escaped(status, STATUS_MAX)));
    }

    /// Reports the status, for operators.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", escaped(status, STATUS_MAX)));
    }

    /// Keep-alive of the watchdog.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Reports that a reload has begun; [`Self::ready`] ends it.
    pub fn reloading(&self) {
        let now = clock::monotonic_ns() / 1000;
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading the configuration"
        ));
    }

    /// Reports that the shutdown has begun, which takes at most `limit`.
    pub fn stopping(&self, limit: Duration) {
        let limit = limit.as_micros();
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={limit}\nSTATUS=sending queued items"));
    }

    fn send(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        match socket.send(text.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tracing::debug!("socket of the service manager is full");
            }
            Err(error) => tracing::debug!(%error, "notification of the service manager failed"),
        }
    }
}

#[cfg(test)]
mod tests;
