//! Reach: the client of one sink, and what of its [`Access`] was read. It is read again at most
//! each minute, and when the server refused what was read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Url};
use tokio::time::Instant;

use super::access::{Access, Material};
use super::client::{Made, Tuning};
use super::error::AccessError;
use super::{crosses_a_network_bare, shown};

/// What was read is used for so long.
const FRESH: Duration = Duration::from_mins(1);

/// A client for the servers of one sink.
#[derive(Debug)]
pub(crate) struct Reach {
    access: Access,
    tuning: Tuning,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: Option<Arc<Ready>>,
    read: Option<Instant>,
    /// Whether it was told that a secret can be read by others, here or on its way.
    is_warned: bool,
}

/// A client, and who asks with it.
#[derive(Debug)]
pub(crate) struct Ready {
    made: Made,
    material: Material,
}

impl Reach {
    /// Reaches a server as `access` says. Nothing is read yet.
    pub(crate) fn new(access: &Access, tuning: Tuning) -> Self {
        Self { access: access.clone(), tuning, state: Mutex::default() }
    }

    /// The client, with what was read within the last minute.
    pub(crate) async fn ready(&self, url: &Url) -> Result<Arc<Ready>, AccessError> {
        let old = self.with(|state| {
            let is_fresh = state.read.is_some_and(|read| read.elapsed() < FRESH);
            (state.ready.clone(), is_fresh)
        });
        if let (Some(ready), true) = old {
            return Ok(ready);
        }
        let (access, tuning, old) = (self.access.clone(), self.tuning, old.0);
        let read = move || {
            let material = access.read()?;
            let made = Made::renewed(
                old.map(|old| old.made.clone()).as_ref(),
                &access.proxy,
                tuning,
                &material,
            )?;
            let open = access.secrets().into_iter().find(|secret| secret.is_open_to_all());
            let open = open.map(ToString::to_string);
            Ok::<_, AccessError>((Arc::new(Ready { made, material }), open))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (ready, open) = read.map_err(|_stopped| AccessError::Stopped)??;
        self.with(|state| {
            state.ready = Some(Arc::clone(&ready));
            state.read = Some(Instant::now());
        });
        self.warn(url, open);
        Ok(ready)
    }

    /// What was read was refused: it is read again before the next request.
    pub(crate) fn refused(&self) {
        self.with(|state| state.read = None);
    }

    /// Whether it says who it is.
    pub(crate) fn has_login(&self) -> bool {
        !self.access.secrets().is_empty() || self.access.certificate.is_some()
    }

    fn warn(&self, url: &Url, open: Option<String>) {
        let is_bare = !self.access.secrets().is_empty() && crosses_a_network_bare(url);
        let was_warned =
            self.with(|state| std::mem::replace(&mut state.is_warned, open.is_some() || is_bare));
        if was_warned {
            return;
        }
        if let Some(secret) = open {
            tracing::warn!(server = shown(url), %secret, "all users may read this secret; chmod o-r");
        }
        if is_bare {
            tracing::warn!(
                server = shown(url),
                "secrets go over the network as they are; use https:"
            );
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ready {
    /// A request that says who asks.
    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.material.introduce(self.made.client().request(method, url.clone()))
    }

    /// A request that does not say who asks.
    pub(crate) fn bare_request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.made.client().request(method, url.clone())
    }
}
