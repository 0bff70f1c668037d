//! `ReloadingClient`: the client of one sink. It reads the files of its [`Access`] again after a minute,
//! and when the server has refused the credentials.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Url};
use tokio::time::Instant;

use super::access::{Access, Material};
use super::client::{CachedClient, ConnectionSettings};
use super::error::AccessError;
use super::{is_sent_unencrypted, redacted_url};

/// Time for which the contents of the files are used.
const FRESH_FOR: Duration = Duration::from_mins(1);

/// Client for the servers of one sink.
#[derive(Debug)]
pub(crate) struct ReloadingClient {
    access: Access,
    settings: ConnectionSettings,
    state: Mutex<ClientState>,
}

#[derive(Debug, Default)]
struct ClientState {
    ready: Option<Arc<ReadyClient>>,
    read_at: Option<Instant>,
    /// True if a warning was logged about a secret that others can read, in its file or on the network.
    is_warned: bool,
}

/// A client with its credentials.
#[derive(Debug)]
pub(crate) struct ReadyClient {
    client: CachedClient,
    material: Material,
}

impl ReloadingClient {
    /// A client that has not read its files yet.
    pub(crate) fn new(access: &Access, settings: ConnectionSettings) -> Self {
        Self { access: access.clone(), settings, state: Mutex::default() }
    }

    /// The client with its credentials, read at most a minute ago.
    pub(crate) async fn ready(&self, url: &Url) -> Result<Arc<ReadyClient>, AccessError> {
        let old = self.with(|state| {
            let is_fresh = state.read_at.is_some_and(|read_at| read_at.elapsed() < FRESH_FOR);
            (state.ready.clone(), is_fresh)
        });
        if let (Some(ready), true) = old {
            return Ok(ready);
        }
        let (access, settings, old) = (self.access.clone(), self.settings, old.0);
        let read = move || {
            let material = access.read()?;
            let client = CachedClient::renewed(
                old.as_deref().map(|old| &old.client),
                &access.proxy,
                settings,
                &material,
            )?;
            let open = access.secrets().into_iter().find(|secret| secret.is_world_readable());
            let open = open.map(ToString::to_string);
            Ok::<_, AccessError>((Arc::new(ReadyClient { client, material }), open))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (ready, open) = read.map_err(|_stopped| AccessError::Stopped)??;
        self.with(|state| {
            state.ready = Some(Arc::clone(&ready));
            state.read_at = Some(Instant::now());
        });
        self.warn(url, open);
        Ok(ready)
    }

    /// Reads the files again before the next request: the server has refused the credentials.
    pub(crate) fn invalidate(&self) {
        self.with(|state| state.read_at = None);
    }

    /// True if requests carry credentials.
    pub(crate) fn has_credentials(&self) -> bool {
        !self.access.secrets().is_empty() || self.access.certificate.is_some()
    }

    fn warn(&self, url: &Url, open: Option<String>) {
        let is_bare = !self.access.secrets().is_empty() && is_sent_unencrypted(url);
        let was_warned =
            self.with(|state| std::mem::replace(&mut state.is_warned, open.is_some() || is_bare));
        if was_warned {
            return;
        }
        if let Some(secret) = open {
            tracing::warn!(server = redacted_url(url), %secret, "secret is readable by all users; run chmod o-r");
        }
        if is_bare {
            tracing::warn!(
                server = redacted_url(url),
                "secrets are sent over the network without encryption; use https:"
            );
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut ClientState) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ReadyClient {
    /// A request with credentials.
    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.material.authenticate(self.client.client().request(method, url.clone()))
    }

    /// A request without credentials.
    pub(crate) fn anonymous_request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.client().request(method, url.clone())
    }
}
