//! journald's native protocol: one datagram per line, with its fields.
//!
//! Sending never waits. If the journal does not read, lines are dropped and counted, and their number
//! is logged once it reads again. Lines are short enough for a datagram. The socket's path is resolved
//! for each line, so that a restarted journal receives the next one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::sys::stat::fstat;
use tracing::Level;

use super::line::LogLine;

/// Path of journald's socket.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A connection to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Opens a socket for the journal that listens on `path`, now or later.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path })
    }

    /// True if a journal listens. journald ignores an empty datagram.
    pub(super) fn is_listening(&self) -> bool {
        self.send(&[]).is_ok()
    }

    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &self.path).map(|_sent_whole| ())
    }
}

/// True if `stream` is the stream that `JOURNAL_STREAM` identifies (systemd.exec(5)): standard error of
/// a service can be redirected, and child processes inherit the variable.
pub(super) fn is_journal(variable: Option<&OsStr>, stream: impl AsFd) -> bool {
    let named = variable.and_then(OsStr::to_str).and_then(|text| text.split_once(':'));
    let Some((device, inode)) = named else { return false };
    fstat(stream)
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// Encodes a line for journald. `MESSAGE` includes the fields, because `journalctl` shows nothing else;
/// each is also a journal field, `NETSENSOR_` and its name.
pub(super) fn datagram(line: &LogLine, repeats: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let priority = match *line.metadata.level() {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    };
    put(&mut out, "MESSAGE", &line.text_with(repeats));
    put(&mut out, "PRIORITY", priority);
    put(&mut out, "SYSLOG_IDENTIFIER", "netsensor");
    put(&mut out, "TARGET", line.metadata.target());
    if let (Some(file), Some(number)) = (line.metadata.file(), line.metadata.line()) {
        put(&mut out, "CODE_FILE", file);
        put(&mut out, "CODE_LINE", &number.to_string());
    }
    if repeats > 0 {
        put(&mut out, "NETSENSOR_REPEATED", &repeats.to_string());
    }
    for (name, value) in &line.fields {
        put(&mut out, &field_name(name), value);
    }
    out
}

/// Encodes the report that the journal dropped `count` lines.
pub(super) fn lost(count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, "MESSAGE", &format!("the journal did not take lines of this log lost={count}"));
    put(&mut out, "PRIORITY", "4");
    put(&mut out, "SYSLOG_IDENTIFIER", "netsensor");
    put(&mut out, "NETSENSOR_LOST", &count.to_string());
    out
}

/// journald accepts up to 64 capitals, digits and underscores.
fn field_name(name: &str) -> String {
    let plain = name.chars().map(|character| {
        if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' }
    });
    "NETSENSOR_".chars().chain(plain).take(64).collect()
}

/// Appends a field in the binary form, whose length prefix allows any byte in the value.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}
