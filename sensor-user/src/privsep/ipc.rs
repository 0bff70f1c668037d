//! `Channel`: length-prefixed messages over a socket.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// In place of a length: the exit status of the process follows, as the last message.
const EXITED: u32 = u32::MAX;
/// Size of one read, bytes.
const READ_SIZE: usize = 64 << 10;

/// One end of a connection between two processes of the agent.
#[derive(Debug)]
pub struct Channel {
    // As a file: a process that is confined to what is open can still use it.
    socket: File,
    message_max: usize,
    received: Vec<u8>,
}

/// A received message.
#[derive(Debug)]
pub enum Message {
    /// Payload of a message.
    Bytes(Vec<u8>),
    /// The process at the other end has exited, with this status.
    Exited(ExitStatus),
    /// The other end is closed.
    Closed,
}

impl Channel {
    /// A channel over `socket`, with messages of at most `message_max` bytes.
    pub fn new(socket: OwnedFd, message_max: usize) -> Self {
        Self { socket: File::from(socket), message_max, received: Vec::new() }
    }

    /// Sends a message, encoded with [`postcard`].
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.send_bytes(&postcard::to_stdvec(message).map_err(io::Error::other)?)
    }

    /// Sends a message that is encoded already.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= self.message_max);
        let length = length.ok_or_else(|| self.too_long(bytes.len()))?;
        self.socket.write_all(&length.to_le_bytes())?;
        self.socket.write_all(bytes)
    }

    /// Reports that the process at this end has exited.
    pub fn send_exited(&mut self, status: ExitStatus) -> io::Result<()> {
        let mut bytes = EXITED.to_le_bytes().to_vec();
        bytes.extend(status.into_raw().to_le_bytes());
        self.socket.write_all(&bytes)
    }

    /// The next message; `None` if none was received within `limit`. Without a limit it waits.
    pub fn receive_bytes(&mut self, limit: Option<Duration>) -> io::Result<Option<Message>> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            if !self.is_readable(deadline)? {
                return Ok(None);
            }
            let before = self.received.len();
            self.received.resize(before + READ_SIZE, 0);
            let room = self.received.get_mut(before..).unwrap_or_default();
            let read = match self.socket.read(room) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.received.truncate(before);
                    continue;
                }
                // The other end closed with unread messages in its queue.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(error),
            };
            self.received.truncate(before + read);
            if read == 0 {
                return Ok(Some(Message::Closed));
            }
        }
    }

    /// The next message as a `T`; `None` where the other end is closed.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.receive_bytes(None)? {
            Some(Message::Bytes(bytes)) => {
                postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
            }
            _ => Ok(None),
        }
    }

    /// True if the other end is closed.
    pub fn is_hung_up(&self) -> bool {
        is_hung_up(self.socket.as_fd())
    }

    fn whole(&mut self) -> io::Result<Option<Message>> {
        let Some((length, rest)) = self.received.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if length == EXITED {
            let status = rest.first_chunk::<4>();
            let status = status.map(|raw| ExitStatus::from_raw(i32::from_le_bytes(*raw)));
            return Ok(status.map(Message::Exited));
        }
        let length = length as usize;
        if length > self.message_max {
            return Err(self.too_long(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let bytes = rest.get(..length).unwrap_or_default().to_vec();
        self.received.drain(..4 + length);
        // Memory of a large message is released.
        self.received.shrink_to(READ_SIZE);
        Ok(Some(Message::Bytes(bytes)))
    }

    fn is_readable(&self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            let limit = match deadline {
                None => PollTimeout::NONE,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    // Rounded up to whole milliseconds.
                    PollTimeout::try_from(left + Duration::from_micros(999))
                        .unwrap_or(PollTimeout::MAX)
                }
            };
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], limit) {
                Ok(ready) => return Ok(ready > 0),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn too_long(&self, length: usize) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("message of {length} bytes; the maximum is {}", self.message_max),
        )
    }
}

/// True if the other end of `socket` is closed.
pub(super) fn is_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut ends = [PollFd::new(socket, PollFlags::empty())];
    let polled = poll(&mut ends, PollTimeout::ZERO);
    let [end] = ends;
    polled.is_ok() && end.revents().is_some_and(|it| it.intersects(PollFlags::POLLHUP))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair(message_max: usize) -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one.into(), message_max), Channel::new(other.into(), message_max))
    }

    #[test]
    fn messages_are_received_whole_and_then_the_exit_status() {
        let (mut one, mut other) = pair(1 << 20);
        let long = "x".repeat(300_000);
        let sender = std::thread::spawn(move || {
            one.send(&"short").unwrap();
            one.send(&long).unwrap();
            one.send_exited(ExitStatus::from_raw(9)).unwrap();
        });
        assert_eq!(other.receive::<String>().unwrap().unwrap(), "short");
        assert_eq!(other.receive::<String>().unwrap().unwrap().len(), 300_000);
        let Some(Message::Exited(status)) = other.receive_bytes(None).unwrap() else { panic!() };
        assert_eq!(status.signal(), Some(9));
        sender.join().unwrap();
        assert!(other.is_hung_up());
    }

    #[test]
    fn a_timeout_keeps_the_bytes_received_so_far() {
        let (mut one, mut other) = pair(1 << 20);
        one.socket.write_all(&[2, 0, 0]).unwrap();
        assert!(other.receive_bytes(Some(Duration::from_millis(5))).unwrap().is_none());
        one.socket.write_all(&[0, 7, 8]).unwrap();
        let Some(Message::Bytes(bytes)) = other.receive_bytes(None).unwrap() else { panic!() };
        assert_eq!(bytes, [7, 8]);
    }

    #[test]
    fn a_message_over_the_maximum_is_an_error_at_both_ends() {
        let (mut one, mut other) = pair(8);
        assert!(one.send_bytes(&[0; 9]).is_err());
        one.socket.write_all(&[9, 0, 0, 0]).unwrap();
        let error = other.receive_bytes(None).unwrap_err().to_string();
        assert_eq!(error, "message of 9 bytes; the maximum is 8");
        drop(one);
    }
}
