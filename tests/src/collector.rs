//! HTTP collector in this process whose responses come from a script: it accepts, refuses, stalls
//! or resets the connection.
#![expect(clippy::panic, clippy::expect_used, reason = "a test ends with a panic")]

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, Uri};
use axum::serve::ListenerExt as _;
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Response of the collector to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptedResponse {
    /// Response with this status, these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Response with this status and a body that never ends.
    EndlessBody(u16),
    /// No response before `Collector::release`, then 200.
    Stall,
    /// The connection is reset without a response.
    Reset,
    /// The items are accepted, then the connection is reset: the client gets no response.
    AcceptAndReset,
}

impl ScriptedResponse {
    /// Status 200 without a body.
    pub const OK: Self = Self::Status(200, Vec::new(), String::new());

    /// Response with this status, without headers or body.
    pub const fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), String::new())
    }

    /// Response with this status and a `Retry-After` header.
    pub fn retry_after(status: u16, value: &str) -> Self {
        Self::Status(status, vec![("retry-after", value.to_owned())], String::new())
    }

    const fn accepts(&self) -> bool {
        matches!(
            self,
            Self::Stall
                | Self::AcceptAndReset
                | Self::Status(200..=299, ..)
                | Self::EndlessBody(200..=299)
        )
    }
}

/// Complete request that the collector received.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// Time at which the whole request had arrived.
    pub at: Instant,
    /// HTTP method of the request.
    pub method: String,
    /// Path of the request target.
    pub path: String,
    /// Query string without the `?`; empty if absent.
    pub query: String,
    /// Headers of the request.
    pub headers: HeaderMap,
    /// Decompressed body of the request.
    pub body: String,
    /// True if the response was, or after a stall will be, a success.
    pub accepted: bool,
    ids: Vec<String>,
}

impl RecordedRequest {
    /// Value of a header; empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Items of the body, which is one JSON array or JSON lines.
    pub fn items(&self) -> Vec<Value> {
        items(&self.body).expect("items")
    }

    /// `AlertId` or `ConnectionId` of each item.
    pub fn ids(&self) -> Vec<String> {
        self.ids.clone()
    }
}

fn items(body: &str) -> serde_json::Result<Vec<Value>> {
    if body.starts_with('[') {
        serde_json::from_str(body)
    } else {
        body.lines().map(serde_json::from_str).collect()
    }
}

fn id(item: &Value) -> Option<String> {
    let id = item.get("AlertId").or_else(|| item.get("ConnectionId"));
    id.and_then(Value::as_str).map(str::to_owned)
}

type Script = dyn FnMut(usize, &RecordedRequest) -> ScriptedResponse + Send;

struct Shared {
    script: Mutex<Box<Script>>,
    requests: Mutex<Vec<RecordedRequest>>,
    more: Condvar,
    released: watch::Sender<bool>,
}

/// Running collector. Dropping it stops the server.
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Collector").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Collector {
    /// Starts the server on a free port of 127.0.0.1. `script` is called with the request's number
    /// (from 0) and the request.
    pub fn start(
        script: impl FnMut(usize, &RecordedRequest) -> ScriptedResponse + Send + 'static,
    ) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// Starts the server at `address`.
    pub fn start_at(
        address: SocketAddr,
        script: impl FnMut(usize, &RecordedRequest) -> ScriptedResponse + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind(address)
            .unwrap_or_else(|error| panic!("listen at {address}: {error}"));
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("a listener");
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            more: Condvar::new(),
            released: watch::Sender::new(false),
        });
        let (end, ended) = oneshot::channel();
        let state = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(listener, state, ended));
        Self { address, shared, end: Some(end), thread: Some(thread) }
    }

    /// Address on which it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the collector, `http://ADDRESS/alerts`.
    pub fn url(&self) -> String {
        format!("http://{}/alerts", self.address)
    }

    /// Completes every stalled request, present and future, with 200.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Requests received so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.lock().expect("lock").clone()
    }

    /// Ids of all accepted items, in order.
    pub fn accepted_ids(&self) -> Vec<String> {
        self.requests()
            .iter()
            .filter(|request| request.accepted)
            .flat_map(RecordedRequest::ids)
            .collect()
    }

    /// Waits until `count` requests have arrived. Panics after 10 s.
    pub fn wait_for_requests(&self, count: usize) -> Vec<RecordedRequest> {
        self.wait_until(&format!("{count} requests"), |requests| requests.len() >= count)
    }

    /// Waits until `count` items were accepted. Panics after 10 s.
    pub fn wait_for_accepted(&self, count: usize) -> Vec<String> {
        self.wait_until(&format!("{count} items"), |requests| {
            let accepted = requests.iter().filter(|request| request.accepted);
            accepted.map(|request| request.ids.len()).sum::<usize>() >= count
        });
        self.accepted_ids()
    }

    fn wait_until(
        &self,
        condition: &str,
        is_met: impl Fn(&[RecordedRequest]) -> bool,
    ) -> Vec<RecordedRequest> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut requests = self.shared.requests.lock().expect("lock");
        while !is_met(&requests) {
            let Some(remaining) = deadline.checked_duration_since(Instant::now()) else {
                let last = requests.last();
                panic!(
                    "not {condition} within 10 s, but {}; the last: {last:.2000?}",
                    requests.len()
                );
            };
            requests = self.shared.more.wait_timeout(requests, remaining).expect("lock").0;
        }
        requests.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ended_already = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, ended: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        // With SO_LINGER 0, dropping the socket in the handler sends RST instead of FIN.
        let listener = listener.tap_io(|stream| {
            stream.set_zero_linger().expect("a socket");
        });
        let router = Router::new().fallback(respond).with_state(shared);
        tokio::select! {
            served = axum::serve(listener, router) => served.expect("serve"),
            _ = ended => {}
        }
    });
}

/// Decompresses the body if it is gzip.
fn text(headers: &HeaderMap, body: &[u8]) -> String {
    if headers.get("content-encoding").is_none_or(|value| value != "gzip") {
        return String::from_utf8_lossy(body).into_owned();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(body).read_to_string(&mut text).expect("gzip of text");
    text
}

async fn respond(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let body = text(&headers, &body);
    let mut request = RecordedRequest {
        at: Instant::now(),
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        // A request for an access token has no items.
        ids: items(&body).unwrap_or_default().iter().filter_map(id).collect(),
        body,
        headers,
        accepted: false,
    };
    let response = {
        let mut requests = shared.requests.lock().expect("lock");
        let mut script = shared.script.lock().expect("lock");
        let response = script(requests.len(), &request);
        request.accepted = response.accepts();
        requests.push(request);
        response
    };
    shared.more.notify_all();
    match response {
        ScriptedResponse::Status(status, headers, text) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(text)).expect("a response")
        }
        ScriptedResponse::EndlessBody(status) => {
            let response = Response::builder().status(status);
            response.body(Body::new(EndlessBody)).expect("a response")
        }
        ScriptedResponse::Stall => {
            let mut released = shared.released.subscribe();
            released.wait_for(|released| *released).await.expect("the collector lives");
            Response::new(Body::empty())
        }
        // Unwinds through the connection's task, which drops the socket, without a panic message.
        ScriptedResponse::Reset | ScriptedResponse::AcceptAndReset => {
            std::panic::resume_unwind(Box::new("reset"))
        }
    }
}

/// Body of `x` bytes that never ends.
struct EndlessBody;

impl axum::body::HttpBody for EndlessBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let chunk = Bytes::from_static(&[b'x'; 4096]);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(chunk))))
    }
}
