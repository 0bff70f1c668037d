//! An HTTP server for benchmarks: it takes every request at once and costs as little as it can.
#![expect(clippy::expect_used, reason = "a benchmark stops where its machinery fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// Takes POSTs on a free port of 127.0.0.1, for as long as the process lives.
#[derive(Debug, Clone, Copy)]
pub struct MinimalHttpServer {
    address: SocketAddr,
}

impl MinimalHttpServer {
    /// `took` is given each body, on the thread of its connection, before it is answered.
    pub fn start(took: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a listener");
        let took = Arc::new(took);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let took = Arc::clone(&took);
                std::thread::spawn(move || serve(&stream, &*took));
            }
        });
        Self { address }
    }

    /// Where it takes them.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Until the other side closes.
fn serve(stream: &TcpStream, took: &dyn Fn(&[u8])) {
    stream.set_nodelay(true).expect("a socket");
    let (mut requests, mut answers) = (BufReader::new(stream), stream);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line != "\r\n" {
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().expect("a length");
                }
            } else if line.is_empty() {
                return;
            } else {
                break;
            }
        }
        body.resize(length, 0);
        if requests.read_exact(&mut body).is_err() {
            return;
        }
        took(&body);
        if answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}
