//! Mock web server: configured responses by path, and a record of the requests.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Running server. Dropping it stops the server.
#[derive(Debug)]
pub struct MockWebServer {
    port: u16,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    responses: HashMap<String, VecDeque<MockResponse>>,
    requests: Vec<ReceivedRequest>,
}

#[derive(Debug, Clone)]
struct MockResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Request that the server received.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// Method and target, `GET /path?query`.
    pub line: String,
    /// Headers by name in lower case.
    pub headers: HashMap<String, String>,
    /// Body of the request.
    pub body: String,
}

impl MockWebServer {
    /// Starts the server without responses: it returns 404 for each path.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let router =
            Router::new().fallback(move |request: Request| respond(Arc::clone(&shared), request));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, state, serving }
    }

    /// URL of `path` on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Replaces the responses of `path` (without query) with a 200 response with this body.
    pub fn set_response(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().responses.remove(path);
        self.enqueue_response(path, 200, &[], body);
    }

    /// Adds a response to the queue of `path`. Each request consumes one; the last one is repeated.
    pub fn enqueue_response(
        &self,
        path: &str,
        status: u16,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let response = MockResponse { status, headers, body: body.into() };
        let mut state = self.state.lock().unwrap();
        state.responses.entry(path.to_owned()).or_default().push_back(response);
    }

    /// Removes the responses of `path`, which then returns 404.
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().responses.remove(path);
    }

    /// Returns and clears the recorded requests.
    pub fn take_requests(&self) -> Vec<ReceivedRequest> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

impl Drop for MockWebServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn respond(state: Arc<Mutex<State>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let headers = head.headers.iter();
    let received = ReceivedRequest {
        line: format!("{} {}", head.method, head.uri),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let configured = {
        let mut state = state.lock().unwrap();
        state.requests.push(received);
        let queue = state.responses.get_mut(head.uri.path());
        queue.and_then(
            |queue| if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() },
        )
    };
    let configured = configured.unwrap_or_else(|| MockResponse {
        status: 404,
        headers: Vec::new(),
        body: b"not found".to_vec(),
    });
    let mut response = Response::builder().status(configured.status);
    for (name, value) in configured.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(configured.body)).unwrap()
}
