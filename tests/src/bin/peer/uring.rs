//! Client and server over `io_uring`, which performs socket operations without the socket system
//! calls.
//!
//! The printed lines have the format of the programs of the kernel suite's matrix.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{SockaddrIn, getsockname};
use serde_json::json;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::Outcome;

/// Bytes of each response.
const RESPONSE_LEN: usize = 777;

/// Accepts connections and responds until it is killed.
pub(crate) fn serve(address: &str) -> Outcome {
    let address: SocketAddr = address.parse()?;
    tokio_uring::start(async {
        let listener = TcpListener::bind(address)?;
        let local = listener.local_addr()?;
        eprintln!("ready {}", local.port());
        loop {
            let (stream, remote) = listener.accept().await?;
            let length = receive(&stream, 4).await?;
            let length = usize::try_from(u32::from_be_bytes(length.as_slice().try_into()?))?;
            let rest = receive(&stream, length - 4).await?.len();
            stream.write_all(vec![b'a'; RESPONSE_LEN]).await.0?;
            // The client closes the connection.
            let (end, _) = stream.read(vec![0; 1]).await;
            if end? > 0 {
                return Err("the request is longer than its length field".into());
            }
            let more = [("by", "remote".into()), ("listener", std::process::id().into())];
            print_connection("inbound", (local, remote), (RESPONSE_LEN, 4 + rest), &more)?;
        }
    })
}

/// Connects `count` times, one after the other.
pub(crate) fn connect(address: &str, count: &str) -> Outcome {
    let (remote, count): (SocketAddr, u32) = (address.parse()?, count.parse()?);
    tokio_uring::start(async {
        for number in 0..count {
            let stream = TcpStream::connect(remote).await?;
            let local: SockaddrIn = getsockname(stream.as_raw_fd())?;
            let local = SocketAddrV4::new(local.ip(), local.port()).into();
            let size = 4 + number * 7 % 1000;
            let mut request = size.to_be_bytes().to_vec();
            request.resize(usize::try_from(size)?, b'q');
            let sent = request.len();
            stream.write_all(request).await.0?;
            let received = receive(&stream, RESPONSE_LEN).await?.len();
            print_connection(
                "outbound",
                (local, remote),
                (sent, received),
                &[("by", "local".into())],
            )?;
        }
        Ok(())
    })
}

#[expect(clippy::future_not_send, reason = "a ring belongs to its thread")]
async fn receive(stream: &TcpStream, size: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    while all.len() < size {
        let (read, part) = stream.read(vec![0; size - all.len()]).await;
        match read? {
            0 => return Err("the peer closed the connection early".into()),
            read => all.extend(part.into_iter().take(read)),
        }
    }
    Ok(all)
}

/// Prints this program's view of one connection as a JSON line.
fn print_connection(
    direction: &str,
    (local, remote): (SocketAddr, SocketAddr),
    (sent, received): (usize, usize),
    more: &[(&str, serde_json::Value)],
) -> Outcome {
    let mut line = json!({
        "direction": direction,
        "local": [local.ip(), local.port()],
        "remote": [remote.ip(), remote.port()],
        "sent": sent,
        "received": received,
        "pid": std::process::id(),
        "parent": std::os::unix::process::parent_id(),
        "path": std::env::current_exe()?.to_string_lossy(),
    });
    if let Some(line) = line.as_object_mut() {
        line.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    println!("{line}");
    Ok(())
}
