//! Peer of a test's connections, small enough that a process lives for a millisecond.
//!
//! - `peer serve ADDR:PORT` accepts connections and closes them until it is killed.
//! - `peer connect ADDR:PORT COUNT` connects and closes COUNT times, one after the other.
//! - `peer try ADDR:PORT` tries to connect once, for at most 300 ms.
//! - `peer uring-serve ADDR:PORT` and `peer uring-connect ADDR:PORT COUNT` use `io_uring`.
//! - `peer refused ADDR:PORT COUNT SECONDS` connects to a closed port.
//! - `peer steady RATE` makes RATE loopback connections a second until standard input ends.
//! - `peer processes PROGRAM ADDR:PORT COUNT` runs `PROGRAM once ADDR:PORT NUMBER` COUNT times.
//! - `peer once ADDR:PORT NUMBER` connects once and prints its process id, parent and start time.
//! - `peer udp-echo ADDR:PORT` sends each datagram back until it is killed.
//! - `peer udp-query ADDR:PORT COUNT` sends COUNT datagrams of five bytes, each from its own
//!   socket, and waits for each response.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it reports its connections to the test"
)]

mod storm;
mod uring;

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve", address, ..] => serve(address),
        ["connect", address, count, ..] => connect(address, count),
        ["try", address, ..] => attempt(address),
        ["udp-echo", address, ..] => udp_echo(address),
        ["udp-query", address, count, ..] => udp_query(address, count),
        ["uring-serve", address, ..] => uring::serve(address),
        ["uring-connect", address, count, ..] => uring::connect(address, count),
        ["refused", address, count, seconds, ..] => storm::refused(address, count, seconds),
        ["steady", rate, ..] => storm::steady(rate),
        ["processes", program, target, count, ..] => storm::processes(program, target, count),
        ["once", target, number, ..] => storm::once(target, number),
        _ => Err("usage: see the source".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn serve(address: &str) -> Outcome {
    let listener = TcpListener::bind(address)?;
    println!("ready {}", listener.local_addr()?);
    for stream in listener.incoming() {
        // The client closes first, so that TIME_WAIT is on its ports and not on the server's.
        stream?.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn connect(address: &str, count: &str) -> Outcome {
    let address: SocketAddr = address.parse()?;
    for _ in 0..count.parse::<u32>()? {
        let mut stream = TcpStream::connect(address)?;
        // Sends FIN, then waits for the server's. Unaccepted connections would overflow the
        // server's accept queue, and those that the kernel then drops take a minute to end.
        stream.shutdown(Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn attempt(address: &str) -> Outcome {
    let outcome = TcpStream::connect_timeout(&address.parse()?, Duration::from_millis(300));
    println!("{outcome:?}");
    Ok(())
}

fn udp_echo(address: &str) -> Outcome {
    let socket = UdpSocket::bind(address)?;
    println!("ready {}", socket.local_addr()?);
    let mut datagram = vec![0; 65_536];
    loop {
        let (len, peer) = socket.recv_from(&mut datagram)?;
        socket.send_to(datagram.get(..len).unwrap_or_default(), peer)?;
    }
}

fn udp_query(address: &str, count: &str) -> Outcome {
    let address: SocketAddr = address.parse()?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    for _ in 0..count.parse::<u32>()? {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.send_to(b"hello", address)?;
        socket.recv_from(&mut [0; 16])?;
    }
    Ok(())
}
