//! Both ends over `io_uring`, which enters the kernel by none of the socket's own system calls.
//!
//! What is said of each end is what the programs of the kernel suite's matrix say.

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{SockaddrIn, getsockname};
use serde_json::json;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::Done;

/// Bytes of the answer, whatever the request.
const ANSWER: usize = 777;

/// Accepts and answers until it is killed.
pub(crate) fn serve(address: &str) -> Done {
    let address: SocketAddr = address.parse()?;
    tokio_uring::start(async {
        let listener = TcpListener::bind(address)?;
        let local = listener.local_addr()?;
        eprintln!("ready {}", local.port());
        loop {
            let (stream, remote) = listener.accept().await?;
            let asked = receive(&stream, 4).await?;
            let asked = usize::try_from(u32::from_be_bytes(asked.as_slice().try_into()?))?;
            let rest = receive(&stream, asked - 4).await?.len();
            stream.write_all(vec![b'a'; ANSWER]).await.0?;
            // The client ends it.
            let (end, _) = stream.read(vec![0; 1]).await;
            if end? > 0 {
                return Err("more was sent than asked for".into());
            }
            let more = [("by", "remote".into()), ("listener", std::process::id().into())];
            tell("inbound", (local, remote), (ANSWER, 4 + rest), &more)?;
        }
    })
}

/// Connects `count` times, one after the other.
pub(crate) fn connect(address: &str, count: &str) -> Done {
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
            let received = receive(&stream, ANSWER).await?.len();
            tell("outbound", (local, remote), (sent, received), &[("by", "local".into())])?;
        }
        Ok(())
    })
}

/// Reads that many bytes.
#[expect(clippy::future_not_send, reason = "a ring belongs to its thread")]
async fn receive(stream: &TcpStream, size: usize) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    while all.len() < size {
        let (read, part) = stream.read(vec![0; size - all.len()]).await;
        match read? {
            0 => return Err("the other end has ended it".into()),
            read => all.extend(part.into_iter().take(read)),
        }
    }
    Ok(all)
}

/// Says what this program did with one connection.
fn tell(
    direction: &str,
    (local, remote): (SocketAddr, SocketAddr),
    (sent, received): (usize, usize),
    more: &[(&str, serde_json::Value)],
) -> Done {
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
