//! `Exporter`: HTTP server for `GET /metrics`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::Group;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::page::page;
use super::process::ProcessMetrics;
use super::text::MetricsFormat;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::intel::Intel;
use crate::telemetry::control::Status;

/// Limit of connected clients; a further client disconnects the oldest.
const CLIENTS_MAX: usize = 16;
/// Limit of a connection's total duration.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Limits of a request: bytes, and header fields.
const REQUEST_MAX: usize = 8192;
const HEADERS_MAX: usize = 32;
/// Age up to which a page is served again.
const PAGE_MAX_AGE: Duration = Duration::from_secs(1);
/// Pause after a failed `accept`, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Address of the metrics server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Absolute path of a unix socket.
    Unix(PathBuf),
    /// A loopback address and port.
    Loopback(SocketAddr),
}

/// Configuration section `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Address to listen on.
    pub listen: Listen,
    /// Group that may connect to the unix socket, besides the agent's user.
    pub group: Option<String>,
}

/// Errors that prevent the metrics server from starting.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Another process listens on the socket.
    #[error("metrics.listen: {} is in use by another process; set another path", path.display())]
    InUse {
        /// Configured path.
        path: PathBuf,
    },
    /// The path exists and is not a socket.
    #[error(
        "metrics.listen: {} exists and is not a socket; move it, or set another path",
        path.display()
    )]
    NotASocket {
        /// Configured path.
        path: PathBuf,
    },
    /// The group does not exist.
    #[error(
        "metrics.group: group \"{}\" does not exist; create it, or set another",
        escaped(group, 64)
    )]
    NoGroup {
        /// Configured group.
        group: String,
    },
    /// The socket's group cannot be changed.
    #[error(
        "metrics.group: change the group of {} to {}; the agent's user must be a member of it and \
         its unit must allow chown (docs/metrics.md has the drop-in)",
        path.display(),
        escaped(group, 64)
    )]
    Chown {
        /// Path of the socket.
        path: PathBuf,
        /// Configured group.
        group: String,
        /// Error of `chown`.
        source: io::Error,
    },
    /// The socket cannot be created.
    #[error("metrics.listen: listen on {address}")]
    Listen {
        /// Configured path or address.
        address: String,
        /// Error of the system call.
        source: io::Error,
    },
}

/// Inputs of the metrics page.
#[derive(Debug, Clone)]
pub struct MetricsSource {
    /// Status of the agent.
    pub status: Arc<Status>,
    /// Feeds and indicators.
    pub intel: Arc<Intel>,
    /// Counters of the agent.
    pub stats: Arc<Stats>,
}

/// A page and the time at which it was generated.
type CachedPage = Option<(Instant, Bytes)>;

/// The pages, shared by all connections.
#[derive(Debug, Clone)]
struct Pages {
    source: MetricsSource,
    cache: Arc<Mutex<PageCache>>,
}

#[derive(Debug, Default)]
struct PageCache {
    open_metrics: CachedPage,
    plain: CachedPage,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, PathBuf),
    Loopback(TcpListener),
}

/// The metrics server, listening.
#[derive(Debug)]
pub struct Exporter {
    socket: Socket,
}

impl Exporter {
    /// Listens. A unix socket has mode 0600, or 0660 with the configured group.
    pub fn bind(config: &MetricsConfig) -> Result<Self, MetricsError> {
        let socket = match &config.listen {
            Listen::Unix(path) => {
                Socket::Unix(bind_unix(path, config.group.as_deref())?, path.clone())
            }
            Listen::Loopback(address) => {
                let listen = || {
                    let listener = TcpListener::bind(address)?;
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                };
                let address = address.to_string();
                Socket::Loopback(
                    listen().map_err(|source| MetricsError::Listen { address, source })?,
                )
            }
        };
        Ok(Self { socket })
    }

    /// Serves requests until the future is dropped; must run on a tokio runtime.
    pub async fn serve(self, source: MetricsSource) {
        let pages = Pages { source, cache: Arc::default() };
        let mut clients = Clients::default();
        let listening = match &self.socket {
            Socket::Unix(listener, _) => listener
                .try_clone()
                .and_then(tokio::net::UnixListener::from_std)
                .map(Listening::Unix),
            Socket::Loopback(listener) => listener
                .try_clone()
                .and_then(tokio::net::TcpListener::from_std)
                .map(Listening::Loopback),
        };
        let listening = match listening {
            Ok(listening) => listening,
            Err(error) => {
                tracing::error!(%error, "metrics: listening on the socket failed");
                return;
            }
        };
        loop {
            let accepted = match &listening {
                Listening::Unix(listener) => {
                    listener.accept().await.map(|(client, _)| clients.add(client, &pages))
                }
                Listening::Loopback(listener) => {
                    listener.accept().await.map(|(client, _)| clients.add(client, &pages))
                }
            };
            if let Err(error) = accepted {
                tracing::debug!(%error, "metrics: client not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            // A confined agent may not remove it; the next start replaces it.
            let _remains = std::fs::remove_file(path);
        }
    }
}

enum Listening {
    Unix(tokio::net::UnixListener),
    Loopback(tokio::net::TcpListener),
}

/// Connected clients, the oldest first.
#[derive(Debug, Default)]
struct Clients(VecDeque<AbortHandle>);

impl Clients {
    fn add(&mut self, client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, pages: &Pages) {
        self.0.retain(|client| !client.is_finished());
        if self.0.len() >= CLIENTS_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
            pages.source.stats.metrics_clients_evicted.increment();
        }
        let task = tokio::spawn(serve_client(client, pages.clone()));
        self.0.push_back(task.abort_handle());
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

async fn serve_client(client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, pages: Pages) {
    let service = service_fn(|request| {
        let response = respond(&request, &pages);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_MAX)
        .max_headers(HEADERS_MAX)
        // One request per connection, so that idle clients hold no slot.
        .keep_alive(false)
        .serve_connection(TokioIo::new(client), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "metrics: request not served"),
        Err(_elapsed) => tracing::debug!("metrics: client too slow"),
    }
}

fn respond(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return text_response(StatusCode::NOT_FOUND, "the metrics of netsensor are at /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text_response(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = MetricsFormat::from_accept(accept.unwrap_or_default());
    let mut response = Response::new(Full::new(pages.get(format)));
    let media_type = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn text_response(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

impl Pages {
    fn get(&self, format: MetricsFormat) -> Bytes {
        let MetricsSource { status, intel, stats } = &self.source;
        stats.metrics_scrapes_served.increment();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = match format {
            MetricsFormat::OpenMetrics => &mut cache.open_metrics,
            MetricsFormat::Plain => &mut cache.plain,
        };
        if let Some((_, page)) = cached.as_ref().filter(|(at, _)| at.elapsed() < PAGE_MAX_AGE) {
            return page.clone();
        }
        let page = Bytes::from(page(&status.report(intel), &ProcessMetrics::read(), format));
        *cached = Some((Instant::now(), page.clone()));
        page
    }
}

/// Listens on the unix socket `path`. Replaces a socket that no process listens on any more.
fn bind_unix(path: &Path, group: Option<&str>) -> Result<UnixListener, MetricsError> {
    let failed = |source| MetricsError::Listen { address: path.display().to_string(), source };
    match std::fs::symlink_metadata(path) {
        Ok(existing) if existing.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                return Err(MetricsError::InUse { path: path.to_owned() });
            }
            std::fs::remove_file(path).map_err(failed)?;
        }
        Ok(_) => return Err(MetricsError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let group = group.map(|name| {
        let found = Group::from_name(name).ok().flatten();
        let none = || MetricsError::NoGroup { group: name.to_owned() };
        found.map(|it| (name, it.gid)).ok_or_else(none)
    });
    let group = group.transpose()?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mut mode = 0o600;
    if let Some((name, id)) = group {
        mode = 0o660;
        std::os::unix::fs::chown(path, None, Some(id.as_raw())).map_err(|source| {
            MetricsError::Chown { path: path.to_owned(), group: name.to_owned(), source }
        })?;
    }
    // Until here the umask keeps other users from connecting.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
