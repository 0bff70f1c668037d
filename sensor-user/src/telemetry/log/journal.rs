//! journald's own protocol: a datagram a line, with its fields.
//!
//! Sending never waits: a journal that does not read costs lines, which are counted and told when it
//! reads again, not the pipeline's time. Lines are short enough for a datagram. The socket is looked
//! up for each line, so a journal that was started anew gets the next one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::sys::stat::fstat;
use tracing::Level;

use super::line::Line;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A way to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    to: PathBuf,
}

impl Journal {
    /// The journal that listens at `to`, now or later.
    pub(super) fn at(to: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to })
    }

    /// Whether one listens. journald takes no notice of an empty datagram.
    pub(super) fn listens(&self) -> bool {
        self.send(&[]).is_ok()
    }

    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &self.to).map(|_sent_whole| ())
    }
}

/// Whether `stream` is the one which `JOURNAL_STREAM` names (systemd.exec(5)): a service can have
/// its standard error elsewhere, and the variable is inherited.
pub(super) fn is_journal(variable: Option<&OsStr>, stream: impl AsFd) -> bool {
    let named = variable.and_then(OsStr::to_str).and_then(|text| text.split_once(':'));
    let Some((device, inode)) = named else { return false };
    fstat(stream)
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

/// A line as journald takes it. `MESSAGE` holds the fields too, because that is all that
/// `journalctl` shows; each is also a field of its own, `NETSENSOR_` and its name.
pub(super) fn datagram(line: &Line, repeats: u64) -> Vec<u8> {
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

/// Says how many lines it did not take.
pub(super) fn lost(count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, "MESSAGE", &format!("the journal did not take lines of this log lost={count}"));
    put(&mut out, "PRIORITY", "4");
    put(&mut out, "SYSLOG_IDENTIFIER", "netsensor");
    put(&mut out, "NETSENSOR_LOST", &count.to_string());
    out
}

/// journald takes capitals, digits and underscores, 64 at most.
fn field_name(name: &str) -> String {
    let plain = name.chars().map(|character| {
        if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' }
    });
    "NETSENSOR_".chars().chain(plain).take(64).collect()
}

/// With its length in front, so that a value can hold anything.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}
