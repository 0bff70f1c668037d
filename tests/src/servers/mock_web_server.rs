//! A web site of a test's own: answers by path, and what was asked.
#![expect(clippy::unwrap_used, reason = "a harness stops where its own machinery fails")]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The site; it stops when dropped.
#[derive(Debug)]
pub struct MockWebServer {
    port: u16,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    pages: HashMap<String, VecDeque<Page>>,
    asked: Vec<ReceivedRequest>,
}

#[derive(Debug, Clone)]
struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// `GET /path?query`.
    pub line: String,
    /// By name in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: String,
}

impl MockWebServer {
    /// Starts it without a page: 404 everywhere.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let router =
            Router::new().fallback(move |request: Request| answer(Arc::clone(&shared), request));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, state, serving }
    }

    /// The URL of `path` in it.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Answers `path` (without its query) with 200 and this body from now on.
    pub fn set_response(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().pages.remove(path);
        self.enqueue_response(path, 200, &[], body);
    }

    /// Answers `path` so after what was set before; the last answer stays.
    pub fn enqueue_response(
        &self,
        path: &str,
        status: u16,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let page = Page { status, headers, body: body.into() };
        self.state.lock().unwrap().pages.entry(path.to_owned()).or_default().push_back(page);
    }

    /// Nothing is at `path` any more.
    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().pages.remove(path);
    }

    /// The requests since this was last asked.
    pub fn take_requests(&self) -> Vec<ReceivedRequest> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

impl Drop for MockWebServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let headers = head.headers.iter();
    let asked = ReceivedRequest {
        line: format!("{} {}", head.method, head.uri),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let page = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked);
        let pages = state.pages.get_mut(head.uri.path());
        pages.and_then(
            |pages| if pages.len() > 1 { pages.pop_front() } else { pages.front().cloned() },
        )
    };
    let page = page.unwrap_or_else(|| Page {
        status: 404,
        headers: Vec::new(),
        body: b"nothing here".to_vec(),
    });
    let mut response = Response::builder().status(page.status);
    for (name, value) in page.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(page.body)).unwrap()
}
