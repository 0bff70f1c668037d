//! A web server of one answer, on 127.0.0.1: it writes what it is told, byte for byte, so that
//! it can also lie about lengths and stop half way.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct FeedServer {
    url: String,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    answer: Vec<u8>,
    /// Comes so often after the answer.
    part: (Vec<u8>, u64),
    tail: Vec<u8>,
    stalls: bool,
    /// So many requests are not answered.
    unanswered: u32,
    requests: Vec<String>,
}

impl FeedServer {
    /// Starts with an empty answer.
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

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers 200 with this body and its length, and these headers (each ending in CRLF).
    pub fn serve(&self, headers: &str, body: &[u8]) {
        let length = body.len();
        // Or a client would send its next request on a connection that is about to close.
        let headers = format!("Content-Length: {length}\r\nConnection: close\r\n{headers}");
        let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
        self.serve_raw(&[head.as_bytes(), body].concat());
    }

    /// Answers with these bytes and closes.
    pub fn serve_raw(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        *state = State {
            answer: bytes.to_vec(),
            requests: std::mem::take(&mut state.requests),
            ..State::default()
        };
    }

    /// Answers with `head`, then `part` so many times (until the client hangs up, if need be), then
    /// `tail`, and closes.
    pub fn serve_repeated(&self, head: &[u8], (part, times): (&[u8], u64), tail: &[u8]) {
        self.serve_raw(head);
        let mut state = self.state.lock().unwrap();
        state.part = (part.to_vec(), times);
        state.tail = tail.to_vec();
    }

    /// Answers with these bytes and then says no more, nor closes.
    pub fn stall_after(&self, bytes: &[u8]) {
        self.serve_raw(bytes);
        self.state.lock().unwrap().stalls = true;
    }

    /// Closes the connections of the next `count` requests without a word, then answers as before.
    pub fn drop_next_requests(&self, count: u32) {
        self.state.lock().unwrap().unanswered = count;
    }

    /// The requests so far, each as its head in lower case.
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
    // A question that is not read to its end would reset the connection.
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut question = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    if stream.read_exact(&mut question).await.is_err() {
        return;
    }
    let (answer, (part, times), tail, stalls) = {
        let mut state = state.lock().unwrap();
        state.requests.push(head);
        if let Some(left) = state.unanswered.checked_sub(1) {
            state.unanswered = left;
            return;
        }
        (state.answer.clone(), state.part.clone(), state.tail.clone(), state.stalls)
    };
    let told = async {
        stream.write_all(&answer).await?;
        for _ in 0..times {
            stream.write_all(&part).await?;
        }
        stream.write_all(&tail).await
    };
    // The client may have gone; it then tells so itself.
    if told.await.is_ok() && stalls {
        // Until the client hangs up.
        let _gone = stream.read_u8().await.is_err();
    }
}
