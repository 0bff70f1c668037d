//! The other end of a test's connections, small enough to live a millisecond.
//!
//! `peer serve ADDR:PORT` accepts and closes until it is killed; `peer connect ADDR:PORT COUNT`
//! connects and closes COUNT times, one after the other; `peer try ADDR:PORT` connects once, whatever comes of it,
//! for 300 ms at most. `peer uring-serve` and `uring-connect` are both ends over `io_uring`.
//! `peer refused ADDR:PORT COUNT SECONDS` connects in vain; `peer processes PROGRAM ADDR:PORT COUNT`
//! runs that many, which are `peer once ADDR:PORT NUMBER`. `peer udp-echo ADDR:PORT` sends each
//! datagram back until it is killed; `peer udp-query ADDR:PORT COUNT` sends COUNT datagrams of five bytes,
//! each from a socket of its own, and waits for the answers.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells the test what it does")]

mod storm;
mod uring;

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", address, ..] => serve(address),
        ["connect", address, count, ..] => connect(address, count),
        ["try", address, ..] => attempt(address),
        ["udp-echo", address, ..] => udp_echo(address),
        ["udp-query", address, count, ..] => udp_query(address, count),
        ["uring-serve", address, ..] => uring::serve(address),
        ["uring-connect", address, count, ..] => uring::connect(address, count),
        ["refused", address, count, seconds, ..] => storm::refused(address, count, seconds),
        ["processes", program, target, count, ..] => storm::processes(program, target, count),
        ["once", target, number, ..] => storm::once(target, number),
        _ => Err("usage: see the source".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn serve(address: &str) -> Done {
    let listener = TcpListener::bind(address)?;
    println!("ready {}", listener.local_addr()?);
    for stream in listener.incoming() {
        // The client closes first, so that its ports and not the server's wait in TIME_WAIT.
        stream?.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn connect(address: &str, count: &str) -> Done {
    let address: SocketAddr = address.parse()?;
    for _ in 0..count.parse::<u32>()? {
        let mut stream = TcpStream::connect(address)?;
        // Says that it is done, then waits for the server to be: connections that pile up would
        // overflow its queue, and those that the kernel then drops take a minute to end.
        stream.shutdown(Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn attempt(address: &str) -> Done {
    let outcome = TcpStream::connect_timeout(&address.parse()?, Duration::from_millis(300));
    println!("{outcome:?}");
    Ok(())
}

fn udp_echo(address: &str) -> Done {
    let socket = UdpSocket::bind(address)?;
    println!("ready {}", socket.local_addr()?);
    let mut datagram = vec![0; 65_536];
    loop {
        let (len, peer) = socket.recv_from(&mut datagram)?;
        socket.send_to(datagram.get(..len).unwrap_or_default(), peer)?;
    }
}

fn udp_query(address: &str, count: &str) -> Done {
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
