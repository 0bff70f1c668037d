//! `/proc/PID/net/{tcp,tcp6,udp,udp6}`: lists the sockets of a namespace that cannot be entered.
//!
//! Format: [proc_pid_net(5)](https://man7.org/linux/man-pages/man5/proc_pid_net.5.html) and
//! [proc_net_tcp](https://docs.kernel.org/networking/proc_net_tcp.html); the kernel writes it in
//! `get_tcp4_sock` of `net/ipv4/tcp_ipv4.c`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::open::{
    Ends, OpenSocket, SocketBuffer, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED,
    TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_LISTEN, TCP_SYN_SENT,
};
use crate::base::protocol::Protocol;

/// Maximum number of bytes read from one file; a line has about 150.
const FILE_MAX: u64 = 256 << 20;

/// Adds the sockets of the namespace `netns`, from the files of a process in it.
pub(super) fn read(
    proc_root: &Path,
    pid: u32,
    netns: u32,
    found: &mut SocketBuffer,
) -> io::Result<()> {
    let folder = proc_root.join(pid.to_string()).join("net");
    let files = [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ];
    for (name, protocol) in files {
        let file = match File::open(folder.join(name)) {
            Ok(file) => file,
            // A kernel without IPv6.
            Err(error) if name.ends_with('6') && error.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut lines = BufReader::new(file.take(FILE_MAX));
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if let Some(socket) = socket(&line, netns, protocol) {
                found.push(protocol, socket);
            }
            line.clear();
        }
    }
    Ok(())
}

/// Parses a line such as
/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 4711 …`.
/// `None` for the heading, and for sockets that are not open.
fn socket(line: &str, netns: u32, protocol: Protocol) -> Option<OpenSocket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, local_port) = end(fields.next()?)?;
    let (remote, remote_port) = end(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode: u32 = fields.nth(5)?.parse().ok()?;
    let is_open = match protocol {
        // A socket without an owner that waits for a FIN may be in TIME_WAIT.
        Protocol::Tcp if state == TCP_FIN_WAIT2 => inode != 0,
        Protocol::Tcp => matches!(
            state,
            TCP_ESTABLISHED
                | TCP_SYN_SENT
                | TCP_FIN_WAIT1
                | TCP_CLOSE_WAIT
                | TCP_LAST_ACK
                | TCP_LISTEN
                | TCP_CLOSING
        ),
        Protocol::Udp => matches!(state, TCP_ESTABLISHED | TCP_CLOSE) && local_port != 0,
    };
    let ends = Ends { local, local_port, remote, remote_port };
    is_open.then_some(OpenSocket { netns, cookie: 0, inode, ends, state, counts: None })
}

/// Parses an end such as `0100007F:1F90`: an address in words of native byte order, and a port.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    fn parsed(line: &str, protocol: Protocol) -> Option<(String, u8, u32)> {
        let socket = socket(line, 1, protocol)?;
        let ends = socket.ends;
        let text =
            format!("{} {} {} {}", ends.local, ends.local_port, ends.remote, ends.remote_port);
        Some((text, socket.state, socket.inode))
    }

    #[test]
    fn lines_of_the_kernel_are_parsed() {
        let tcp = "   0: 0100007F:1F90 0200007F:CAFE 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1";
        let expected = ("127.0.0.1 8080 127.0.0.2 51966".to_owned(), 1, 4711);
        assert_eq!(parsed(tcp, Protocol::Tcp), Some(expected));
        let mapped = "1: 0000000000000000FFFF00000100007F:0050 0000000000000000FFFF00000200007F:CAFE 08 0:0 00:0 0 0 0 7 1";
        let expected = ("127.0.0.1 80 127.0.0.2 51966".to_owned(), 8, 7);
        assert_eq!(parsed(mapped, Protocol::Tcp), Some(expected));
        let udp = "11: 00000000:0035 00000000:0000 07 0:0 00:0 0 0 0 8 2 0 0";
        assert_eq!(parsed(udp, Protocol::Udp).map(|it| it.2), Some(8));
    }

    #[test]
    fn lines_without_an_open_socket_are_skipped() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        let time_wait = "1: 0100007F:1F90 0200007F:CAFE 06 0:0 00:0 0 0 0 0 3";
        let unowned = "1: 0100007F:1F90 0200007F:CAFE 05 0:0 00:0 0 0 0 0 3";
        for line in [heading, time_wait, unowned, "", "1: é:1 b:2 01 a b c d e 1"] {
            assert_eq!(parsed(line, Protocol::Tcp), None, "{line}");
        }
    }
}
