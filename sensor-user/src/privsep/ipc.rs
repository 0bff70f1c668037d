//! `Channel`: messages over a socket, each with its length before it.

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

/// Stands in place of a length before the status of a process that has ended, which is the last
/// that comes.
const ENDED: u32 = u32::MAX;
/// Bytes that are read at once.
const READ: usize = 64 << 10;

/// One end.
#[derive(Debug)]
pub struct Channel {
    // As a file: a process that is confined to what is open can still use it.
    socket: File,
    most: usize,
    received: Vec<u8>,
}

/// What came.
#[derive(Debug)]
pub enum Message {
    /// A message.
    Bytes(Vec<u8>),
    /// The process at the other end has ended, so.
    Ended(ExitStatus),
    /// The other end is closed.
    Closed,
}

impl Channel {
    /// Over `socket`; no message has more than `most` bytes.
    pub fn new(socket: OwnedFd, most: usize) -> Self {
        Self { socket: File::from(socket), most, received: Vec::new() }
    }

    /// Sends `message`.
    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.send_bytes(&postcard::to_stdvec(message).map_err(io::Error::other)?)
    }

    /// Sends the bytes of a message.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= self.most);
        let length = length.ok_or_else(|| self.too_long(bytes.len()))?;
        self.socket.write_all(&length.to_le_bytes())?;
        self.socket.write_all(bytes)
    }

    /// Says that the process which had this end has ended.
    pub fn send_ended(&mut self, status: ExitStatus) -> io::Result<()> {
        let mut bytes = ENDED.to_le_bytes().to_vec();
        bytes.extend(status.into_raw().to_le_bytes());
        self.socket.write_all(&bytes)
    }

    /// The next message; `None` where none came within `limit`, without which it is waited for.
    pub fn receive_bytes(&mut self, limit: Option<Duration>) -> io::Result<Option<Message>> {
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            if !self.is_readable(until)? {
                return Ok(None);
            }
            let before = self.received.len();
            self.received.resize(before + READ, 0);
            let room = self.received.get_mut(before..).unwrap_or_default();
            let read = match self.socket.read(room) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.received.truncate(before);
                    continue;
                }
                // The other end is gone with what was on its way to it.
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

    /// Whether the other end is closed.
    pub fn is_hung_up(&self) -> bool {
        is_hung_up(self.socket.as_fd())
    }

    fn whole(&mut self) -> io::Result<Option<Message>> {
        let Some((length, rest)) = self.received.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length);
        if length == ENDED {
            let status = rest.first_chunk::<4>();
            let status = status.map(|raw| ExitStatus::from_raw(i32::from_le_bytes(*raw)));
            return Ok(status.map(Message::Ended));
        }
        let length = length as usize;
        if length > self.most {
            return Err(self.too_long(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let bytes = rest.get(..length).unwrap_or_default().to_vec();
        self.received.drain(..4 + length);
        // What a large message took is not kept.
        self.received.shrink_to(READ);
        Ok(Some(Message::Bytes(bytes)))
    }

    fn is_readable(&self, until: Option<Instant>) -> io::Result<bool> {
        loop {
            let limit = match until {
                None => PollTimeout::NONE,
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    // Whole milliseconds, and not fewer than there are.
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
        let most = self.most;
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes, of {most} at most"),
        )
    }
}

/// Whether the other end of `socket` is closed.
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

    fn pair(most: usize) -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one.into(), most), Channel::new(other.into(), most))
    }

    #[test]
    fn messages_come_whole_and_then_the_end() {
        let (mut one, mut other) = pair(1 << 20);
        let long = "x".repeat(300_000);
        let sender = std::thread::spawn(move || {
            one.send(&"short").unwrap();
            one.send(&long).unwrap();
            one.send_ended(ExitStatus::from_raw(9)).unwrap();
        });
        assert_eq!(other.receive::<String>().unwrap().unwrap(), "short");
        assert_eq!(other.receive::<String>().unwrap().unwrap().len(), 300_000);
        let Some(Message::Ended(status)) = other.receive_bytes(None).unwrap() else { panic!() };
        assert_eq!(status.signal(), Some(9));
        sender.join().unwrap();
        assert!(other.is_hung_up());
    }

    #[test]
    fn a_limit_ends_the_wait_and_what_came_stays() {
        let (mut one, mut other) = pair(1 << 20);
        one.socket.write_all(&[2, 0, 0]).unwrap();
        assert!(other.receive_bytes(Some(Duration::from_millis(5))).unwrap().is_none());
        one.socket.write_all(&[0, 7, 8]).unwrap();
        let Some(Message::Bytes(bytes)) = other.receive_bytes(None).unwrap() else { panic!() };
        assert_eq!(bytes, [7, 8]);
    }

    #[test]
    fn what_is_too_long_is_an_error_at_both_ends() {
        let (mut one, mut other) = pair(8);
        assert!(one.send_bytes(&[0; 9]).is_err());
        one.socket.write_all(&[9, 0, 0, 0]).unwrap();
        let error = other.receive_bytes(None).unwrap_err().to_string();
        assert_eq!(error, "a message of 9 bytes, of 8 at most");
        drop(one);
    }
}
