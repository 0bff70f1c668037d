//! Services whose sockets another process opens: systemd-socket-activate and inetd.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};

use crate::ends::End;
use crate::lab::{Daemon, Lab, Observed, SERVER, path};

const PORT: u16 = 7001;
const UDP_PORT: u16 = 7002;
const CONNECTIONS: usize = 5;
const MESSAGE: &[u8] = b"a message that comes back";

/// Accepts on the socket that it is given, sends back what it reads, and ends with its last connection.
const SERVICE: &str = "
import socket, sys
listener = socket.socket(fileno=3)
for _ in range(int(sys.argv[1])):
    connection, _ = listener.accept()
    while data := connection.recv(4096):
        connection.sendall(data)
    connection.close()
";

/// Sends one datagram back to its sender.
const DATAGRAM_SERVICE: &str = "
import socket
service = socket.socket(fileno=0)
data, peer = service.recvfrom(4096)
service.sendto(data * 2, peer)
";

/// Sends the message over connections of the test itself, one after the other.
fn talk(lab: &Lab) {
    lab.netns.inside(|| {
        for _connection in 0..CONNECTIONS {
            let mut stream = TcpStream::connect((SERVER, PORT)).unwrap();
            stream.write_all(MESSAGE).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert_eq!(back, MESSAGE);
        }
    });
}

/// Ends the program that opened the sockets, and the recording. Returns what was observed, whose bytes are
/// those of the messages, and the id of the program's process.
fn end(lab: Lab, opener: Daemon) -> (Observed, u64) {
    let pid = opener.pid();
    drop(opener);
    let observed = lab.finish();
    assert_bytes(&observed.inbound(PORT), &observed.outbound(PORT));
    (observed, pid)
}

fn assert_bytes(inbound: &[&End], outbound: &[&End]) {
    assert_eq!((inbound.len(), outbound.len()), (CONNECTIONS, CONNECTIONS));
    let length = MESSAGE.len() as u64;
    for end in inbound.iter().chain(outbound) {
        assert_eq!((end.connection.sent, end.connection.received), (length, length), "{end:?}");
    }
    for end in outbound {
        assert_eq!(end.pid, u64::from(std::process::id()), "{end:?}");
    }
}

#[test]
fn a_service_that_is_started_by_its_first_connection_owns_it() {
    let Some(lab) = Lab::start(&["systemd-socket-activate", "python3"]) else { return };
    lab.write("service.py", SERVICE);
    let address = format!("{SERVER}:{PORT}");
    let connections = CONNECTIONS.to_string();
    let service = [&path("python3"), "service.py", &connections];
    let words = [&["--listen", &address][..], &service].concat();
    let activated = lab.listening("systemd-socket-activate", &words, &address);
    talk(&lab);
    let (observed, pid) = end(lab, activated);
    let inbound = observed.inbound(PORT);
    for end in inbound {
        assert_eq!((end.pid, &end.path), (pid, &path("python3")), "{end:?}");
    }
}

#[test]
fn a_connection_that_is_accepted_for_a_service_belongs_to_the_one_that_acts() {
    let Some(lab) = Lab::start(&["systemd-socket-activate", "cat"]) else { return };
    let address = format!("{SERVER}:{PORT}");
    let words = ["--accept", "--inetd", "--listen", &address, &path("cat")];
    let activated = lab.listening("systemd-socket-activate", &words, &address);
    talk(&lab);
    let (observed, pid) = end(lab, activated);
    let inbound = observed.inbound(PORT);
    assert_handed_over(&inbound, pid, ["systemd-socket-activate", "cat"]);
}

#[test]
fn inetd_accepts_for_its_services() {
    let Some(lab) = Lab::start(&["inetd", "cat", "python3"]) else { return };
    lab.write("service.py", DATAGRAM_SERVICE);
    let (cat, python) = (path("cat"), path("python3"));
    let script = lab.path("service.py").display().to_string();
    let stream = format!("{SERVER}:{PORT} stream tcp nowait root {cat} cat");
    let datagram = format!("{SERVER}:{UDP_PORT} dgram udp wait root {python} python3 {script}");
    lab.write("inetd.conf", &format!("{stream}\n{datagram}\n"));
    let configuration = lab.path("inetd.conf").display().to_string();
    let inetd = lab.listening("inetd", &["-i", &configuration], &format!("{SERVER}:{PORT}"));
    lab.wait_for_listener(&format!("{SERVER}:{UDP_PORT}"));
    talk(&lab);
    lab.netns.inside(|| {
        let socket = UdpSocket::bind((SERVER, 0)).unwrap();
        socket.send_to(MESSAGE, (SERVER, UDP_PORT)).unwrap();
        let mut back = [0; 100];
        assert_eq!(socket.recv(&mut back).unwrap(), 2 * MESSAGE.len());
    });
    let (observed, pid) = end(lab, inetd);
    let inbound = observed.inbound(PORT);
    assert_handed_over(&inbound, pid, ["inetd", "cat"]);
    let flows = observed.inbound(UDP_PORT);
    assert_eq!(flows.len(), 1, "{flows:?}");
    assert!(flows[0].connection.is_udp, "{flows:?}");
    assert_eq!(flows[0].path, python, "{flows:?}");
}

/// The owner is the process that accepts, or where accept cannot be probed the first to read: a program of
/// its own for each connection.
fn assert_handed_over(inbound: &[&End], acceptor: u64, [accepts, reads]: [&str; 2]) {
    for end in inbound {
        let is_acceptor = end.attribution == "accept";
        assert_eq!(end.pid == acceptor, is_acceptor, "{end:?}");
        assert_eq!(end.path, path(if is_acceptor { accepts } else { reads }), "{end:?}");
    }
}
