//! HTTP server on 127.0.0.1 with one configured response, which it writes byte for byte. The
//! response can therefore have a wrong length or stop half way.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Running server. Dropping it stops the server.
#[derive(Debug)]
pub struct FeedServer {
    url: String,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    response: Vec<u8>,
    /// Bytes that follow the response, and the number of their repetitions.
    repeated: (Vec<u8>, u64),
    tail: Vec<u8>,
    stalls: bool,
    /// Number of next requests whose connection is closed without a response.
    requests_to_drop: u32,
    requests: Vec<String>,
}

impl FeedServer {
    /// Starts the server with an empty response.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/feed.txt", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handle(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state, accepting }
    }

    /// URL of the feed.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets a 200 response with this body, its `Content-Length` and these CRLF-terminated headers.
    pub fn serve(&self, headers: &str, body: &[u8]) {
        let length = body.len();
        // Otherwise a client could send its next request on a connection that is about to close.
        let headers = format!("Content-Length: {length}\r\nConnection: close\r\n{headers}");
        let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
        self.serve_raw(&[head.as_bytes(), body].concat());
    }

    /// Sets the response to these bytes, after which the connection is closed.
    pub fn serve_raw(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        *state = State {
            response: bytes.to_vec(),
            requests: std::mem::take(&mut state.requests),
            ..State::default()
        };
    }

    /// Sets the response to `head`, `times` repetitions of `part` (or until the client
    /// disconnects), and `tail`, after which the connection is closed.
    pub fn serve_repeated(&self, head: &[u8], (part, times): (&[u8], u64), tail: &[u8]) {
        self.serve_raw(head);
        let mut state = self.state.lock().unwrap();
        state.repeated = (part.to_vec(), times);
        state.tail = tail.to_vec();
    }

    /// Sets the response to these bytes, after which the connection stays open and idle.
    pub fn stall_after(&self, bytes: &[u8]) {
        self.serve_raw(bytes);
        self.state.lock().unwrap().stalls = true;
    }

    /// Closes the connections of the next `count` requests without a response.
    pub fn drop_next_requests(&self, count: u32) {
        self.state.lock().unwrap().requests_to_drop = count;
    }

    /// Heads of the requests so far, in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl Drop for FeedServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn handle(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_closed) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    // Closing a socket with unread request bytes would reset the connection.
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let (response, (part, times), tail, stalls) = {
        let mut state = state.lock().unwrap();
        state.requests.push(head);
        if let Some(remaining) = state.requests_to_drop.checked_sub(1) {
            state.requests_to_drop = remaining;
            return;
        }
        (state.response.clone(), state.repeated.clone(), state.tail.clone(), state.stalls)
    };
    let written = async {
        stream.write_all(&response).await?;
        for _ in 0..times {
            stream.write_all(&part).await?;
        }
        stream.write_all(&tail).await
    };
    // A write fails if the client has disconnected. The test checks the error in the client.
    if written.await.is_ok() && stalls {
        // Waits until the client disconnects.
        let _disconnected = stream.read_u8().await.is_err();
    }
}
