//! Stands between a client and a server: keeps the heads of all requests, and may change one, hold
//! it up while something happens to the server, or cut it off.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyAction {
    /// It goes on to the server.
    Forward,
    /// The connection is closed without an answer.
    Close,
}

type Hook = Box<dyn FnMut(usize, &mut String) -> ProxyAction + Send>;

/// The one in between; it stops when dropped.
pub struct InterceptingProxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl fmt::Debug for InterceptingProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterceptingProxy").field("port", &self.port).finish_non_exhaustive()
    }
}

impl InterceptingProxy {
    /// Passes on to `port`. `hook` is called with the number (from 1) and head of each request, on a
    /// thread that may block.
    pub async fn start(
        port: u16,
        hook: impl FnMut(usize, &mut String) -> ProxyAction + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (kept, hook) = (Arc::clone(&heads), Arc::new(Mutex::new(Box::new(hook) as Hook)));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (kept, hook) = (Arc::clone(&kept), Arc::clone(&hook));
                tokio::spawn(async move {
                    // Either side may have gone; both notice themselves.
                    let _ended = pass(client, port, kept, hook).await;
                });
            }
        });
        Self { port: own, heads, accepting }
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The heads of the requests so far, as they came.
    pub fn request_heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for InterceptingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request and its answer; the server is asked to close after it.
async fn pass(
    mut client: TcpStream,
    port: u16,
    kept: Arc<Mutex<Vec<String>>>,
    hook: Arc<Mutex<Hook>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let number = {
        let mut kept = kept.lock().unwrap();
        kept.push(head.clone());
        kept.len()
    };
    let changed = tokio::task::spawn_blocking(move || {
        let mut head = head;
        let turn = (hook.lock().unwrap())(number, &mut head);
        (turn, head)
    });
    let (turn, head) = changed.await.unwrap();
    if turn == ProxyAction::Close {
        return Ok(());
    }
    let (line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    server.write_all(format!("{line}\r\nConnection: close\r\n{fields}").as_bytes()).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    // The body goes up for as long as the answer is awaited.
    tokio::select! {
        ended = down => ended.map(drop),
        Err(error) = up => Err(error),
    }
}
