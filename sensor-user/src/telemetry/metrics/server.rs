//! `Exporter`: answers `GET /metrics`.

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

use super::page::{Vitals, page};
use super::process::ProcessVitals;
use super::text::Format;
use crate::base::counters::Stats;
use crate::base::escape::escaped;
use crate::intel::Intel;
use crate::telemetry::control::Status;

/// Callers at once at most; one more sends the first away.
const CALLERS_MAX: usize = 16;
/// How long a call may take in all.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a caller may take to say what it wants.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of a request at most, and of headers.
const REQUEST_MAX: usize = 8192;
const HEADERS_MAX: usize = 32;
/// A page is made this often at most.
const PAGE_EVERY: Duration = Duration::from_secs(1);
/// After the system could not accept a caller.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where callers come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket, absolute.
    Unix(PathBuf),
    /// A loopback address.
    Loopback(SocketAddr),
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Where.
    pub listen: Listen,
    /// Who may also connect to the unix socket: a group.
    pub group: Option<String>,
}

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Somebody else answers there.
    #[error("metrics.listen: {} is in use by another process; set another path", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error(
        "metrics.listen: {} is there and is no socket; move it away, or set another path",
        path.display()
    )]
    NotASocket {
        /// Which.
        path: PathBuf,
    },
    /// There is no such group.
    #[error(
        "metrics.group: there is no group \"{}\"; make it, or name another",
        escaped(group, 64)
    )]
    NoGroup {
        /// Which.
        group: String,
    },
    /// The socket cannot be given to the group.
    #[error(
        "metrics.group: give {} to group {}; the agent's user must be a member of it and its unit \
         allow chown (docs/metrics.md has the drop-in)",
        path.display(),
        escaped(group, 64)
    )]
    Give {
        /// The socket.
        path: PathBuf,
        /// The group.
        group: String,
        /// Why.
        source: io::Error,
    },
    /// The system says no.
    #[error("metrics.listen: listen on {place}")]
    Io {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
}

/// A page, and when it was made.
type Kept = Option<(Instant, Bytes)>;

/// What is asked for the page.
#[derive(Debug, Clone)]
struct Source {
    status: Arc<Status>,
    intel: Arc<Intel>,
    stats: Arc<Stats>,
    /// The last page of each format, with its time.
    kept: Arc<Mutex<[Kept; 2]>>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, PathBuf),
    Loopback(TcpListener),
}

/// The listening socket.
#[derive(Debug)]
pub struct Exporter {
    socket: Socket,
}

impl Exporter {
    /// Listens; a unix socket has mode 0600, or 0660 and the group that is named.
    pub fn bind(config: &MetricsConfig) -> Result<Self, MetricsError> {
        let socket = match &config.listen {
            Listen::Unix(path) => Socket::Unix(unix(path, config.group.as_deref())?, path.clone()),
            Listen::Loopback(address) => {
                let listen = || {
                    let listener = TcpListener::bind(address)?;
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                };
                let place = address.to_string();
                Socket::Loopback(listen().map_err(|source| MetricsError::Io { place, source })?)
            }
        };
        Ok(Self { socket })
    }

    /// Answers until it is dropped; must run on a tokio runtime.
    pub async fn serve(self, (status, intel): (Arc<Status>, Arc<Intel>), stats: Arc<Stats>) {
        let source = Source { status, intel, stats, kept: Arc::default() };
        let mut callers = Callers::default();
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
                tracing::error!(%error, "metrics: the socket cannot be listened on");
                return;
            }
        };
        loop {
            let accepted = match &listening {
                Listening::Unix(listener) => {
                    listener.accept().await.map(|(caller, _)| callers.take(caller, &source))
                }
                Listening::Loopback(listener) => {
                    listener.accept().await.map(|(caller, _)| callers.take(caller, &source))
                }
            };
            if let Err(error) = accepted {
                tracing::debug!(%error, "metrics: caller not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            // A confined agent may not; the next one takes it over.
            let _left = std::fs::remove_file(path);
        }
    }
}

enum Listening {
    Unix(tokio::net::UnixListener),
    Loopback(tokio::net::TcpListener),
}

/// Those who are there, the first first.
#[derive(Debug, Default)]
struct Callers(VecDeque<AbortHandle>);

impl Callers {
    fn take(
        &mut self,
        caller: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        source: &Source,
    ) {
        self.0.retain(|caller| !caller.is_finished());
        if self.0.len() >= CALLERS_MAX
            && let Some(first) = self.0.pop_front()
        {
            first.abort();
            source.stats.metrics_clients_evicted.increment();
        }
        let task = tokio::spawn(call(caller, source.clone()));
        self.0.push_back(task.abort_handle());
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

async fn call(caller: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, source: Source) {
    let service = service_fn(|request| {
        let response = answer(&request, &source);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASK_LIMIT)
        .max_buf_size(REQUEST_MAX)
        .max_headers(HEADERS_MAX)
        // A caller is gone when it has its page.
        .keep_alive(false)
        .serve_connection(TokioIo::new(caller), service);
    match timeout(CALL_LIMIT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "metrics: caller not answered"),
        Err(_elapsed) => tracing::debug!("metrics: caller too slow"),
    }
}

fn answer(request: &Request<Incoming>, source: &Source) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "the metrics of netsensor are at /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::wanted(accept.unwrap_or_default());
    let mut response = Response::new(Full::new(source.page(format)));
    let media_type = HeaderValue::from_static(format.media_type());
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

impl Source {
    fn page(&self, format: Format) -> Bytes {
        self.stats.metrics_scrapes_served.increment();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let [open, plain] = &mut *kept;
        let kept = match format {
            Format::OpenMetrics => open,
            Format::Plain => plain,
        };
        if let Some((_, page)) = kept.as_ref().filter(|(made, _)| made.elapsed() < PAGE_EVERY) {
            return page.clone();
        }
        let report = self.status.report(&self.intel);
        let page = Bytes::from(page(&Vitals { report, process: ProcessVitals::read() }, format));
        *kept = Some((Instant::now(), page.clone()));
        page
    }
}

/// The socket at `path`, in the place of one that nobody answers any more.
fn unix(path: &Path, group: Option<&str>) -> Result<UnixListener, MetricsError> {
    let failed = |source| MetricsError::Io { place: path.display().to_string(), source };
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => {
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
            MetricsError::Give { path: path.to_owned(), group: name.to_owned(), source }
        })?;
    }
    // Until here the umask protects it: nobody else may write to what it makes.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
