//! Minimal HTTP server for benchmarks: it accepts every request at once, at minimal cost.
#![expect(clippy::expect_used, reason = "a benchmark stops where its machinery fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// Accepts POST requests on a free port of 127.0.0.1 until the process exits.
#[derive(Debug, Clone, Copy)]
pub struct MinimalHttpServer {
    address: SocketAddr,
}

impl MinimalHttpServer {
    /// Starts the server. `on_body` is called with each body, on the connection's thread, before
    /// the response is sent.
    pub fn start(on_body: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("a listener");
        let on_body = Arc::new(on_body);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let on_body = Arc::clone(&on_body);
                std::thread::spawn(move || serve(&stream, &*on_body));
            }
        });
        Self { address }
    }

    /// URL for the requests.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

/// Serves a connection until the client closes it.
fn serve(stream: &TcpStream, on_body: &dyn Fn(&[u8])) {
    stream.set_nodelay(true).expect("a socket");
    let (mut requests, mut responses) = (BufReader::new(stream), stream);
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
        on_body(&body);
        if responses.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}
