//! `/proc/PID/net/{tcp,tcp6,udp,udp6}`: the sockets of a namespace that may not be entered.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::namespaces::Namespace;
use super::open::{
    Ends, Found, OpenSocket, TCP_CLOSE, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT2, TCP_LISTEN,
    Transport,
};

/// Bytes of one file that are read at most; a line is about 150.
const FILE_MAX: u64 = 256 << 20;

/// Adds what the files of the process `pid` show, which is in `namespace`.
pub(super) fn read(
    proc_root: &Path,
    pid: u32,
    namespace: &Namespace,
    found: &mut Found,
) -> io::Result<()> {
    let folder = proc_root.join(pid.to_string()).join("net");
    let files = [
        ("tcp", Transport::Tcp),
        ("tcp6", Transport::Tcp),
        ("udp", Transport::Udp),
        ("udp6", Transport::Udp),
    ];
    for (name, transport) in files {
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
            if let Some(socket) = socket(&line, namespace.inode, transport) {
                found.add(transport, socket);
            }
            line.clear();
        }
    }
    Ok(())
}

/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 4711 …` of
/// `proc_pid_net(5)`; the heading and what is no connection give nothing.
fn socket(line: &str, netns: u32, transport: Transport) -> Option<OpenSocket> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, local_port) = end(fields.next()?)?;
    let (remote, remote_port) = end(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode: u32 = fields.nth(5)?.parse().ok()?;
    let wanted = match transport {
        // One that nobody holds and that waits for a FIN may be in TIME_WAIT.
        Transport::Tcp if state == TCP_FIN_WAIT2 => inode != 0,
        Transport::Tcp => {
            matches!(state, TCP_ESTABLISHED | 2 | 4 | 8 | 9 | TCP_LISTEN | TCP_CLOSING)
        }
        Transport::Udp => matches!(state, TCP_ESTABLISHED | TCP_CLOSE) && local_port != 0,
    };
    let ends = Ends { local, local_port, remote, remote_port };
    wanted.then_some(OpenSocket { netns, cookie: 0, inode, ends, state, counts: None })
}

/// `0100007F:1F90`: an address in words of the machine's byte order, and a port.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
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

    fn shown(line: &str, transport: Transport) -> Option<(String, u8, u32)> {
        let socket = socket(line, 1, transport)?;
        let ends = socket.ends;
        let text =
            format!("{} {} {} {}", ends.local, ends.local_port, ends.remote, ends.remote_port);
        Some((text, socket.state, socket.inode))
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let tcp = "   0: 0100007F:1F90 0200007F:CAFE 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1";
        let expected = ("127.0.0.1 8080 127.0.0.2 51966".to_owned(), 1, 4711);
        assert_eq!(shown(tcp, Transport::Tcp), Some(expected));
        let mapped = "1: 0000000000000000FFFF00000100007F:0050 0000000000000000FFFF00000200007F:CAFE 08 0:0 00:0 0 0 0 7 1";
        let expected = ("127.0.0.1 80 127.0.0.2 51966".to_owned(), 8, 7);
        assert_eq!(shown(mapped, Transport::Tcp), Some(expected));
        let udp = "11: 00000000:0035 00000000:0000 07 0:0 00:0 0 0 0 8 2 0 0";
        assert_eq!(shown(udp, Transport::Udp).map(|it| it.2), Some(8));
    }

    #[test]
    fn what_is_no_open_socket_is_passed_over() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        let time_wait = "1: 0100007F:1F90 0200007F:CAFE 06 0:0 00:0 0 0 0 0 3";
        let unheld = "1: 0100007F:1F90 0200007F:CAFE 05 0:0 00:0 0 0 0 0 3";
        for line in [heading, time_wait, unheld, "", "1: é:1 b:2 01 a b c d e 1"] {
            assert_eq!(shown(line, Transport::Tcp), None, "{line}");
        }
    }
}
