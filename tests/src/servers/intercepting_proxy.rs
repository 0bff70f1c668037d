//! Intercepting HTTP proxy between a client and a server. It records the heads of all requests. A
//! hook may change a request, delay it while the test changes the server, or close its connection.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Action that the hook chooses for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyAction {
    /// The request is forwarded to the server.
    Forward,
    /// The connection is closed without a response.
    Close,
}

type Hook = Box<dyn FnMut(usize, &mut String) -> ProxyAction + Send>;

/// Running proxy. Dropping it stops the proxy.
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
    /// Starts a proxy for the server at `port`. `hook` is called with the number (from 1) and head
    /// of each request, on a thread that may block.
    pub async fn start(
        port: u16,
        hook: impl FnMut(usize, &mut String) -> ProxyAction + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (recorded, hook) = (Arc::clone(&heads), Arc::new(Mutex::new(Box::new(hook) as Hook)));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (recorded, hook) = (Arc::clone(&recorded), Arc::clone(&hook));
                tokio::spawn(async move {
                    // Fails if either side has closed. The test checks the error in the client.
                    let _ended = forward(client, port, recorded, hook).await;
                });
            }
        });
        Self { port: own, heads, accepting }
    }

    /// Port on which it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Heads of the requests so far, as received.
    pub fn request_heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for InterceptingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Forwards one request and its response. The server closes the connection after the response.
async fn forward(
    mut client: TcpStream,
    port: u16,
    recorded: Arc<Mutex<Vec<String>>>,
    hook: Arc<Mutex<Hook>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let number = {
        let mut recorded = recorded.lock().unwrap();
        recorded.push(head.clone());
        recorded.len()
    };
    let hook_call = tokio::task::spawn_blocking(move || {
        let mut head = head;
        let action = (hook.lock().unwrap())(number, &mut head);
        (action, head)
    });
    let (action, head) = hook_call.await.unwrap();
    if action == ProxyAction::Close {
        return Ok(());
    }
    let (line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    server.write_all(format!("{line}\r\nConnection: close\r\n{fields}").as_bytes()).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    // The request body is forwarded until the response ends.
    tokio::select! {
        ended = down => ended.map(drop),
        Err(error) = up => Err(error),
    }
}
